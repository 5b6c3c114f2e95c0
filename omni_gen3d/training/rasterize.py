"""Differentiable rendering for the training of decoders: gsplat over batches of scenes."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Rendered(NamedTuple):
    """Batched renders: colour ``(B, C, H, W, 3)``, expected depth and alpha ``(B, C, H, W)``."""

    color: torch.Tensor
    depth: torch.Tensor
    alpha: torch.Tensor


def rasterize(
    gaussians: dict[str, torch.Tensor],
    camera_to_first: torch.Tensor,
    intrinsics: torch.Tensor,
    height: int,
    width: int,
    background: torch.Tensor,
) -> Rendered:
    """Render B sets of Gaussians (see ``decode_maps``) from C cameras each.

    Args:
        camera_to_first: Shape ``(B, C, 4, 4)``.
        intrinsics: Shape ``(B, 3, 3)``.
        background: Colour, shape ``(3,)``.
    """
    from gsplat import rasterization

    batch, cameras = camera_to_first.shape[:2]
    pictures, alpha, _ = rasterization(
        gaussians["means"],
        gaussians["quats"],
        gaussians["scales"],
        gaussians["opacities"],
        gaussians["rgb"],
        torch.linalg.inv(camera_to_first),
        intrinsics[:, None].expand(batch, cameras, 3, 3),
        width,
        height,
        near_plane=0.02,
        far_plane=100.0,
        packed=False,
        backgrounds=background.expand(batch, cameras, 3),
        render_mode="RGB+ED",
    )
    return Rendered(pictures[..., :3], pictures[..., 3], alpha[..., 0])
