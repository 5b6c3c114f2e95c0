"""Variants: each brings its own payload and nothing else, and the environment composes anywhere, many times."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pxr import Gf, Sdf, Usd, UsdGeom, UsdPhysics, UsdShade

from omni_gen3d.errors import InputError
from omni_gen3d.usd import Manifest, read_environment, validate, write_environment

if TYPE_CHECKING:
    from tests.conftest import ToyScene

SHELL = ["floor", "wall_west", "wall_east"]


def names_of_parts(folder: Path, collision) -> list[str]:
    return [part.name for part in read_environment(folder, collision=collision).parts]


def colliders(stage: Usd.Stage) -> dict[str, str]:
    """Name and approximation of every collider on the stage."""
    return {
        prim.GetName(): UsdPhysics.MeshCollisionAPI(prim).GetApproximationAttr().Get()
        for prim in stage.Traverse()
        if prim.HasAPI(UsdPhysics.CollisionAPI)
    }


def used_layers(stage: Usd.Stage) -> set[str]:
    return {layer.GetDisplayName() for layer in stage.GetUsedLayers() if not layer.anonymous}


def test_each_variant_of_collision_brings_its_own_payload(toy_scene_in_pieces: ToyScene, tmp_path: Path):
    """Mesh has the table's triangles, convex its pieces as hulls beside the same shell, none has no collider at all."""
    usd = write_environment(toy_scene_in_pieces, tmp_path / "env")
    always = {"environment.usda", "splats.usdc", "cameras.usdc"}
    expected = {
        "mesh": (dict.fromkeys([*SHELL, "table"], "none"), {"collision.usdc"}),
        "convex": (
            dict.fromkeys(SHELL, "none") | dict.fromkeys(["table_0", "table_1"], "convexHull"),
            {"collision.usdc", "collision_convex.usdc"},
        ),
        "none": ({}, set()),
    }
    for variant, (parts, layers) in expected.items():
        stage = Usd.Stage.Open(str(usd), Usd.Stage.LoadNone)
        stage.GetPrimAtPath("/World/Environment").GetVariantSets().SetSelection("collision", variant)
        assert used_layers(stage) == {"environment.usda"}
        stage.Load()
        assert not stage.GetCompositionErrors()
        assert colliders(stage) == parts
        assert used_layers(stage) == always | layers
        relation = stage.GetPrimAtPath("/World/Environment/Splats").GetRelationship("omni_gen3d:collider")
        targets = relation.GetTargets() if relation else []
        assert len(targets) == (variant != "none") and all(stage.GetPrimAtPath(target) for target in targets)


def test_pieces_are_labelled_and_share_the_material(toy_scene_in_pieces: ToyScene, tmp_path: Path):
    """A convex piece is a guide, bound to the one physics material, and read back as given; the shell is not stored."""
    usd = write_environment(toy_scene_in_pieces, tmp_path / "env", collision="convex")
    environment = read_environment(usd.parent)
    for read, written in zip(environment.parts[3:], toy_scene_in_pieces.proxy.convex_parts, strict=True):
        assert (read.name, read.label) == (written.name, written.label)
        assert np.array_equal(read.mesh.vertices, written.mesh.vertices)
    stage = Usd.Stage.Open(str(usd))
    piece = UsdGeom.Mesh(stage.GetPrimAtPath("/World/Environment/Collision/table_1"))
    assert piece.ComputePurpose() == UsdGeom.Tokens.guide
    material, _ = UsdShade.MaterialBindingAPI(piece).ComputeBoundMaterial("physics")
    assert UsdPhysics.MaterialAPI(material).GetStaticFrictionAttr().Get() == pytest.approx(0.8)
    layer = Sdf.Layer.FindOrOpen(str(usd.parent / "collision_convex.usdc"))
    children = layer.GetPrimAtPath("/Collision").nameChildren
    assert {child.name for child in children if "points" in child.attributes} == {"table_0", "table_1"}
    assert {child.name for child in children} == {"table_0", "table_1", "table", "PhysicsMaterial"}


