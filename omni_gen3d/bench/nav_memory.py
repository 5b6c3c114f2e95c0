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

from omni_gen3d.bench.nav_drivers import Observation
from omni_gen3d.envs.courses import places_along

if TYPE_CHECKING:
    from omni_gen3d.envs.nav import Gen3DNavEnv

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
        self._around = torch.tensor(_AROUND, device=device)
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
        begins, pose = self._env.age == 0, self._env.pose
        self._began = torch.where(begins[:, None], pose[:, :2], self._began)
        self._cells.masked_fill_(begins[:, None, None], 0)
        on_map = torch.cat([pose[:, :2] - self._began, pose[:, 2:]], -1)
        self._draw(on_map, self._read(observation))
        free, met = self._recall(on_map)
        state = observation["state"]
        return TensorDict({"state": state, "free": free, "met": met}, [len(state)])

    def _draw(self, pose: torch.Tensor, clearance: torch.Tensor) -> None:
        offset = self._middles - pose[:, None, None, :2]
        away = offset.norm(dim=-1)
        bearing = torch.atan2(offset[..., 1], offset[..., 0]) - pose[:, 2, None, None]
        bearing = torch.remainder(bearing + math.pi, 2 * math.pi) - math.pi
        direction = (bearing / _APART).round().long() + len(VIEWED) // 2
        seen = (direction >= 0) & (direction < len(VIEWED))
        ends = clearance.gather(1, direction.clamp(0, len(VIEWED) - 1).flatten(1)).view_as(away)
        self._cells[seen & (ends < REACH_M) & (away > ends) & (away < ends + _BEHIND_M)] = _MET
        self._cells[seen & (away <= ends) | (away < 2 * _CELL_M)] = _FREE

    def _recall(self, pose: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        places = places_along(pose, self._around, self._along)
        x, y = (places / _CELL_M + _SIZE / 2).floor().long().clamp(0, _SIZE - 1).unbind(-1)
        cells = self._cells[self._robots, x, y]
        free = (cells == _FREE).cumprod(-1).sum(-1)
        last = cells.gather(-1, free.clamp(max=len(self._along) - 1)[..., None])[..., 0]
        return free / len(self._along), (last == _MET).float()
