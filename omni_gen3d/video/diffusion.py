"""Camera-controlled latent diffusion: diffusers' Cosmos transformer under EDM, one network for pictures and videos.

A picture is a video of one latent frame, made from text alone. A video starts from a given first latent frame, which
is injected clean and overwrites the prediction, and follows the 3D cache warped along its trajectory (GEN3C). The
channels of a token are ``[16 latent | 1 first-frame mask | 16 warped latent | 8 warp coverage]``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import EDMEulerScheduler

from omni_gen3d.video.tokenizer import SIGMA_DATA

WARP_CHANNELS = 16 + 8
INPUT_CHANNELS = 16 + 1 + WARP_CHANNELS


def make_scheduler() -> EDMEulerScheduler:
    """EDM's Euler scheduler with Karras' noise levels: sigma from 80 to 0.002, rho 7."""
    return EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=SIGMA_DATA, rho=7.0)


def evaluations(steps: int) -> int:
    """Of how many noise levels the network is asked: not of the last, 0.002, where it gives back what it is given."""
    return max(1, steps - 1)


def warp_condition(warped_latents: torch.Tensor, coverage: torch.Tensor) -> torch.Tensor:
    """Channels that carry the 3D cache.

    Args:
        warped_latents: The warped video's latents, diffusion domain, shape ``(B, 16, T, h, w)``.
        coverage: Share of each cell that the cache covers, shape ``(B, 8, T, h, w)``.

    Returns:
        Shape ``(B, 24, T, h, w)``, all channels of unit size.
    """
    return torch.cat([warped_latents / SIGMA_DATA, coverage], dim=1)


def denoise(
    network: Callable[..., tuple[torch.Tensor]],
    noisy: torch.Tensor,
    sigma: torch.Tensor,
    first: torch.Tensor | None,
    condition: torch.Tensor | None,
    text: torch.Tensor,
) -> torch.Tensor:
    """EDM-preconditioned prediction of the clean latents (Karras et al. 2022, table 1).

    Args:
        network: The transformer.
        noisy: Noisy latents, diffusion domain, shape ``(B, 16, T, h, w)``.
        sigma: Noise level of each item, shape ``(B,)``.
        first: Clean first latent frame, shape ``(B, 16, 1, h, w)``, or None for a picture.
        condition: ``warp_condition``, or None for a picture.
        text: Token vectors, shape ``(B, S, 384)``.

    Returns:
        Clean latents, shape of ``noisy``; the first frame is ``first`` where given.
    """
    s = sigma.reshape(-1, 1, 1, 1, 1)
    variance = s.square() + SIGMA_DATA**2
    scaled = noisy * variance.rsqrt()
    is_first = torch.zeros_like(noisy[:, :1])
    if first is not None:
        is_first[:, :, :1] = 1
        scaled = torch.cat([first / SIGMA_DATA, scaled[:, :, 1:]], dim=2)
    if condition is None:
        condition = noisy.new_zeros(len(noisy), WARP_CHANNELS, *noisy.shape[2:])
    hidden = torch.cat([scaled, is_first, condition], dim=1)
    output = network(hidden, sigma.log() / 4, text, return_dict=False)[0].float()
    clean = SIGMA_DATA**2 / variance * noisy + s * SIGMA_DATA * variance.rsqrt() * output
    return clean if first is None else torch.cat([first, clean[:, :, 1:]], dim=2)


def denoise_guided(
    network: Callable[..., tuple[torch.Tensor]],
    noisy: torch.Tensor,
    sigma: torch.Tensor,
    first: torch.Tensor | None,
    condition: torch.Tensor | None,
    text: torch.Tensor,
    guidance: float,
) -> torch.Tensor:
    """``denoise`` under classifier-free guidance over the text; a ``guidance`` of 1 is none.

    With and without the text in one pass: small batches wait for the launches of their kernels.
    """
    if guidance == 1.0:
        return denoise(network, noisy, sigma, first, condition, text)

    def twice(x: torch.Tensor | None) -> torch.Tensor | None:
        return None if x is None else torch.cat([x, x])

    texts = torch.cat([text, torch.zeros_like(text)])
    both = denoise(network, torch.cat([noisy, noisy]), torch.cat([sigma, sigma]), twice(first), twice(condition), texts)
    clean, unguided = both.chunk(2)
    return unguided + guidance * (clean - unguided)


@torch.no_grad()
def sample(
    network: Callable[..., tuple[torch.Tensor]],
    noise: torch.Tensor,
    text: torch.Tensor,
    *,
    first: torch.Tensor | None = None,
    condition: torch.Tensor | None = None,
    steps: int,
    guidance: float = 1.0,
    on_step: Callable[[int], None] | None = None,
) -> torch.Tensor:
    """Sample latents by Euler's method.

    Args:
        noise: Standard normal, shape ``(B, 16, T, h, w)``; the only randomness.
        text: Token vectors, shape ``(B, S, 384)``.
        first: See ``denoise``.
        condition: See ``denoise``.
        steps: Noise levels, see ``evaluations``; of twice the batch where ``guidance`` is not 1.
        guidance: Classifier-free guidance scale over the text; 1 is none.
        on_step: Called before each step with its index; may raise to stop.

    Returns:
        Clean latents in the diffusion domain, shape of ``noise``.
    """
    scheduler = make_scheduler()
    scheduler.set_timesteps(steps, device=noise.device)
    scheduler.is_scale_input_called = True  # ``denoise`` scales its input itself
    latents = noise * scheduler.sigmas[0].to(noise.device)
    clean = latents
    for i in range(evaluations(steps)):
        if on_step is not None:
            on_step(i)
        sigma = scheduler.sigmas[i].to(noise.device).expand(len(noise))
        clean = denoise_guided(network, latents, sigma, first, condition, text, guidance)
        timestep = scheduler.timesteps[i]
        latents = scheduler.step(clean, timestep, latents, pred_original_sample=clean, return_dict=False)[0]
    return clean if first is None else torch.cat([first, clean[:, :, 1:]], dim=2)
