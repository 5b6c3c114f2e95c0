"""What the cameras see as numpy arrays: median depth, and the world points and normals lifted from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numba
import numpy as np

from omni_gen3d.errors import InputError
from omni_gen3d.mesh.tasks import in_tasks
from omni_gen3d.types import Cameras, Gaussians

# Below this opacity a pixel has no median depth worth trusting: it neither shows a surface nor proves emptiness.
_MIN_ALPHA = 0.5
# A splat has one depth all over its footprint: slopes are read over several pixels.
_SLOPE_PIXELS = 4
_MIN_INCIDENCE = 0.1
_MAX_POINTS = 500_000


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

    def lift(self, stride: int = 1) -> np.ndarray:
        """World point of every pixel, or of every ``stride``-th each way [m], NaN where no surface is seen.

        Shape ``(C, ceil(H / stride), ceil(W / stride), 3)``, float32.
        """
        depth = self.depth[:, ::stride, ::stride]
        _, height, width = depth.shape
        fx, fy, cx, cy = (self.intrinsics[:, i, j, None, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
        z = np.where(depth > 0, depth, np.nan)
        x = (np.arange(width) * stride + 0.5 - cx) / fx * z
        y = (np.arange(height)[:, None] * stride + 0.5 - cy) / fy * z
        pose = self.camera_to_world[:, None, None]
        points = (pose[..., :3, :3] @ np.stack([x, y, z], -1)[..., None])[..., 0] + pose[..., :3, 3]
        return points.astype(np.float32)

    @cached_property
    def incidence(self) -> np.ndarray:
        """Cosine between each pixel's ray and the surface normal it sees, 0.1 to 1, shape ``(C, H, W)``, float32."""
        cosines = np.empty(self.depth.shape, np.float32)
        in_tasks(_incidence, len(cosines), 1, self.depth, self.intrinsics, cosines)
        return cosines

    @cached_property
    def points(self) -> np.ndarray:
        """World points of pixels that see a surface, spread evenly over the views [m], shape ``(M, 3)``, float32."""
        stride = max(1, math.ceil(math.sqrt(self.depth.size / _MAX_POINTS)))
        return self.lift(stride)[self.depth[:, ::stride, ::stride] > 0]


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


@numba.njit(nogil=True, cache=True)
def _incidence(first: int, last: int, depth: np.ndarray, intrinsics: np.ndarray, cosines: np.ndarray) -> None:
    _, height, width = depth.shape
    for c in range(first, last):
        fx, fy, cx, cy = intrinsics[c, 0, 0], intrinsics[c, 1, 1], intrinsics[c, 0, 2], intrinsics[c, 1, 2]
        for row in range(height):
            b = (row + 0.5 - cy) / fy
            for column in range(width):
                a = (column + 0.5 - cx) / fx
                z = depth[c, row, column]
                if z <= 0.0:
                    cosines[c, row, column] = 1.0
                    continue
                along_u = fx * _slope(depth[c], row, column, 0, 1)
                along_v = fy * _slope(depth[c], row, column, 1, 0)
                # The normal of the surface z(u, v) in the camera's frame; times the ray it is -z.
                towards = z + a * along_u + b * along_v
                length = np.sqrt((along_u * along_u + along_v * along_v + towards * towards) * (a * a + b * b + 1.0))
                cosines[c, row, column] = max(z / max(length, 1e-9), _MIN_INCIDENCE)


@numba.njit(nogil=True, cache=True)
def _slope(depth: np.ndarray, row: int, column: int, down: int, right: int) -> float:
    """Change of depth a pixel, on the smoother of the two sides."""
    best = np.inf
    for sign in (-_SLOPE_PIXELS, _SLOPE_PIXELS):
        r, c = row + sign * down, column + sign * right
        if 0 <= r < depth.shape[0] and 0 <= c < depth.shape[1] and depth[r, c] > 0.0:
            slope = (depth[r, c] - depth[row, column]) / sign
            if abs(slope) < abs(best):
                best = slope
    return best if np.isfinite(best) else 0.0


def render_depth_views(gaussians: Gaussians, cameras: Cameras) -> DepthViews:
    """Render the median depth of every camera on the CPU.

    Raises:
        InputError: No pixel of any camera shows a surface.
    """
    return render_surfaces(gaussians, cameras)[0]


def render_surfaces(gaussians: Gaussians, cameras: Cameras) -> tuple[DepthViews, np.ndarray]:
    """``render_depth_views``, and which Gaussian each pixel shows, meaningless where no surface is, ``(C, H, W)``."""
    from omni_gen3d.render import render_surface

    colourless = replace(gaussians, sh=gaussians.sh[:, :1]).to("cpu")
    alpha, median, index = render_surface(colourless, cameras.to("cpu"))
    depth = np.where(alpha.numpy() >= _MIN_ALPHA, median.numpy(), 0.0).astype(np.float32)
    if not (depth > 0).any():
        raise InputError(
            f"no pixel of the {len(cameras)} cameras reaches opacity {_MIN_ALPHA}: the scene shows no surface. "
            "Check that the cameras look at the Gaussians."
        )
    poses, lenses = (x.cpu().double().numpy() for x in (cameras.world_to_camera, cameras.intrinsics))
    return DepthViews(depth, poses, lenses), index.numpy()
