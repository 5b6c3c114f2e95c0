"""The fast tokenizer is the slow one, and its two latent domains."""

from __future__ import annotations

import torch
from diffusers.models.autoencoders import autoencoder_kl_cosmos as cosmos

from omni_gen3d.video.tokenizer import (
    SIGMA_DATA,
    accelerate_tokenizer,
    decode_raw,
    encode_raw,
    set_latent_moments,
    to_diffusion_domain,
    to_raw_domain,
)


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@torch.no_grad()
def test_fast_forwards_equal_the_library(tokenizer):
    """Encoding and decoding through the swapped layers equals diffusers' own, and its classes stay untouched."""
    forward = cosmos.CosmosCausalConv3d.forward
    video = torch.rand(2, 3, 9, 32, 48) * 2 - 1
    latents = tokenizer.encode(video).latent_dist.mode()
    decoded = tokenizer.decode(latents).sample
    accelerate_tokenizer(tokenizer)
    assert relative_error(encode_raw(tokenizer, video), latents) < 1e-5
    assert relative_error(decode_raw(tokenizer, latents), decoded) < 1e-5
    assert cosmos.CosmosCausalConv3d.forward is forward


@torch.no_grad()
def test_first_latent_frame_knows_only_the_first_frame(tokenizer):
    """The latent of frame 0 alone is the first latent frame of any clip that begins with it."""
    accelerate_tokenizer(tokenizer)
    video = torch.rand(1, 3, 9, 32, 32) * 2 - 1
    clip, picture = encode_raw(tokenizer, video), encode_raw(tokenizer, video[:, :, :1])
    torch.testing.assert_close(clip[:, :, :1], picture, rtol=1e-4, atol=1e-5)


def test_diffusion_domain_is_standardised(tokenizer):
    """Latents of the recorded moments come out with mean 0 and deviation SIGMA_DATA, and go back exactly."""
    mean, std = torch.linspace(-1, 1, 16), torch.linspace(0.5, 2, 16)
    set_latent_moments(tokenizer, mean, std)
    raw = mean[:, None, None, None] + std[:, None, None, None] * torch.randn(4, 16, 3, 20, 20)
    latents = to_diffusion_domain(tokenizer, raw)
    torch.testing.assert_close(latents.mean((0, 2, 3, 4)), torch.zeros(16), atol=0.03, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3, 4)), torch.full((16,), SIGMA_DATA), atol=0.03, rtol=0)
    torch.testing.assert_close(to_raw_domain(tokenizer, latents), raw, atol=1e-5, rtol=1e-5)
