"""Put the transformer where the memory plan wants it, and make it faster without other numbers, or with."""

from __future__ import annotations

import torch
from diffusers.hooks import FirstBlockCacheConfig, apply_group_offloading
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models.transformers.transformer_cosmos import CosmosTransformerBlock

from omni_gen3d.video.gen3c.memory import MemoryPlan
from omni_gen3d.video.gen3c.network import Gen3cTransformer

# The CUDA context, which the allocator does not count: 0.84 on an H100.
_CONTEXT_GB = 0.9
_NOT_IN_FLOAT8 = ("patch_embed", "learnable_pos_embed", "time_embed", "norm", "proj_out")


def place(network: Gen3cTransformer, plan: MemoryPlan, device: torch.device) -> None:
    """Store the weights in the plan's type, on the card or streamed to it block by block; attention through cuDNN.

    Streaming is diffusers' group offloading: while a block works, the next one travels from pinned memory on a second
    stream.
    """
    if plan.weights == "float8":
        network.enable_layerwise_casting(
            storage_dtype=torch.float8_e4m3fn,
            compute_dtype=network.proj_out.weight.dtype,
            skip_modules_pattern=_NOT_IN_FLOAT8,
        )
    if plan.resident or device.type == "cpu":
        network.to(device)  # pyright: ignore[reportArgumentType]
    else:
        apply_group_offloading(
            network, onload_device=device, offload_type="block_level", num_blocks_per_group=1, use_stream=True
        )
    network.prefers_cudnn = device.type == "cuda"


def cache_steps(network: Gen3cTransformer, threshold: float) -> None:
    """Skip blocks 2 to 28 where the first block's change is close to that of the last full pass (FirstBlockCache).

    Passes must then run inside ``network.cache_context``; ``network._reset_stateful_cache`` empties the cache before
    another trajectory.

    Args:
        network: The transformer.
        threshold: Relative change below which the blocks are skipped; 0 never skips.
    """
    TransformerBlockRegistry.register(CosmosTransformerBlock, TransformerBlockMetadata(return_hidden_states_index=0))
    network.enable_cache(FirstBlockCacheConfig(threshold=threshold))


def limit_memory(device: torch.device, limit_gb: float) -> None:
    """Have the allocator refuse to go beyond the limit, so that it is kept and not only planned."""
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        total = torch.cuda.mem_get_info(index)[1] / 1e9
        torch.cuda.set_per_process_memory_fraction(min(max(limit_gb - _CONTEXT_GB, 0.1) / total, 1.0), index)
