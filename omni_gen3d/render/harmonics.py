"""Colours of the splats that one camera sees: ``geometry.eval_sh`` as one compiled pass that gathers nothing."""

from __future__ import annotations

import math

import numba
import numpy as np

from omni_gen3d.geometry import SH_DC
from omni_gen3d.render.halves import as_float

_BLOCK = 512
_K1 = math.sqrt(3 / (4 * math.pi))
_K2 = math.sqrt(15 / (4 * math.pi))
_K2_ZONAL = math.sqrt(5 / (16 * math.pi))
_K3_EDGE, _K3_MIXED, _K3_SIDE = (
    math.sqrt(35 / (32 * math.pi)),
    math.sqrt(105 / (4 * math.pi)),
    math.sqrt(21 / (32 * math.pi)),
)
_K3_ZONAL = math.sqrt(7 / (16 * math.pi))


@numba.njit(parallel=True, nogil=True, cache=True)
def paint_splats(means, sh, opacities, floats, which, position, gain, paint):
    """Red, green, blue and opacity of some Gaussians seen from a point.

    Args:
        means: Of all, float32, shape ``(N, 3)``.
        sh, opacities: float32 or the bits of halves, shapes ``(N, K, 3)``, ``(N,)``.
        floats: ``halves.FLOATS``.
        which: The Gaussians that are wanted, int32, shape ``(M,)``.
        position: Of the camera in their frame, float64, shape ``(3,)``.
        gain: Factors on the colours, float64, shape ``(3,)``.
        paint: Where to write, float32, shape ``(M, 4)``.
    """
    count = sh.shape[1]
    for block in numba.prange((len(which) + _BLOCK - 1) // _BLOCK):
        basis = np.zeros(16)
        basis[0] = SH_DC
        for row in range(block * _BLOCK, min(len(which), (block + 1) * _BLOCK)):
            i = which[row]
            if count > 1:
                _harmonics(means[i, 0] - position[0], means[i, 1] - position[1], means[i, 2] - position[2], basis)
            for channel in range(3):
                value = 0.5
                for k in range(count):
                    value += basis[k] * as_float(sh[i, k, channel], floats)
                paint[row, channel] = max(value, 0.0) * gain[channel]
            paint[row, 3] = as_float(opacities[i], floats)


@numba.njit(cache=True, inline="always")
def _harmonics(dx, dy, dz, basis):
    """Entries 1 to 15 of the basis along a direction of any length."""
    scale = 1 / max(math.sqrt(dx * dx + dy * dy + dz * dz), 1e-12)
    x, y, z = dx * scale, dy * scale, dz * scale
    xx, yy, zz = x * x, y * y, z * z
    basis[1], basis[2], basis[3] = -_K1 * y, _K1 * z, -_K1 * x
    basis[4], basis[5] = _K2 * x * y, -_K2 * y * z
    basis[6] = _K2_ZONAL * (2 * zz - xx - yy)
    basis[7], basis[8] = -_K2 * x * z, _K2 / 2 * (xx - yy)
    basis[9], basis[15] = -_K3_EDGE * y * (3 * xx - yy), -_K3_EDGE * x * (xx - 3 * yy)
    basis[10], basis[14] = _K3_MIXED * x * y * z, _K3_MIXED / 2 * z * (xx - yy)
    basis[11], basis[13] = -_K3_SIDE * y * (4 * zz - xx - yy), -_K3_SIDE * x * (4 * zz - xx - yy)
    basis[12] = _K3_ZONAL * z * (2 * zz - 3 * xx - 3 * yy)
