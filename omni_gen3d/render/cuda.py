"""The cuda backend: gsplat, a few cameras at a time."""

from __future__ import annotations

import torch

from omni_gen3d.errors import MissingDependencyError
from omni_gen3d.types import Cameras, Gaussians

# gsplat keeps some hundred bytes for every Gaussian of every camera of a call.
MAX_PROJECTIONS = 1 << 25


def render_views(
    gaussians: Gaussians, cameras: Cameras, background: tuple[float, float, float], near: float, far: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
    """Color ``(C, H, W, 3)``, expected depth and alpha ``(C, H, W)``; arguments as for ``render``."""
    try:
        from gsplat import rasterization
    except ImportError as error:
        raise MissingDependencyError(
            "the cuda backend needs gsplat; install it with: pip install 'omni_gen3d[cuda]'"
        ) from error
    device = gaussians.means.device
    cameras = cameras.to(device)
    shape = (len(cameras), cameras.height, cameras.width)
    color = torch.empty(*shape, 3, device=device)
    depth, alpha = torch.empty(shape, device=device), torch.empty(shape, device=device)
    step = max(1, MAX_PROJECTIONS // len(gaussians))
    for first in range(0, len(cameras), step):
        views = slice(first, first + step)
        batch = cameras[views]
        color_and_depth, coverage, _ = rasterization(
            means=gaussians.means.float(),
            quats=gaussians.quats.float(),
            scales=gaussians.scales.float(),
            opacities=gaussians.opacities.float(),
            colors=gaussians.sh.float(),
            sh_degree=gaussians.sh_degree,
            viewmats=batch.world_to_camera.float(),
            Ks=batch.intrinsics.float(),
            width=cameras.width,
            height=cameras.height,
            near_plane=near,
            far_plane=far,
            packed=False,
            backgrounds=torch.tensor([background], device=device).expand(len(batch), 3),
            render_mode="RGB+ED",
        )
        color[views], depth[views] = color_and_depth[..., :3], color_and_depth[..., 3]
        alpha[views] = coverage[..., 0]
    return color, depth, alpha, None
