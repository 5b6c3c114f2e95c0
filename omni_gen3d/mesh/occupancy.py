"""Where the matter of a splat is: its opacity summed up in voxels, and what that encloses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numba import njit, prange

from omni_gen3d.geometry import quat_to_matrix
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
_POINTS_A_CHUNK = 1 << 20


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
    means = gaussians.means.detach().cpu().numpy()
    visible = np.flatnonzero(gaussians.opacities.detach().cpu().numpy() >= _MIN_OPACITY)
    if len(visible) == 0:
        visible = np.arange(len(means))
    low, high = np.percentile(means[visible], _BOUNDS_PERCENTILES, axis=0)
    high[2] = max(high[2], low[2] + _MIN_HEIGHT_M)
    extent = np.maximum(high - low, _MIN_VOXEL_M)
    voxel_size = max(_MIN_VOXEL_M, float(np.cbrt(extent.prod() / _MAX_VOXELS)), float(extent.max()) / 512)
    origin = np.floor(low / voxel_size - 2) * voxel_size
    shape = np.ceil((high - origin) / voxel_size + 2).astype(int)
    cover = np.zeros(int(shape.prod()))
    for points, areas in _spread(gaussians, visible, voxel_size):
        voxels = np.floor((points - origin) / voxel_size)
        inside = ((voxels >= 0) & (voxels < shape)).all(1)
        flat = np.ravel_multi_index(tuple(voxels[inside].astype(np.int64).T), tuple(shape))
        cover += np.bincount(flat, weights=areas[inside], minlength=len(cover))
    return Occupancy(cover.reshape(shape) >= _SOLID_COVER * voxel_size**2, origin, voxel_size)


def _spread(gaussians: Gaussians, chosen: np.ndarray, voxel_size: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Points over the two wide axes of each Gaussian, and the area that each stands for, in chunks."""
    scales = gaussians.scales.detach().cpu().numpy()
    order = np.argsort(-scales[chosen], axis=1, kind="stable")[:, :2]
    wide = np.take_along_axis(scales[chosen], order, 1)
    areas = 2 * np.pi * covered_area(gaussians)[chosen]
    side = np.clip(np.ceil(2 * _REACH_SIGMAS * wide[:, 0] / voxel_size), 1, _MAX_SIDE).astype(int)
    for count in np.unique(side):
        offsets = _REACH_SIGMAS * ((2 * np.arange(count) + 1) / count - 1)
        a, b = (axis.ravel() for axis in np.meshgrid(offsets, offsets, indexing="ij"))
        group = np.flatnonzero(side == count)
        step = max(1, _POINTS_A_CHUNK // count**2)
        for first in range(0, len(group), step):
            rows = group[first : first + step]
            points = gaussians.means.detach().cpu().numpy()[chosen[rows], None, :]
            if count > 1:
                frames = quat_to_matrix(gaussians.quats[chosen[rows]].detach().cpu()).numpy()
                axes = np.take_along_axis(frames, order[rows, None, :], 2) * wide[rows, None, :]
                points = points + a[:, None] * axes[:, None, :, 0] + b[:, None] * axes[:, None, :, 1]
            yield points.reshape(-1, 3), np.repeat(areas[rows] / count**2, count**2)


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
