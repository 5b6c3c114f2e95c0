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


def open_shadows(tsdf: Tsdf, discs: Discs, views: DepthViews) -> Tsdf:
    """The grid with its shadows freed where the discs show them open; their edges on discs count as seen surface.

    Args:
        tsdf: Fused and cleaned.
        discs: Of the scene that it was fused from.
        views: That it was fused from. What lies outside all pictures is no shadow and stays solid.
    """
    hidden = (tsdf.distance == -1.0) & ~tsdf.surface_seen
    front = _beside(tsdf.free, hidden)
    if len(front) == 0 or len(discs.centres) == 0:
        return tsdf
    blockers = np.zeros(tsdf.distance.shape, np.int32)
    _block(discs.centres, discs.spans, tsdf.origin, tsdf.voxel_size, blockers)
    off = np.abs(tsdf.value_at(discs.centres)) * TRUNCATION_VOXELS
    outward = np.where(off[:, None] < _MAX_OFF_VOXELS, discs.outward(tsdf), 0.0)
    # 0 solid, 1 known free, 2 hidden, 3 hidden and freed, 4 hidden and judged to be solid.
    state = np.where(tsdf.free, np.int8(1), np.where(hidden, np.int8(2), np.int8(0)))
    rays = _RAY_STEP_VOXELS * _directions(_NUM_RAYS)
    steps = int(_REACH_M / (_RAY_STEP_VOXELS * tsdf.voxel_size))
    freed = [np.zeros((0, 3), np.int64)]
    for _ in range(round(_DEPTH_M / tsdf.voxel_size)):
        centres = tsdf.origin + (front + 0.5) * tsdf.voxel_size
        judged = _occluded(centres, views.depth, views.world_to_camera, views.intrinsics)
        judged[judged] = _judge(front[judged], state, blockers, outward, rays, steps)
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


def _beside(free: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Indices of the hidden voxels that share a face with a free one, shape ``(M, 3)``."""
    beside = np.zeros(free.shape, np.bool_)
    for axis in range(3):
        low, high = (slice(None),) * axis + (slice(None, -1),), (slice(None),) * axis + (slice(1, None),)
        beside[low] |= free[high]
        beside[high] |= free[low]
    return np.argwhere(beside & hidden)


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
def _block(centres: np.ndarray, spans: np.ndarray, origin: np.ndarray, voxel_size: float, blockers: np.ndarray) -> None:
    """Write one more than the index of a disc into the voxels that it covers."""
    size_x, size_y, size_z = blockers.shape
    for disc in range(len(centres)):
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
                if 0 <= i < size_x and 0 <= j < size_y and 0 <= k < size_z:
                    blockers[i, j, k] = disc + 1


@numba.njit(nogil=True, cache=True)
def _occluded(points: np.ndarray, depth: np.ndarray, world_to_camera: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Which points some camera has in its picture behind a surface, ``(M, 3)`` -> ``(M,)``, bool."""
    num_cameras, height, width = depth.shape
    occluded = np.zeros(len(points), np.bool_)
    for n in range(len(points)):
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
    return occluded


@numba.njit(nogil=True, cache=True)
def _judge(
    voxels: np.ndarray, state: np.ndarray, blockers: np.ndarray, outward: np.ndarray, rays: np.ndarray, steps: int
) -> np.ndarray:
    """Which voxels the rays show to be open, ``(M, 3)`` -> ``(M,)``, bool."""
    size_x, size_y, size_z = state.shape
    verdict = np.zeros(len(voxels), np.bool_)
    least, most = _MIN_OPEN * len(rays), _MAX_AGAINST * len(rays)
    length = np.sqrt((rays[0] ** 2).sum())
    for n in range(len(voxels)):
        if blockers[voxels[n, 0], voxels[n, 1], voxels[n, 2]] > 0:
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
    return verdict


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
