"""Sampling of GEN3C as its release does it: EDM's Euler steps, first frame injected, guidance between two passes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import EDMEulerScheduler

from omni_gen3d.video.gen3c.network import FRAMES_PER_SECOND, Gen3cTransformer, network_input
from omni_gen3d.video.tokenizer import SIGMA_DATA

STEPS = 35
# Noise on the first frame, so little that it counts as given; at noise levels below it the frame is left to itself.
_FIRST_FRAME_SIGMA = 0.001

Pass = Literal["guided", "unguided"]


@dataclass(frozen=True)
class Conditions:
    """What one trajectory is imagined from; all latents in the diffusion domain.

    Attributes:
        first: Latents of the input picture followed by black frames, shape ``(1, 16, T, h, w)``; only the first counts.
        cache: ``cache_condition`` of the warped cache, shape ``(1, 64, T, h, w)``.
        text: Embedding of the prompt, shape ``(1, 512, 1024)``.
        negative_text: Embedding of the negative prompt, same shape.
    """

    first: torch.Tensor
    cache: torch.Tensor
    text: torch.Tensor
    negative_text: torch.Tensor


def make_scheduler() -> EDMEulerScheduler:
    """Karras' noise levels from 80 to 0.0002, rho 7, and 0 in the end."""
    return EDMEulerScheduler(sigma_min=0.0002, sigma_max=80.0, sigma_data=SIGMA_DATA, rho=7.0)


@torch.no_grad()
def sample(
    network: Gen3cTransformer,
    conditions: Conditions,
    noise: torch.Tensor,
    first_noise: torch.Tensor,
    *,
    steps: int = STEPS,
    guidance: float = 1.0,
    dtype: torch.dtype = torch.bfloat16,
    on_step: Callable[[int], None] | None = None,
) -> torch.Tensor:
    """Sample the latents of one trajectory.

    The output of the network is ``with + guidance (with - without)``: the release's formula, in which 1 is not the
    absence of guidance but what others call 2, and 0 saves the second pass. Without means: the negative prompt, the
    cache's channels zero, the mask of the first frame kept.

    Args:
        network: The transformer.
        conditions: Of the trajectory.
        noise: Standard normal, shape ``(1, 16, T, h, w)``.
        first_noise: Standard normal, same shape; the release uses the same at every step.
        steps: Noise levels.
        guidance: See above.
        dtype: In which the network runs; the state stays in float32.
        on_step: Called before each step with its index; may raise to stop.

    Returns:
        Clean latents in the diffusion domain, shape of ``noise``, float32.
    """
    scheduler = make_scheduler()
    scheduler.set_timesteps(steps, device=noise.device)
    is_first = torch.zeros_like(noise[:, :1])
    is_first[:, :, :1] = 1
    state = noise.float() * scheduler.init_noise_sigma
    given = conditions.first.float()
    augmented = scheduler.precondition_inputs(given + _FIRST_FRAME_SIGMA * first_noise, _FIRST_FRAME_SIGMA)

    for i, timestep in enumerate(scheduler.timesteps):
        if on_step is not None:
            on_step(i)
        sigma = float(scheduler.sigmas[i])
        injected = is_first if sigma > _FIRST_FRAME_SIGMA else torch.zeros_like(is_first)
        state = torch.lerp(state, augmented * math.sqrt(sigma**2 + SIGMA_DATA**2), injected)
        scaled = scheduler.scale_model_input(state, timestep)
        output = predict(network, conditions, scaled, timestep, "guided", dtype)
        if guidance != 0:
            unguided = predict(network, conditions, scaled, timestep, "unguided", dtype)
            output = output + guidance * (output - unguided)
        clean = scheduler.precondition_outputs(state, output, sigma)
        clean = torch.lerp(clean, given, injected)
        state = scheduler.step(clean, timestep, state, pred_original_sample=clean, return_dict=False)[0]
    return state


def predict(
    network: Gen3cTransformer,
    conditions: Conditions,
    scaled: torch.Tensor,
    timestep: torch.Tensor,
    which: Pass,
    dtype: torch.dtype,
) -> torch.Tensor:
    """One pass through the network; step caches tell the two passes of a step apart by their name.

    Args:
        network: The transformer.
        conditions: Of the trajectory.
        scaled: Preconditioned latents, shape ``(1, 16, T, h, w)``.
        timestep: A quarter of the noise level's logarithm, a scalar.
        which: With the prompt and the cache, or with the negative prompt and none.
        dtype: In which the network runs.

    Returns:
        Its raw output, float32, shape of ``scaled``.
    """
    guided = which == "guided"
    with network.cache_context(which):
        return network(
            hidden_states=network_input(
                scaled.to(dtype), conditions.cache if guided else torch.zeros_like(conditions.cache)
            ),
            timestep=timestep.expand(len(scaled)).to(dtype),
            encoder_hidden_states=(conditions.text if guided else conditions.negative_text).to(dtype),
            fps=FRAMES_PER_SECOND,
            return_dict=False,
        )[0].float()
