"""Noise that is a function of who asks and when: replaying one robot's episode needs none of the other robots' draws.

The bits are those of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014), the
normal numbers those of Box and Muller (1958).
"""

from __future__ import annotations

import math

import torch

_GOLDEN = 0x9E3779B97F4A7C15
_STEPS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_BITS = 24


def key_of(seed: int, index: int) -> int:
    """One number, of 64 bits with a sign, for a sample's seed and index."""
    return _signed(seed * _GOLDEN + index * _STEPS[0][1])


def normal_noise(keys: torch.Tensor, ages: torch.Tensor, count: int) -> torch.Tensor:
    """Standard normal numbers, ``(K, count)``, float32: row k depends on its key and its age alone.

    Args:
        keys: See ``key_of``, ``(K,)``, int64.
        ages: Which step of the episode it is, ``(K,)``, int64.
        count: Numbers of a row.
    """
    rows = _mixed(_mixed(keys) + ages * _signed(_GOLDEN))
    counters = torch.arange(1, (count + 1) // 2 + 1, device=keys.device) * _signed(_GOLDEN)
    bits = _mixed(rows[:, None] + counters)
    first, second = ((bits >> shift & (1 << _BITS) - 1).float() for shift in (40, 16))
    # Of the open interval at 0, whose logarithm is finite.
    radius = (-2 * torch.log((first + 1) / 2**_BITS)).sqrt_()
    angle = second * (math.tau / 2**_BITS)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], -1)[:, :count]


def _mixed(state: torch.Tensor) -> torch.Tensor:
    for shift, factor in _STEPS:
        state = (state ^ _shifted(state, shift)) * _signed(factor)
    return state ^ _shifted(state, 31)


def _shifted(state: torch.Tensor, by: int) -> torch.Tensor:
    """To the right, filled with zeros."""
    return state >> by & (1 << 64 - by) - 1


def _signed(number: int) -> int:
    """The same 64 bits as a number with a sign."""
    return (number + 2**63) % 2**64 - 2**63
