"""Placed splat sets on a GPU: moved into the world once a call, then drawn by gsplat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.geometry import pixel_rays, rgb_to_sh_dc, transform_gaussians
from omni_gen3d.render import render
from omni_gen3d.render.aovs import Aov
from omni_gen3d.render.cpu import PlacedSplats, View
from omni_gen3d.types import Cameras, Gaussians

_AOVS: tuple[Aov, ...] = ("color", "depth", "distance", "alpha")


def draw_on_cuda(
    views: Sequence[View], worlds: Sequence[Sequence[PlacedSplats]], aovs: Sequence[Aov], background: Sequence[float]
) -> dict[Aov, torch.Tensor]:
    """Draw the splats that each camera looks at; depth is the expected one where half of a pixel is covered.

    Raises:
        InputError: Another picture than color, depth, distance and alpha is wanted, or a set is stretched unevenly.
    """
    refused = [aov for aov in aovs if aov not in _AOVS]
    if refused:
        raise InputError(f"the cuda backend draws {', '.join(_AOVS)}, not {', '.join(refused)}; use backend 'cpu'.")
    pictures: list[dict[Aov, torch.Tensor]] = [{}] * len(views)
    for world in {id(world): world for world in worlds}.values():
        chosen = [i for i, other in enumerate(worlds) if other is world]
        first = views[chosen[0]]
        gaussians = join_placed(world).to("cuda")
        cameras = Cameras(
            torch.from_numpy(np.stack([views[i].world_to_camera for i in chosen])),
            torch.from_numpy(np.stack([views[i].intrinsics for i in chosen])),
            first.width,
            first.height,
        )
        red, green, blue = background
        seen = render(gaussians, cameras, background=(red, green, blue), near=first.near, far=first.far, backend="cuda")
        rays = pixel_rays(cameras.intrinsics, first.height, first.width).norm(dim=-1).to(seen.depth)
        depth = torch.where(seen.alpha >= 0.5, seen.depth, 0)
        for k, i in enumerate(chosen):
            every: dict[Aov, torch.Tensor] = {
                "color": seen.color[k],
                "depth": depth[k],
                "distance": depth[k] * rays[k],
                "alpha": seen.alpha[k],
            }
            pictures[i] = {aov: every[aov] for aov in aovs}
    return {aov: torch.stack([picture[aov] for picture in pictures]) for aov in aovs}


def join_placed(placed: Sequence[PlacedSplats]) -> Gaussians:
    """All sets in the world, as one; harmonics are filled up to the highest degree.

    Raises:
        InputError: There is none, or one is placed by more than a turn, a shift and a scale.
    """
    if not placed:
        raise InputError("the environment holds no visible splats.")
    moved = [_in_world(item) for item in placed]
    count = max(item.sh.shape[1] for item in moved)
    sh = [torch.nn.functional.pad(item.sh, (0, 0, 0, count - item.sh.shape[1])) for item in moved]
    return Gaussians(
        means=torch.cat([item.means for item in moved]),
        quats=torch.cat([item.quats for item in moved]),
        scales=torch.cat([item.scales for item in moved]),
        opacities=torch.cat([item.opacities for item in moved]),
        sh=torch.cat(sh),
    )


def _in_world(item: PlacedSplats) -> Gaussians:
    matrix = torch.from_numpy(item.to_world)
    scale = float(torch.linalg.det(matrix[:3, :3])) ** (1 / 3) if torch.linalg.det(matrix[:3, :3]) > 0 else 0.0
    if scale == 0 or not torch.allclose(matrix[:3, :3] @ matrix[:3, :3].T, scale**2 * torch.eye(3).double(), rtol=1e-4):
        raise InputError("a splat set is stretched unevenly or mirrored; the cuda backend draws none, use 'cpu'.")
    splats = item.splats
    arrays = (splats.means, splats.quats, splats.scales, splats.opacities, splats.sh)
    gaussians = Gaussians(*map(torch.from_numpy, arrays))
    moved = transform_gaussians(gaussians, matrix[:3, :3] / scale, matrix[:3, 3], scale)
    gain = torch.tensor(item.gain)
    sh = moved.sh * gain
    sh[:, 0] += rgb_to_sh_dc(0.5 * gain)
    return replace(moved, sh=sh)
