"""The network of GEN3C: diffusers' Cosmos transformer with the 3D cache among its input channels.

The channels of a latent cell are ``[latent 16 | first-frame mask 1 | warped cache 64 | padding mask 1]``, which makes a
patch 328 numbers wide. The padding mask is a channel of zeros that we append ourselves: the network is built with 82
channels and without diffusers' own padding mask, which needs torchvision; its parameters are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from diffusers import CacheMixin, CosmosTransformer3DModel
from torch.nn.attention import SDPBackend, sdpa_kernel

LATENT_CHANNELS = 16
# Two sources in the cache, each its picture and its mask through the tokenizer.
CACHE_SOURCES = 2
CACHE_CHANNELS = CACHE_SOURCES * 2 * LATENT_CHANNELS
INPUT_CHANNELS = LATENT_CHANNELS + 1 + CACHE_CHANNELS + 1
TEXT_TOKENS, TEXT_CHANNELS = 512, 1024
FRAMES_PER_SECOND = 24
# Cosmos-Predict1 7B Video2World, of which GEN3C is a fine-tuned copy: 7,237,257,216 parameters.
OFFICIAL_SIZES: dict[str, Any] = {
    "num_attention_heads": 32,
    "attention_head_dim": 128,
    "num_layers": 28,
    "mlp_ratio": 4.0,
    "text_embed_dim": TEXT_CHANNELS,
    "adaln_lora_dim": 256,
    "max_size": (128, 240, 240),
}


# The first that takes the type and size serves. All stay allowed: the setting belongs to the whole process, where
# another thread may be encoding a video just then.
_ATTENTION = (
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
)


class Gen3cTransformer(CosmosTransformer3DModel, CacheMixin):
    """diffusers' network with the names by which its step caches and its compilation find the blocks.

    Attributes:
        prefers_cudnn: Attention goes through cuDNN where that serves, a quarter faster than flash attention on Hopper.
    """

    _repeated_blocks = ["CosmosTransformerBlock"]  # noqa: RUF012 - as diffusers declares it
    prefers_cudnn = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As diffusers' own."""
        # Not set_attention_backend: diffusers then sends every network of the process through cuDNN, on CPUs, too.
        with sdpa_kernel(list(_ATTENTION), set_priority=True) if self.prefers_cudnn else nullcontext():
            return super().forward(*args, **kwargs)


def build_network(**sizes: Any) -> Gen3cTransformer:
    """The transformer with GEN3C's channels, uninitialised on the meta device; sizes default to the official ones."""
    with torch.device("meta"):
        return Gen3cTransformer(
            in_channels=INPUT_CHANNELS,
            out_channels=LATENT_CHANNELS,
            patch_size=(1, 2, 2),
            rope_scale=(2.0, 1.0, 1.0),
            concat_padding_mask=False,
            extra_pos_embed_type="learnable",
            **{**OFFICIAL_SIZES, **sizes},
        )


def random_network(device: torch.device, dtype: torch.dtype, **sizes: Any) -> Gen3cTransformer:
    """A network of random weights filled in on the device itself: for benchmarks and tests, where no file is wanted."""
    network = build_network(**sizes).requires_grad_(False)
    for module in network.modules():
        for name, value in module.named_parameters(recurse=False):
            weight = torch.empty(value.shape, device=device, dtype=stored_type(network, value, dtype))
            is_gain = value.ndim == 1 and name == "weight"
            setattr(module, name, torch.nn.Parameter(weight.fill_(1) if is_gain else weight.normal_(0, 0.02), False))
    return network.eval()


def stored_type(network: Gen3cTransformer, value: torch.Tensor, dtype: torch.dtype) -> torch.dtype:
    """``dtype``, but float32 for the position embeddings, which diffusers keeps in it: their length is normalised."""
    positions = network.learnable_pos_embed
    in_float32 = positions is not None and any(value is other for other in positions.parameters())
    return torch.float32 if in_float32 else dtype


def cache_condition(sources: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """The 64 channels that carry the 3D cache.

    Args:
        sources: For up to two sources, the tokenizer's latents of the warped pictures and of the masks (as a video of
            -1 and +1), both in the diffusion domain, shape ``(B, 16, T, h, w)``.

    Returns:
        ``[picture, mask, picture, mask]``, zeros for a missing source, shape ``(B, 64, T, h, w)``.
    """
    channels = torch.cat([latents for source in sources for latents in source], dim=1)
    missing = CACHE_CHANNELS - channels.shape[1]
    assert missing >= 0, f"at most {CACHE_SOURCES} sources fit"
    return torch.cat([channels, channels.new_zeros(len(channels), missing, *channels.shape[2:])], dim=1)


def network_input(scaled: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
    """Join the preconditioned latents ``(B, 16, T, h, w)`` with the mask of the first frame, cache and padding mask."""
    is_first = torch.zeros_like(scaled[:, :1])
    is_first[:, :, :1] = 1
    return torch.cat([scaled, is_first, condition.to(scaled), torch.zeros_like(is_first)], dim=1)
