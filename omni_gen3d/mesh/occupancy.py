"""Where the matter of a splat is: its opacity summed up in voxels, and what that encloses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from numba import njit, prange

from omni_gen3d.mesh.sampling import covered_area
from omni_gen3d.types import Gaussians

_MAX_VOXELS = 250_000
_MIN_VOXEL_M = 0.05
# Floaters far out must not blow up the grid.
_BOUNDS_PERCENTILES = (1.0, 99.0)
# Over flat ground there is room for a camera, too.
_MIN_HEIGHT_M = 2.0
_MIN_OPACITY = 0.1
# A voxel is solid when the Gaussians in it would cover this share of one of its faces.
_SOLID_COVER = 0.5
# A wide Gaussian is spread over this many points a side at most, out to 1.5 standard deviations.
_MAX_SIDE = 8
_REACH_SIGMAS = 1.5


@dataclass(frozen=True)
class Occupancy:
    """A grid of solid and empty voxels.

    Attributes:
        solid: Shape ``(X, Y, Z)``, bool.
        origin: Low corner of voxel (0, 0, 0) [m], shape ``(3,)``.
        voxel_size: [m].
    """

    solid: np.ndarray
    origin: np.ndarray
    voxel_size: float

    def centres(self, voxels: np.ndarray) -> np.ndarray:
        """World positions of the centres of voxels [m], ``(..., 3)`` -> ``(..., 3)``."""
        return self.origin + (voxels + 0.5) * self.voxel_size

    def open_ways(self, eyes: np.ndarray, targets: np.ndarray, steps: int) -> np.ndarray:
        """Whether nothing solid lies between eyes and targets, the last two voxels aside, ``(E, T)``, bool.

        Args:
            eyes: [m], shape ``(E, 3)``.
            targets: [m], shape ``(T, 3)``.
            steps: Samples along each way.
        """
        padded = np.pad(self.solid, 1)
        start = ((eyes - self.origin) / self.voxel_size + 1).astype(np.float32)
        ways = ((targets[None] - eyes[:, None]) / self.voxel_size).astype(np.float32)
        length = np.linalg.norm(ways, axis=-1, keepdims=True)
        ways *= np.maximum(length - 2, 0) / np.maximum(length, 1e-9)
        return _open(padded, start, ways, steps)


@njit(parallel=True, cache=True)
def _open(padded: np.ndarray, start: np.ndarray, ways: np.ndarray, steps: int) -> np.ndarray:
    """Sample every way; what leaves the grid lies in the empty voxels that pad it."""
    eyes, targets = ways.shape[:2]
    clear = np.ones((eyes, targets), np.bool_)
    for eye in prange(eyes):
        for target in range(targets):
            for step in range(1, steps):
                share = np.float32(step / steps)
                x = np.int64(start[eye, 0] + ways[eye, target, 0] * share)
                y = np.int64(start[eye, 1] + ways[eye, target, 1] * share)
                z = np.int64(start[eye, 2] + ways[eye, target, 2] * share)
                x = min(max(x, 0), padded.shape[0] - 1)
                y = min(max(y, 0), padded.shape[1] - 1)
                z = min(max(z, 0), padded.shape[2] - 1)
                if padded[x, y, z]:
                    clear[eye, target] = False
                    break
    return clear


def occupy(gaussians: Gaussians) -> Occupancy:
    """Sum up opacity times area in at most about 250,000 voxels of 5 cm or more, a margin of two around the scene."""
    means, quats, scales = (
        tensor.detach().cpu().numpy() for tensor in (gaussians.means, gaussians.quats, gaussians.scales)
    )
    visible = np.flatnonzero(gaussians.opacities.detach().cpu().numpy() >= _MIN_OPACITY)
    if len(visible) == 0:
        visible = np.arange(len(means))
    low, high = np.percentile(means[visible], _BOUNDS_PERCENTILES, axis=0)
    high[2] = max(high[2], low[2] + _MIN_HEIGHT_M)
    extent = np.maximum(high - low, _MIN_VOXEL_M)
    voxel_size = max(_MIN_VOXEL_M, float(np.cbrt(extent.prod() / _MAX_VOXELS)), float(extent.max()) / 512)
    origin = np.floor(low / voxel_size - 2) * voxel_size
    shape = np.ceil((high - origin) / voxel_size + 2).astype(int)
    areas = 2 * np.pi * covered_area(gaussians)[visible]
    cover = np.zeros(tuple(shape))
    _add_cover(means[visible], quats[visible], scales[visible], areas, origin, voxel_size, cover)
    return Occupancy(cover >= _SOLID_COVER * voxel_size**2, origin, voxel_size)


@njit(cache=True)
def _add_cover(
    means: np.ndarray,
    quats: np.ndarray,
    scales: np.ndarray,
    areas: np.ndarray,
    origin: np.ndarray,
    voxel_size: float,
    cover: np.ndarray,
) -> None:
    """Spread each Gaussian's area evenly over its two wide axes and add it to the voxels of ``cover``."""
    for i in range(len(means)):
        thin = 0
        for axis in range(1, 3):
            if scales[i, axis] <= scales[i, thin]:
                thin = axis
        u, v = (thin + 1) % 3, (thin + 2) % 3
        widest = max(scales[i, u], scales[i, v])
        side = min(max(math.ceil(2 * _REACH_SIGMAS * widest / voxel_size), 1), _MAX_SIDE)
        along = _axes(quats[i])
        for a in range(side):
            on_u = scales[i, u] * _REACH_SIGMAS * ((2 * a + 1) / side - 1)
            for b in range(side):
                on_v = scales[i, v] * _REACH_SIGMAS * ((2 * b + 1) / side - 1)
                x = (means[i, 0] + on_u * along[u][0] + on_v * along[v][0] - origin[0]) / voxel_size
                y = (means[i, 1] + on_u * along[u][1] + on_v * along[v][1] - origin[1]) / voxel_size
                z = (means[i, 2] + on_u * along[u][2] + on_v * along[v][2] - origin[2]) / voxel_size
                if 0 <= x < cover.shape[0] and 0 <= y < cover.shape[1] and 0 <= z < cover.shape[2]:
                    cover[int(x), int(y), int(z)] += areas[i] / side**2


