"""The distance field smoothed where no surface was seen and its boundary is a staircase of voxels."""

from __future__ import annotations

import numba
import numpy as np

from omni_gen3d.mesh.morphology import dilated
from omni_gen3d.mesh.tasks import in_tasks
from omni_gen3d.mesh.tsdf import MIN_DISTANCE, Tsdf

# Blurring the staircase by this much saves most of its faces.
_BLUR_VOXELS = 1.0
_REACH = round(4 * _BLUR_VOXELS)
_LAYERS_A_TASK = 8
_LEAST = np.float32(MIN_DISTANCE)


def smooth_unseen(tsdf: Tsdf) -> np.ndarray:
    """The distance field, blurred where neither a seen surface nor the floor is within a voxel; no sign changes.

    A Gaussian blur, axis by axis, each axis rounded to single precision; past the border the border is repeated.
    """
    weights = np.exp(-0.5 / _BLUR_VOXELS**2 * np.arange(-_REACH, _REACH + 1) ** 2)
    weights = (weights / weights.sum())[_REACH:]
    evident = dilated(tsdf.surface_seen, 1)
    evident[:, :, : max(tsdf.ground + 2, 0)] = True
    across, smooth = np.empty_like(tsdf.distance), np.empty_like(tsdf.distance)
    in_tasks(_blur_across, len(smooth), _LAYERS_A_TASK, tsdf.distance, weights, across)
    in_tasks(_blur_planes, len(smooth), _LAYERS_A_TASK, across, weights, evident, tsdf.distance, smooth)
    return smooth


@numba.njit(nogil=True, cache=True)
def _blur_across(first: int, last: int, values: np.ndarray, weights: np.ndarray, blurred: np.ndarray) -> None:
    """Along x."""
    size_x, size_y, size_z = values.shape
    row = np.empty(size_z)
    for i in range(first, last):
        for j in range(size_y):
            for k in range(size_z):
                row[k] = np.float64(values[i, j, k]) * weights[0]
            for step in range(len(weights) - 1, 0, -1):
                before, after = max(i - step, 0), min(i + step, size_x - 1)
                for k in range(size_z):
                    row[k] += (np.float64(values[before, j, k]) + np.float64(values[after, j, k])) * weights[step]
            for k in range(size_z):
                blurred[i, j, k] = row[k]


@numba.njit(nogil=True, cache=True)
def _blur_planes(
    first: int,
    last: int,
    values: np.ndarray,
    weights: np.ndarray,
    evident: np.ndarray,
    distance: np.ndarray,
    smooth: np.ndarray,
) -> None:
    """Along y, then along z; what is evident stays as it is."""
    _, size_y, size_z = values.shape
    reach = len(weights) - 1
    row, line = np.empty(size_z), np.empty(size_z + 2 * reach)
    for i in range(first, last):
        for j in range(size_y):
            for k in range(size_z):
                row[k] = np.float64(values[i, j, k]) * weights[0]
            for step in range(reach, 0, -1):
                before, after = max(j - step, 0), min(j + step, size_y - 1)
                for k in range(size_z):
                    row[k] += (np.float64(values[i, before, k]) + np.float64(values[i, after, k])) * weights[step]
            for k in range(-reach, size_z + reach):
                line[k + reach] = np.float32(row[min(max(k, 0), size_z - 1)])
            for k in range(size_z):
                row[k] = line[k + reach] * weights[0]
            for step in range(reach, 0, -1):
                for k in range(size_z):
                    row[k] += (line[k + reach - step] + line[k + reach + step]) * weights[step]
            for k in range(size_z):
                here, blurred = distance[i, j, k], np.float32(row[k])
                if not evident[i, j, k]:
                    here = max(blurred, _LEAST) if here > 0 else min(blurred, -_LEAST)
                smooth[i, j, k] = here
