"""A tokenizer small enough for every test."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLCosmos


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
