"""Toy weights that several suites of the training share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLCosmos, CosmosTransformer3DModel

from omni_gen3d.checkpoints import save_network
from omni_gen3d.decoder.mini import MiniDecoder
from omni_gen3d.training.object_set import ObjectSet
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


@pytest.fixture(scope="session")
def toy_objects() -> ObjectSet:
    """Two objects: a red wedge that stands, and a blue one that lies on others; one texture of each kind."""
    positions = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0], [0, 0, 1]], np.float32)
    faces = np.array([[0, 2, 1], [0, 3, 2], [0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
    rng = np.random.default_rng(0)
    return ObjectSet(
        names=("Traffic cone", "Toy"),
        places=np.array([0, 1]),
        sizes=np.array([[1, 1, 1], [0.2, 0.2, 0.2]], np.float32),
        first_vertex=np.array([0, 5, 10]),
        first_face=np.array([0, 6, 12]),
        positions=np.concatenate([positions, 0.2 * positions]),
        normals=np.tile(np.array([[0, 0, 1]], np.float32), (10, 1)),
        texture_coordinates=rng.random((10, 2), np.float32),
        faces=np.concatenate([faces, faces]),
        face_material=np.repeat([0, 1], 6),
        material_color=np.array([[0.8, 0.1, 0.1], [1, 1, 1]], np.float32),
        material_texture=np.array([-1, 0]),
        textures=rng.integers(0, 255, (2, 128, 128, 3), np.uint8),
        surfaces=("wood tiles",),
        skies=np.ones((1, 16, 32, 3), np.float32),
    )
