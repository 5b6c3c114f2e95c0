"""Rendering of batches of scenes: differentiable with gsplat for training, forward only on any device for scoring."""

from __future__ import annotations

from typing import NamedTuple

import torch

from omni_gen3d.decoder.mini import one_scene
from omni_gen3d.render import render
from omni_gen3d.types import Cameras

NEAR, FAR = 0.02, 100.0  # [scene units]


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
        near_plane=NEAR,
        far_plane=FAR,
        packed=False,
        backgrounds=background.expand(batch, cameras, 3),
        render_mode="RGB+ED",
    )
    return Rendered(pictures[..., :3], pictures[..., 3], alpha[..., 0])


@torch.no_grad()
def draw_scenes(
    gaussians: dict[str, torch.Tensor],
    camera_to_first: torch.Tensor,
    intrinsics: torch.Tensor,
    height: int,
    width: int,
) -> Rendered:
    """What the package's own renderer shows of each set on white; arguments as for ``rasterize``."""
    drawn = []
    for b, cameras in enumerate(camera_to_first):
        lens = intrinsics[b].expand(len(cameras), 3, 3)
        views = render(
            one_scene(gaussians, b), Cameras(torch.linalg.inv(cameras), lens, width, height), near=NEAR, far=FAR
        )
        drawn.append(Rendered(views.color, views.depth, views.alpha))
    return Rendered(*(torch.stack(pictures) for pictures in zip(*drawn, strict=True)))
