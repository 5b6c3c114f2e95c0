"""Truncated signed distance to what the depth maps show; space that no camera saw through counts as solid."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from scipy import ndimage

from omni_gen3d.mesh.depth_views import DepthViews
from omni_gen3d.mesh.morphology import connected, dilated, reached
from omni_gen3d.mesh.tasks import in_tasks

TRUNCATION_VOXELS = 3.0
# Distances keep this far from 0 [truncations], so that no mesh vertex falls on a voxel centre.
MIN_DISTANCE = 0.02
# Of the grid of the asked voxel size, and of the finer one that takes its place where this many suffice.
_MAX_VOXELS, _MAX_FINE_VOXELS = 12_000_000, 24_000_000
_LAYERS_A_TASK = 8
# Beyond this depth a surface is not modelled; rays still prove the space up to it empty.
_FAR_CLIP_M = 12.0
# The region reaches at most this far below and above the floor, and a metre around camera 0 in any case.
_HEIGHTS_M = (-0.3, 5.0)
_BOUNDS_PERCENTILES = (0.5, 99.5)
# A camera was carried there, so its surroundings are empty unless a surface was seen in them.
_CAMERA_CLEARANCE_M = 0.2
# Loose solid specks up to this volume are floaters; a 12 cm column stands on the floor and is not loose.
_FLOATER_M3 = 0.02
# This many truncations before a surface along the axis of a camera it is one before its tangent plane, for sure.
_WELL_BEFORE = 1.0001
_PASSAGE_M = 0.125


@dataclass(frozen=True)
class Tsdf:
    """A dense grid of truncated signed distances.

    Attributes:
        distance: In units of the truncation, positive in known-free space, -1 where unseen, never 0,
            shape ``(X, Y, Z)``, float32.
        surface_seen: True within the truncation of an observed surface, shape ``(X, Y, Z)``, bool.
        origin: Low corner of voxel (0, 0, 0) [m], whole voxels from 0, shape ``(3,)``.
        voxel_size: [m].
    """

    distance: np.ndarray
    surface_seen: np.ndarray
    origin: np.ndarray
    voxel_size: float

    @property
    def free(self) -> np.ndarray:
        """Known-free voxels, shape ``(X, Y, Z)``, bool."""
        return self.distance > 0

    @property
    def ground(self) -> int:
        """Index of the layer of voxels just above z = 0; negative or past the grid when that is elsewhere."""
        return round(-self.origin[2] / self.voxel_size)

    def voxel_of(self, points: np.ndarray) -> np.ndarray:
        """Indices of the voxels that hold the points, not clipped to the grid, ``(..., 3)`` -> ``(..., 3)``."""
        return np.floor((points - self.origin) / self.voxel_size).astype(np.int64)

    def value_at(self, points: np.ndarray) -> np.ndarray:
        """``distance`` in the voxels that hold the points, or nearest to them, ``(M, 3)`` -> ``(M,)``."""
        voxels = np.clip(self.voxel_of(points), 0, np.array(self.distance.shape) - 1)
        return self.distance[tuple(voxels.T)]


def fuse(views: DepthViews, voxel_size: float) -> Tsdf:
    """Fuse depth maps into a TSDF (Curless and Levoy 1996) over a bounded region, and clean it.

    A voxel within the truncation behind a surface averages what the cameras say, by distance to the surface's tangent
    plane and weighted by incidence; one that every camera finds hidden or outside its picture stays solid. Where the
    region is small enough the voxels near surfaces are halved. Small loose solids (floaters) are emptied, then all
    free space but the largest connected piece is filled.

    Args:
        views: Depth of the levelled, metric scene.
        voxel_size: Of the coarse grid [m].
    """
    origin, shape = _region(views, voxel_size)
    tsdf = _fuse_on(views, Tsdf(np.full(shape, -1.0, np.float32), np.zeros(shape, np.bool_), origin, voxel_size), None)
    if 8 * tsdf.distance.size <= _MAX_FINE_VOXELS:
        fine = Tsdf(_doubled(tsdf.distance), _doubled(tsdf.surface_seen), origin, voxel_size / 2)
        tsdf = _fuse_on(views, fine, _near_surface(tsdf.distance))
    _clear_cameras(tsdf, views.positions)
    remove_floaters(tsdf)
    _fill_pockets(tsdf)
    return tsdf


def _fuse_on(views: DepthViews, tsdf: Tsdf, wanted: np.ndarray | None) -> Tsdf:
    """Overwrite the voxels of a grid, or those of them whose parent in a grid of half the resolution is wanted."""
    seen = (views.depth, views.incidence, views.world_to_camera, views.intrinsics)
    truncation = TRUNCATION_VOXELS * tsdf.voxel_size
    grid = (tsdf.origin, tsdf.voxel_size, truncation, _FAR_CLIP_M, tsdf.distance, tsdf.surface_seen)
    everywhere = np.ones((1, 1, 1), np.bool_)
    part = (wanted is not None, everywhere if wanted is None else wanted)
    in_tasks(_integrate, tsdf.distance.shape[0], _LAYERS_A_TASK, *seen, *grid, *part)
    return tsdf


def _doubled(values: np.ndarray) -> np.ndarray:
    x, y, z = values.shape
    doubled = np.empty((2 * x, 2 * y, 2 * z), values.dtype)
    doubled.reshape(x, 2, y, 2, z, 2)[:] = values[:, None, :, None, :, None]
    return doubled


def _near_surface(distance: np.ndarray) -> np.ndarray:
    """Voxels that are neither all free nor all unseen together with their neighbours, shape ``(X, Y, Z)``, bool."""
    plain = (distance >= 1.0) | (distance <= -1.0)
    highest, lowest = ndimage.maximum_filter(distance, 3), ndimage.minimum_filter(distance, 3)
    return ~(plain & (highest == lowest))


def _region(views: DepthViews, voxel_size: float) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Origin [m] and shape of the grid: what is seen within the far clip, shrunk towards camera 0 if too large."""
    eye = views.positions[0]
    points = views.points
    near = points[np.linalg.norm(points - eye, axis=1) < _FAR_CLIP_M]
    samples = near if len(near) else points
    margin = (TRUNCATION_VOXELS + 1) * voxel_size
    low, high = np.percentile(samples, _BOUNDS_PERCENTILES, axis=0)
    low = np.minimum(low, views.positions.min(0)) - margin
    high = np.maximum(high, views.positions.max(0)) + margin
    low[2] = max(low[2], min(_HEIGHTS_M[0], eye[2] - 1))
    high[2] = min(high[2], max(_HEIGHTS_M[1], eye[2] + 1))
    while np.prod((high - low) / voxel_size + 1) > _MAX_VOXELS:
        low[:2] += 0.02 * (eye - low)[:2]
        high[:2] += 0.02 * (eye - high)[:2]
    first, last = np.floor(low / voxel_size).astype(int), np.ceil(high / voxel_size).astype(int)
    x, y, z = (last - first).tolist()
    return first * voxel_size, (x, y, z)


