"""Where a robot may be sent in an environment: goals on its traversable floor, and how far every place is from each.

Distances are those of the way around obstacles, over eight neighbours on the occupancy map, so a goal behind a wall is
as far as it is to drive. Goals and starts always belong to one connected piece of the floor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from omni_gen3d.envs.occupancy import FREE, OccupancyMap
from omni_gen3d.errors import InputError
from omni_gen3d.mesh.free_space import surface_samples
from omni_gen3d.mesh.sampling import farthest_points
from omni_gen3d.types import TriMesh

# Half of the eight neighbours; the others are their opposites.
_STEPS = ((1, 0), (0, 1), (1, 1), (1, -1))


@dataclass(frozen=True)
class Course:
    """Goals of one environment and the ways to them, in the environment's frame.

    Attributes:
        goals: Positions [m], shape ``(G, 2)``.
        starts: Positions from which a goal is as far as asked for, one array ``(S, 2)`` for each goal [m].
        detours: Those of them from which something stands in the straight line, ``(D, 2)`` for each goal [m]; none at
            all where a course was laid without ``blocked``.
        distance: Length of the way from the middle of each cell to each goal [m], shape ``(G, X, Y)``, float32; where
            a robot's centre cannot be, that of the nearest place where it can and as far as that place is.
        free: Cells where a robot's centre can be, shape ``(X, Y)``, bool.
        origin: The low corner of cell (0, 0) [m].
        resolution: Edge of a cell [m].
    """

    goals: np.ndarray
    starts: tuple[np.ndarray, ...]
    detours: tuple[np.ndarray, ...]
    distance: np.ndarray
    free: np.ndarray
    origin: tuple[float, float]
    resolution: float

    def connects(
        self, start: tuple[float, float], goal: tuple[float, float], obstacles: Sequence[tuple[float, float, float]]
    ) -> bool:
        """Whether a way leads from a start to a goal, both [m], around discs ``(x, y, radius)`` [m]."""
        x, y = (self.origin[axis] + (np.arange(self.free.shape[axis]) + 0.5) * self.resolution for axis in (0, 1))
        left = self.free.copy()
        for middle_x, middle_y, radius in obstacles:
            left &= np.hypot(x[:, None] - middle_x, y[None] - middle_y) > radius
        pieces = np.empty(left.shape, np.int32)
        ndimage.label(left, np.ones((3, 3)), output=pieces)
        ends = [
            pieces[tuple(int((place[axis] - self.origin[axis]) / self.resolution) for axis in (0, 1))]
            for place in (start, goal)
        ]
        return bool(ends[0] == ends[1] != 0)


def lay_course(
    plan: OccupancyMap,
    *,
    goal_distance: tuple[float, float],
    blocked: np.ndarray | None = None,
    max_goals: int = 24,
) -> Course | None:
    """Choose goals spread over the free cells of a map that was drawn for the robot's radius, or a little more.

    Args:
        plan: See ``occupancy_map``; its ``robot_radius`` must be at least the robot's.
        goal_distance: Shortest and longest way from a start to its goal [m].
        blocked: Cells of the map where a robot would be in a collision, see ``blocked_cells``; a way whose straight
            line leads through some is a detour.
        max_goals: At most so many.

    Returns:
        None where no two places are connected by such a way.
    """
    cells = np.argwhere(plan.cells == FREE)
    if len(cells) == 0:
        return None
    # The roomiest cell first, then always the one farthest from those chosen: spread, and the same every time.
    room = np.asarray(ndimage.distance_transform_edt(np.pad(plan.cells == FREE, 1)))[1:-1, 1:-1]
    first = int(room[tuple(cells.T)].argmax())
    chosen = farthest_points(cells.astype(np.float64), max_goals, first)
    ways = dijkstra(_neighbours(cells, plan.cells.shape), indices=chosen) * plan.resolution
    low, high = goal_distance
    eligible = (ways >= low) & (ways <= high)
    kept = eligible.any(1)
    if not kept.any():
        return None
    corner = cells.min(0)
    shape = cells.max(0) - corner + 1
    fields = np.full((int(kept.sum()), *shape), np.inf, np.float32)
    free = np.zeros(shape, bool)
    x, y = (cells - corner).T
    free[x, y] = True
    fields[:, x, y] = ways[kept]
    for i in range(len(fields)):
        away = ~np.isfinite(fields[i])
        nearest = np.asarray(ndimage.distance_transform_edt(away, return_distances=False, return_indices=True))
        apart = np.sqrt(((nearest - np.indices(away.shape)) ** 2).sum(0))
        fields[i] = fields[i][tuple(nearest)] + apart * plan.resolution
    middles = np.array(plan.origin) + (cells + 0.5) * plan.resolution
    goals, starts = chosen[kept], [np.flatnonzero(mask) for mask in eligible[kept]]
    return Course(
        goals=middles[goals],
        starts=tuple(middles[there] for there in starts),
        detours=tuple(
            middles[there[_crosses(blocked, cells[there], cells[goal])]]
            for goal, there in zip(goals, starts, strict=True)
            if blocked is not None
        ),
        distance=fields,
        free=free,
        origin=(
            plan.origin[0] + int(corner[0]) * plan.resolution,
            plan.origin[1] + int(corner[1]) * plan.resolution,
        ),
        resolution=plan.resolution,
    )


def blocked_cells(
    plan: OccupancyMap, solid: TriMesh, *, robot_radius: float, heights: tuple[float, float]
) -> np.ndarray:
    """Cells of a map in which a robot's centre would be in a collision for sure, ``(X, Y)``, bool.

    The map takes for occupied what is not known to be free; this looks at what there is to bump into.

    Args:
        plan: For its grid.
        solid: The collider, floor at 0.
        robot_radius: [m].
        heights: Of the robot's bottom and top [m].
    """
    points = surface_samples(solid, plan.resolution)
    cells = np.floor((points[:, :2] - plan.origin) / plan.resolution).astype(np.int64)
    met = (points[:, 2] > heights[0]) & (points[:, 2] < heights[1])
    met &= ((cells >= 0) & (cells < plan.cells.shape)).all(1)
    empty = np.ones(plan.cells.shape, bool)
    if not met.any():
        return np.zeros(plan.cells.shape, bool)
    empty[tuple(cells[met].T)] = False
    # A sample is within half a diagonal of the middle of its cell.
    apart = np.asarray(ndimage.distance_transform_edt(empty))
    return apart < robot_radius / plan.resolution - math.sqrt(0.5)


def _crosses(blocked: np.ndarray, starts: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Which straight lines from start cells to a goal lead through blocked cells, ``(S,)``, bool."""
    longest = int(np.abs(goal - starts).max())
    along = np.linspace(0, 1, longest + 1)[:, None]
    x, y = np.moveaxis(np.rint(starts[:, None] + along * (goal - starts[:, None])).astype(np.int64), -1, 0)
    return np.asarray(blocked[x, y].any(1))


