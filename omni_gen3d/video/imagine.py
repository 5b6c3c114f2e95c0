"""From a first frame to what lies around it: depth, 3D cache, six trajectories, diffusion.

Batched over scenes, so that the pipeline and the training of the decoder run the very same code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLCosmos, CosmosTransformer3DModel

from omni_gen3d.video.cache3d import Warp, latent_coverage, nearest_in_cells, warp
from omni_gen3d.video.cache4d import warp_video
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
    seen = [warp(picture, depth, intrinsics, camera_to_first[:, v]) for v in range(camera_to_first.shape[1])]
    return follow(model, seen, first, text, noise, steps, on_step)


@torch.no_grad()
def imagine_video(
    model: VideoModel,
    frames: torch.Tensor,
    first: torch.Tensor,
    depth: torch.Tensor,
    intrinsics: torch.Tensor,
    camera_to_first: torch.Tensor,
    text: torch.Tensor,
    noise: torch.Tensor,
    *,
    steps: int,
    source_to_first: torch.Tensor | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Imagined:
    """Imagine V trajectories through each of B filmed scenes; frame t of all of them shows time t of the film.

    Args:
        model: The trained networks.
        frames: The films in [-1, 1], shape ``(B, 3, L, H, W)``.
        first: Latents of their first frames, diffusion domain, shape ``(B, 16, 1, h, w)``.
        depth: Of all frames [scene units], shape ``(B, L, H, W)``.
        intrinsics: Shape ``(B, 3, 3)``.
        camera_to_first: Scene units, shape ``(B, V, L, 4, 4)``.
        text: Token vectors, shape ``(B, S, 384)``.
        noise: Standard normal, shape ``(B V, 16, T, h, w)``.
        steps: Of the diffusion.
        source_to_first: Where the frames were filmed from, shape ``(B, L, 4, 4)``; None for a camera that stood still.
        on_step: Called before each step with its index; may raise to stop.
    """
    views = range(camera_to_first.shape[1])
    seen = [warp_video(frames, depth, intrinsics, camera_to_first[:, v], source_to_first) for v in views]
    return follow(model, seen, first, text, noise, steps, on_step)


@torch.no_grad()
def follow(
    model: VideoModel,
    seen: Sequence[Warp],
    first: torch.Tensor,
    text: torch.Tensor,
    noise: torch.Tensor,
    steps: int,
    on_step: Callable[[int], None] | None = None,
) -> Imagined:
    """Complete what the 3D cache shows along each of V trajectories.

    Args:
        model: The trained networks.
        seen: The cache from the cameras of each trajectory, frames ``(B, 3, L, H, W)``.
        first: Latents of the trajectories' first frames, diffusion domain, shape ``(B, 16, 1, h, w)``.
        text: Token vectors, shape ``(B, S, 384)``.
        noise: Standard normal, shape ``(B V, 16, T, h, w)``.
        steps: Of the diffusion.
        on_step: Called before each step with its index; may raise to stop.
    """
    views, batch = len(seen), len(first)

    def by_view(tensors: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(tensors, dim=1).flatten(0, 1)

    encoded = [to_diffusion_domain(model.tokenizer, encode_raw(model.tokenizer, view.rgb)) for view in seen]
    latents = sample(
        model.denoiser,
        noise,
        text.repeat_interleave(views, 0),
        first=first.repeat_interleave(views, 0),
        condition=warp_condition(by_view(encoded), by_view([latent_coverage(view.mask) for view in seen])),
        steps=steps,
        on_step=on_step,
    )
    warped_depth = torch.stack([nearest_in_cells(view.depth[:, 0]) for view in seen], dim=1)
    return Imagined(
        latents=to_raw_domain(model.tokenizer, latents).unflatten(0, (batch, views)),
        cache_depth=warped_depth[:, :, ::TEMPORAL_COMPRESSION],
        warped_depth=warped_depth,
    )
