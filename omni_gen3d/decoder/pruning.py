"""Which Gaussians of a scene are kept: those that the pictures it was decoded from show."""

from __future__ import annotations

import torch

from omni_gen3d.render import draws_on, surface_index
from omni_gen3d.types import Cameras, Gaussians

# Nearer than this nothing is seen, farther neither, whatever the unit of the scene.
_NEAR, _FAR = 0.02, 500.0


def most_shown(gaussians: Gaussians, cameras: Cameras, count: int) -> torch.Tensor:
    """Ascending indices of the ``count`` Gaussians that cameras show most of, shape ``(min(count, N),)``."""
    return shown_order(gaussians, cameras)[:count].sort().values


def shown_order(gaussians: Gaussians, cameras: Cameras) -> torch.Tensor:
    """Gaussians by how many rays each takes past half their coverage, ties to the more opaque, then to the earlier.

    Opacity alone does not decide: it saturates, and where the budget ends among thousands that are opaque to the third
    digit, well-known floors would keep several layers and walls lose their only one. Drawn on the device of the
    Gaussians, or on the CPU where that is a GPU without the renderer's kernels and without nvcc to build them.

    Args:
        gaussians: The scene.
        cameras: What they show is to be kept.

    Returns:
        Indices, most shown first, shape ``(N,)``.
    """
    device = gaussians.means.device
    drawn = gaussians if draws_on(device) else gaussians.to("cpu")
    surface = surface_index(drawn, cameras, near=_NEAR, far=_FAR)
    pixels = torch.bincount(surface[surface >= 0], minlength=len(gaussians.means)).to(device)
    order = torch.sort(gaussians.opacities, descending=True, stable=True).indices
    return order[torch.sort(pixels[order], descending=True, stable=True).indices]
