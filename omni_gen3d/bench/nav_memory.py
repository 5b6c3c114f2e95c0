"""What robots know of the floor around them: what they saw of it, carried along as their wheels tell how they moved.

A camera shows a quarter of what is around a robot. That does not suffice: told by the map how far it could drive in
each direction of that quarter, PPO reaches half of the goals; told of all directions, or remembering what the quarter
showed before, nine of ten.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from tensordict import TensorDict

if TYPE_CHECKING:
    from omni_gen3d.envs.nav import Gen3DNavEnv

Observation = dict[str, torch.Tensor]

# How far is seen and remembered [m].
REACH_M = 3.0
# Where it is looked, across the camera's picture, and where memory is asked: from straight ahead to the left [rad].
_APART = math.radians(6)
VIEWED = tuple(_APART * step for step in range(-7, 8))
_AROUND = tuple(math.radians(degrees) for degrees in range(-175, 180, 10))
# Edge of a cell [m], how many along the edge of a map, how far behind what was met cells count as not free [m].
_CELL_M, _SIZE, _BEHIND_M = 0.15, 64, 0.3
_FREE, _MET = 1, -1


class FloorMemory:
    """What robots that see are told: their state, and what each remembers of the floor.

    Every robot draws a map of the floor around the place where its episode began: free, not free, or never seen. How it
    moved is known exactly.
    """

    def __init__(self, env: Gen3DNavEnv, read: Callable[[Observation], torch.Tensor]) -> None:
        """Remember nothing yet.

        Args:
            env: Whose robots they are.
            read: How far the floor is free in the directions ``VIEWED`` [m], ``(N, V)``, by an observation.
        """
        self._env, self._read, device = env, read, env.device
        self._around = torch.tensor(_AROUND, device=device)[:, None]
        self._began = torch.zeros(env.num_envs, 2, device=device)
        self._cells = torch.zeros(env.num_envs, _SIZE, _SIZE, dtype=torch.int8, device=device)
        middles = (torch.arange(_SIZE, device=device) - (_SIZE - 1) / 2) * _CELL_M
        self._middles = torch.stack(torch.meshgrid(middles, middles, indexing="ij"), -1)
        self._along = torch.arange(1, round(REACH_M / _CELL_M) + 1, device=device) * _CELL_M
        self._robots = torch.arange(env.num_envs, device=device)[:, None, None]

    def __call__(self, observation: Observation) -> TensorDict:
        """Look once and remember; to be called at every step.

        Returns:
            ``state``; ``free``, how far the floor is known to be free in 36 directions all around, as a share of the
            reach, ``(N, 36)``; ``met``, 1 where that ends at something that was seen, ``(N, 36)``.
        """
        begins = self._env.age == 0
        self._began[begins] = self._env.pose[begins, :2]
        self._cells[begins] = 0
        self._draw(self._read(observation))
        free, met = self._recall()
        state = observation["state"]
        return TensorDict({"state": state, "free": free, "met": met}, [len(state)])

    def _draw(self, clearance: torch.Tensor) -> None:
        place, yaw = self._place()
        offset = self._middles - place[:, None, None]
        away = offset.norm(dim=-1)
        bearing = torch.atan2(offset[..., 1], offset[..., 0]) - yaw[:, None, None]
        bearing = torch.remainder(bearing + math.pi, 2 * math.pi) - math.pi
        direction = (bearing / _APART).round().long() + len(VIEWED) // 2
        seen = (direction >= 0) & (direction < len(VIEWED))
        ends = clearance.gather(1, direction.clamp(0, len(VIEWED) - 1).flatten(1)).view_as(away)
        self._cells[seen & (ends < REACH_M) & (away > ends) & (away < ends + _BEHIND_M)] = _MET
        self._cells[seen & (away <= ends) | (away < 2 * _CELL_M)] = _FREE

    def _recall(self) -> tuple[torch.Tensor, torch.Tensor]:
        place, yaw = self._place()
        heading = yaw[:, None, None] + self._around
        places = place[:, None, None] + self._along[:, None] * torch.stack([heading.cos(), heading.sin()], -1)
        x, y = (places / _CELL_M + _SIZE / 2).floor().long().clamp(0, _SIZE - 1).unbind(-1)
        cells = self._cells[self._robots, x, y]
        free = (cells == _FREE).cumprod(-1).sum(-1)
        last = cells.gather(-1, free.clamp(max=len(self._along) - 1)[..., None])[..., 0]
        return free / len(self._along), (last == _MET).float()

    def _place(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Where each robot is on its map [m], ``(N, 2)``, and its heading [rad], ``(N,)``."""
        pose = self._env.pose
        return pose[:, :2] - self._began, pose[:, 2]
