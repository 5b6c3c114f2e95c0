"""Networks small enough for every test."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLCosmos, CosmosTransformer3DModel

from omni_gen3d.video.depth import DepthNetwork
from omni_gen3d.video.diffusion import INPUT_CHANNELS
from omni_gen3d.video.imagine import VideoModel
from omni_gen3d.video.text import TEXT_CHANNELS


@pytest.fixture
def tokenizer() -> AutoencoderKLCosmos:
    """The shipped tokenizer's layout with few channels and random weights."""
    torch.manual_seed(0)
    return AutoencoderKLCosmos(
        latent_channels=16,
        encoder_block_out_channels=(8, 16, 16, 24),
        decode_block_out_channels=(16, 16, 24, 24),
        attention_resolutions=(32,),
        resolution=128,
        num_layers=1,
        patch_size=4,
        spatial_compression_ratio=8,
        temporal_compression_ratio=8,
    ).eval()


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