def test_a_piece_may_take_the_name_of_its_object(toy_scene_in_pieces: ToyScene, tmp_path: Path):
    """One hull in the place of the table, by its name, replaces it; the name of a wall is refused."""
    proxy = toy_scene_in_pieces.proxy
    hull = dataclasses.replace(proxy.convex_parts[0], name="table")
    scene = dataclasses.replace(toy_scene_in_pieces, proxy=dataclasses.replace(proxy, convex_parts=(hull,)))
    folder = write_environment(scene, tmp_path / "env", collision="convex").parent
    parts = read_environment(folder).parts
    assert [part.name for part in parts] == [*SHELL, "table"]
    assert np.array_equal(parts[3].mesh.vertices, hull.mesh.vertices)
    assert validate(folder) == []
    taken = dataclasses.replace(hull, name="wall_west")
    scene = dataclasses.replace(scene, proxy=dataclasses.replace(proxy, convex_parts=(taken,)))
    with pytest.raises(InputError, match="wall_west"):
        write_environment(scene, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_without_pieces_convex_is_mesh(toy_scene: ToyScene, tmp_path: Path):
    """Where the proxy has no convex pieces, both variants name one layer."""
    folder = write_environment(toy_scene, tmp_path / "env").parent
    assert names_of_parts(folder, "convex") == names_of_parts(folder, "mesh") == [*SHELL, "table"]
    assert not (folder / "collision_convex.usdc").exists()


def test_without_a_proxy_there_is_only_none(toy_scene: ToyScene, tmp_path: Path):
    """A scene of splats alone is a valid environment without colliders, spawn poses and free space."""
    scene = dataclasses.replace(toy_scene, proxy=None)
    usd = write_environment(scene, tmp_path / "env", collision="convex")
    assert validate(usd.parent) == []
    assert not (usd.parent / "collision.usdc").exists()
    stage = Usd.Stage.Open(str(usd))
    variants = stage.GetPrimAtPath("/World/Environment").GetVariantSet("collision")
    assert list(variants.GetVariantNames()) == ["none"] and variants.GetVariantSelection() == "none"
    manifest = Manifest.read(usd.parent / "environment.yaml")
    assert (manifest.floor_height_m, manifest.spawn_poses, manifest.proxy) == (None, (), {})
    assert manifest.free_space is None and manifest.warnings == ()
    assert read_environment(usd.parent).parts == ()
    with pytest.raises(InputError, match="'mesh' of collision does not exist in this environment; it has none"):
        read_environment(usd.parent, collision="mesh")


def test_the_selected_variant_is_the_default(toy_scene_in_pieces: ToyScene, tmp_path: Path):
    """What ``collision`` names is what a stage shows when it is opened; another word is refused."""
    for variant in ("mesh", "convex", "none"):
        folder = write_environment(toy_scene_in_pieces, tmp_path / variant, collision=variant).parent
        assert validate(folder) == []
        assert names_of_parts(folder, None) == names_of_parts(folder, variant)
    with pytest.raises(InputError, match="'sdf'; allowed are mesh, convex, none"):
        write_environment(toy_scene_in_pieces, tmp_path / "sdf", collision="sdf")  # pyright: ignore[reportArgumentType]


def test_a_dome_for_the_meshes(toy_scene: ToyScene, tmp_path: Path):
    """There is no light until ``dome`` is selected, and then one, which the environment brings itself."""
    stage = Usd.Stage.Open(str(write_environment(toy_scene, tmp_path / "env")))
    lighting = stage.GetPrimAtPath("/World/Environment").GetVariantSet("lighting")
    assert sorted(lighting.GetVariantNames()) == ["dome", "none"] and lighting.GetVariantSelection() == "none"
    assert not [prim for prim in stage.Traverse() if prim.GetTypeName() == "DomeLight"]
    lighting.SetVariantSelection("dome")
    lights = [str(prim.GetPath()) for prim in stage.Traverse() if prim.GetTypeName() == "DomeLight"]
    assert lights == ["/World/Environment/Dome"]


def test_thirty_two_at_once(toy_scene_in_pieces: ToyScene, tmp_path: Path):
    """Thirty-two copies under turned and shifted prims, each of its own variants, hold what each of them selects."""
    usd = write_environment(toy_scene_in_pieces, tmp_path / "env")
    stage = Usd.Stage.CreateInMemory()
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    choices = ("mesh", "convex", "none")
    for i in range(32):
        copy = UsdGeom.Xform.Define(stage, f"/World/envs/env_{i}/Scene")
        copy.AddTranslateOp().Set(Gf.Vec3d(10.0 * (i % 8), 10.0 * (i // 8), 0.1 * i))
        copy.AddRotateZOp().Set(11.25 * i)
        copy.GetPrim().GetReferences().AddReference(str(usd))
        environment = stage.GetPrimAtPath(f"/World/envs/env_{i}/Scene/Environment")
        environment.GetVariantSets().SetSelection("collision", choices[i % 3])
        environment.GetVariantSets().SetSelection("appearance", ("warm", "dim")[i % 2])
    assert not stage.GetCompositionErrors()
    for i in range(32):
        environment = f"/World/envs/env_{i}/Scene/Environment"
        relation = stage.GetPrimAtPath(f"{environment}/Splats").GetRelationship("omni_gen3d:collider")
        targets = [str(target) for target in relation.GetTargets()] if relation else []
        assert targets == ([] if i % 3 == 2 else [f"{environment}/Collision"])
        exposure = stage.GetPrimAtPath(f"{environment}/Splats").GetAttribute("omni_gen3d:exposure").Get()
        assert exposure == (0.0, -1.5)[i % 2]
        if i % 3 == 2:
            assert not stage.GetPrimAtPath(f"{environment}/Collision")
            continue
        floor = stage.GetPrimAtPath(f"{environment}/Collision/floor")
        center = UsdGeom.BBoxCache(0, ["guide"]).ComputeWorldBound(floor).ComputeCentroid()
        np.testing.assert_allclose(center, [10.0 * (i % 8), 10.0 * (i // 8), 0.1 * i - 0.1], atol=1e-4)
        pieces = {child.GetName() for child in stage.GetPrimAtPath(f"{environment}/Collision").GetChildren()}
        assert pieces == {*SHELL, "PhysicsMaterial", *(("table_0", "table_1") if i % 3 else ("table",))}
    assert [prim.GetTypeName() for prim in stage.Traverse()].count("ParticleField3DGaussianSplat") == 32