@njit(cache=True)
def _axes(quat: np.ndarray) -> tuple[tuple[float, float, float], ...]:
    """The columns of the rotation matrix of a unit quaternion wxyz."""
    w, x, y, z = quat
    return (
        (1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)),
        (2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)),
        (2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)),
    )


def distance_to(marked: np.ndarray) -> np.ndarray:
    """Distance of each voxel's centre to that of the nearest marked one [voxels], inf where none is, ``(X, Y, Z)``."""
    squared = np.where(marked, 0.0, np.inf)
    for axis in range(3):
        squared = np.moveaxis(_nearest(np.ascontiguousarray(np.moveaxis(squared, axis, 2))), 2, axis)
    return np.sqrt(squared)


@njit(cache=True)
def _nearest(squared: np.ndarray) -> np.ndarray:
    """Squared distances once steps along the last axis count too (Saito and Toriwaki 1994)."""
    nearest = squared.copy()
    for i in range(squared.shape[0]):
        for j in range(squared.shape[1]):
            line, best = squared[i, j], nearest[i, j]
            for k in range(len(line)):
                step = 1
                while step * step < best[k] and step < len(line):
                    if k >= step:
                        best[k] = min(best[k], line[k - step] + step * step)
                    if k + step < len(line):
                        best[k] = min(best[k], line[k + step] + step * step)
                    step += 1
    return nearest


def largest_region(is_open: np.ndarray) -> np.ndarray:
    """The largest part of the open voxels that hangs together by faces, the first of equals, ``(X, Y, Z)``, bool."""
    padded = np.pad(is_open, 1)
    parts = _numbered_parts(padded.ravel(), padded.shape[2], padded.shape[1] * padded.shape[2]).reshape(padded.shape)
    sizes = np.bincount(parts.ravel())[1:]
    return parts[1:-1, 1:-1, 1:-1] == 1 + (int(sizes.argmax()) if len(sizes) else 0)


@njit(cache=True)
def _numbered_parts(is_open: np.ndarray, row: int, layer: int) -> np.ndarray:
    """Flood every part from its first voxel; parts count from 1, and what is not open is 0."""
    part = np.zeros(len(is_open), np.int32)
    waiting = np.empty(len(is_open), np.int64)
    count = 0
    for first in range(len(is_open)):
        if is_open[first] and part[first] == 0:
            count += 1
            part[first] = count
            waiting[0], size = first, 1
            while size > 0:
                size -= 1
                voxel = waiting[size]
                for step in (1, -1, row, -row, layer, -layer):
                    if is_open[voxel + step] and part[voxel + step] == 0:
                        part[voxel + step] = count
                        waiting[size] = voxel + step
                        size += 1
    return part


def enclosure(solid: np.ndarray) -> np.ndarray:
    """In how many of the 26 directions to its neighbours a voxel looks at something solid, ``(X, Y, Z)``, uint8."""
    total = np.zeros(solid.shape, np.uint8)
    for direction in product((-1, 0, 1), repeat=3):
        if any(direction):
            total += _hit(solid, direction)
    return total


def _hit(solid: np.ndarray, direction: tuple[int, ...]) -> np.ndarray:
    """Whether a ray from each voxel meets a solid one, layer by layer from the side that the rays leave by."""
    main = next(axis for axis in range(3) if direction[axis])
    across = [direction[axis] for axis in range(3) if axis != main]
    layers = np.moveaxis(solid, main, 0)
    hit = np.zeros_like(layers)
    ahead = range(len(layers) - 2, -1, -1) if direction[main] > 0 else range(1, len(layers))
    for layer in ahead:
        beyond = layers[layer + direction[main]] | hit[layer + direction[main]]
        here, there = zip(*(_overlap(step, size) for step, size in zip(across, beyond.shape, strict=True)), strict=True)
        hit[layer][here] = beyond[there]
    return np.moveaxis(hit, 0, main)


def _overlap(step: int, size: int) -> tuple[slice, slice]:
    """Indices ``i`` and ``i + step`` that both lie in ``range(size)``."""
    return slice(max(0, -step), size - max(0, step)), slice(max(0, step), size - max(0, -step))
