"""Seeded faults in variants, halves, samples, clips and colliders: the validator finds each and says what is wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pxr import Gf, Sdf, Usd, UsdGeom, UsdPhysics, UsdVol

from omni_gen3d.types import GaussianSequence, TriMesh
from omni_gen3d.usd import Manifest, validate, write_environment
from omni_gen3d.usd.manifest import FileDigest

if TYPE_CHECKING:
    from tests.conftest import ToyScene

ENVIRONMENT = "/World/Environment"
Fault = Callable[[Usd.Stage], object]


def write(scene: ToyScene, folder: Path, **options) -> Path:
    return write_environment(scene, folder, **options).parent


def break_layer(folder: Path, layer: str, fault: Fault) -> None:
    """Commit the fault in one layer and bring the digests up to date, so that nothing else is left to find."""
    stage = Usd.Stage.Open(str(folder / layer), Usd.Stage.LoadNone)
    fault(stage)
    stage.GetRootLayer().Save()
    manifest = Manifest.read(folder / "environment.yaml")
    files = {name: FileDigest.of(folder / name) for name in manifest.files}
    dataclasses.replace(manifest, files=files).write(folder / "environment.yaml")


def assert_found(folder: Path, severity: str, expected: str) -> None:
    lines = [str(finding) for finding in validate(folder) if finding.severity == severity]
    assert any(expected in line for line in lines), lines
    assert not any("\n" in line for line in lines)


def environment(stage: Usd.Stage) -> Usd.Prim:
    return stage.GetPrimAtPath(ENVIRONMENT)


def splats(stage: Usd.Stage) -> UsdVol.ParticleField3DGaussianSplat:
    return UsdVol.ParticleField3DGaussianSplat(stage.GetPrimAtPath("/Splats"))


def in_variant(variant_set: str, variant: str, fault: Fault) -> Fault:
    """The same fault inside of a variant; what was selected stays selected."""

    def commit(stage: Usd.Stage) -> None:
        variants = environment(stage).GetVariantSet(variant_set)
        selected = variants.GetVariantSelection()
        variants.AddVariant(variant)
        variants.SetVariantSelection(variant)
        with variants.GetVariantEditContext():
            fault(stage)
        variants.SetVariantSelection(selected)

    return commit


def relation(stage: Usd.Stage) -> Usd.Relationship:
    return stage.GetPrimAtPath(f"{ENVIRONMENT}/Splats").GetRelationship("omni_gen3d:collider")


def look(name: str, value: object) -> Fault:
    return lambda stage: stage.GetPrimAtPath(f"{ENVIRONMENT}/Splats").GetAttribute(name).Set(value)


def a_collider(stage: Usd.Stage) -> None:
    mesh = UsdGeom.Mesh.Define(stage, f"{ENVIRONMENT}/Extra")
    mesh.CreatePointsAttr([(0, 0, 0), (1, 0, 0), (0, 1, 0)])
    mesh.CreateFaceVertexCountsAttr([3])
    mesh.CreateFaceVertexIndicesAttr([0, 1, 2])
    UsdPhysics.CollisionAPI.Apply(mesh.GetPrim())


def drop_variant_set(stage: Usd.Stage, name: str) -> None:
    environment(stage).GetVariantSet(name).ClearVariantSelection()
    spec = stage.GetRootLayer().GetPrimAtPath(ENVIRONMENT)
    spec.variantSetNameList.Remove(name)
    del spec.variantSets[name]


def empty_payload(stage: Usd.Stage) -> None:
    stage.GetPrimAtPath(f"{ENVIRONMENT}/Collision").GetPayloads().SetPayloads([Sdf.Payload("./cameras.usdc")])


VARIANT_FAULTS: dict[str, tuple[Fault, str]] = {
    "no collision variants": (lambda s: drop_variant_set(s, "collision"), "no variant 'none' of collision"),
    "no appearance variants": (lambda s: drop_variant_set(s, "appearance"), "no variant 'neutral' of appearance"),
    "no lighting variants": (lambda s: drop_variant_set(s, "lighting"), "no variant 'none' of lighting"),
    "selection that is not there": (
        lambda s: environment(s).GetVariantSets().SetSelection("collision", "sdf"),
        "selects the variant 'sdf' of collision",
    ),
    "unknown variant": (
        in_variant("collision", "voxels", lambda s: None),
        "has a variant 'voxels' of collision; allowed are mesh, convex, none",
    ),
    "convex without a relation": (
        in_variant("collision", "convex", lambda s: relation(s).ClearTargets(True)),
        "names no collider in omni_gen3d:collider in the variant 'convex'",
    ),
    "convex with a dangling relation": (
        in_variant("collision", "convex", lambda s: relation(s).SetTargets([f"{ENVIRONMENT}/Absent"])),
        f"names {ENVIRONMENT}/Absent in omni_gen3d:collider, which the variant 'convex' lacks",
    ),
    "convex without colliders": (
        in_variant("collision", "convex", empty_payload),
        "no Mesh with an enabled CollisionAPI in the variant 'convex'",
    ),
    "none that names a collider": (
        in_variant("collision", "none", lambda s: relation_of_none(s)),
        "in omni_gen3d:collider, which the variant 'none' lacks",
    ),
    "none with a collider": (in_variant("collision", "none", a_collider), "is a collider in the variant 'none'"),
    "payload above in an unselected variant": (
        in_variant(
            "collision", "none", lambda s: s.DefinePrim(f"{ENVIRONMENT}/X").GetPayloads().AddPayload("../x.usdc")
        ),
        "'../x.usdc', which lies outside the folder",
    ),
    "missing payload in an unselected variant": (
        in_variant("lighting", "dome", lambda s: s.DefinePrim(f"{ENVIRONMENT}/X").GetPayloads().AddPayload("./x.usdc")),
        "'./x.usdc', which does not exist",
    ),
    "target outside in an unselected variant": (
        in_variant("collision", "convex", lambda s: relation(s).SetTargets(["/Elsewhere"])),
        "targets /Elsewhere",
    ),
    "exposure": (
        in_variant("appearance", "dim", look("omni_gen3d:exposure", float("nan"))),
        "in the appearance 'dim' omni_gen3d:exposure is nan",
    ),
    "tint": (
        in_variant("appearance", "warm", look("omni_gen3d:tint", Gf.Vec3f(1, -1, 1))),
        "in the appearance 'warm' omni_gen3d:tint",
    ),
    "physics scene in a variant": (
        in_variant("lighting", "none", lambda s: UsdPhysics.Scene.Define(s, f"{ENVIRONMENT}/Scene")),
        "PhysicsScene",
    ),
}


def relation_of_none(stage: Usd.Stage) -> None:
    prim = stage.GetPrimAtPath(f"{ENVIRONMENT}/Splats")
    prim.CreateRelationship("omni_gen3d:collider").SetTargets([f"{ENVIRONMENT}/Collision"])


@pytest.mark.parametrize("name", VARIANT_FAULTS)
def test_faults_in_variants(toy_scene_in_pieces: ToyScene, tmp_path: Path, name: str):
    """A fault in the root layer, also in a variant that is not selected, is an error."""
    fault, expected = VARIANT_FAULTS[name]
    folder = write(toy_scene_in_pieces, tmp_path / "env")
    break_layer(folder, "environment.usda", fault)
    assert_found(folder, "error", expected)


def test_faults_in_the_convex_layer(toy_scene_in_pieces: ToyScene, tmp_path: Path):
    """A piece that is dented is a warning, one that indexes beyond its points an error, though mesh is selected."""
    folder = write(toy_scene_in_pieces, tmp_path / "env")

    def dent(stage: Usd.Stage) -> None:
        points = UsdGeom.Mesh(stage.GetPrimAtPath("/Collision/table_0")).GetPointsAttr()
        values = points.Get()
        values[0] = Gf.Vec3f(0.7, 1.0, 0.25)
        points.Set(values)

    stage = Usd.Stage.Open(str(folder / "collision_convex.usdc"))
    dent(stage)
    stage.GetRootLayer().Save()
    break_layer(folder, "collision_convex.usdc", lambda s: None)
    assert_found(folder, "warning", "approximation is convexHull, which fills dents of")
    stage = Usd.Stage.Open(str(folder / "collision_convex.usdc"))
    UsdGeom.Mesh(stage.GetPrimAtPath("/Collision/table_1")).GetFaceVertexIndicesAttr().Set([0, 1, 99] * 12)
    stage.GetRootLayer().Save()
    break_layer(folder, "collision_convex.usdc", lambda s: None)
    assert_found(folder, "error", "index 0..99 of 8 points")


HALF_FAULTS: dict[str, tuple[Fault, str]] = {
    "short": (lambda s: splats(s).GetOpacitieshAttr().Set([0.5] * 49), "opacities holds 49 values"),
    "infinite": (
        lambda s: splats(s).GetScaleshAttr().Set([Gf.Vec3h(1e6)] * 50),
        "scales holds 150 values that are NaN",
    ),
    "zero": (lambda s: splats(s).GetScaleshAttr().Set([Gf.Vec3h(0)] * 50), "scales reach 0"),
    "quaternion": (lambda s: splats(s).GetOrientationshAttr().Set([Gf.Quath(2, 0, 0, 0)] * 50), "unit length"),
    "gone": (lambda s: s.GetPrimAtPath("/Splats").RemoveProperty("positionsh"), "holds 0 particles"),
    "element size": (
        lambda s: splats(s).GetRadianceSphericalHarmonicsCoefficientshAttr().SetMetadata("elementSize", 1),
        "elementSize 1",
    ),
    "floats that win": (lambda s: splats(s).GetOpacitiesAttr().Set([0.5]), "opacities holds 1 values"),
}


@pytest.mark.parametrize("name", HALF_FAULTS)
def test_faults_in_halves(toy_scene: ToyScene, tmp_path: Path, name: str):
    """Half-precision arrays are held to the same rules, and a float twin counts before them."""
    fault, expected = HALF_FAULTS[name]
    folder = write(toy_scene, tmp_path / "env", half=True)
    assert validate(folder) == []
    break_layer(folder, "splats.usdc", fault)
    assert_found(folder, "error", expected)


SAMPLE_FAULTS: dict[str, tuple[str, Fault, str]] = {
    "one short sample": (
        "splats.usdc",
        lambda s: splats(s).GetPositionsAttr().Set([Gf.Vec3f(0)] * 49, 2),
        "orientations holds 50 values; 49 particles need 49",
    ),
    "one bad quaternion": (
        "splats.usdc",
        lambda s: splats(s).GetOrientationsAttr().Set([Gf.Quatf(3, 0, 0, 0)] * 50, 3),
        "unit length by up to 2",
    ),
    "sample out of the extent": (
        "splats.usdc",
        lambda s: splats(s).GetPositionsAttr().Set([Gf.Vec3f(9)] * 50, 1),
        "does not contain its particles",
    ),
    "no range": ("environment.usda", lambda s: s.GetRootLayer().ClearEndTimeCode(), "authors no startTimeCode"),
    "no pace": ("environment.usda", lambda s: s.GetRootLayer().ClearTimeCodesPerSecond(), "timeCodesPerSecond"),
    "range too short": ("environment.usda", lambda s: s.SetEndTimeCode(2), "sampled from 0 to 3, but the stage lasts"),
    "another pace": (
        "splats.usdc",
        lambda s: s.SetTimeCodesPerSecond(5),
        "sampled from 0 to 6, but the stage lasts from 0 to 3",
    ),
}


@pytest.mark.parametrize("name", SAMPLE_FAULTS)
def test_faults_in_time_samples(toy_scene: ToyScene, moving_gaussians: GaussianSequence, tmp_path: Path, name: str):
    """A scene that moves is checked at each of its times, and must say when they are."""
    layer, fault, expected = SAMPLE_FAULTS[name]
    folder = write(dataclasses.replace(toy_scene, gaussians=moving_gaussians), tmp_path / "env")
    break_layer(folder, layer, fault)
    assert_found(folder, "error", expected)


def clip_metadata(**values: object) -> Fault:
    def commit(stage: Usd.Stage) -> None:
        clips = Usd.ClipsAPI(stage.GetPrimAtPath("/Splats"))
        for name, value in values.items():
            getattr(clips, f"SetClip{name}")(value)

    return commit


CLIP_FAULTS: dict[str, tuple[str, Fault, str]] = {
    "NaN in one clip": (
        "splats.0002.usdc",
        lambda s: splats(s).GetPositionsAttr().Set([Gf.Vec3f(float("nan"))] * 20, 2),
        "positions holds 60 values that are NaN",
    ),
    "short array in one clip": (
        "splats.0003.usdc",
        lambda s: splats(s).GetScalesAttr().Set([Gf.Vec3f(0.1)] * 3, 3),
        "scales holds 3 values; 25 particles need 25",
    ),
    "degree does not fit": (
        "splats.0001.usdc",
        lambda s: splats(s).GetRadianceSphericalHarmonicsCoefficientsAttr().Set([Gf.Vec3f(0)] * 15, 1),
        "harmonics holds 15 values; 15 particles need 60",
    ),
    "units of a clip": ("splats.0001.usdc", lambda s: UsdGeom.SetStageMetersPerUnit(s, 0.01), "metersPerUnit is 0.01"),
    "clip outside": (
        "splats.usdc",
        clip_metadata(AssetPaths=Sdf.AssetPathArray([Sdf.AssetPath("../a.usdc")] * 4)),
        "'../a.usdc', which lies outside the folder",
    ),
    "clip manifest outside": (
        "splats.usdc",
        clip_metadata(ManifestAssetPath=Sdf.AssetPath("/etc/manifest.usdc")),
        "'/etc/manifest.usdc', which lies outside the folder",
    ),
    "clip that is not there": (
        "splats.usdc",
        clip_metadata(AssetPaths=Sdf.AssetPathArray([Sdf.AssetPath("./splats.0009.usdc")] * 4)),
        "'./splats.0009.usdc', which does not exist",
    ),
    "clips of another prim": ("splats.usdc", clip_metadata(PrimPath="/Elsewhere"), "num_gaussians is 25"),
}


@pytest.mark.parametrize("name", CLIP_FAULTS)
def test_faults_in_clips(toy_scene: ToyScene, growing_gaussians: GaussianSequence, tmp_path: Path, name: str):
    """Every clip is a layer like the others: checked for units and values, and not opened outside of the folder."""
    layer, fault, expected = CLIP_FAULTS[name]
    folder = write(dataclasses.replace(toy_scene, gaussians=growing_gaussians), tmp_path / "env")
    break_layer(folder, layer, fault)
    assert_found(folder, "error", expected)


def test_clips_are_digested(toy_scene: ToyScene, growing_gaussians: GaussianSequence, tmp_path: Path):
    """A clip that was changed, one that is missing and one too many are errors of the folder."""
    folder = write(dataclasses.replace(toy_scene, gaussians=growing_gaussians), tmp_path / "env")
    clip = folder / "splats.0001.usdc"
    content = clip.read_bytes()
    (folder / "splats.0004.usdc").write_bytes(content)
    assert_found(folder, "error", "splats.0004.usdc: is not described in the manifest")
    (folder / "splats.0004.usdc").unlink()
    clip.write_bytes(content + b"\0")
    assert_found(folder, "error", "splats.0001.usdc: differs from its digest")
    clip.unlink()
    assert_found(folder, "error", "splats.0001.usdc: is missing")
    clip.write_bytes(content)
    assert validate(folder) == []


MESH_FAULTS: dict[str, tuple[str, str, Fault]] = {
    "normals of another length": (
        "error",
        "has 3 normals; their interpolation needs 12",
        lambda s: UsdGeom.Mesh(s.GetPrimAtPath("/Collision/table")).GetNormalsAttr().Set([Gf.Vec3f(0, 0, 1)] * 3),
    ),
    "no normals": (
        "warning",
        "has no normals",
        lambda s: s.GetPrimAtPath("/Collision/table").RemoveProperty("normals"),
    ),
    "negative friction": (
        "error",
        "has a friction of -1",
        lambda s: UsdPhysics.MaterialAPI(s.GetPrimAtPath("/Collision/PhysicsMaterial")).GetStaticFrictionAttr().Set(-1),
    ),
}


@pytest.mark.parametrize("name", MESH_FAULTS)
def test_faults_in_colliders(toy_scene: ToyScene, tmp_path: Path, name: str):
    """Normals and friction are checked too."""
    severity, expected, fault = MESH_FAULTS[name]
    folder = write(toy_scene, tmp_path / "env")
    break_layer(folder, "collision.usdc", fault)
    assert_found(folder, severity, expected)


def test_a_bent_mesh_is_no_hull(toy_scene_in_pieces: ToyScene, tmp_path: Path):
    """An L of two boxes given as one convex piece is written, with a warning that says how deep the dent is."""
    box = toy_scene_in_pieces.proxy.convex_parts[0].mesh
    low = TriMesh(box.vertices * np.array([1, 1, 0.5], np.float32) + np.array([0.5, 0, 0], np.float32), box.faces)
    both = TriMesh(np.concatenate([box.vertices, low.vertices]), np.concatenate([box.faces, low.faces + 8]))
    piece = dataclasses.replace(toy_scene_in_pieces.proxy.convex_parts[0], mesh=both)
    proxy = dataclasses.replace(toy_scene_in_pieces.proxy, convex_parts=(piece,))
    folder = write(dataclasses.replace(toy_scene_in_pieces, proxy=proxy), tmp_path / "env")
    assert_found(folder, "warning", "which fills dents of 0.5 m")
