"""The environment folder: what is written is read back, composes anywhere, and is written whole or not at all."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pxr import Gf, Usd, UsdGeom, UsdPhysics, UsdSemantics, UsdShade

from omni_gen3d.errors import InputError
from omni_gen3d.types import GeneratedScene
from omni_gen3d.usd import Manifest, read_environment, write_environment


def test_round_trip(toy_scene: GeneratedScene, tmp_path: Path):
    """Gaussians and parts come back bit for bit, cameras to float accuracy."""
    usd = write_environment(toy_scene, tmp_path / "a" / "env")
    assert usd == tmp_path / "a" / "env" / "environment.usda"
    environment = read_environment(usd.parent)
    for name in ("means", "quats", "scales", "opacities", "sh"):
        assert torch.equal(getattr(environment.gaussians, name), getattr(toy_scene.gaussians, name)), name
    torch.testing.assert_close(
        environment.cameras.world_to_camera, toy_scene.cameras.world_to_camera, atol=1e-6, rtol=0
    )
    torch.testing.assert_close(environment.cameras.intrinsics, toy_scene.cameras.intrinsics, atol=1e-4, rtol=0)
    assert (environment.cameras.width, environment.cameras.height) == (320, 176)
    assert [(part.name, part.label) for part in environment.parts] == [
        (part.name, part.label) for part in toy_scene.proxy.parts
    ]
    for read, written in zip(environment.parts, toy_scene.proxy.parts, strict=True):
        assert np.array_equal(read.mesh.vertices, written.mesh.vertices)
        assert np.array_equal(read.mesh.faces, written.mesh.faces)
