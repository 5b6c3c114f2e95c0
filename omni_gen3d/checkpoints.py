"""Network weights on disk: diffusers' folder format, float16, or eight or six bits a value and a scale per row.

A folder holds ``config.json`` and ``diffusion_pytorch_model.safetensors``, or numbered shards and their index in its
place. A matrix or convolution stored in whole numbers has a companion ``NAME.row_scale``, float16, one of each row;
row r of the weight, flattened, is its numbers times ``row_scale[r]``. Eight bits are stored as int8, in the weight's
own shape. Six bits are stored as uint8 of shape ``(R, 3 ceil(C / 4))`` for R rows of C values each: three bytes hold
four numbers from -32 to 31, plus 32, the first in the lowest bits of the first byte; what the last three bytes hold
beyond C is 0. The weight's shape follows from the config alone. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from omni_gen3d.errors import InputError

_STEM = "diffusion_pytorch_model"
_FILE = f"{_STEM}.safetensors"
_INDEX = f"{_FILE}.index.json"
_SHARD_BYTES = 14 * 2**20
_ROW_SCALE = ".row_scale"
_MIN_QUANTISED_ELEMENTS = 4096
_MIN_SCALE = 1e-7
# At six bits: which number the largest value of a row would be; it is cut off at -32 and 31. One of these whole numbers
# is the right one for rows that were at six bits before: they stay as they are.
_LARGEST_NUMBERS = range(31, 63)
_HINT = "Point at a folder written by 'omni-gen3d train'."

Network = TypeVar("Network")
Precision = Literal["float16", "int8"]


def _eight_bits(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights as int8 in their own shape, and the scale of each row."""
    rows = weight.float().flatten(1)
    scale = (rows.abs().amax(1) / 127).clamp(min=_MIN_SCALE).half()
    return (rows / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8).reshape(weight.shape), scale


