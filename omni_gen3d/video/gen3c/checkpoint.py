"""GEN3C's official checkpoint: its tensors' names beside diffusers', and the network filled from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from omni_gen3d.tensor_file import read_tensors, refuse_differences, refuse_infinities
from omni_gen3d.video.gen3c.network import Gen3cTransformer, build_network, stored_type

HINT = "Point at model.pt of nvidia/Gen3C-Cosmos-7B."
# 14.5 GB in bfloat16, twice that in float32.
_MAX_FILE_BYTES = 64 * 10**9
# Kept for training, recomputed here, or a library's own bookkeeping.
_IGNORED = re.compile(r"logvar\..*|net\.pos_embedder\..*|.*_extra_state")
_OUTSIDE_BLOCKS = {
    "patch_embed.proj": "x_embedder.proj.1",
    "learnable_pos_embed": "extra_pos_embedder",
    "time_embed.t_embedder": "t_embedder.1",
    "time_embed.norm": "affline_norm",
    "norm_out.linear_1": "final_layer.adaLN_modulation.1",
    "norm_out.linear_2": "final_layer.adaLN_modulation.2",
    "proj_out": "final_layer.linear",
}
# Each of a block's three parts, attention, cross-attention and MLP, is a block of its own in the official network.
_IN_BLOCKS = {
    **{f"norm{i + 1}.linear_{j}": f"blocks.{i}.adaLN_modulation.{j}" for i in range(3) for j in (1, 2)},
    **{f"attn{i + 1}.to_{x}": f"blocks.{i}.block.attn.to_{x}.0" for i in range(2) for x in "qkv"},
    **{f"attn{i + 1}.norm_{x}": f"blocks.{i}.block.attn.to_{x}.1" for i in range(2) for x in "qk"},
    **{f"attn{i + 1}.to_out.0": f"blocks.{i}.block.attn.to_out.0" for i in range(2)},
    "ff.net.0.proj": "blocks.2.block.layer1",
    "ff.net.2": "blocks.2.block.layer2",
}


def official_name(name: str) -> str:
    """What the official checkpoint calls a parameter of ``Gen3cTransformer``."""
    module, _, parameter = name.rpartition(".")
    if match := re.fullmatch(r"transformer_blocks\.(\d+)\.(.+)", module):
        return f"net.blocks.block{match[1]}.{_IN_BLOCKS[match[2]]}.{parameter}"
    outside = next(known for known in _OUTSIDE_BLOCKS if module == known or module.startswith(f"{known}."))
    return f"net.{_OUTSIDE_BLOCKS[outside]}{module[len(outside) :]}.{parameter}"


def load_network(
    path: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.bfloat16
) -> Gen3cTransformer:
    """Build the network whose sizes the checkpoint's tensors have, and fill it, for inference.

    Args:
        path: ``.pt`` read without running code, or ``.safetensors``.
        device: Where the weights go; they pass the host one tensor at a time.
        dtype: In which they are stored.

    Raises:
        InputError: The file is missing, unreadable or tries to run code, or its tensors are not those of the network:
            the message names the first that differ.
    """
    state = _read(path)
    network = fit_network(path, state)
    for name, parameter in list(network.named_parameters()):
        official = official_name(name)
        value = state.pop(official).to(device, stored_type(network, parameter, dtype), copy=True)
        refuse_infinities(path, {official: value}, hint=HINT)
        module, _, own = name.rpartition(".")
        setattr(network.get_submodule(module), own, torch.nn.Parameter(value.contiguous(), requires_grad=False))
    return network.eval()


def read_network(path: Path) -> Gen3cTransformer:
    """The network on the meta device whose sizes the checkpoint has; its tensors are compared but not read.

    Raises:
        InputError: As ``load_network``.
    """
    return fit_network(path, _read(path))


def _read(path: Path) -> dict[str, torch.Tensor]:
    return read_tensors(
        path, max_bytes=_MAX_FILE_BYTES, hint=HINT, ignored=lambda name: _IGNORED.fullmatch(name) is not None
    )


def fit_network(path: Path, state: Mapping[str, torch.Tensor]) -> Gen3cTransformer:
    """The network on the meta device that official tensors belong to.

    Raises:
        InputError: No network fits; the message names the first tensors that differ.
    """
    try:
        network = build_network(**_suggested_sizes(state))
    except (LookupError, ValueError, ZeroDivisionError):
        network = build_network()
    wanted = {official_name(name): value for name, value in network.named_parameters()}
    refuse_differences(path, state, wanted, network="GEN3C", hint=HINT)
    return network


def _suggested_sizes(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    first = "net.blocks.block0.blocks"
    hidden = state["net.x_embedder.proj.1.weight"].shape[0]
    head = state[f"{first}.0.block.attn.to_q.1.weight"].shape[0]
    layers = {match[1] for name in state if (match := re.match(r"net\.blocks\.block(\d+)\.", name))}
    if not 0 < len(layers) <= 128 or not 0 < hidden <= 2**14 or hidden % head:
        raise ValueError("no network has such sizes")
    positions = [state[f"net.extra_pos_embedder.pos_emb_{axis}"].shape[0] for axis in "thw"]
    return {
        "num_attention_heads": hidden // head,
        "attention_head_dim": head,
        "num_layers": len(layers),
        "mlp_ratio": state[f"{first}.2.block.layer1.weight"].shape[0] / hidden,
        "text_embed_dim": state[f"{first}.1.block.attn.to_k.0.weight"].shape[1],
        "adaln_lora_dim": state[f"{first}.0.adaLN_modulation.1.weight"].shape[0],
        "max_size": (positions[0], 2 * positions[1], 2 * positions[2]),
    }
