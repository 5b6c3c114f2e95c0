"""Network weights on disk: diffusers' folder format (config.json and sharded safetensors), float16 or int8 per row.

A matrix or convolution stored as int8 has a companion ``NAME.row_scale``; row r of the weight is its int8 row times
``row_scale[r]``. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from omni_gen3d.errors import InputError

_STEM = "diffusion_pytorch_model"
_INDEX = f"{_STEM}.safetensors.index.json"
_SHARD_BYTES = 14 * 2**20
_ROW_SCALE = ".row_scale"
_MIN_QUANTISED_ELEMENTS = 4096
_HINT = "Point at a folder written by 'omni-gen3d train'."

Network = TypeVar("Network")


def _quantise_rows(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    rows = weight.float().flatten(1)
    scale = (rows.abs().amax(1) / 127).clamp(min=1e-8).half()
    return (rows / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8).reshape(weight.shape), scale


def _pack(state: dict[str, torch.Tensor], precision: Literal["float16", "int8"]) -> dict[str, torch.Tensor]:
    packed: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        if precision == "int8" and value.ndim >= 2 and value.numel() >= _MIN_QUANTISED_ELEMENTS:
            packed[name], packed[name + _ROW_SCALE] = _quantise_rows(value)
        else:
            packed[name] = value.half()
    return {name: value.detach().cpu().contiguous() for name, value in packed.items()}


def save_network(network: torch.nn.Module, folder: Path, precision: Literal["float16", "int8"]) -> None:
    """Write ``config.json``, shards under 15 MiB and their index; files of an earlier save are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{_STEM}*"):
        old.unlink()
    network.save_config(folder)  # pyright: ignore[reportCallIssue]
    shards: list[dict[str, torch.Tensor]] = [{}]
    size = 0
    for name, value in _pack(network.state_dict(), precision).items():
        bytes_ = value.numel() * value.element_size()
        if size + bytes_ > _SHARD_BYTES and shards[-1]:
            shards.append({})
            size = 0
        shards[-1][name] = value
        size += bytes_
    weight_map = {}
    for i, shard in enumerate(shards, start=1):
        file = f"{_STEM}-{i:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    index = {"metadata": {"precision": precision}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / _INDEX).write_text(json.dumps(index, indent=1) + "\n")


def _unpack(packed: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Inverse of ``_pack`` in float32; a row scale without its weight stays, as the superfluous tensor it is."""
    state = {name: value.float() for name, value in packed.items()}
    for name in packed:
        if name + _ROW_SCALE in state:
            scale = state.pop(name + _ROW_SCALE)
            state[name] = state[name] * scale.reshape(-1, *[1] * (state[name].ndim - 1))
    return state


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"no weights at {file.parent}: {file.name} is missing or unreadable. {_HINT}") from error
    if not isinstance(value, dict):
        raise InputError(f"{file} holds a {type(value).__name__}; it must be a JSON object. {_HINT}")
    return value


def load_network(network_class: type[Network], folder: Path, device: torch.device | str = "cpu") -> Network:
    """Build the network its ``config.json`` describes and fill it, in float32, for inference.

    Raises:
        InputError: A file is missing or unreadable, or a tensor is missing, superfluous or of the wrong shape.
    """
    config, weight_map = _read_json(folder / "config.json"), _read_json(folder / _INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise InputError(f"{folder / _INDEX} holds no weight_map from tensors to shards. {_HINT}")
    packed: dict[str, torch.Tensor] = {}
    for file in sorted(set(weight_map.values())):
        if Path(file).name != file or not (folder / file).is_file():
            raise InputError(f"the index of {folder} names the shard {file!r}, which is not a file in that folder.")
        try:
            packed |= load_file(folder / file)
        except SafetensorError as error:
            raise InputError(f"the shard {folder / file} cannot be read: {error}. {_HINT}") from error
    try:
        network = network_class.from_config(config)  # pyright: ignore[reportAttributeAccessIssue]
        network.load_state_dict(_unpack(packed))
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"the weights in {folder} do not fit its config.json: {error}") from error
    return network.eval().requires_grad_(False).to(device)


def digest_folder(folder: Path) -> str:
    """SHA-256 over the names and bytes of all files below ``folder``, in sorted order."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(file.read_bytes())
    return digest.hexdigest()


def digest_files(paths: Iterable[Path]) -> str:
    """SHA-256 over the names and digests of files, and of all files below folders; bounded in memory."""
    digest = hashlib.sha256()
    for path in paths:
        for file in [path] if path.is_file() else sorted(below for below in path.rglob("*") if below.is_file()):
            with file.open("rb") as stream:
                digest.update(file.name.encode() + b"\0" + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