def _six_bits(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights at six bits a value, packed, and the scale of each row: of those tried, that of the least squared error.

    Smaller scales cut off a few values and round all others less.
    """
    rows = weight.float().flatten(1)
    largest = rows.abs().amax(1)
    least = torch.full_like(largest, torch.inf)
    numbers, scale = rows, least.half()
    for number in _LARGEST_NUMBERS:
        tried = (largest / number).clamp(min=_MIN_SCALE).half()
        rounded = (rows / tried.float()[:, None]).round().clamp(-32, 31)
        error = (rounded * tried.float()[:, None] - rows).square().sum(1)
        better = error < least
        numbers, scale = torch.where(better[:, None], rounded, numbers), torch.where(better, tried, scale)
        least = torch.where(better, error, least)
    return _pack_six_bits(numbers), scale


def _pack_six_bits(numbers: torch.Tensor) -> torch.Tensor:
    """Four numbers from -32 to 31 in three bytes: ``(R, C)`` to uint8 ``(R, 3 ceil(C / 4))``."""
    fours = F.pad(numbers.int() + 32, (0, -numbers.shape[1] % 4)).unflatten(1, (-1, 4))
    words = (fours << torch.tensor([0, 6, 12, 18])).sum(-1, keepdim=True)
    return ((words >> torch.tensor([0, 8, 16])) & 255).to(torch.uint8).flatten(1)


def _unpack_six_bits(packed: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Inverse of ``_pack_six_bits``, in the shape of a weight.

    Raises:
        ValueError: These are not as many bytes as such a weight takes.
    """
    columns = math.prod(shape[1:])
    if packed.shape != (shape[0], 3 * math.ceil(columns / 4)):
        raise ValueError(f"bytes of shape {tuple(packed.shape)} cannot hold six bits a value of shape {tuple(shape)}")
    threes = packed.int().unflatten(1, (-1, 3))
    words = (threes << torch.tensor([0, 8, 16])).sum(-1, keepdim=True)
    return (((words >> torch.tensor([0, 6, 12, 18])) & 63).flatten(1)[:, :columns] - 32).reshape(shape)


def _pack(state: dict[str, torch.Tensor], precision: Precision, six_bits: Collection[str]) -> dict[str, torch.Tensor]:
    packed: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        value = value.detach().cpu()
        if precision == "float16" or value.ndim < 2 or value.numel() < _MIN_QUANTISED_ELEMENTS:
            packed[name] = value.half()
        else:
            quantise = _six_bits if any(part in name for part in six_bits) else _eight_bits
            packed[name], packed[name + _ROW_SCALE] = quantise(value)
    return {name: value.contiguous() for name, value in packed.items()}


def save_network(
    network: torch.nn.Module, folder: Path, precision: Precision, *, six_bits: Collection[str] = ()
) -> None:
    """Write ``config.json`` and the weights; files of an earlier save are replaced.

    More than 14 MiB are spread over shards, with an index.

    Args:
        network: Of diffusers' kind, with a config.
        folder: Made where it is missing.
        precision: Of all weights, or of all but small ones, which are float16.
        six_bits: Under int8, weights whose name has one of these parts take six bits a value instead of eight.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{_STEM}*"):
        old.unlink()
    network.save_config(folder)  # pyright: ignore[reportCallIssue]
    shards: list[dict[str, torch.Tensor]] = [{}]
    size = 0
    for name, value in _pack(network.state_dict(), precision, six_bits).items():
        bytes_ = value.numel() * value.element_size()
        if size + bytes_ > _SHARD_BYTES and shards[-1]:
            shards.append({})
            size = 0
        shards[-1][name] = value
        size += bytes_
    if len(shards) == 1:
        save_file(shards[0], folder / _FILE)
        return
    weight_map = {}
    for i, shard in enumerate(shards, start=1):
        file = f"{_STEM}-{i:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    index = {"metadata": {"precision": precision}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / _INDEX).write_text(json.dumps(index, separators=(",", ":")) + "\n")


def _unpack(packed: Mapping[str, torch.Tensor], shapes: Mapping[str, torch.Size]) -> dict[str, torch.Tensor]:
    """Inverse of ``_pack`` in float32; what a network of these shapes has no place for stays.

    Raises:
        ValueError: Whole numbers or their scales do not fit the shape of their weight, or have no scales.
    """
    whole = {name for name, value in packed.items() if not value.is_floating_point()}
    state: dict[str, torch.Tensor] = {}
    for name in packed.keys() - {name + _ROW_SCALE for name in whole}:
        value, scale = packed[name], packed.get(name + _ROW_SCALE)
        if value.dtype == torch.uint8 and name in shapes:
            value = _unpack_six_bits(value, shapes[name])
        state[name] = value.float()
        if name in whole:
            if scale is None or scale.shape != value.shape[:1]:
                raise ValueError(f"{name} must have one {_ROW_SCALE[1:]} for each of its rows")
            state[name] *= scale.float().reshape(-1, *[1] * (value.ndim - 1))
    return state


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"no weights at {file.parent}: {file.name} is missing or unreadable. {_HINT}") from error
    if not isinstance(value, dict):
        raise InputError(f"{file} holds a {type(value).__name__}; it must be a JSON object. {_HINT}")
    return value


def _weight_files(folder: Path) -> list[Path]:
    """Of a network: the shards that the index names, or the one file of a folder without an index."""
    if (folder / _FILE).is_file() and not (folder / _INDEX).exists():
        return [folder / _FILE]
    weight_map = _read_json(folder / _INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise InputError(f"{folder / _INDEX} holds no weight_map from tensors to shards. {_HINT}")
    files = sorted(set(weight_map.values()))
    for file in files:
        if Path(file).name != file or not (folder / file).is_file():
            raise InputError(f"the index of {folder} names the shard {file!r}, which is not a file in that folder.")
    return [folder / file for file in files]


def load_network(network_class: type[Network], folder: Path, device: torch.device | str = "cpu") -> Network:
    """Build the network its ``config.json`` describes and fill it, in float32, for inference.

    Raises:
        InputError: A file is missing or unreadable, or a tensor is missing, superfluous or of the wrong shape.
    """
    config = _read_json(folder / "config.json")
    packed: dict[str, torch.Tensor] = {}
    for file in _weight_files(folder):
        try:
            packed |= load_file(file)
        except SafetensorError as error:
            raise InputError(f"the file {file} cannot be read: {error}. {_HINT}") from error
    try:
        network = network_class.from_config(config)  # pyright: ignore[reportAttributeAccessIssue]
        network.load_state_dict(_unpack(packed, {name: value.shape for name, value in network.state_dict().items()}))
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
