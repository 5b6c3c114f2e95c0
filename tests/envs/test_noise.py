"""Noise of keys and ages: SplitMix64's own numbers, normal, apart for every row, and the same in any company."""

from __future__ import annotations

import torch

from omni_gen3d.envs.noise import _mixed, _signed, key_of, normal_noise


def splitmix64(seed: int, count: int) -> list[int]:
    """The published generator, in Python's integers."""
    numbers, mask = [], 2**64 - 1
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & mask
        z = ((seed ^ seed >> 30) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & mask
        numbers.append(z ^ z >> 31)
    return numbers


def test_bits_are_those_of_splitmix() -> None:
    """Mixing multiples of the golden ratio gives the generator's series, from any seed."""
    for seed in (0, 1, 1234567, 2**63 + 5):
        states = torch.tensor([_signed(seed + i * 0x9E3779B97F4A7C15) for i in range(1, 9)])
        assert _mixed(states).tolist() == [_signed(number) for number in splitmix64(seed, 8)]


def test_rows_are_normal_and_apart() -> None:
    """Mean, spread and tails are those of the normal law; rows of other seeds, indices or ages do not go together."""
    keys = torch.tensor([key_of(seed, index) for seed in range(3) for index in range(4)] + [key_of(0, 0)])
    ages = torch.tensor([0] * 12 + [1])
    noise = normal_noise(keys, ages, 20_001)
    assert noise.shape == (13, 20_001) and noise.dtype == torch.float32
    assert noise.mean(1).abs().max() < 0.03 and (noise.std(1) - 1).abs().max() < 0.03
    assert abs(float((noise.abs() > 2).float().mean()) - 0.0455) < 0.002
    assert (torch.corrcoef(noise) - torch.eye(13)).abs().max() < 0.035
    alone = normal_noise(keys[5:6], ages[5:6], 20_001)
    assert torch.equal(alone[0], noise[5])
