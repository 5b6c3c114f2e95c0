"""Newton's SensorCamera over its own import of a stage: the other renderer of splats that runs on a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.geometry import matrix_to_quat, opencv_to_usd_camera, pixel_rays, wxyz_to_xyzw
from omni_gen3d.types import Cameras


@dataclass(frozen=True)
class NewtonPicture:
    """What one camera sees.

    Attributes:
        depth: Along z [m], 0 where nothing is, shape ``(H, W)``.
        prim_paths: Path of the prim of each shape.
        shapes: Index into ``prim_paths``, -1 where nothing is, shape ``(H, W)``.
    """

    depth: np.ndarray
    prim_paths: tuple[str, ...]
    shapes: np.ndarray


class NewtonCamera:
    """Draws colour, depth and shapes of a stage through cameras that share one lens."""

    def __init__(self, path: Path, cameras: Cameras) -> None:
        """Import the stage at ``path``.

        Raises:
            InputError: Newton is not installed.
        """
        try:
            import newton
            import warp
            from newton.sensors import SensorCamera
        except ImportError as error:
            raise InputError(f"Newton does not load ({error}); install: pip install 'omni_gen3d[newton]'.") from error
        builder = newton.ModelBuilder()
        builder.add_usd(str(path))
        model = builder.finalize(device="cpu")
        self._paths = tuple(model.shape_label)
        self._state = model.state()
        self._sensor: Any = SensorCamera(model)
        directions = pixel_rays(cameras.intrinsics[0].double(), cameras.height, cameras.width).numpy()
        directions = directions / np.linalg.norm(directions, axis=-1, keepdims=True) * [1.0, -1.0, -1.0]
        rays = np.zeros((cameras.height, cameras.width, 1, 2, 3), np.float32)
        rays[:, :, 0, 1] = directions
        self._rays = warp.array(rays, dtype=warp.vec3f, device="cpu")
        poses = opencv_to_usd_camera(cameras.camera_to_world.double())
        quats = wxyz_to_xyzw(matrix_to_quat(poses[:, :3, :3]))
        placed = torch.cat([poses[:, :3, 3], quats], 1).float().numpy()
        self._poses = [warp.array(pose[None], dtype=warp.transformf, device="cpu") for pose in placed]
        shape = (1, cameras.width, cameras.height)
        self._color = self._sensor.allocate_image_color(*shape)
        self._depth = self._sensor.allocate_image_depth_forward(*shape)
        self._shapes = self._sensor.allocate_image_shape_index(*shape)

    def draw(self, index: int) -> NewtonPicture:
        """Draw what camera ``index`` sees."""
        self._sensor.update(
            self._state,
            self._poses[index],
            self._rays,
            color_image=self._color,
            forward_depth_image=self._depth,
            shape_index_image=self._shapes,
        )
        shapes = self._shapes.numpy()[0].astype(np.int64)
        shapes[shapes >= len(self._paths)] = -1
        return NewtonPicture(self._depth.numpy()[0].copy(), self._paths, shapes)
