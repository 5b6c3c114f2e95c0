"""Toy weights that several suites of the training share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLCosmos, CosmosTransformer3DModel

from omni_gen3d.checkpoints import save_network
from omni_gen3d.decoder.mini import MiniDecoder
from omni_gen3d.video.depth import DepthNetwork
from omni_gen3d.video.diffusion import INPUT_CHANNELS


@pytest.fixture(scope="session")
def toy_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random networks of the four classes, as small as they come; latents of two frames."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    tokenizer = AutoencoderKLCosmos(
        latent_channels=16,
        encoder_block_out_channels=(8, 8, 8, 8),
        decode_block_out_channels=(8, 8, 8, 8),
        attention_resolutions=(32,),
        resolution=128,
        num_layers=1,
        patch_size=4,
        spatial_compression_ratio=8,
        temporal_compression_ratio=8,
    )
    diffusion = CosmosTransformer3DModel(
        in_channels=INPUT_CHANNELS,
        out_channels=16,
        num_attention_heads=1,
        attention_head_dim=64,
        num_layers=1,
        mlp_ratio=1.0,
        text_embed_dim=384,
        adaln_lora_dim=8,
        max_size=(16, 44, 80),
        patch_size=(1, 2, 2),
        rope_scale=(1.0, 1.0, 1.0),
        concat_padding_mask=False,
        extra_pos_embed_type="learnable",
    )
    depth = DepthNetwork(channels=(32, 32, 32, 32), num_attention_layers=1)
    decoder = MiniDecoder(channels=32, token_channels=64, num_layers=1, latent_frames=2, token_rows=1, token_columns=2)
    networks = {"tokenizer": tokenizer, "depth": depth, "diffusion": diffusion, "decoder": decoder}
    for name, network in networks.items():
        save_network(network, folder / name, "float16")
    return folder
