"""GEN3C as a video backend: the cache is warped and encoded, then the transformer samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLCosmos

from omni_gen3d.video.backend import Shot
from omni_gen3d.video.gen3c.cache import warp
from omni_gen3d.video.gen3c.network import Gen3cTransformer, cache_condition
from omni_gen3d.video.gen3c.sampling import STEPS, Conditions, sample
from omni_gen3d.video.gen3c.text import PromptEmbeddings
from omni_gen3d.video.tokenizer import TEMPORAL_COMPRESSION, encode_raw, to_diffusion_domain, to_raw_domain


@dataclass
class Gen3cBackend:
    """The networks on one device, placed by a memory plan.

    Attributes:
        tokenizer: On the device.
        network: On the device or streamed to it.
        texts: Embedded prompts.
        device: Where the work is done.
        dtype: In which the networks run.
        steps: Noise levels.
        guidance: See ``sample``.
    """

    tokenizer: AutoencoderKLCosmos
    network: Gen3cTransformer
    texts: PromptEmbeddings
    device: torch.device
    dtype: torch.dtype
    steps: int = STEPS
    guidance: float = 1.0

    @torch.no_grad()
    def imagine(self, shot: Shot, on_step: Callable[[float], None]) -> torch.Tensor:
        """See ``VideoBackend``."""
        on_step(0.0)
        conditions = self._conditions(shot)
        generator = torch.Generator().manual_seed(shot.seed)
        noise, first_noise = (torch.randn(conditions.first.shape, generator=generator) for _ in range(2))
        if self.network.is_cache_enabled:
            self.network._reset_stateful_cache()
        latents = sample(
            self.network,
            conditions,
            noise.to(self.device),
            first_noise.to(self.device),
            steps=self.steps,
            guidance=self.guidance,
            dtype=self.dtype,
            on_step=lambda step: on_step(step / self.steps),
        )
        return to_raw_domain(self.tokenizer, latents)[0].cpu()

    def _conditions(self, shot: Shot) -> Conditions:
        picture, depth, lens, cameras = (
            value.to(self.device) for value in (shot.picture, shot.depth, shot.intrinsics, shot.camera_to_first)
        )
        seen = warp(picture, depth, lens, cameras)
        shown, mask = self._encode(seen.rgb), self._encode((seen.mask * 2 - 1).expand(-1, 3, -1, -1, -1))
        # The tokenizer is causal: what follows the first frame cannot change its latents.
        first = torch.zeros_like(shown)
        first[:, :, :1] = self._encode(picture[None, :, None])
        assert first.shape[2] == (shot.num_frames - 1) // TEMPORAL_COMPRESSION + 1
        text, negative = (self.texts.of(prompt)[None].to(self.device) for prompt in (shot.prompt, None))
        return Conditions(first, cache_condition([(shown, mask)]), text, negative)

    def _encode(self, video: torch.Tensor) -> torch.Tensor:
        return to_diffusion_domain(self.tokenizer, encode_raw(self.tokenizer, video.to(self.dtype)))