def _neighbours(cells: np.ndarray, shape: tuple[int, ...]) -> csr_matrix:
    """Graph of free cells, its edges as long as cells are apart [cells]."""
    number = np.full(np.array(shape) + 2, -1)
    x, y = cells.T + 1
    number[x, y] = np.arange(len(cells))
    rows, columns, lengths = [], [], []
    for dx, dy in _STEPS:
        other = number[x + dx, y + dy]
        there = other >= 0
        rows.append(np.flatnonzero(there))
        columns.append(other[there])
        lengths.append(np.full(int(there.sum()), math.hypot(dx, dy)))
    row, column, length = (np.concatenate(parts) for parts in (rows, columns, lengths))
    one_way = csr_matrix((length, (row, column)), shape=(len(cells), len(cells)))
    return one_way + one_way.T


def places_along(pose: torch.Tensor, bearings: torch.Tensor, distances: torch.Tensor) -> torch.Tensor:
    """Places that robots would come to straight on [m], ``(N, K, S, 2)``.

    Args:
        pose: ``(x, y, yaw)`` [m, rad], ``(N, 3)``.
        bearings: From straight ahead to the left [rad], ``(K,)``.
        distances: [m], ``(S,)``.
    """
    heading = (pose[:, 2:] + bearings)[..., None]
    return pose[:, None, None, :2] + distances[:, None] * torch.stack([heading.cos(), heading.sin()], -1)


class Ways:
    """The ways of many courses, looked up for many robots at once on a device."""

    def __init__(self, courses: Sequence[Course], device: torch.device) -> None:
        sizes = [course.distance.size for course in courses]
        areas = [course.free.size for course in courses]
        self._fields = torch.from_numpy(np.concatenate([course.distance.ravel() for course in courses])).to(device)
        self._first = torch.tensor(np.cumsum([0, *sizes[:-1]]), device=device)
        self._free = torch.from_numpy(np.concatenate([course.free.ravel() for course in courses])).to(device)
        self._first_free = torch.tensor(np.cumsum([0, *areas[:-1]]), device=device)
        self._shape = torch.tensor([course.distance.shape[1:] for course in courses], device=device)
        self._origin = torch.tensor([course.origin for course in courses], dtype=torch.float32, device=device)
        self._resolution = torch.tensor([course.resolution for course in courses], dtype=torch.float32, device=device)

    def length(self, world: torch.Tensor, goal: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Length of the way that is left [m], in the shape that the arguments broadcast to.

        Args:
            world: Which course, ``(...)``, int64.
            goal: Which of its goals, ``(...)``, int64.
            position: In the environment's frame [m], ``(..., 2)``.
        """
        shape = self._shape[world]
        x, y = torch.minimum(self._cell(world, position).clamp(min=0), shape - 1).unbind(-1)
        return self._fields[self._first[world] + (goal * shape[..., 0] + x) * shape[..., 1] + y]

    def is_free(self, world: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Where a robot's centre can be, in the shape that the arguments broadcast to, bool.

        Args:
            world: Which course, ``(...)``, int64.
            position: In the environment's frame [m], ``(..., 2)``.
        """
        shape, cell = self._shape[world], self._cell(world, position)
        inside = ((cell >= 0) & (cell < shape)).all(-1)
        x, y = torch.minimum(cell.clamp(min=0), shape - 1).unbind(-1)
        return inside & self._free[self._first_free[world] + x * shape[..., 1] + y]

    def _cell(self, world: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        return ((position - self._origin[world]) / self._resolution[world][..., None]).floor().long()


def course_or_refuse(course: Course | None, name: str, goal_distance: tuple[float, float]) -> Course:
    """The course.

    Raises:
        InputError: There is none.
    """
    if course is None:
        low, high = goal_distance
        raise InputError(
            f"'{name}' has no two places for the robot that are {low:g} to {high:g} m of way apart; take a smaller "
            "robot or nearer goals, or leave the environment out."
        )
    return course
