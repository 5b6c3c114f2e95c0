"""Where rays meet the discs of a splat.

A Gaussian is drawn at the depth of its centre all over its footprint. Of a floor that is seen at a grazing angle the
foremost half of the discs around a ray wins, so that depth maps show it too near by a tenth and more, however exactly
the discs lie in its plane. What is measured against a splat is measured where the ray meets the disc.
"""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np

from omni_gen3d.geometry import quat_to_matrix
from omni_gen3d.mesh.depth_views import DepthViews
from omni_gen3d.mesh.discs import MAX_FLATNESS
from omni_gen3d.mesh.tasks import in_tasks
from omni_gen3d.types import Gaussians

# A disc ends so many standard deviations of its longest axis from its centre.
_REACH_SIGMAS = 3.0


def met_discs(gaussians: Gaussians, views: DepthViews, index: np.ndarray) -> DepthViews:
    """The views with the depth of where each ray meets the plane of the Gaussian that it shows, if that is flat.

    Args:
        gaussians: The scene.
        views: Depth of it.
        index: Which Gaussian each pixel shows, shape ``(C, H, W)``.
    """
    means, scales, quats = (x.detach().cpu().double() for x in (gaussians.means, gaussians.scales, gaussians.quats))
    thin, short, long = scales.sort(dim=1).values.T
    thinnest = scales.argmin(1)[:, None, None].expand(-1, 3, 1)
    normals = quat_to_matrix(quats).gather(2, thinnest)[..., 0]
    reach = (_REACH_SIGMAS * long).where(thin < MAX_FLATNESS * short, 0.0)
    depth = views.depth.copy()
    discs = np.concatenate([means.numpy(), normals.numpy(), reach[:, None].numpy()], 1)
    in_tasks(_meet, len(depth), 1, index, discs, views.world_to_camera, views.intrinsics, depth)
    return replace(views, depth=depth)


@numba.njit(nogil=True, cache=True)
def _meet(
    first: int,
    last: int,
    index: np.ndarray,
    discs: np.ndarray,
    world_to_camera: np.ndarray,
    intrinsics: np.ndarray,
    depth: np.ndarray,
) -> None:
    """Overwrite the depth of some views."""
    _, height, width = depth.shape
    for camera in range(first, last):
        pose = world_to_camera[camera]
        fx, fy = intrinsics[camera, 0, 0], intrinsics[camera, 1, 1]
        cx, cy = intrinsics[camera, 0, 2], intrinsics[camera, 1, 2]
        for row in range(height):
            for column in range(width):
                if depth[camera, row, column] <= 0.0:
                    continue
                disc = discs[index[camera, row, column]]
                x, y, z = _turned(pose, disc[0], disc[1], disc[2])
                x, y, z = x + pose[0, 3], y + pose[1, 3], z + pose[2, 3]
                nx, ny, nz = _turned(pose, disc[3], disc[4], disc[5])
                a, b = (column + 0.5 - cx) / fx, (row + 0.5 - cy) / fy
                along = nx * a + ny * b + nz
                if disc[6] == 0.0 or along == 0.0:
                    continue
                met = (nx * x + ny * y + nz * z) / along
                if met <= 0.0:
                    continue
                away = np.sqrt((a * met - x) ** 2 + (b * met - y) ** 2 + (met - z) ** 2)
                depth[camera, row, column] = met if away <= disc[6] else z + (met - z) * disc[6] / away


@numba.njit(cache=True, inline="always")
def _turned(pose: np.ndarray, x: float, y: float, z: float) -> tuple[float, float, float]:
    return (
        pose[0, 0] * x + pose[0, 1] * y + pose[0, 2] * z,
        pose[1, 0] * x + pose[1, 1] * y + pose[1, 2] * z,
        pose[2, 0] * x + pose[2, 1] * y + pose[2, 2] * z,
    )
