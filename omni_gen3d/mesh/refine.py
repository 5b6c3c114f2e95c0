"""The distance field moved onto the splat's own discs, where these are flat and agree with what the cameras saw.

Depth maps show a cloud of noisy discs too near: the foremost wins, and each has the depth of its centre all over its
footprint. The discs' centres scatter about the surface instead. Within two voxels of the fused surface the field
becomes the robust implicit moving least squares of Oeztireli, Guennebaud and Gross (2009, "Feature preserving point
set surfaces based on non-linear kernel regression"): distances to the discs' planes, averaged with weights that fall
with distance from the disc, with the disc's disagreement, and with opacity.
"""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np

from omni_gen3d.mesh.discs import Discs
from omni_gen3d.mesh.tasks import in_tasks
from omni_gen3d.mesh.tsdf import MIN_DISTANCE, TRUNCATION_VOXELS, Tsdf

# Weights fall to 1/e at this distance, and discs beyond twice it do not count.
_REACH_M = 0.06
_BAND_VOXELS = 2.0
# A disc whose plane misses the estimate by this counts 1/e; noise of real discs stays below.
_RESIDUAL_M = 0.015
_ROUNDS = 3
# This much weight speaks for itself; less is blended with the cameras' word.
_FULL_WEIGHT = 1.5
_VOXELS_A_TASK = 4096


def refine(tsdf: Tsdf, discs: Discs) -> Tsdf:
    """The grid with its zero crossing on the discs; unchanged where there are none near.

    Args:
        tsdf: Fused and cleaned.
        discs: Of the scene that it was fused from.
    """
    outward = discs.outward(tsdf)
    used = outward.any(1)
    if not used.any():
        return tsdf
    order, starts, origin, shape = _by_cell(discs.centres[used])
    table = np.concatenate([discs.centres, outward, discs.opacities[:, None]], axis=1)[used][order]
    distance = tsdf.distance.copy()
    band = np.flatnonzero((np.abs(distance) * TRUNCATION_VOXELS < _BAND_VOXELS).ravel() & tsdf.surface_seen.ravel())
    values = np.empty(len(band), np.float32)
    in_tasks(
        _evaluate,
        len(band),
        _VOXELS_A_TASK,
        band,
        np.array(distance.shape),
        tsdf.origin,
        tsdf.voxel_size,
        TRUNCATION_VOXELS * tsdf.voxel_size,
        distance.ravel(),
        table,
        starts,
        origin,
        shape,
        values,
    )
    distance.ravel()[band] = np.where(
        values > 0, np.clip(values, MIN_DISTANCE, 1.0), np.clip(values, -1.0, -MIN_DISTANCE)
    )
    return replace(tsdf, distance=distance)


def _by_cell(centres: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Order of the discs by cells of their reach, where each cell starts, and the cells' origin and shape."""
    cell = 2 * _REACH_M
    origin = centres.min(0) - cell
    indices = np.floor((centres - origin) / cell).astype(np.int64)
    shape = indices.max(0) + 2
    flat = np.asarray(np.ravel_multi_index(tuple(indices.T), tuple(shape)))
    order = np.argsort(flat, kind="stable")
    starts = np.searchsorted(flat[order], np.arange(int(np.prod(shape)) + 1))
    return order, starts, origin, shape


@numba.njit(nogil=True, cache=True)
def _evaluate(
    first: int,
    last: int,
    band: np.ndarray,
    grid_shape: np.ndarray,
    grid_origin: np.ndarray,
    voxel_size: float,
    truncation: float,
    distance: np.ndarray,
    discs: np.ndarray,
    starts: np.ndarray,
    origin: np.ndarray,
    shape: np.ndarray,
    values: np.ndarray,
) -> None:
    near = np.empty(512, np.int64)
    kernel = np.empty(512)
    planes = np.empty(512)
    cell = 2 * _REACH_M
    for index in range(first, last):
        voxel = band[index]
        k = voxel % grid_shape[2]
        j = voxel // grid_shape[2] % grid_shape[1]
        i = voxel // (grid_shape[2] * grid_shape[1])
        x = grid_origin[0] + (i + 0.5) * voxel_size
        y = grid_origin[1] + (j + 0.5) * voxel_size
        z = grid_origin[2] + (k + 0.5) * voxel_size
        count = 0
        a, b, c = (x - origin[0]) / cell, (y - origin[1]) / cell, (z - origin[2]) / cell
        for ci in range(max(int(a - 0.5), 0), min(int(a + 0.5) + 1, shape[0])):
            for cj in range(max(int(b - 0.5), 0), min(int(b + 0.5) + 1, shape[1])):
                for ck in range(max(int(c - 0.5), 0), min(int(c + 0.5) + 1, shape[2])):
                    at = (ci * shape[1] + cj) * shape[2] + ck
                    for d in range(starts[at], starts[at + 1]):
                        dx, dy, dz = x - discs[d, 0], y - discs[d, 1], z - discs[d, 2]
                        squared = (dx * dx + dy * dy + dz * dz) / (_REACH_M * _REACH_M)
                        if squared < 4.0 and count < 512:
                            near[count] = d
                            kernel[count] = discs[d, 6] * np.exp(-squared)
                            planes[count] = dx * discs[d, 3] + dy * discs[d, 4] + dz * discs[d, 5]
                            count += 1
        fused = distance[voxel] * truncation
        estimate, weight = fused, 0.0
        for step in range(_ROUNDS):
            # The first round starts from the cameras' word, which is coarse.
            scale = _RESIDUAL_M * (3.0 if step == 0 else 1.0)
            total, weight = 0.0, 0.0
            for n in range(count):
                miss = (planes[n] - estimate) / scale
                w = kernel[n] * np.exp(-miss * miss)
                total += w * planes[n]
                weight += w
            if weight <= 1e-6:
                break
            estimate = total / weight
        trust = min(weight / _FULL_WEIGHT, 1.0)
        values[index] = (trust * estimate + (1.0 - trust) * fused) / truncation
