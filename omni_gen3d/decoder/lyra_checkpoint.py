"""Official decoder checkpoints: read without running their code, measured, and compared with the network."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from omni_gen3d.errors import InputError

_PICKLED = {".pt", ".pth", ".ckpt", ".bin"}
_CONTAINER = "module"
_SHOWN_DIFFERENCES = 4
_MAX_DEPTH, _MAX_SIZE = 256, 2**16
# The official tensors take 131 MB in float32; with an optimizer's state beside them a file stays far below this.
_MAX_FILE_BYTES = 4 * 2**30
_MAX_HEADER_BYTES = 4 * 2**20
_HINT = "Point at the file of the official 3DGS decoder, or at the same tensors as .safetensors."


def read_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors of a checkpoint and the sizes of the network that they suggest.

    Returns:
        Name to tensor, still backed by the file, and keywords of ``LatentGaussianDecoder``. Whether all else fits is
        for ``refuse_differences`` to say.

    Raises:
        InputError: The file is missing, unreadable, of another kind, or would run code.
    """
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}: there is no such file. {_HINT}")
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise InputError(f"{path} holds {path.stat().st_size / 1e9:.1f} GB, far more than this decoder. {_HINT}")
    if path.suffix == ".safetensors":
        state: Any = _read_safetensors(path)
    elif path.suffix in _PICKLED:
        state = _read_pickled(path)
    else:
        allowed = ", ".join(sorted({".safetensors", *_PICKLED}))
        raise InputError(f"{path.name} ends in {path.suffix!r}; a checkpoint ends in one of {allowed}.")
    if isinstance(state, dict) and isinstance(state.get(_CONTAINER), dict):
        state = state[_CONTAINER]
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise InputError(f"{path} holds a {type(state).__name__}, not tensors by name. {_HINT}")
    unusable = [name for name, value in state.items() if not _is_plain(value)]
    if unusable:
        raise InputError(f"{path} holds entries that are no dense float tensors: {_listed(unusable)}. {_HINT}")
    return state, _suggested_sizes({name: tuple(value.shape) for name, value in state.items()})


def refuse_differences(path: Path, found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> None:
    """Compare names, shapes and values with the network's.

    Raises:
        InputError: A tensor is missing, superfluous, of another shape or not finite; names the first ones.
    """
    differences = []
    for name in [*wanted, *(name for name in found if name not in wanted)]:
        if name not in found:
            differences.append(f"{name} is missing")
        elif name not in wanted:
            differences.append(f"{_shortened(name)} is superfluous")
        elif found[name].shape != wanted[name].shape:
            differences.append(f"{name} is {tuple(found[name].shape)} instead of {tuple(wanted[name].shape)}")
    if not differences:
        differences = [
            f"{name} holds NaN or infinity" for name, value in found.items() if not value.float().isfinite().all()
        ]
    if differences:
        raise InputError(f"{path} is not a checkpoint of this decoder: {_listed(differences)}. {_HINT}")


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        lost = _tensors_beyond_the_end(path)
        reason = f"it ends before the data of {_listed(lost)}" if lost else _shortened(str(error))
        raise InputError(f"{path} cannot be read: {reason}. Download it again.") from error


def _tensors_beyond_the_end(path: Path) -> list[str]:
    """Which tensors the header of a safetensors file promises and its bytes do not hold, in the order of the file."""
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        text = file.read(min(header_bytes, _MAX_HEADER_BYTES))
    held = path.stat().st_size - 8 - header_bytes
    try:
        ends = {name: int(entry["data_offsets"][1]) for name, entry in json.loads(text).items() if name[:2] != "__"}
    except (ValueError, TypeError, LookupError, AttributeError):
        return []
    return sorted((name for name, end in ends.items() if end > held), key=lambda name: ends[name])


def _read_pickled(path: Path) -> Any:
    """Load with torch's restricted unpickler; storages are mapped from the file, so none is larger than it."""
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [info.filename for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InputError(f"{path} is cut off or was not written by torch.save. Download it again.") from error
    if packed:
        raise InputError(f"{path} holds compressed entries ({_listed(packed)}), which torch.save never writes. {_HINT}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds more than tensors and would run code when loaded; it was not. {_HINT}"
        ) from error
    except Exception as error:  # a damaged pickle fails in every way a stack machine can
        raise InputError(f"{path} cannot be read: {type(error).__name__}: {_shortened(str(error))}. {_HINT}") from error


def _is_plain(value: Any) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and value.device.type == "cpu"
        and value.layout == torch.strided
        and value.is_floating_point()
    )


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


def _shortened(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."


def _listed(names: list[str]) -> str:
    """The first few, and how many more there are."""
    rest = len(names) - _SHOWN_DIFFERENCES
    shown = ", ".join(_shortened(name) for name in names[:_SHOWN_DIFFERENCES])
    return f"{shown} and {rest} more" if rest > 0 else shown
