"""Networks small enough for every test."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import AutoencoderKLCosmos, CosmosTransformer3DModel

from omni_gen3d.video.depth import DepthNetwork
from omni_gen3d.video.diffusion import INPUT_CHANNELS
from omni_gen3d.video.imagine import VideoModel
from omni_gen3d.video.text import TEXT_CHANNELS


@pytest.fixture
def tokenizer(random_tokenizer: Callable[..., AutoencoderKLCosmos]) -> AutoencoderKLCosmos:
    """The shipped tokenizer's layout with few channels and random weights."""
    torch.manual_seed(0)
    return random_tokenizer().eval()


@pytest.fixture
def model(tokenizer: AutoencoderKLCosmos) -> VideoModel:
    """Tokenizer, depth network and diffusion, random."""
    denoiser = CosmosTransformer3DModel(
        in_channels=INPUT_CHANNELS,
        out_channels=16,
        num_attention_heads=1,
        attention_head_dim=24,
        num_layers=1,
        mlp_ratio=2.0,
        text_embed_dim=TEXT_CHANNELS,
        adaln_lora_dim=8,
        max_size=(4, 8, 8),
        patch_size=(1, 2, 2),
        rope_scale=(1.0, 1.0, 1.0),
        concat_padding_mask=False,
        extra_pos_embed_type="learnable",
    ).eval()
    return VideoModel(tokenizer, DepthNetwork(channels=(16, 32), num_attention_layers=1).eval(), denoiser)
