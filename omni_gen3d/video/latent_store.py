"""Finished trajectories on disk, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

_LATENTS = "latents"


def request_digest(request: Mapping[str, object], tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over everything that decides the latents: plain values as JSON, tensors by their bytes."""
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class LatentStore:
    """The latents of one request, a file for each trajectory; other requests have folders of their own."""

    def __init__(self, root: Path, digest: str) -> None:
        self.folder = root / digest

    def load(self, name: str) -> torch.Tensor | None:
        """What was saved under the name, or None; a file that cannot be read counts as absent."""
        try:
            return load_file(self.folder / f"{name}.safetensors")[_LATENTS]
        except (OSError, SafetensorError, KeyError):
            return None

    def save(self, name: str, latents: torch.Tensor) -> None:
        """Write a trajectory's latents; a reader finds the whole file or none."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=f".{name}.")
        os.close(handle)
        try:
            save_file({_LATENTS: latents.contiguous()}, temporary)
            os.replace(temporary, self.folder / f"{name}.safetensors")
        finally:
            Path(temporary).unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove all that was saved: the environment is written."""
        shutil.rmtree(self.folder, ignore_errors=True)
