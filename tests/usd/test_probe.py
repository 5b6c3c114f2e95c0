"""Layers that OpenUSD crashes over are found by another process, and everything else is left to this one."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from omni_gen3d.usd import probe, write_environment
from omni_gen3d.usd.probe import find_deadly_layers

if TYPE_CHECKING:
    from tests.conftest import ToyScene


def test_sound_and_unreadable_layers_are_not_deadly(toy_scene: ToyScene, tmp_path: Path):
    """A good layer, noise, a missing file and a strange name get through; nothing is left behind."""
    folder = write_environment(toy_scene, tmp_path / "env").parent
    strange = tmp_path / "a b\n'ü.usda"
    strange.write_text("#usda 1.0\n")
    (tmp_path / "noise.usdc").write_bytes(b"PXR-USDC" + bytes(range(256)))
    paths = [folder / "splats.usdc", strange, tmp_path / "noise.usdc", tmp_path / "absent.usdc"]
    assert find_deadly_layers(paths) == set()
    assert find_deadly_layers([]) == set()


def test_a_crash_is_blamed_on_the_layer_that_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The process that dies names its layer by not getting past it; the layers behind it are read by another."""
    script = tmp_path / "reader.py"
    script.write_text(
        "import os, sys\n"
        "for line in sys.stdin.read().split():\n"
        "    if 'deadly' in bytes.fromhex(line).decode(): os.abort()\n"
        "    print('read', flush=True)\n"
    )
    monkeypatch.setattr(probe, "_PROGRAM", script.read_text())
    names = ["one.usdc", "deadly1.usdc", "two.usdc", "deadly2.usdc"]
    assert find_deadly_layers([Path(name) for name in names]) == {Path("deadly1.usdc"), Path("deadly2.usdc")}


def test_a_reader_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch):
    """What takes too long counts as a crash."""
    monkeypatch.setattr(probe, "_PROGRAM", "import time; print('read', flush=True); time.sleep(60)")
    monkeypatch.setattr(probe, "_TIMEOUT_S", 1.0)
    assert Path("two.usdc") in find_deadly_layers([Path("one.usdc"), Path("two.usdc")])


def test_damaged_layers_end_in_findings(toy_scene: ToyScene, tmp_path: Path):
    """Random damage to a binary layer, some of which OpenUSD aborts over, never ends the process that validates."""
    folder = write_environment(toy_scene, tmp_path / "env").parent
    content = (folder / "splats.usdc").read_bytes()
    for seed in range(12):
        rng = random.Random(seed)
        noise = bytearray(content)
        for _ in range(20):
            noise[rng.randrange(len(noise))] = rng.randrange(256)
        (tmp_path / f"damaged{seed}.usdc").write_bytes(noise)
    # In a process of its own: a crash is to fail this test, not to end it.
    code = "import sys; from omni_gen3d.usd import validate; print([len(validate(path)) for path in sys.argv[1:]])"
    files = map(str, sorted(tmp_path.glob("damaged*")))
    finished = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-1000:]
    assert finished.stdout.count(",") == 11
