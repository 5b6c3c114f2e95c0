"""Tensor files of others, untrusted: read without running their code, and compared with the network they are for."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from omni_gen3d.errors import InputError

_PICKLED = {".pt", ".pth", ".ckpt", ".bin"}
# Under which key trainers wrap the tensors.
_CONTAINERS = ("module", "model", "state_dict")
_SHOWN_DIFFERENCES = 4
_MAX_HEADER_BYTES = 4 * 2**20


def read_tensors(
    path: Path, *, max_bytes: int, hint: str, ignored: Callable[[str], bool] = lambda name: False
) -> dict[str, torch.Tensor]:
    """The tensors of a ``.safetensors`` file or of one written by ``torch.save``, still backed by the file.

    Args:
        path: The file; its tensors lie flat or under one of the keys ``module``, ``model``, ``state_dict``.
        max_bytes: A longer file cannot be the one that is wanted.
        hint: A sentence on what to point at instead.
        ignored: Names of entries that are dropped unseen.

    Raises:
        InputError: The file is missing, unreadable, of another kind, or would run code.
    """
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}: there is no such file. {hint}")
    if path.stat().st_size > max_bytes:
        raise InputError(f"{path} holds {path.stat().st_size / 1e9:.1f} GB, far more than this network. {hint}")
    if path.suffix == ".safetensors":
        state: Any = _read_safetensors(path)
    elif path.suffix in _PICKLED:
        state = _read_pickled(path, hint)
    else:
        allowed = ", ".join(sorted({".safetensors", *_PICKLED}))
        raise InputError(f"{path.name} ends in {path.suffix!r}; a checkpoint ends in one of {allowed}.")
    for container in _CONTAINERS:
        if isinstance(state, dict) and isinstance(state.get(container), dict):
            state = state[container]
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise InputError(f"{path} holds a {type(state).__name__}, not tensors by name. {hint}")
    state = {name: value for name, value in state.items() if not ignored(name)}
    unusable = [name for name, value in state.items() if not _is_plain(value)]
    if unusable:
        raise InputError(f"{path} holds entries that are no dense float tensors: {_listed(unusable)}. {hint}")
    return state


def refuse_differences(
    path: Path, found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], *, network: str, hint: str
) -> None:
    """Compare names and shapes with the network's.

    Raises:
        InputError: A tensor is missing, superfluous or of another shape; names the first ones.
    """
    differences = []
    for name in [*wanted, *(name for name in found if name not in wanted)]:
        if name not in found:
            differences.append(f"{name} is missing")
        elif name not in wanted:
            differences.append(f"{_shortened(name)} is superfluous")
        elif found[name].shape != wanted[name].shape:
            differences.append(f"{name} is {tuple(found[name].shape)} instead of {tuple(wanted[name].shape)}")
    if differences:
        raise InputError(f"{path} is not a checkpoint of {network}: {_listed(differences)}. {hint}")


def refuse_infinities(path: Path, found: Mapping[str, torch.Tensor], *, hint: str) -> None:
    """Raise an InputError that names the first tensors holding NaN or infinity."""
    bad = [f"{name} holds NaN or infinity" for name, value in found.items() if not value.isfinite().all()]
    if bad:
        raise InputError(f"{path} is damaged: {_listed(bad)}. {hint}")


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


def _read_pickled(path: Path, hint: str) -> Any:
    """Load with torch's restricted unpickler; storages are mapped from the file, so none is larger than it."""
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [info.filename for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InputError(f"{path} is cut off or was not written by torch.save. Download it again.") from error
    if packed:
        raise InputError(f"{path} holds compressed entries ({_listed(packed)}), which torch.save never writes. {hint}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds more than tensors and would run code when loaded; it was not. {hint}"
        ) from error
    except Exception as error:  # a damaged pickle fails in every way a stack machine can
        raise InputError(f"{path} cannot be read: {type(error).__name__}: {_shortened(str(error))}. {hint}") from error


def _is_plain(value: Any) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and value.device.type == "cpu"
        and value.layout == torch.strided
        and value.is_floating_point()
    )


def _shortened(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."


def _listed(names: list[str]) -> str:
    """The first few, and how many more there are."""
    rest = len(names) - _SHOWN_DIFFERENCES
    shown = ", ".join(_shortened(name) for name in names[:_SHOWN_DIFFERENCES])
    return f"{shown} and {rest} more" if rest > 0 else shown
