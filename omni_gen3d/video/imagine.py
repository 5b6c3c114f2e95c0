"""From a first frame to what lies around it: depth, 3D cache, six trajectories, diffusion.

Batched over scenes, so that the pipeline and the training of the decoder run the very same code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCosmos, CosmosTransformer3DModel

from omni_gen3d.video.cache3d import latent_coverage, warp
from omni_gen3d.video.depth import DepthNetwork
from omni_gen3d.video.diffusion import sample, warp_condition
from omni_gen3d.video.tokenizer import (
    SPATIAL_COMPRESSION,
    TEMPORAL_COMPRESSION,
    decode_raw,
    encode_raw,
    to_diffusion_domain,
    to_raw_domain,
)


@dataclass(frozen=True)
class VideoModel:
    """The trained networks that imagine a scene."""

    tokenizer: AutoencoderKLCosmos
    depth: DepthNetwork
    denoiser: CosmosTransformer3DModel

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device


@dataclass(frozen=True)
class Imagined:
    """Latents of B scenes along V trajectories each.

    Attributes:
        latents: Raw domain, shape ``(B, V, 16, T, h, w)``.
        cache_depth: At the last video frame of each latent frame, 0 where unknown, shape ``(B, V, T, 4h, 4w)``.
        warped_depth: Of the 3D cache at every second pixel of every frame, shape ``(B, V, L, 4h, 4w)``.
    """

    latents: torch.Tensor
    cache_depth: torch.Tensor
    warped_depth: torch.Tensor


def draw_noise(count: int, latent_frames: int, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Standard normal noise ``(count, 16, T, H/8, W/8)`` on the generator's device."""
    shape = (count, 16, latent_frames, height // SPATIAL_COMPRESSION, width // SPATIAL_COMPRESSION)
    return torch.randn(shape, generator=generator, device=generator.device)


@torch.no_grad()
def picture_from_text(
    model: VideoModel,
    text: torch.Tensor,
    noise: torch.Tensor,
    *,
    steps: int,
    guidance: float,
    on_step: Callable[[int], None] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """First frames from token vectors ``(B, S, 384)`` and noise ``(B, 16, 1, h, w)``.

    Returns:
        Pictures in [-1, 1], shape ``(B, 3, H, W)``, and their latents in the diffusion domain ``(B, 16, 1, h, w)``.
    """
    latents = sample(model.denoiser, noise, text, steps=steps, guidance=guidance, on_step=on_step)
    return decode_raw(model.tokenizer, to_raw_domain(model.tokenizer, latents))[:, :, 0].clamp(-1, 1), latents


@torch.no_grad()
def latent_of_picture(model: VideoModel, picture: torch.Tensor) -> torch.Tensor:
    """Latents ``(B, 16, 1, h, w)``, diffusion domain, of pictures in [-1, 1], shape ``(B, 3, H, W)``."""
    return to_diffusion_domain(model.tokenizer, encode_raw(model.tokenizer, picture[:, :, None]))


@torch.no_grad()
def imagine(
    model: VideoModel,
    picture: torch.Tensor,
    first: torch.Tensor,
    depth: torch.Tensor,
    intrinsics: torch.Tensor,
    camera_to_first: torch.Tensor,
    text: torch.Tensor,
    noise: torch.Tensor,
    *,
    steps: int,
    on_step: Callable[[int], None] | None = None,
) -> Imagined:
    """Imagine V trajectories around each of B first frames.

    Args:
        model: The trained networks.
        picture: First frames in [-1, 1], shape ``(B, 3, H, W)``.
        first: Their latents, diffusion domain, shape ``(B, 16, 1, h, w)``.
        depth: Of the first frames [scene units], shape ``(B, H, W)``.
        intrinsics: Shape ``(B, 3, 3)``.
        camera_to_first: Scene units, shape ``(B, V, L, 4, 4)``.
        text: Token vectors, shape ``(B, S, 384)``.
        noise: Standard normal, shape ``(B V, 16, T, h, w)``.
        steps: Of the diffusion.
        on_step: Called before each step with its index; may raise to stop.
    """
    batch, views = camera_to_first.shape[:2]
    encoded, coverage, depths = [], [], []
    for view in range(views):
        seen = warp(picture, depth, intrinsics, camera_to_first[:, view])
        encoded.append(to_diffusion_domain(model.tokenizer, encode_raw(model.tokenizer, seen.rgb)))
        coverage.append(latent_coverage(seen.mask))
        depths.append(nearest_in_cells(seen.depth[:, 0]))

    def by_view(tensors: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(tensors, dim=1).flatten(0, 1)

    latents = sample(
        model.denoiser,
        noise,
        text.repeat_interleave(views, 0),
        first=first.repeat_interleave(views, 0),
        condition=warp_condition(by_view(encoded), by_view(coverage)),
        steps=steps,
        on_step=on_step,
    )
    warped_depth = torch.stack(depths, dim=1)
    return Imagined(
        latents=to_raw_domain(model.tokenizer, latents).unflatten(0, (batch, views)),
        cache_depth=warped_depth[:, :, ::TEMPORAL_COMPRESSION],
        warped_depth=warped_depth,
    )


def nearest_in_cells(depth: torch.Tensor) -> torch.Tensor:
    """The smallest known depth of each 2x2 cell, 0 where none is known: ``(B, L, H, W)`` to ``(B, L, H/2, W/2)``."""
    nearness = torch.where(depth > 0, 1 / depth.clamp(min=1e-6), 0.0)
    nearest = F.max_pool2d(nearness, 2)
    return torch.where(nearest > 0, 1 / nearest.clamp(min=1e-9), 0.0)
