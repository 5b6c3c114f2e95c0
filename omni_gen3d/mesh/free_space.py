"""Where a robot can stand: the traversable floor and spawn poses spread over it."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from omni_gen3d.mesh.floor import Floor
from omni_gen3d.mesh.sampling import farthest_points
from omni_gen3d.mesh.tsdf import Tsdf
from omni_gen3d.types import FreeSpace, SpawnPose, TriMesh

_MAX_SPAWN_POSES = 32
_MIN_SPACING_M = 0.15
_NUM_HEADINGS = 16
_LOOK_AHEAD_M = 10.0
# Faces that reach no higher than this do not stand in the way.
_STEP_M = 0.02


def pooled(tsdf: Tsdf, voxel_size: float) -> FreeSpace:
    """Free space on voxels of a given size, whole voxels from 0: free where every finer voxel in it is."""
    free = tsdf.free
    first = np.floor(tsdf.origin / voxel_size + 1e-6).astype(np.int64)
    for axis in range(3):
        centres = tsdf.origin[axis] + (np.arange(free.shape[axis]) + 0.5) * tsdf.voxel_size
        starts = np.flatnonzero(np.diff(np.floor(centres / voxel_size), prepend=-np.inf))
        free = np.logical_and.reduceat(free, starts, axis=axis)
    return FreeSpace(free, first * voxel_size, voxel_size)


def standable_floor(tsdf: Tsdf, floor: Floor, obstacles: list[TriMesh], robot_height: float) -> np.ndarray:
    """Columns with seen floor, known-free space up to the robot's height and no face of an obstacle in it.

    Args:
        tsdf: Snapped to the floor at z = 0.
        floor: Its floor.
        obstacles: What the collider holds besides the floor.
        robot_height: [m].

    Returns:
        Shape ``(X, Y)``, bool.
    """
    top = tsdf.ground + math.ceil(robot_height / tsdf.voxel_size - 1e-6)
    if top > tsdf.distance.shape[2]:
        return np.zeros_like(floor.seen)
    standable = floor.seen & tsdf.free[:, :, tsdf.ground : top].all(2)
    for mesh in obstacles:
        points = surface_samples(mesh, tsdf.voxel_size / 2)
        points = points[(points[:, 2] > _STEP_M) & (points[:, 2] < robot_height)]
        x, y = tsdf.voxel_of(points)[:, :2].T
        inside = (x >= 0) & (y >= 0) & (x < standable.shape[0]) & (y < standable.shape[1])
        standable[x[inside], y[inside]] = False
    return standable


def traversable_floor(standable: np.ndarray, voxel_size: float, robot_radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Columns where the centre of a round robot may be, and the clearance around each [m], shapes ``(X, Y)``."""
    to_obstacle = np.asarray(ndimage.distance_transform_edt(np.pad(standable, 1)))[1:-1, 1:-1]
    clearance = np.maximum(to_obstacle - 0.5, 0.0) * voxel_size
    return standable & (clearance >= robot_radius), clearance


def spawn_poses(
    traversable: np.ndarray, clearance: np.ndarray, standable: np.ndarray, tsdf: Tsdf
) -> tuple[SpawnPose, ...]:
    """Up to 32 poses spread over the traversable floor, the roomiest first, each heading into the open."""
    columns = np.argwhere(traversable)
    if len(columns) == 0:
        return ()
    first = int(clearance[traversable].argmax())
    spacing = _MIN_SPACING_M / tsdf.voxel_size
    chosen = columns[farthest_points(columns.astype(np.float64), _MAX_SPAWN_POSES, first, spacing)]
    positions = tsdf.origin[:2] + (chosen + 0.5) * tsdf.voxel_size
    yaws = _open_headings(chosen, standable, tsdf.voxel_size)
    return tuple(
        SpawnPose((round(float(x), 6), round(float(y), 6), 0.0), float(yaw))
        for (x, y), yaw in zip(positions, yaws, strict=True)
    )


def _open_headings(columns: np.ndarray, standable: np.ndarray, voxel_size: float) -> np.ndarray:
    """The heading in (-pi, pi] with the longest standable way ahead of each column [rad], shape ``(P,)``."""
    yaws = np.pi * (2 * np.arange(_NUM_HEADINGS) / _NUM_HEADINGS - 1) + 2 * np.pi / _NUM_HEADINGS
    steps = np.arange(1, int(_LOOK_AHEAD_M / voxel_size))
    way = np.stack([np.cos(yaws), np.sin(yaws)], -1)[None, :, None] * steps[:, None] + columns[:, None, None] + 0.5
    x, y = np.moveaxis(np.floor(way).astype(np.int64), -1, 0)
    inside = (x >= 0) & (y >= 0) & (x < standable.shape[0]) & (y < standable.shape[1])
    open_ahead = inside & standable[np.where(inside, x, 0), np.where(inside, y, 0)]
    length = np.logical_and.accumulate(open_ahead, axis=2).sum(2)
    return yaws[length.argmax(1)]


def surface_samples(mesh: TriMesh, spacing: float) -> np.ndarray:
    """Points no farther apart than about ``spacing`` on every face, its corners included, shape ``(S, 3)``."""
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(1, initial=0.0)
    divisions = np.maximum(np.ceil(longest / spacing), 1).astype(np.int64)
    samples = []
    for count in np.unique(divisions):
        u, v = np.meshgrid(np.arange(count + 1), np.arange(count + 1), indexing="ij")
        u, v = u[u + v <= count] / count, v[u + v <= count] / count
        weights = np.stack([1 - u - v, u, v], 1)
        samples.append((weights @ corners[divisions == count]).reshape(-1, 3))
    return np.concatenate(samples)
