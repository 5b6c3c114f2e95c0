"""The 3D cache: the first frame's pixels as points, warped into the cameras of a trajectory.

Forward bilinear splatting with a soft z-buffer, as GEN3C does it. Where GEN3C drops pixels by their depth range in a
5x5 window, which punches holes into grazing floors, we test whether inverse depth is planar: it is linear in the
pixel coordinates on any plane, so only true depth edges fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from omni_gen3d.video.landing import Landing

# Relative bend of inverse depth over one pixel above which a pixel is a depth edge.
_EDGE_THRESHOLD = 0.06
# Exponent range of the soft z-buffer: nearer wins by up to e^50 (GEN3C).
_DEPTH_SHARPNESS = 50.0
# Pixels that gather less bilinear weight than this are holes.
_MIN_COVERAGE = 0.3
_NEAR = 0.02
# Two pictures whose depths differ by less than this factor show the same surface.
_SAME_SURFACE = 1.05


@dataclass(frozen=True)
class Warp:
    """What the cache looks like from other cameras.

    Attributes:
        rgb: Colours in the range of the input, 0 in holes, shape ``(B, 3, L, H, W)``.
        mask: 1 where the cache covers the pixel, shape ``(B, 1, L, H, W)``.
        depth: Depth along z in the input's unit, 0 in holes, shape ``(B, 1, L, H, W)``.
    """

    rgb: torch.Tensor
    mask: torch.Tensor
    depth: torch.Tensor


def reliable_pixels(depth: torch.Tensor) -> torch.Tensor:
    """True where the surface continues on both sides, i.e. off depth edges; ``(B, H, W)`` to ``(B, H, W)`` bool."""
    inverse = F.pad(1 / depth[:, None], (1, 1, 1, 1), mode="replicate")
    centre = inverse[:, :, 1:-1, 1:-1]
    bend_x = (inverse[:, :, 1:-1, 2:] + inverse[:, :, 1:-1, :-2] - 2 * centre).abs()
    bend_y = (inverse[:, :, 2:, 1:-1] + inverse[:, :, :-2, 1:-1] - 2 * centre).abs()
    return (torch.maximum(bend_x, bend_y) < _EDGE_THRESHOLD * centre)[:, 0]


def warp(rgb: torch.Tensor, depth: torch.Tensor, intrinsics: torch.Tensor, camera_to_first: torch.Tensor) -> Warp:
    """Show one frame from other cameras.

    Args:
        rgb: The frame, shape ``(B, 3, H, W)``.
        depth: Its depth along z, shape ``(B, H, W)``.
        intrinsics: Of every camera, shape ``(B, 3, 3)``.
        camera_to_first: Poses relative to the frame's camera, same unit as ``depth``, shape ``(B, L, 4, 4)``.
    """
    gathered = splat(rgb, depth, reliable_pixels(depth), intrinsics, camera_to_first, near=_NEAR)
    mask = gathered[:, 5:] > _MIN_COVERAGE
    merged = torch.where(mask, gathered[:, :4] / gathered[:, 4:5].clamp(min=1e-20), 0.0)
    return Warp(rgb=merged[:, :3], mask=mask.float(), depth=merged[:, 3:])


def splat(
    rgb: torch.Tensor,
    depth: torch.Tensor,
    shown: torch.Tensor,
    intrinsics: torch.Tensor,
    camera_to_first: torch.Tensor,
    *,
    near: float,
) -> torch.Tensor:
    """Forward bilinear splatting of one frame into other cameras, nearer pixels first.

    Args:
        rgb: The frame, shape ``(B, 3, H, W)``.
        depth: Its depth along z, shape ``(B, H, W)``.
        shown: Which of its pixels are splatted, shape ``(B, H, W)``, bool.
        intrinsics: Of every camera, shape ``(B, 3, 3)``.
        camera_to_first: Poses relative to the frame's camera, shape ``(B, L, 4, 4)``.
        near: Pixels nearer to a camera than this are not splatted.

    Returns:
        Sums over the pixels that fall on one: weighted colour 3 and depth 1, weight 1, bilinear coverage alone 1;
        shape ``(B, 6, L, H, W)``.
    """
    batch, _, height, width = rgb.shape
    pixels = height * width
    focal_x, focal_y = intrinsics[:, 0, 0, None, None], intrinsics[:, 1, 1, None, None]
    centre_x, centre_y = intrinsics[:, 0, 2, None, None], intrinsics[:, 1, 2, None, None]
    row = torch.arange(height, device=rgb.device)[:, None] + 0.5
    column = torch.arange(width, device=rgb.device)[None] + 0.5
    points = torch.stack(
        [(column - centre_x) / focal_x * depth, (row - centre_y) / focal_y * depth, depth], dim=-1
    ).reshape(batch, 1, pixels, 3)

    with torch.autocast(rgb.device.type, enabled=False):  # bfloat16 positions would smear the cache
        local = (points - camera_to_first[:, :, None, :3, 3]) @ camera_to_first[..., :3, :3]
    z = local[..., 2]
    u = local[..., 0] / z * focal_x + centre_x - 0.5
    v = local[..., 1] / z * focal_y + centre_y - 0.5
    log_z = torch.log1p(z.clamp(min=0))
    nearness = torch.exp(_DEPTH_SHARPNESS * (0.5 - log_z / log_z.amax(-1, keepdim=True)))
    visible = shown.reshape(batch, 1, pixels) & (z > near)
    return Landing(rgb, column=u, row=v, depth=z, nearness=nearness, shown=visible).sums().permute(0, 4, 1, 2, 3)


def nearest(warps: Sequence[Warp]) -> Warp:
    """What several pictures know together: at each pixel the nearest of them, the earlier where two agree."""
    merged = warps[0]
    for other in warps[1:]:
        unknown, nearer = merged.mask == 0, other.depth < merged.depth / _SAME_SURFACE
        taken = (other.mask > 0) & (unknown | nearer)
        merged = Warp(
            rgb=torch.where(taken, other.rgb, merged.rgb),
            mask=torch.where(taken, other.mask, merged.mask),
            depth=torch.where(taken, other.depth, merged.depth),
        )
    return merged


def latent_coverage(mask: torch.Tensor) -> torch.Tensor:
    """Mean of the mask over each 8x8 cell, a latent frame's 8 video frames as channels.

    Args:
        mask: Shape ``(B, 1, L, H, W)`` with L = 8 (T - 1) + 1.

    Returns:
        Shape ``(B, 8, T, H/8, W/8)``; the first latent frame repeats frame 0.
    """
    cells = F.avg_pool3d(mask, (1, 8, 8))
    cells = torch.cat([cells[:, :, :1].expand(-1, -1, 7, -1, -1), cells], dim=2)
    return cells.unflatten(2, (-1, 8))[:, 0].transpose(1, 2)


def nearest_in_cells(depth: torch.Tensor) -> torch.Tensor:
    """The smallest known depth of each 2x2 cell, 0 where none is known: ``(B, L, H, W)`` to ``(B, L, H/2, W/2)``."""
    nearness = torch.where(depth > 0, 1 / depth.clamp(min=1e-6), 0.0)
    nearest = F.max_pool2d(nearness, 2)
    return torch.where(nearest > 0, 1 / nearest.clamp(min=1e-9), 0.0)
