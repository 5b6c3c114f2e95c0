"""Environments at places of somebody else's, and a lens, come out as they were stated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pxr import Gf, Sdf, Usd, UsdGeom

from omni_gen3d.errors import InputError
from omni_gen3d.types import GeneratedScene
from omni_gen3d.usd import write_environment
from omni_gen3d.usd.composing import CAMERA_PATH, Lens, Placed, author_lens, compose_stage

SPLATS = "/Worlds/Environment_{}/Environment/Splats"
IDENTITY = tuple(float(i == j) for i in range(4) for j in range(4))
# A step of 5 m along x, for row vectors.
MOVED = (*IDENTITY[:12], 5.0, 0.0, 0.0, 1.0)


@pytest.fixture
def room(toy_scene: GeneratedScene, tmp_path: Path) -> str:
    return str(write_environment(toy_scene, tmp_path / "room"))


def exposing(path: Path, exposure: float) -> str:
    """A layer that does nothing but state an exposure."""
    layer = Sdf.Layer.CreateNew(str(path))
    prim = Sdf.CreatePrimInLayer(layer, "/World/Environment/Splats")
    Sdf.AttributeSpec(prim, "omni_gen3d:exposure", Sdf.ValueTypeNames.Float).default = exposure
    layer.Save()
    return str(path)


def test_places_variants_and_overrides(room, tmp_path):
    """Each copy has its own place and look; the first override wins over the second and over the variant."""
    layers = (exposing(tmp_path / "strong.usda", 0.5), exposing(tmp_path / "weak.usda", 0.25))
    stage = compose_stage(
        [
            Placed(usd=room, matrix=IDENTITY, overrides=layers, variants={"collision": "none"}),
            Placed(usd=room, matrix=MOVED, variants={"appearance": "dim"}),
        ]
    )
    exposures = [stage.GetPrimAtPath(SPLATS.format(i)).GetAttribute("omni_gen3d:exposure").Get() for i in (0, 1)]
    assert exposures == [0.5, -1.5]
    places = UsdGeom.XformCache()
    assert places.GetLocalToWorldTransform(stage.GetPrimAtPath(SPLATS.format(1))).ExtractTranslation() == (5, 0, 0)
    assert not stage.GetPrimAtPath("/Worlds/Environment_0/Environment/Collision")
    assert stage.GetPrimAtPath("/Worlds/Environment_1/Environment/Collision")
    assert len(stage.GetPrimAtPath(SPLATS.format(1)).GetAttribute("positions").Get()) > 0


def test_the_lens_is_authored_again_and_again(room):
    """A second lens replaces the first."""
    stage = compose_stage([Placed(usd=room, matrix=IDENTITY)])
    for focal in (20.0, 30.0):
        author_lens(
            stage,
            Lens(
                matrix=MOVED,
                focal_length=focal,
                horizontal_aperture=36.0,
                vertical_aperture=24.0,
                clipping_range=(0.1, 50.0),
            ),
        )
    camera = UsdGeom.Camera(stage.GetPrimAtPath(CAMERA_PATH)).GetCamera(Usd.TimeCode.Default())
    assert camera.focalLength == pytest.approx(30.0) and camera.clippingRange == Gf.Range1f(0.1, 50.0)
    assert np.allclose(camera.transform.ExtractTranslation(), (5, 0, 0))


def test_what_cannot_be_composed_is_named(room, tmp_path):
    with pytest.raises(InputError, match="3 numbers"):
        compose_stage([Placed(usd=room, matrix=(1.0, 0.0, 0.0))])
    with pytest.raises(InputError, match=r"absent\.usda"):
        compose_stage([Placed(usd=str(tmp_path / "absent.usda"), matrix=IDENTITY)])
