"""Where the camera of a film was, sought in the film itself: RGB-D odometry by open3d on estimated depth."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from omni_gen3d.errors import InputError, MissingDependencyError
from omni_gen3d.video.depth import MAX_DEPTH_M

# Pixels whose depths differ by more than this share of the film's median depth show something else.
_SAME_DEPTH_SHARE = 0.1


def find_poses(frames: np.ndarray, depth: torch.Tensor, intrinsics: torch.Tensor) -> np.ndarray:
    """Poses of the film's frames relative to the first camera, translation [m], shape ``(N, 4, 4)``.

    Each frame is aligned with the one before, by colour and depth together (Park et al. 2017).

    Args:
        frames: sRGB, uint8, shape ``(N, H, W, 3)``.
        depth: Along z [m], shape ``(N, H, W)``.
        intrinsics: Shape ``(3, 3)``.

    Raises:
        InputError: A frame cannot be aligned with the one before.
        MissingDependencyError: open3d does not load.
    """
    try:
        import open3d
    except (ImportError, OSError) as error:
        raise MissingDependencyError(
            f"the camera moves, and open3d, which finds out how, does not load ({error}); give its poses with --poses, "
            "or run: pip install 'omni_gen3d[odometry]', on Debian also: apt-get install libusb-1.0-0."
        ) from error
    image: Any = open3d.geometry.Image
    height, width = depth.shape[1:]
    fx, fy, cx, cy = (float(intrinsics[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    # Its pixel centres are whole numbers.
    lens = open3d.camera.PinholeCameraIntrinsic(width, height, fx, fy, cx - 0.5, cy - 0.5)
    option = open3d.pipelines.odometry.OdometryOption()
    option.depth_max = MAX_DEPTH_M
    option.depth_diff_max = _SAME_DEPTH_SHARE * float(depth.median())
    how = open3d.pipelines.odometry.RGBDOdometryJacobianFromHybridTerm()

    def picture(index: int) -> Any:
        return open3d.geometry.RGBDImage.create_from_color_and_depth(
            image(np.ascontiguousarray(frames[index])),
            image(np.ascontiguousarray(depth[index].cpu().numpy(), np.float32)),
            depth_scale=1.0,
            depth_trunc=MAX_DEPTH_M,
        )

    poses = [np.eye(4)]
    before, step = picture(0), np.eye(4)
    for index in range(1, len(frames)):
        here = picture(index)
        # A camera goes on as it went.
        found, step, _ = open3d.pipelines.odometry.compute_rgbd_odometry(here, before, lens, step, how, option)
        if not found:
            raise InputError(
                f"the camera moves, and where it was at time {index} cannot be found out of the film: that frame does "
                "not continue the one before. Give its poses with --poses, or a part of the film without a cut."
            )
        poses.append(poses[-1] @ step)
        before = here
    return np.stack(poses)
