"""Drivers that learn nothing, and how often one reaches its goal: what a policy that sees is compared with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from omni_gen3d.envs.nav import Gen3DNavEnv

Observation = dict[str, torch.Tensor]
Act = Callable[[Observation], torch.Tensor]
# Drives the robots of one environment through their episodes, one observation after the other.
Driver = Callable[["Gen3DNavEnv"], Act]

# Of the series of episodes that every driver is tested on.
_TEST_SEED = 1_000_000
# How far ahead the driver with the map looks: shorter than what is in the way of a robot is wide [m].
_AHEAD_M, _HEADINGS = 0.2, 32


def drive_at_random(seed: int) -> Act:
    """Every command as likely as any other."""
    rng = np.random.default_rng(seed)
    return lambda observation: torch.from_numpy(rng.uniform(-1, 1, (len(observation["state"]), 2)))


def head_on(observation: Observation) -> torch.Tensor:
    """Turn towards the goal and drive, whatever is in between: what the state alone is good for."""
    _, cos, sin, *_ = observation["state"].unbind(-1)
    return torch.stack([cos.clamp(0, 1), _turn(cos, sin)], -1)


def follow_map(env: Gen3DNavEnv) -> Act:
    """Drive where the way is shortest, as nobody could who has not the map: how far episodes can be done at all."""
    turns = torch.arange(_HEADINGS, device=env.device) * (2 * math.pi / _HEADINGS)
    around = _AHEAD_M * torch.stack([turns.cos(), turns.sin()], -1)

    def act(observation: Observation) -> torch.Tensor:
        distance, cos, sin, *_ = observation["state"].unbind(-1)
        pose = env.pose
        best = turns[env.way_from(pose[:, None, :2] + around).argmin(1)] - pose[:, 2]
        near = distance < _AHEAD_M
        cos, sin = torch.where(near, cos, best.cos()), torch.where(near, sin, best.sin())
        # Turned on the spot first: a wide curve leaves the way.
        return torch.stack([cos.clamp(0, 1) ** 4, _turn(cos, sin)], -1)

    return act


def _turn(cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    return (2 * torch.atan2(sin, cos)).clamp(-1, 1)


def success_rate(env: Gen3DNavEnv, act: Act) -> float:
    """Share of robots that reach the goal of their first episode; the episodes are the same at every call."""
    observation, _ = env.reset(seed=_TEST_SEED)
    finished = torch.zeros(env.num_envs, dtype=torch.bool, device=env.device)
    reached = torch.zeros_like(finished)
    for _ in range(env.task.steps):
        observation, *_, infos = env.step(act(observation))
        if infos:
            first = infos["_final_info"] & ~finished
            reached |= first & infos["final_info"]["success"]
            finished |= first
            if finished.all():
                break
    return float(reached.float().mean())
