"""Toy environments with prompts of their own, and an empty library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from omni_gen3d.envs.entry import Entry
from omni_gen3d.envs.registry import Registry
from omni_gen3d.types import FreeSpace, GeneratedScene
from omni_gen3d.usd import write_environment

if TYPE_CHECKING:
    from tests.conftest import ToyScene


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


@pytest.fixture
def rooms(toy_scene: ToyScene, write_toy: Callable[..., Path], registry: Registry) -> list[Entry]:
    """Three rooms of 4 m x 4 m with a table in the corner of +x and +y, their splats elsewhere in each."""
    free = np.ones((20, 20, 10), bool)
    free[12:18, 12:18, :3] = False
    space = FreeSpace(free, np.array([-2.0, -2.0, 0.0]), voxel_size=0.2)
    proxy, splats = replace(toy_scene.proxy, free_space=space), toy_scene.gaussians
    turned = [replace(splats, means=splats.means.roll(seed, 0)) for seed in range(3)]
    return [registry.add(write_toy(seed=seed, proxy=proxy, gaussians=turned[seed])) for seed in range(3)]
