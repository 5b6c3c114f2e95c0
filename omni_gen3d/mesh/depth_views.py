"""What the cameras see as numpy arrays: median depth, and the world points and normals lifted from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from omni_gen3d.errors import InputError
from omni_gen3d.types import Cameras, Gaussians

# Below this opacity a pixel has no median depth worth trusting: it neither shows a surface nor proves emptiness.
_MIN_ALPHA = 0.5


@dataclass(frozen=True)
class DepthViews:
    """Median depth maps and the cameras that saw them.

    Attributes:
        depth: z depth [m], 0 where no surface is seen, shape ``(C, H, W)``, float32.
        world_to_camera: OpenCV, shape ``(C, 4, 4)``, float64.
        intrinsics: [pixels], shape ``(C, 3, 3)``, float64.
    """

    depth: np.ndarray
    world_to_camera: np.ndarray
    intrinsics: np.ndarray

    @property
    def camera_to_world(self) -> np.ndarray:
        """Shape ``(C, 4, 4)``."""
        return np.linalg.inv(self.world_to_camera)

    @property
    def positions(self) -> np.ndarray:
        """Camera centres [m], shape ``(C, 3)``."""
        return self.camera_to_world[:, :3, 3]

    def lift(self) -> np.ndarray:
        """World point of every pixel [m], NaN where no surface is seen, shape ``(C, H, W, 3)``, float32."""
        _, height, width = self.depth.shape
        fx, fy, cx, cy = (self.intrinsics[:, i, j, None, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
        z = np.where(self.depth > 0, self.depth, np.nan)
        x = (np.arange(width) + 0.5 - cx) / fx * z
        y = (np.arange(height)[:, None] + 0.5 - cy) / fy * z
        pose = self.camera_to_world[:, None, None]
        points = (pose[..., :3, :3] @ np.stack([x, y, z], -1)[..., None])[..., 0] + pose[..., :3, 3]
        return points.astype(np.float32)

    @cached_property
    def points(self) -> np.ndarray:
        """World points of all pixels that see a surface [m], shape ``(M, 3)``, float32."""
        return self.lift()[self.depth > 0]


def normals_of(points: np.ndarray, positions: np.ndarray, step: int = 2) -> np.ndarray:
    """Surface normals of lifted pixels, from central differences over ``2 * step`` pixels.

    Args:
        points: World points of an image grid, shape ``(C, H, W, 3)``.
        positions: Camera centres, shape ``(C, 3)``.
        step: Reach of the differences [pixels].

    Returns:
        Unit normals facing the camera, NaN at the border and beside missing points, shape ``(C, H, W, 3)``.
    """
    normals = np.full_like(points, np.nan)
    along_u = points[:, step:-step, 2 * step :] - points[:, step:-step, : -2 * step]
    along_v = points[:, 2 * step :, step:-step] - points[:, : -2 * step, step:-step]
    inner = np.cross(along_v, along_u)
    inner /= np.linalg.norm(inner, axis=-1, keepdims=True) + 1e-12
    to_camera = positions[:, None, None].astype(points.dtype) - points[:, step:-step, step:-step]
    inner *= np.sign((inner * to_camera).sum(-1, keepdims=True))
    normals[:, step:-step, step:-step] = inner
    return normals


def render_depth_views(gaussians: Gaussians, cameras: Cameras) -> DepthViews:
    """Render the median depth of every camera on the CPU, the one backend that computes it.

    Raises:
        InputError: No pixel of any camera shows a surface.
    """
    from omni_gen3d.render import render

    colourless = replace(gaussians, sh=gaussians.sh[:, :1]).to("cpu")
    views = render(colourless, cameras.to("cpu"), backend="cpu")
    assert views.median_depth is not None, "the cpu backend computes median depth"
    depth = np.where(views.alpha.numpy() >= _MIN_ALPHA, views.median_depth.numpy(), 0.0).astype(np.float32)
    if not (depth > 0).any():
        raise InputError(
            f"no pixel of the {len(cameras)} cameras reaches opacity {_MIN_ALPHA}: the scene shows no surface. "
            "Check that the cameras look at the Gaussians."
        )
    return DepthViews(depth, cameras.world_to_camera.cpu().double().numpy(), cameras.intrinsics.cpu().double().numpy())
