"""The environment folder: what is written is read back, composes anywhere, and is the same bytes every time."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from pxr import Gf, Usd, UsdGeom, UsdPhysics, UsdSemantics, UsdShade

from omni_gen3d.errors import InputError
from omni_gen3d.usd import read_environment, validate, write_environment

if TYPE_CHECKING:
    from tests.conftest import ToyScene


def test_round_trip(toy_scene: ToyScene, tmp_path: Path):
    """Gaussians, parts and preview come back exactly and cameras to float accuracy, from a folder in a new folder."""
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
    for read, written in zip(environment.parts, toy_scene.proxy.parts, strict=True):
        assert (read.name, read.label) == (written.name, written.label)
        assert np.array_equal(read.mesh.vertices, written.mesh.vertices)
        assert np.array_equal(read.mesh.faces, written.mesh.faces)
    assert np.array_equal(np.asarray(Image.open(usd.parent / "preview.png")), toy_scene.preview)


def test_manifest_describes_the_scene(toy_scene: ToyScene, tmp_path: Path):
    """The manifest holds provenance, scores and spawn poses as given, and bounds that hold splats and colliders."""
    manifest = read_environment(write_environment(toy_scene, tmp_path / "env").parent).manifest
    assert (manifest.prompt, manifest.title) == ("a toy: room\nwith a table", "a toy: room with a table")
    assert (manifest.kind, manifest.seed, manifest.model) == ("static", 3, "mini")
    assert manifest.num_gaussians == 50 and manifest.floor_height_m == 0.0
    assert manifest.spawn_poses == toy_scene.proxy.spawn_poses
    assert manifest.proxy == toy_scene.proxy.scores
    assert manifest.warnings == toy_scene.proxy.warnings and manifest.notes == toy_scene.provenance.notes
    assert manifest.free_space is not None
    assert np.array_equal(manifest.free_space.free, toy_scene.proxy.free_space.free)
    assert manifest.timings_s == {"decode": 0.25}
    low, high = np.array(manifest.bounds_m)
    radius = 3 * toy_scene.gaussians.scales.max(dim=1, keepdim=True).values
    assert (toy_scene.gaussians.means - radius >= torch.from_numpy(low) - 1e-6).all()
    assert (toy_scene.gaussians.means + radius <= torch.from_numpy(high) + 1e-6).all()
    assert low[2] == pytest.approx(-0.2) and high[0] == pytest.approx(2.2)


def test_same_scene_same_bytes(toy_scene: ToyScene, tmp_path: Path):
    """Two folders of one scene hold the same bytes in every file, wherever they lie."""
    first = write_environment(toy_scene, tmp_path / "first").parent
    second = write_environment(toy_scene, tmp_path / "elsewhere" / "second").parent
    names = sorted(file.name for file in first.iterdir())
    assert names == sorted(file.name for file in second.iterdir())
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_only_timings_differ(toy_scene: ToyScene, tmp_path: Path):
    """Other timings change one line of the manifest and nothing else."""
    first = write_environment(toy_scene, tmp_path / "first").parent
    slower = dataclasses.replace(toy_scene, timings_s={"decode": 9.0})
    second = write_environment(slower, tmp_path / "second").parent
    for file in first.iterdir():
        lines = zip(file.read_bytes().split(b"\n"), (second / file.name).read_bytes().split(b"\n"), strict=True)
        changed = [line for line, other in lines if line != other]
        assert changed == ([b"timings_s: {decode: 0.25}"] if file.name == "environment.yaml" else [])


def test_composes_under_any_prim(toy_scene: ToyScene, tmp_path: Path):
    """Four references under turned and shifted prims each bring splats, colliders, material, labels and relation."""
    usd = write_environment(toy_scene, tmp_path / "env")
    stage = Usd.Stage.CreateInMemory()
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    for i in range(4):
        copy = UsdGeom.Xform.Define(stage, f"/Lab/env_{i}")
        copy.AddTranslateOp().Set(Gf.Vec3d(10.0 * i, 0, 1))
        copy.AddRotateZOp().Set(90.0 * i)
        copy.GetPrim().GetReferences().AddReference(str(usd))
    assert not stage.GetCompositionErrors()
    assert [prim.GetTypeName() for prim in stage.Traverse()].count("ParticleField3DGaussianSplat") == 4
    quarter_turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    for i in range(4):
        environment = f"/Lab/env_{i}/Environment"
        table = stage.GetPrimAtPath(f"{environment}/Collision/table")
        assert table.HasAPI(UsdPhysics.CollisionAPI)
        center = UsdGeom.BBoxCache(0, ["guide"]).ComputeWorldBound(table).ComputeCentroid()
        expected = np.linalg.matrix_power(quarter_turn, i) @ [1.0, 1.0, 0.25] + [10.0 * i, 0, 1]
        np.testing.assert_allclose(center, expected, atol=1e-5)
        material, _ = UsdShade.MaterialBindingAPI(table).ComputeBoundMaterial("physics")
        assert str(material.GetPath()) == f"{environment}/Collision/PhysicsMaterial"
        assert list(UsdSemantics.LabelsAPI(table, "class").GetLabelsAttr().Get()) == ["object"]
        relation = stage.GetPrimAtPath(f"{environment}/Splats").GetRelationship("omni_gen3d:collider")
        assert [str(target) for target in relation.GetTargets()] == [f"{environment}/Collision"]


def test_root_layer_is_small_and_opens_without_payloads(toy_scene: ToyScene, tmp_path: Path):
    """The root layer alone says units, axis, kinds and prim types; its size does not grow with the scene."""
    usd = write_environment(toy_scene, tmp_path / "env")
    assert usd.stat().st_size < 4000
    stage = Usd.Stage.Open(str(usd), Usd.Stage.LoadNone)
    assert UsdGeom.GetStageUpAxis(stage) == "Z" and UsdGeom.GetStageMetersPerUnit(stage) == 1.0
    assert UsdPhysics.GetStageKilogramsPerUnit(stage) == 1.0
    assert stage.GetDefaultPrim().GetPath() == "/World"
    assert Usd.ModelAPI(stage.GetPrimAtPath("/World")).GetKind() == "assembly"
    assert Usd.ModelAPI(stage.GetPrimAtPath("/World/Environment")).GetKind() == "component"
    assert stage.GetPrimAtPath("/World/Environment/Splats").GetTypeName() == "ParticleField3DGaussianSplat"
    assert not stage.GetPrimAtPath("/World/Environment/Collision").GetChildren()


def test_scene_out_of_range_is_refused(toy_scene: ToyScene, tmp_path: Path):
    """A negative scale or a preview of floats is named, and no folder appears."""
    broken = dataclasses.replace(toy_scene.gaussians, scales=-toy_scene.gaussians.scales)
    with pytest.raises(InputError, match="scales"):
        write_environment(dataclasses.replace(toy_scene, gaussians=broken), tmp_path / "env")
    with pytest.raises(InputError, match="preview"):
        write_environment(dataclasses.replace(toy_scene, preview=toy_scene.preview / 255.0), tmp_path / "env")
    assert not list(tmp_path.iterdir())


def test_reading_names_what_is_wrong(toy_scene: ToyScene, tmp_path: Path):
    """A folder without a manifest and one with a truncated layer are refused with the name of the file."""
    with pytest.raises(InputError, match=r"environment\.yaml"):
        read_environment(tmp_path)
    folder = write_environment(toy_scene, tmp_path / "env").parent
    (folder / "splats.usdc").write_bytes((folder / "splats.usdc").read_bytes()[:3000])
    with pytest.raises(InputError, match=r"splats\.usdc"):
        read_environment(folder)


def test_replacing_gives_the_new_scene(toy_scene: ToyScene, tmp_path: Path):
    """Writing over an environment replaces it whole: the new one is valid and nothing else lies beside it."""
    write_environment(toy_scene, tmp_path / "env")
    fewer = dataclasses.replace(toy_scene, gaussians=toy_scene.gaussians[:20])
    folder = write_environment(fewer, tmp_path / "env").parent
    assert len(read_environment(folder).gaussians) == 20
    assert validate(folder) == []
    assert list(tmp_path.iterdir()) == [folder]
