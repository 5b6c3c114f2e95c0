"""gsplat's rasterizer as it comes: the other renderer of splats that runs on CUDA."""

from __future__ import annotations

import torch

from omni_gen3d.errors import MissingDependencyError
from omni_gen3d.types import Cameras, Gaussians

# gsplat keeps some hundred bytes for every Gaussian of every camera of a call.
_MAX_PROJECTIONS = 1 << 25


def draw_with_gsplat(gaussians: Gaussians, cameras: Cameras) -> torch.Tensor:
    """Colour and expected depth of every camera, over black, as many cameras a call as fit; ``(C, H, W, 4)``.

    Raises:
        MissingDependencyError: gsplat is not installed.
    """
    try:
        from gsplat import rasterization
    except ImportError as error:
        raise MissingDependencyError("gsplat does not load; install it: pip install 'omni_gen3d[cuda]'") from error
    step = max(1, _MAX_PROJECTIONS // len(gaussians))
    pictures = [
        rasterization(
            means=gaussians.means,
            quats=gaussians.quats,
            scales=gaussians.scales,
            opacities=gaussians.opacities,
            colors=gaussians.sh,
            sh_degree=gaussians.sh_degree,
            viewmats=cameras.world_to_camera[first : first + step],
            Ks=cameras.intrinsics[first : first + step],
            width=cameras.width,
            height=cameras.height,
            near_plane=0.05,
            far_plane=500.0,
            packed=False,
            render_mode="RGB+ED",
        )[0]
        for first in range(0, len(cameras), step)
    ]
    return pictures[0] if len(pictures) == 1 else torch.cat(pictures)
