"""The camera of one picture: a generating camera, or its lens carried elsewhere, at any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.geometry import look_at
from omni_gen3d.types import Cameras


def pick_camera(cameras: Cameras, index: int) -> Cameras:
    """Camera number ``index`` alone.

    Raises:
        InputError: There is no such camera.
    """
    if not 0 <= index < len(cameras):
        raise InputError(f"camera {index} does not exist; the environment has cameras 0 to {len(cameras) - 1}.")
    return cameras[[index]]


def turn_camera(camera: Cameras, eye: Sequence[float], target: Sequence[float]) -> Cameras:
    """The lens of one camera, looking from ``eye`` at ``target`` [m], +Z up.

    Raises:
        InputError: A coordinate is not finite, or the view is zero or vertical.
    """
    points = torch.tensor([eye, target], dtype=camera.world_to_camera.dtype)
    if not torch.isfinite(points).all():
        raise InputError(f"eye {tuple(eye)} and target {tuple(target)} must be finite numbers.")
    return replace(camera, world_to_camera=look_at(points[:1], points[1:]).to(camera.world_to_camera.device))


def resize_cameras(cameras: Cameras, width: int, height: int) -> Cameras:
    """The same views as pictures of ``width x height``: the horizontal field of view stays, pixels keep their shape."""
    scale = width / cameras.width
    intrinsics = cameras.intrinsics.clone()
    intrinsics[:, :2] *= scale
    intrinsics[:, 1, 2] += (height - scale * cameras.height) / 2
    return Cameras(cameras.world_to_camera, intrinsics, width, height)


def camera_rows(world_to_camera: torch.Tensor, intrinsics: torch.Tensor, near: float, far: float) -> torch.Tensor:
    """What the backends want to know of cameras, one row each, float64, shape ``(C, 18)``, on the device of the poses.

    The upper three rows of ``world_to_camera`` ``(C, 4, 4)``, then fx, fy, cx, cy [pixels], near and far [m].
    """
    rows = world_to_camera.new_empty(len(world_to_camera), 18, dtype=torch.float64)
    rows[:, :12] = world_to_camera[:, :3].flatten(1)
    rows[:, 12] = intrinsics[:, 0, 0]
    rows[:, 13] = intrinsics[:, 1, 1]
    rows[:, 14:16] = intrinsics[:, :2, 2]
    rows[:, 16] = near
    rows[:, 17] = far
    return rows


def pose_of(row: np.ndarray) -> np.ndarray:
    """``world_to_camera`` of one row, shape ``(4, 4)``."""
    return np.vstack([row[:12].reshape(3, 4), [0, 0, 0, 1]])


def lens_of(row: np.ndarray) -> np.ndarray:
    """``intrinsics`` of one row, shape ``(3, 3)``."""
    return np.array([[row[12], 0, row[14]], [0, row[13], row[15]], [0, 0, 1.0]])
