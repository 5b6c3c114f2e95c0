"""GEN3C's 3D cache: the input picture as points, shown along a trajectory the way the checkpoint was trained on.

It departs from the mini model's cache where the release does: depth edges by the range of depths around a pixel, holes
at -1, every touched pixel counts as known, pixel centres at whole numbers, thin foreground masks what is behind.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from omni_gen3d.video.cache3d import Warp, splat
from omni_gen3d.video.gen3c.foreground import mesh_depth, mesh_edges

MAX_DEPTH = 100.0
_WINDOW, _RANGE_THRESHOLD, _RANGE_EPS = 5, 0.05, 1e-6
# How much nearer than a splatted pixel the mesh must be to hide it [scene units].
_FOREGROUND_MARGIN = 0.02
_FRAMES_AT_ONCE = 4


def reliable_pixels(depth: torch.Tensor) -> torch.Tensor:
    """True where depths in a window of 5x5 differ by less than 5 % of their mean; ``(B, H, W)`` to bool."""
    pad = _WINDOW // 2
    highest = F.max_pool2d(depth[:, None], _WINDOW, 1, pad)
    lowest = -F.max_pool2d(-depth[:, None], _WINDOW, 1, pad)
    mean = F.avg_pool2d(depth[:, None], _WINDOW, 1, pad)
    return ((highest - lowest) / (mean + _RANGE_EPS) < _RANGE_THRESHOLD)[:, 0] & (depth > 0)


def warp(picture: torch.Tensor, depth: torch.Tensor, intrinsics: torch.Tensor, camera_to_first: torch.Tensor) -> Warp:
    """Show the picture from every camera of a trajectory.

    Args:
        picture: In [-1, 1], shape ``(3, H, W)``.
        depth: Along z [scene units], shape ``(H, W)``.
        intrinsics: Shape ``(3, 3)``.
        camera_to_first: Shape ``(L, 4, 4)``.

    Returns:
        Colours in [-1, 1], -1 where the cache shows nothing, for a batch of one.
    """
    depth = depth.nan_to_num(nan=MAX_DEPTH).clamp(0, MAX_DEPTH)
    frames = list(_warp_frames(picture, depth, intrinsics, camera_to_first))
    return Warp(*(torch.cat(parts, dim=2) for parts in zip(*frames, strict=True)))


def _warp_frames(
    picture: torch.Tensor, depth: torch.Tensor, intrinsics: torch.Tensor, camera_to_first: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Colour, mask and depth of a few frames at a time."""
    height, width = depth.shape
    reliable = reliable_pixels(depth[None])
    # ``splat`` has pixel centres at i + 0.5, the release at i.
    shifted = intrinsics.clone()
    shifted[:2, 2] += 0.5
    mesh = mesh_edges(_points(depth, intrinsics), ~reliable[0])
    for cameras in camera_to_first.split(_FRAMES_AT_ONCE):
        sums = splat(picture[None], depth[None], reliable, shifted[None], cameras[None], near=0.0)
        seen = sums[:, 4:5] > 0
        shown = torch.where(seen, sums[:, :4] / sums[:, 4:5].clamp(min=1e-30), 0.0)
        nearest = torch.stack([mesh_depth(mesh, camera, intrinsics, height, width) for camera in cameras])
        seen = seen & ~(nearest[None, None] + _FOREGROUND_MARGIN < shown[:, 3:])
        colour = torch.where(seen, shown[:, :3].clamp(-1, 1), -1.0)
        yield colour, seen.to(colour.dtype), torch.where(seen, shown[:, 3:], 0.0)


def _points(depth: torch.Tensor, intrinsics: torch.Tensor) -> torch.Tensor:
    """Of every pixel, its centre at whole numbers, in the camera's frame, shape ``(H, W, 3)``."""
    height, width = depth.shape
    row, column = torch.meshgrid(
        torch.arange(height, device=depth.device), torch.arange(width, device=depth.device), indexing="ij"
    )
    x = (column - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (row - intrinsics[1, 2]) / intrinsics[1, 1]
    return torch.stack([x * depth, y * depth, depth], dim=-1)
