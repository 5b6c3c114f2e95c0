"""A GEN3C network small enough for every test."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from omni_gen3d.video.gen3c.network import Gen3cTransformer, random_network

SIZES: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 24,
    "num_layers": 3,
    "mlp_ratio": 2.0,
    "text_embed_dim": 32,
    "adaln_lora_dim": 8,
    "max_size": (8, 16, 16),
}


@pytest.fixture
def network() -> Gen3cTransformer:
    torch.manual_seed(0)
    return random_network(torch.device("cpu"), torch.float32, **SIZES)
