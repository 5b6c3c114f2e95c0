"""Checkpoints of the official decoder: the sizes of the network that their tensors suggest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from omni_gen3d.tensor_file import read_tensors

_MAX_DEPTH, _MAX_SIZE = 256, 2**16
# The official tensors take 131 MB in float32; with an optimizer's state beside them a file stays far below this.
_MAX_FILE_BYTES = 4 * 2**30
DECODER_HINT = "Point at the file of the official 3DGS decoder, or at the same tensors as .safetensors."


def read_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors of a checkpoint and the sizes of the network that they suggest.

    Returns:
        Name to tensor, still backed by the file, and keywords of ``LatentGaussianDecoder``. Whether all else fits is
        for ``refuse_differences`` to say.

    Raises:
        InputError: The file is missing, unreadable, of another kind, or would run code.
    """
    state = read_tensors(path, max_bytes=_MAX_FILE_BYTES, hint=DECODER_HINT)
    return state, _suggested_sizes({name: tuple(value.shape) for name, value in state.items()})


def _suggested_sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Sizes of the network from its tensors' names and shapes; where one is unusable, the official size stays."""

    def size(name: str, axis: int) -> int | None:
        shape = shapes.get(name, ())
        return shape[axis] if axis < len(shape) and 0 < shape[axis] <= _MAX_SIZE else None

    blocks: dict[int, set[str]] = {}
    for name in shapes:
        if match := re.fullmatch(r"enc_blocks\.(0|[1-9]\d{0,3})\.(\w+)\..+", name):
            blocks.setdefault(int(match[1]), set()).add(match[2])
    attention = [index for index, parts in sorted(blocks.items()) if "attn" in parts]
    mixing = [index for index, parts in sorted(blocks.items()) if "mamba" in parts]
    sizes: dict[str, Any] = {"channels": size("patch_embed.proj.weight", 0)}
    if attention or mixing:
        # A missing block leaves a gap that is named; a stray index far behind names itself instead of many gaps.
        last = max((index for index in blocks if index < min(2 * len(blocks), _MAX_DEPTH)), default=0)
        sizes |= {"depth": last + 1, "attention_blocks": tuple(attention)}
    if attention:
        sizes["hidden_channels"] = size(f"enc_blocks.{attention[0]}.mlp.fc1.weight", 0)
    if mixing:
        scan = f"enc_blocks.{mixing[0]}.mamba.mamba_scans.0"
        inner, heads = size(f"{scan}.norm.weight", 0), size(f"{scan}.D", 0)
        convolved = size(f"{scan}.conv1d.weight", 0)
        if inner and heads and inner % heads == 0:
            sizes |= {"inner_channels": inner, "num_state_heads": heads}
        if inner and convolved and convolved >= inner + 2:
            sizes["state_channels"] = (convolved - inner) // 2
        sizes["conv_width"] = size(f"{scan}.conv1d.weight", 2)
    return {name: value for name, value in sizes.items() if value is not None}
