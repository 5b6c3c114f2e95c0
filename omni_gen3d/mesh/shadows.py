"""Space that no camera saw but that the splat's own discs show to be open, such as below the lowest board of a rack.

A shadow is taken for open where nearly every ray from it ends in known-free space or on a disc that does not turn its
back. From inside a solid the rays meet the backs of its seen sides; through a hole or past the end of what the splat
holds they meet nothing. Both speak against, so that a splat without discs in its hidden parts keeps them solid.
"""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np

from omni_gen3d.mesh.depth_views import DepthViews
from omni_gen3d.mesh.discs import Discs
from omni_gen3d.mesh.tasks import in_tasks
from omni_gen3d.mesh.tsdf import TRUNCATION_VOXELS, Tsdf

# Shadows are entered this far from known-free space, and rays end after the reach.
_DEPTH_M = 0.5
_REACH_M = 0.75
_NUM_RAYS = 64
_RAY_STEP_VOXELS = 0.5
# Shares of a voxel's rays: at least so many reach known-free space, at most so many meet a back or nothing.
_MIN_OPEN, _MAX_AGAINST = 0.1, 0.2
# A disc shows its back to a ray within this cosine of its normal.
_BACK_COS = 0.2
# The grid's surface passes this close to a disc whose back is known, or it is the other side of a thin board.
_MAX_OFF_VOXELS = 2.0
# Of its long axes a disc blocks rays this many standard deviations to each side.
_FOOTPRINT_SIGMAS = 1.5
# Its footprint is sampled every half voxel, with at most this many samples to each side.
_MAX_HALF = 12
_EDGE_VOXELS = 2
_LAYERS_A_TASK, _VOXELS_A_TASK = 16, 1024


def open_shadows(tsdf: Tsdf, discs: Discs, views: DepthViews) -> Tsdf:
    """The grid with its shadows freed where the discs show them open; their edges on discs count as seen surface.

    Args:
        tsdf: Fused and cleaned.
        discs: Of the scene that it was fused from.
        views: That it was fused from. What lies outside all pictures is no shadow and stays solid.
    """
    shape = tsdf.distance.shape
    # 0 solid, 1 known free, 2 hidden, 3 hidden and freed, 4 hidden and judged to be solid.
    state, beside = np.empty(shape, np.int8), np.empty(shape, np.bool_)
    in_tasks(_tell, len(state), _LAYERS_A_TASK, tsdf.distance, tsdf.surface_seen, state)
    in_tasks(_mark_front, len(state), _LAYERS_A_TASK, state, beside)
    front = np.argwhere(beside)
    if len(front) == 0 or len(discs.centres) == 0:
        return tsdf
    blockers = np.zeros(shape, np.int32)
    in_tasks(_block, len(state), _LAYERS_A_TASK, discs.centres, discs.spans, tsdf.origin, tsdf.voxel_size, blockers)
    off = np.abs(tsdf.value_at(discs.centres)) * TRUNCATION_VOXELS
    outward = np.where(off[:, None] < _MAX_OFF_VOXELS, discs.outward(tsdf), 0.0)
    rays = _RAY_STEP_VOXELS * _directions(_NUM_RAYS)
    steps = int(_REACH_M / (_RAY_STEP_VOXELS * tsdf.voxel_size))
    freed = [np.zeros((0, 3), np.int64)]
    for _ in range(round(_DEPTH_M / tsdf.voxel_size)):
        centres = tsdf.origin + (front + 0.5) * tsdf.voxel_size
        judged = np.zeros(len(front), np.bool_)
        cameras = (views.depth, views.world_to_camera, views.intrinsics)
        in_tasks(_occluded, len(front), _VOXELS_A_TASK, centres, *cameras, judged)
        in_tasks(_judge, len(front), _VOXELS_A_TASK, front, state, blockers, outward, rays, steps, judged)
        opened = front[judged]
        state[tuple(front[~judged].T)] = 4
        state[tuple(opened.T)] = 3
        freed.append(opened)
        front = _neighbours(opened, state)
        if len(front) == 0:
            break
    distance, seen = tsdf.distance.copy(), tsdf.surface_seen.copy()
    _write(np.concatenate(freed), state, blockers, distance, seen)
    return replace(tsdf, distance=distance, surface_seen=seen)


