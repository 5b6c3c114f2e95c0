"""Toy environments with prompts of their own, and an empty library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from omni_gen3d.envs.registry import Registry
from omni_gen3d.types import GeneratedScene
from omni_gen3d.usd import write_environment


@pytest.fixture
def write_toy(toy_scene: GeneratedScene, tmp_path: Path) -> Callable[..., Path]:
    """Write the toy scene with a prompt and a seed, parts of it changed."""

    def write(prompt: str = "a toy room", seed: int = 0, **changes) -> Path:
        provenance = replace(toy_scene.provenance, prompt=prompt, seed=seed)
        scene = replace(toy_scene, provenance=provenance, **changes)
        return write_environment(scene, tmp_path / "sources" / f"{prompt.replace(' ', '_')}{seed}").parent

    return write


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """An empty library."""
    return Registry(tmp_path / "home")
