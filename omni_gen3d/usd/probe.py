"""Reads layers in a process of its own, because OpenUSD ends the process over some damaged binary files.

Run as a program, it reads every value of the layers that it is given, and names each before it begins.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pxr import Sdf, Tf, UsdUtils

# Reading a gigabyte takes a second; what takes longer than this hangs.
_TIMEOUT_S = 120.0
_PROGRAM = f"from {__name__} import main; main()"


def find_deadly_layers(paths: Sequence[Path]) -> set[Path]:
    """Layers over which a process that reads them crashes or hangs; those that raise an error are not among them."""
    deadly: set[Path] = set()
    left = list(paths)
    while left:
        number_read = _read_in_a_process(left)
        if number_read == len(left):
            break
        deadly.add(left[number_read])
        left = left[number_read + 1 :]
    return deadly


def read_layer(path: str) -> None:
    """Read every field and time sample of one layer; what OpenUSD refuses without a crash is no matter here."""
    refused = (Tf.ErrorException, UnicodeDecodeError, MemoryError, RuntimeError, TypeError, ValueError)
    layer, specs = None, []
    with contextlib.suppress(*refused):
        layer = Sdf.Layer.OpenAsAnonymous(path)
        if layer is not None:
            layer.Traverse(Sdf.Path.absoluteRootPath, specs.append)
    for spec in specs if layer else ():
        with contextlib.suppress(*refused):
            _read_spec(layer, spec)
    with contextlib.suppress(*refused):
        UsdUtils.ExtractExternalReferences(path)


def _read_spec(layer: Sdf.Layer, path: Sdf.Path) -> None:
    spec = layer.GetObjectAtPath(path)
    for key in spec.ListInfoKeys() if spec else ():
        spec.GetInfo(key)
    for time in layer.ListTimeSamplesForPath(path):
        layer.QueryTimeSample(path, time)


def _read_in_a_process(paths: Sequence[Path]) -> int:
    """How many of the layers a new process gets through."""
    command = [sys.executable, "-c", _PROGRAM]
    names = "".join(f"{str(path).encode().hex()}\n" for path in paths)
    with tempfile.TemporaryDirectory(prefix="omni_gen3d-probe-") as directory:
        # OpenUSD leaves a report of its crash in the folder for temporary files.
        environment = {**os.environ, "TMPDIR": directory}
        try:
            told = subprocess.run(
                command, input=names.encode(), capture_output=True, timeout=_TIMEOUT_S, check=False, env=environment
            ).stdout
        except subprocess.TimeoutExpired as expired:
            told = expired.stdout or b""
    return told.count(b"read\n")


def main() -> None:
    """Read the layers whose names come on standard input, a word on standard output after each."""
    for line in sys.stdin.read().split():
        read_layer(bytes.fromhex(line).decode())
        print("read", flush=True)