def _neighbours(voxels: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Hidden voxels not yet judged that share a face with the given ones, each once, in order, shape ``(M, 3)``."""
    steps = np.concatenate([np.eye(3, dtype=np.int64), -np.eye(3, dtype=np.int64)])
    around = (voxels[:, None] + steps).reshape(-1, 3)
    around = around[((around >= 0) & (around < state.shape)).all(1)]
    return np.unique(around[state[tuple(around.T)] == 2], axis=0)


def _directions(count: int) -> np.ndarray:
    """Unit vectors spread evenly over the sphere on a Fibonacci spiral, shape ``(count, 3)``."""
    index = np.arange(count) + 0.5
    z, turn = 1 - 2 * index / count, np.pi * (1 + np.sqrt(5)) * index
    ring = np.sqrt(1 - z * z)
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), z], 1)


@numba.njit(nogil=True, cache=True)
def _tell(first: int, last: int, distance: np.ndarray, surface_seen: np.ndarray, state: np.ndarray) -> None:
    """Which voxels are known free, which hidden and which solid."""
    _, size_y, size_z = state.shape
    for i in range(first, last):
        for j in range(size_y):
            for k in range(size_z):
                hidden = distance[i, j, k] == -1.0 and not surface_seen[i, j, k]
                state[i, j, k] = 1 if distance[i, j, k] > 0.0 else 2 if hidden else 0


@numba.njit(nogil=True, cache=True)
def _mark_front(first: int, last: int, state: np.ndarray, front: np.ndarray) -> None:
    """Which hidden voxels share a face with a free one."""
    size_x, size_y, size_z = state.shape
    for i in range(first, last):
        for j in range(size_y):
            for k in range(size_z):
                front[i, j, k] = state[i, j, k] == 2 and (
                    (i > 0 and state[i - 1, j, k] == 1)
                    or (i + 1 < size_x and state[i + 1, j, k] == 1)
                    or (j > 0 and state[i, j - 1, k] == 1)
                    or (j + 1 < size_y and state[i, j + 1, k] == 1)
                    or (k > 0 and state[i, j, k - 1] == 1)
                    or (k + 1 < size_z and state[i, j, k + 1] == 1)
                )


@numba.njit(nogil=True, cache=True)
def _block(
    first: int,
    last: int,
    centres: np.ndarray,
    spans: np.ndarray,
    origin: np.ndarray,
    voxel_size: float,
    blockers: np.ndarray,
) -> None:
    """Write one more than the index of a disc, the last of several, into the voxels of some layers that it covers."""
    _, size_y, size_z = blockers.shape
    for disc in range(len(centres)):
        middle = (centres[disc, 0] - origin[0]) / voxel_size
        across = _FOOTPRINT_SIGMAS * (abs(spans[disc, 0, 0]) + abs(spans[disc, 1, 0])) / voxel_size
        if middle + across < first - 1 or middle - across > last + 1:
            continue
        longest = max((spans[disc, 0] ** 2).sum(), (spans[disc, 1] ** 2).sum())
        half = min(max(int(np.ceil(_FOOTPRINT_SIGMAS * np.sqrt(longest) / (0.5 * voxel_size))), 1), _MAX_HALF)
        for a in range(-half, half + 1):
            for b in range(-half, half + 1):
                if a * a + b * b > half * half:
                    continue
                s, t = _FOOTPRINT_SIGMAS * a / half, _FOOTPRINT_SIGMAS * b / half
                i = int(
                    np.floor(
                        (centres[disc, 0] + s * spans[disc, 0, 0] + t * spans[disc, 1, 0] - origin[0]) / voxel_size
                    )
                )
                if i < first or i >= last:
                    continue
                j = int(
                    np.floor(
                        (centres[disc, 1] + s * spans[disc, 0, 1] + t * spans[disc, 1, 1] - origin[1]) / voxel_size
                    )
                )
                k = int(
                    np.floor(
                        (centres[disc, 2] + s * spans[disc, 0, 2] + t * spans[disc, 1, 2] - origin[2]) / voxel_size
                    )
                )
                if 0 <= j < size_y and 0 <= k < size_z:
                    blockers[i, j, k] = disc + 1


@numba.njit(nogil=True, cache=True)
def _occluded(
    first: int,
    last: int,
    points: np.ndarray,
    depth: np.ndarray,
    world_to_camera: np.ndarray,
    intrinsics: np.ndarray,
    occluded: np.ndarray,
) -> None:
    """Mark the points, ``(M, 3)``, that some camera has in its picture behind a surface."""
    num_cameras, height, width = depth.shape
    for n in range(first, last):
        x, y, z = points[n]
        for c in range(num_cameras):
            m = world_to_camera[c]
            in_depth = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
            if in_depth <= 0.0:
                continue
            across = (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) / in_depth
            down = (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) / in_depth
            u = intrinsics[c, 0, 0] * across + intrinsics[c, 0, 2]
            v = intrinsics[c, 1, 1] * down + intrinsics[c, 1, 2]
            if 0.0 <= u < width and 0.0 <= v < height and 0.0 < depth[c, int(v), int(u)] < in_depth:
                occluded[n] = True
                break


@numba.njit(nogil=True, cache=True)
def _judge(
    first: int,
    last: int,
    voxels: np.ndarray,
    state: np.ndarray,
    blockers: np.ndarray,
    outward: np.ndarray,
    rays: np.ndarray,
    steps: int,
    verdict: np.ndarray,
) -> None:
    """Of the voxels, ``(M, 3)``, that are marked leave those marked that the rays show to be open."""
    size_x, size_y, size_z = state.shape
    least, most = _MIN_OPEN * len(rays), _MAX_AGAINST * len(rays)
    length = np.sqrt((rays[0] ** 2).sum())
    for n in range(first, last):
        if not verdict[n]:
            continue
        if blockers[voxels[n, 0], voxels[n, 1], voxels[n, 2]] > 0:
            verdict[n] = False
            continue
        to_free, against = 0, 0
        for r in range(len(rays)):
            x, y, z = voxels[n, 0] + 0.5, voxels[n, 1] + 0.5, voxels[n, 2] + 0.5
            met, through_solid = False, False
            for _ in range(steps):
                x, y, z = x + rays[r, 0], y + rays[r, 1], z + rays[r, 2]
                i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
                if i < 0 or j < 0 or k < 0 or i >= size_x or j >= size_y or k >= size_z:
                    break
                disc = blockers[i, j, k] - 1
                if disc >= 0:
                    met = True
                    cosine = (
                        outward[disc, 0] * rays[r, 0] + outward[disc, 1] * rays[r, 1] + outward[disc, 2] * rays[r, 2]
                    )
                    against += cosine > _BACK_COS * length
                    break
                if state[i, j, k] == 1:
                    met = True
                    if through_solid:
                        against += 1
                    else:
                        to_free += 1
                    break
                through_solid = through_solid or state[i, j, k] == 0
            against += not met
            if against > most:
                break
        verdict[n] = to_free >= least and against <= most


@numba.njit(nogil=True, cache=True)
def _write(freed: np.ndarray, state: np.ndarray, blockers: np.ndarray, distance: np.ndarray, seen: np.ndarray) -> None:
    """Distances of the freed voxels and of the solid around them, by the distance between voxels' centres."""
    size_x, size_y, size_z = state.shape
    for n in range(len(freed)):
        i, j, k = freed[n]
        nearest = 9.0
        near_disc = False
        for a in range(max(i - _EDGE_VOXELS, 0), min(i + _EDGE_VOXELS + 1, size_x)):
            for b in range(max(j - _EDGE_VOXELS, 0), min(j + _EDGE_VOXELS + 1, size_y)):
                for c in range(max(k - _EDGE_VOXELS, 0), min(k + _EDGE_VOXELS + 1, size_z)):
                    if state[a, b, c] == 1 or state[a, b, c] == 3:
                        continue
                    apart = np.sqrt(float((a - i) ** 2 + (b - j) ** 2 + (c - k) ** 2)) - 0.5
                    nearest = min(nearest, apart)
                    near_disc = near_disc or blockers[a, b, c] > 0
                    if state[a, b, c] != 0:
                        distance[a, b, c] = max(distance[a, b, c], -apart / TRUNCATION_VOXELS)
                        seen[a, b, c] = seen[a, b, c] or blockers[a, b, c] > 0
        distance[i, j, k] = min(nearest / TRUNCATION_VOXELS, 1.0)
        seen[i, j, k] = near_disc