@numba.njit(nogil=True, cache=True)
def _integrate(
    first: int,
    last: int,
    depth: np.ndarray,
    incidence: np.ndarray,
    world_to_camera: np.ndarray,
    intrinsics: np.ndarray,
    origin: np.ndarray,
    voxel_size: float,
    truncation: float,
    far_clip: float,
    distance: np.ndarray,
    surface_seen: np.ndarray,
    in_part: bool,
    wanted: np.ndarray,
) -> None:
    num_cameras, height, width = depth.shape
    _, size_y, size_z = distance.shape
    total, total_weight = np.empty(size_z), np.empty(size_z)
    seen, asked = np.empty(size_z, np.bool_), np.empty(size_z, np.bool_)
    half = 0.5 * voxel_size
    for i in range(first, last):
        x = origin[0] + (i + 0.5) * voxel_size
        for j in range(size_y):
            y = origin[1] + (j + 0.5) * voxel_size
            low, high = size_z, 0
            for k in range(size_z):
                asked[k] = not in_part or wanted[i // 2, j // 2, k // 2]
                if asked[k]:
                    low, high = min(low, k), k + 1
            total[low:high] = 0.0
            total_weight[low:high] = 0.0
            seen[low:high] = False
            # Camera by camera along a column of voxels, whose pixels lie on a line of one picture.
            for c in range(num_cameras):
                m = world_to_camera[c]
                fx, fy, cx, cy = intrinsics[c, 0, 0], intrinsics[c, 1, 1], intrinsics[c, 0, 2], intrinsics[c, 1, 2]
                px, py, pz = (
                    m[0, 0] * x + m[0, 1] * y,
                    m[1, 0] * x + m[1, 1] * y,
                    m[2, 0] * x + m[2, 1] * y,
                )
                z = origin[2] + 0.5 * voxel_size
                x0, y0, z0 = px + m[0, 2] * z + m[0, 3], py + m[1, 2] * z + m[1, 3], pz + m[2, 2] * z + m[2, 3]
                dx, dy, dz = m[0, 2] * voxel_size, m[1, 2] * voxel_size, m[2, 2] * voxel_size
                start, stop = _clipped(low, high, z0, dz)
                start, stop = _clipped(start, stop, far_clip - z0, -dz)
                start, stop = _clipped(start, stop, fx * (x0 + half) + cx * z0, fx * dx + cx * dz)
                start, stop = _clipped(start, stop, (width - cx) * z0 - fx * (x0 - half), (width - cx) * dz - fx * dx)
                start, stop = _clipped(start, stop, fy * (y0 + half) + cy * z0, fy * dy + cy * dz)
                start, stop = _clipped(start, stop, (height - cy) * z0 - fy * (y0 - half), (height - cy) * dz - fy * dy)
                for k in range(start, stop):
                    if not asked[k]:
                        continue
                    z = origin[2] + (k + 0.5) * voxel_size
                    in_depth = pz + m[2, 2] * z + m[2, 3]
                    if in_depth <= half or in_depth > far_clip:
                        continue
                    u = fx * (px + m[0, 2] * z + m[0, 3]) / in_depth + cx
                    v = fy * (py + m[1, 2] * z + m[1, 3]) / in_depth + cy
                    if u < 0.0 or u >= width or v < 0.0 or v >= height:
                        # Half a voxel past the picture still counts, so that its border rays stay clear of the solid.
                        reach_u, reach_v = half * fx / in_depth, half * fy / in_depth
                        if u < -reach_u or u >= width + reach_u or v < -reach_v or v >= height + reach_v:
                            continue
                    column = min(max(int(np.floor(u)), 0), width - 1)
                    row = min(max(int(np.floor(v)), 0), height - 1)
                    surface = depth[c, row, column]
                    if surface <= 0.0 or surface - in_depth < -truncation:
                        continue
                    facing = incidence[c, row, column]
                    if (surface - in_depth) * facing > _WELL_BEFORE * truncation:
                        # What follows would find the most there is, a distance and a weight of 1.
                        total[k] += 1.0
                        total_weight[k] += 1.0
                        continue
                    a, b = (u - cx) / fx, (v - cy) / fy
                    ahead = (surface - in_depth) * np.sqrt(a * a + b * b + 1.0) * facing / truncation
                    if ahead < -1.0:
                        continue
                    seen[k] = seen[k] or ahead < 1.0
                    # Far before a surface its slope does not matter; behind it a camera's word fades.
                    weight = facing * (1.0 + ahead) if ahead < 0.0 else facing + (1.0 - facing) * min(ahead, 1.0)
                    total[k] += weight * min(ahead, 1.0)
                    total_weight[k] += weight
            for k in range(low, high):
                if not asked[k]:
                    continue
                surface_seen[i, j, k] = total_weight[k] > 0.0 and seen[k]
                if total_weight[k] > 0.0:
                    mean = total[k] / total_weight[k]
                    distance[i, j, k] = max(mean, MIN_DISTANCE) if mean > 0.0 else min(mean, -MIN_DISTANCE)
                else:
                    distance[i, j, k] = -1.0


@numba.njit(nogil=True, cache=True)
def _clipped(start: int, stop: int, value: float, slope: float) -> tuple[int, int]:
    """A range of whole numbers less those where ``value + k * slope`` is negative, one spared for rounding."""
    # The bounds are compared as floats: a slope near 0 puts the root past every whole number.
    if slope > 0.0:
        start = int(min(max(np.floor(-value / slope), start), stop))
    elif slope < 0.0:
        stop = int(max(min(np.ceil(-value / slope) + 1.0, stop), start))
    elif value < 0.0:
        stop = start
    return start, stop


def _clear_cameras(tsdf: Tsdf, positions: np.ndarray) -> None:
    reach = int(np.ceil(_CAMERA_CLEARANCE_M / tsdf.voxel_size))
    offsets = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    offsets = offsets[np.linalg.norm(offsets, axis=1) * tsdf.voxel_size <= _CAMERA_CLEARANCE_M]
    voxels = (tsdf.voxel_of(positions)[:, None] + offsets).reshape(-1, 3)
    voxels = voxels[((voxels >= 0) & (voxels < tsdf.distance.shape)).all(1)]
    x, y, z = voxels[~tsdf.surface_seen[tuple(voxels.T)]].T
    tsdf.distance[x, y, z] = 1.0


def remove_floaters(tsdf: Tsdf) -> None:
    """Empty, in place, small solids that hang in the air."""
    solids = connected(~tsdf.free)
    loose = (solids.sizes * tsdf.voxel_size**3 <= _FLOATER_M3) & ~solids.bordering()
    solids.paint(loose, tsdf.distance, 1.0)
    solids.paint(loose, tsdf.surface_seen, False)


def _fill_pockets(tsdf: Tsdf) -> None:
    """Fill free space that is not connected to the largest piece of it by a passage of about ``_PASSAGE_M``.

    Through a hole in the splat of a box the cameras see its inside, which is no place for a robot.
    """
    rounds = max(1, round(_PASSAGE_M / (2 * tsdf.voxel_size) - 0.5))
    free = tsdf.free
    pieces = connected(~dilated(~free, rounds))
    if len(pieces.sizes) == 0:
        pieces, rounds = connected(free), 0
    if len(pieces.sizes) == 0:
        return
    inside = np.zeros(free.shape, np.bool_)
    pieces.paint(np.arange(len(pieces.sizes)) == pieces.sizes.argmax(), inside, True)
    pockets = free & ~reached(inside, free, rounds + 1)
    tsdf.distance[pockets] = -1.0
    tsdf.surface_seen[pockets] = False
