"""The splat renderer: pictures, depth and opacity of a set of Gaussians, on a CPU or a GPU with the same image model.

Forward only; a training loop that needs gradients calls its rasterizer itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from omni_gen3d.errors import InputError
from omni_gen3d.types import Cameras, Gaussians

Backend = Literal["auto", "cpu", "cuda"]
MAX_SIDE = 8192


@dataclass(frozen=True)
class RenderedViews:
    """What C cameras see, float32, on the device of the Gaussians.

    Attributes:
        color: RGB over the background, in [0, 1], shape ``(C, H, W, 3)``.
        depth: Expected distance along the optical axis [m], 0 where nothing is, shape ``(C, H, W)``.
        alpha: Coverage, in [0, 1], shape ``(C, H, W)``.
        median_depth: Depth of the Gaussian that takes a ray past half its coverage [m], 0 where none does, shape
            ``(C, H, W)``.
    """

    color: torch.Tensor
    depth: torch.Tensor
    alpha: torch.Tensor
    median_depth: torch.Tensor


@torch.no_grad()
def render(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    near: float = 0.05,
    far: float = 500.0,
    backend: Backend = "auto",
) -> RenderedViews:
    """Render every camera.

    The same Gaussians and cameras give the same bytes on one kind of device, whatever the number of threads.

    Args:
        gaussians: The scene, spherical harmonics of degree 0 to 3.
        cameras: C cameras, each side at most 8192 pixels.
        background: RGB behind the scene, in [0, 1].
        near: Gaussians whose centre is closer than this are left out [m].
        far: Gaussians whose centre is farther than this are left out [m].
        backend: ``auto`` follows the device of the Gaussians.

    Raises:
        InputError: A value is out of its range, or ``cuda`` is asked for while the Gaussians are elsewhere.
        MissingDependencyError: The kernels of the cuda backend have to be built and there is no nvcc.
    """
    gaussians.validate()
    _expect_cameras(cameras)
    if len(background) != 3 or not all(0 <= value <= 1 for value in background):
        raise InputError(f"background is {background}; it must be three numbers in [0, 1].")
    if not 0 < near < far:
        raise InputError(f"near is {near} and far is {far}; they must satisfy 0 < near < far [m].")
    if backend not in ("auto", "cpu", "cuda"):
        raise InputError(f"backend is {backend!r}; allowed are 'auto', 'cpu' and 'cuda'.")
    on_gpu = gaussians.means.is_cuda
    if backend == "cuda" and not on_gpu:
        raise InputError(f"backend is 'cuda', but the Gaussians are on {gaussians.means.device}; move them to cuda.")
    if backend == "cuda" or (backend == "auto" and on_gpu):
        from omni_gen3d.render.gpu.draw import draw_gaussians
        from omni_gen3d.render.gpu.library import library_for

        library = library_for(gaussians.means.device)
        wanted = ("color", "expected_depth", "alpha", "median_depth")
        seen = draw_gaussians(library, gaussians, cameras, wanted, background=background, near=near, far=far)
        color, depth, alpha, median_depth = (seen[name] for name in wanted)
    else:
        from omni_gen3d.render.cpu import render_views

        color, depth, alpha, median_depth = render_views(gaussians, cameras, background, near, far)
    return RenderedViews(color.clamp(0, 1), depth, alpha, median_depth)


@torch.no_grad()
def surface_index(gaussians: Gaussians, cameras: Cameras, *, near: float = 0.05, far: float = 500.0) -> torch.Tensor:
    """Which Gaussian takes each ray past half its coverage, -1 where none does, shape ``(C, H, W)``, long.

    Drawn on the device of the Gaussians, and there afterwards; arguments as for ``render``, which are not checked here.

    Raises:
        MissingDependencyError: The kernels for a GPU have to be built and there is no nvcc, see ``draws_on``.
    """
    if gaussians.means.is_cuda:
        from omni_gen3d.render.gpu.draw import draw_gaussians
        from omni_gen3d.render.gpu.library import library_for

        library, wanted, black = library_for(gaussians.means.device), ("splat_index",), (0.0, 0.0, 0.0)
        return draw_gaussians(library, gaussians, cameras, wanted, background=black, near=near, far=far)["splat_index"]
    from omni_gen3d.render import cpu

    return cpu.render_surface(gaussians, cameras, near, far)[2]


@torch.no_grad()
def render_surface(
    gaussians: Gaussians, cameras: Cameras, *, near: float = 0.05, far: float = 500.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Coverage, and centre's depth and index of the Gaussian that takes each ray past half its coverage, on the CPU.

    Depth 0 and index -1 where none does, all of shape ``(C, H, W)``; arguments and errors as for ``render``.
    """
    gaussians.validate()
    _expect_cameras(cameras)
    from omni_gen3d.render import cpu

    return cpu.render_surface(gaussians, cameras, near, far)


def draws_on(device: torch.device) -> bool:
    """Whether Gaussians can be drawn where they are: on a GPU the kernels have to be there, or nvcc to build them."""
    if device.type != "cuda":
        return True
    from omni_gen3d.render.gpu.library import available

    return available(device)


def _expect_cameras(cameras: Cameras) -> None:
    if max(cameras.width, cameras.height) > MAX_SIDE:
        raise InputError(f"image size is {cameras.width}x{cameras.height}; at most {MAX_SIDE} pixels a side.")
    if not (torch.isfinite(cameras.world_to_camera).all() and torch.isfinite(cameras.intrinsics).all()):
        raise InputError("the cameras hold NaN or infinite values; all must be finite.")
    focal = cameras.intrinsics[:, (0, 1), (0, 1)]
    if (focal <= 0).any():
        raise InputError(f"a focal length is {float(focal.min()):.4g} pixels; all must be positive.")
    if (cameras.intrinsics[:, 0, 1] != 0).any():
        raise InputError("the cameras have skew; intrinsics[:, 0, 1] must be 0.")
