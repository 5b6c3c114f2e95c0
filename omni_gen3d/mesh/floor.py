"""Where the floor is open and seen, and the TSDF snapped to it: exactly z = 0, without bumps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from omni_gen3d.mesh.tsdf import TRUNCATION_VOXELS, Tsdf, remove_floaters

# Solid up to three standard deviations of the floor's noise above the plane, within these limits and rounded to
# whole voxels, is a bump of the floor; anything higher stands on it.
_BUMP_SIGMAS = 3.0
_BUMP_LIMITS_M = (0.05, 0.1)
# Points within this of the plane tell the noise.
_NOISE_BAND_M = 0.15
_MAD_TO_SIGMA = 1.4826
# Seen floor must hold a square of this side somewhere, and this area in all, to count as a floor.
_MIN_SQUARE_M = 0.25
_MIN_AREA_M2 = 0.3
# Small gaps between seen floor columns are bridged.
_BRIDGE_M = 0.15


@dataclass(frozen=True)
class Floor:
    """Columns of the grid with open floor at z = 0.

    Attributes:
        open: Known-free space reaches down to the floor, shape ``(X, Y)``, bool.
        seen: Open, and the floor itself was seen there or all around, shape ``(X, Y)``, bool.
    """

    open: np.ndarray
    seen: np.ndarray


def snap_floor(tsdf: Tsdf, points: np.ndarray) -> tuple[Tsdf, Floor | None]:
    """Make everything below z = 0 solid and free the noise just above it.

    Args:
        tsdf: Of a scene whose floor, if it has one, lies at z = 0.
        points: Points on its surfaces [m], shape ``(M, 3)``.

    Returns:
        The snapped grid with its zero crossing at z = 0 on every open column, and the floor; the grid unchanged and
        None when too little floor was seen.
    """
    ground = tsdf.ground
    heights = points[np.abs(points[:, 2]) < _NOISE_BAND_M, 2]
    noise = _MAD_TO_SIGMA * float(np.median(np.abs(heights - np.median(heights)))) if len(heights) else 0.0
    bumps = round(float(np.clip(_BUMP_SIGMAS * noise, *_BUMP_LIMITS_M)) / tsdf.voxel_size)
    if ground < 1 or ground + bumps >= tsdf.distance.shape[2]:
        return tsdf, None
    above = tsdf.free[:, :, ground : ground + bumps + 1]
    open_columns, first_free = np.asarray(above.any(2)), above.argmax(2)
    seen = open_columns & tsdf.surface_seen[:, :, ground - 1 : ground + bumps + 1].any(2)
    bridge = max(1, round(_BRIDGE_M / tsdf.voxel_size))
    bridged = np.asarray(ndimage.binary_closing(np.pad(seen, bridge + 1), iterations=bridge), np.bool_)
    seen = open_columns & bridged[bridge + 1 : -bridge - 1, bridge + 1 : -bridge - 1]
    side = int(np.ceil(_MIN_SQUARE_M / tsdf.voxel_size))
    has_square = np.asarray(ndimage.binary_erosion(seen, np.ones((side, side)))).any()
    if not has_square or seen.sum() * tsdf.voxel_size**2 < _MIN_AREA_M2:
        return tsdf, None

    # On both sides of the plane half a voxel, so that the zero crossing falls exactly on it.
    half_voxel = 0.5 / TRUNCATION_VOXELS
    distance = tsdf.distance.copy()
    distance[:, :, :ground] = -1.0
    distance[:, :, ground - 1][open_columns] = -half_voxel
    for layer in range(bumps + 1):
        distance[:, :, ground + layer][open_columns & (layer <= first_free)] = half_voxel * (2 * layer + 1)
    snapped = replace(tsdf, distance=distance, surface_seen=tsdf.surface_seen.copy())
    # Without the bump below it, the top of one may hang in the air.
    remove_floaters(snapped)
    return snapped, Floor(open_columns, seen)
