"""Where the ray of a pixel meets the splat that it shows, and which way the splat faces there."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np

from omni_gen3d.render.cpu import PlacedSplats, SplatPicture, View
from omni_gen3d.render.halves import FLOATS, as_float
from omni_gen3d.render.threads import kernels


def splat_surface(
    picture: SplatPicture, placed: Sequence[PlacedSplats], view: View, stop: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Depth and normal of the splats that a picture shows.

    The depth is that of the peak of the Gaussian along the ray (Moenne-Loccoz et al., "3D Gaussian Ray Tracing", 2024,
    eq. 10), which for a flat splat is where the ray meets its plane; the depth of the centre is up to the size of a
    splat off where a surface is seen at a slant. It is kept between the near plane and ``stop``. The normal is the
    direction that the shortest axis is square to the others in, towards the camera.

    Returns:
        Depth along z [m], 0 where no splat is shown, shape ``(H, W)``, float32; normals in the world, 0 where no splat
        is shown, shape ``(H, W, 3)``, float32.
    """
    depth, normal = np.zeros(picture.owner.shape, np.float32), np.zeros((*picture.owner.shape, 3), np.float32)
    lens = np.array([view.intrinsics[0, 0], view.intrinsics[1, 1], view.intrinsics[0, 2], view.intrinsics[1, 2]])
    with kernels():
        for owner, item in enumerate(placed):
            splats = item.splats
            _meet(
                owner,
                picture.owner,
                picture.index,
                splats.means,
                splats.quats,
                splats.scales,
                FLOATS,
                np.linalg.inv(view.world_to_camera @ item.to_world),
                np.ascontiguousarray(np.linalg.inv(item.to_world[:3, :3]).T),
                lens,
                view.near,
                stop,
                depth,
                normal,
            )
    return depth, normal


@numba.njit(parallel=True, nogil=True, cache=True)
def _meet(owner, owners, indices, means, quats, scales, floats, to_local, turn, lens, near, stop, depth, normal):
    fx, fy, cx, cy = lens
    height, width = owners.shape
    for row in numba.prange(height):
        axes, start, ray = np.empty((3, 3)), np.empty(3), np.empty(3)
        quat, scale = np.empty(4), np.empty(3)
        for column in range(width):
            if owners[row, column] != owner:
                continue
            i = indices[row, column]
            x, y = (column + 0.5 - cx) / fx, (row + 0.5 - cy) / fy
            for k in range(3):
                ray[k] = to_local[k, 0] * x + to_local[k, 1] * y + to_local[k, 2]
                start[k] = to_local[k, 3] - means[i, k]
            for k in range(4):
                quat[k] = as_float(quats[i, k], floats)
            for k in range(3):
                scale[k] = as_float(scales[i, k], floats)
            _turn(quat, axes)
            # Along the ray in the frame in which the Gaussian is a unit ball.
            along, square, shortest = 0.0, 0.0, 0
            for k in range(3):
                size = max(scale[k], 1e-9)
                a = (axes[0, k] * start[0] + axes[1, k] * start[1] + axes[2, k] * start[2]) / size
                b = (axes[0, k] * ray[0] + axes[1, k] * ray[1] + axes[2, k] * ray[2]) / size
                along -= a * b
                square += b * b
                if scale[k] < scale[shortest]:
                    shortest = k
            depth[row, column] = min(max(along / square, near), stop[row, column])
            nx, ny, nz = axes[0, shortest], axes[1, shortest], axes[2, shortest]
            # The local ray is square to the local normal where the world's are.
            sign = -1.0 if nx * ray[0] + ny * ray[1] + nz * ray[2] > 0 else 1.0
            wx = turn[0, 0] * nx + turn[0, 1] * ny + turn[0, 2] * nz
            wy = turn[1, 0] * nx + turn[1, 1] * ny + turn[1, 2] * nz
            wz = turn[2, 0] * nx + turn[2, 1] * ny + turn[2, 2] * nz
            sign /= np.sqrt(wx * wx + wy * wy + wz * wz)
            normal[row, column, 0], normal[row, column, 1], normal[row, column, 2] = wx * sign, wy * sign, wz * sign


@numba.njit(cache=True, inline="always")
def _turn(quat, axes):
    w, x, y, z = np.float64(quat[0]), np.float64(quat[1]), np.float64(quat[2]), np.float64(quat[3])
    s = 2 / (w * w + x * x + y * y + z * z)
    axes[0, 0], axes[1, 0], axes[2, 0] = 1 - s * (y * y + z * z), s * (x * y + w * z), s * (x * z - w * y)
    axes[0, 1], axes[1, 1], axes[2, 1] = s * (x * y - w * z), 1 - s * (x * x + z * z), s * (y * z + w * x)
    axes[0, 2], axes[1, 2], axes[2, 2] = s * (x * z + w * y), s * (y * z - w * x), 1 - s * (x * x + y * y)
