"""The validator finds seeded faults, says nothing about a good folder, and never crashes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pxr import Gf, Sdf, Usd, UsdGeom, UsdPhysics, UsdShade, UsdVol

from omni_gen3d.errors import InputError
from omni_gen3d.usd import Manifest, validate, write_environment
from omni_gen3d.usd.manifest import FileDigest

if TYPE_CHECKING:
    from tests.conftest import ToyScene

Fault = Callable[[Usd.Stage], object]


@pytest.fixture
def folder(toy_scene: ToyScene, tmp_path: Path) -> Path:
    return write_environment(toy_scene, tmp_path / "env").parent


FILES = ["environment.usda", "splats.usdc", "collision.usdc", "cameras.usdc", "preview.png", "environment.yaml"]


def describe_again(folder: Path) -> None:
    """Bring the digests up to date, so that only the seeded fault is left to find."""
    manifest = Manifest.read(folder / "environment.yaml")
    files = {name: FileDigest.of(folder / name) for name in manifest.files}
    dataclasses.replace(manifest, files=files).write(folder / "environment.yaml")


def break_layer(folder: Path, layer: str, fault: Fault) -> None:
    stage = Usd.Stage.Open(str(folder / layer), Usd.Stage.LoadNone)
    fault(stage)
    stage.GetRootLayer().Save()
    describe_again(folder)


def splats(stage: Usd.Stage) -> UsdVol.ParticleField3DGaussianSplat:
    return UsdVol.ParticleField3DGaussianSplat(stage.GetPrimAtPath("/Splats"))


def table(stage: Usd.Stage) -> UsdGeom.Mesh:
    return UsdGeom.Mesh(stage.GetPrimAtPath("/Collision/table"))


def with_first(attribute: Usd.Attribute, value: object) -> None:
    values = attribute.Get()
    values[0] = value
    attribute.Set(values)


def retype(stage: Usd.Stage, path: str, type_name: Sdf.ValueTypeName) -> None:
    prim_path, name = Sdf.Path(path).GetPrimPath(), Sdf.Path(path).name
    prim = stage.GetRootLayer().GetPrimAtPath(prim_path)
    prim.RemoveProperty(prim.attributes[name])
    Sdf.AttributeSpec(prim, name, type_name)


def splats_of(stage: Usd.Stage) -> Usd.Prim:
    return stage.GetPrimAtPath("/World/Environment/Splats")


def in_variant(stage: Usd.Stage, variant_set: str, variant: str, fault: Callable[[], object]) -> None:
    """Commit a fault inside a variant, and select again what was selected."""
    variants = stage.GetPrimAtPath("/World/Environment").GetVariantSet(variant_set)
    selected = variants.GetVariantSelection()
    variants.SetVariantSelection(variant)
    with variants.GetVariantEditContext():
        fault()
    variants.SetVariantSelection(selected)


def target_elsewhere(stage: Usd.Stage) -> None:
    splats_of(stage).GetRelationship("omni_gen3d:collider").SetTargets(["/Elsewhere"])


def test_a_good_folder_is_clean(folder: Path):
    """Neither the folder nor its root layer gives a finding; a lone payload gives no error."""
    assert validate(folder) == []
    assert validate(folder / "environment.usda") == []
    for name in ("splats.usdc", "collision.usdc", "cameras.usdc"):
        assert {finding.severity for finding in validate(folder / name)} == {"warning"}


SPLAT_FAULTS: dict[str, tuple[Fault, str]] = {
    "short opacities": (lambda s: splats(s).GetOpacitiesAttr().Set([0.5] * 49), "opacities holds 49 values"),
    "long scales": (lambda s: splats(s).GetScalesAttr().Set([Gf.Vec3f(1)] * 51), "scales holds 51 values"),
    "no orientations": (lambda s: splats(s).GetOrientationsAttr().Clear(), "orientations holds 0 values"),
    "no particles": (lambda s: splats(s).GetPositionsAttr().Set([]), "holds 0 particles"),
    "NaN": (lambda s: with_first(splats(s).GetPositionsAttr(), Gf.Vec3f(0, float("nan"), 0)), "NaN"),
    "log scale": (lambda s: with_first(splats(s).GetScalesAttr(), Gf.Vec3f(-4, -4, -4)), "scales reach -4"),
    "logit opacity": (lambda s: with_first(splats(s).GetOpacitiesAttr(), 5.5), "opacities range"),
    "quaternion": (lambda s: with_first(splats(s).GetOrientationsAttr(), Gf.Quatf(2, 0, 0, 0)), "unit length"),
    "degree left out": (lambda s: splats(s).GetRadianceSphericalHarmonicsDegreeAttr().Clear(), "not authored"),
    "degree does not fit": (
        lambda s: splats(s).GetRadianceSphericalHarmonicsDegreeAttr().Set(2),
        "harmonics holds 200 values; 50 particles need 450",
    ),
    "degree unknown": (lambda s: splats(s).GetRadianceSphericalHarmonicsDegreeAttr().Set(7), "is 7"),
    "element size": (
        lambda s: splats(s).GetRadianceSphericalHarmonicsCoefficientsAttr().SetMetadata("elementSize", 3),
        "elementSize 3",
    ),
    "token": (lambda s: splats(s).GetSortingModeHintAttr().Set("random"), "'random'"),
    "no extent": (lambda s: splats(s).GetExtentAttr().Clear(), "extent"),
    "extent too small": (
        lambda s: splats(s).GetExtentAttr().Set([Gf.Vec3f(0), Gf.Vec3f(1)]),
        "does not contain its particles",
    ),
    "type": (lambda s: retype(s, "/Splats.opacities", Sdf.ValueTypeNames.DoubleArray), "typed double[]"),
    "up axis": (lambda s: UsdGeom.SetStageUpAxis(s, "Y"), "upAxis is 'Y'"),
    "units": (lambda s: UsdGeom.SetStageMetersPerUnit(s, 0.01), "metersPerUnit is 0.01"),
    "fewer particles than described": (
        lambda s: [
            attribute.Set(attribute.Get()[:-size])
            for attribute, size in (
                (splats(s).GetPositionsAttr(), 1),
                (splats(s).GetOrientationsAttr(), 1),
                (splats(s).GetScalesAttr(), 1),
                (splats(s).GetOpacitiesAttr(), 1),
                (splats(s).GetRadianceSphericalHarmonicsCoefficientsAttr(), 4),
            )
        ],
        "num_gaussians is 50, but there are 49",
    ),
}

COLLISION_FAULTS: dict[str, tuple[Fault, str]] = {
    "index": (lambda s: with_first(table(s).GetFaceVertexIndicesAttr(), 8), "index 0..8 of 8 points"),
    "negative index": (lambda s: with_first(table(s).GetFaceVertexIndicesAttr(), -1), "index -1"),
    "corner count": (lambda s: with_first(table(s).GetFaceVertexCountsAttr(), 4), "37 corners"),
    "infinite point": (lambda s: with_first(table(s).GetPointsAttr(), Gf.Vec3f(float("inf"), 0, 0)), "infinite"),
    "no faces": (lambda s: table(s).GetFaceVertexCountsAttr().Set([]), "0 faces"),
    "no collider": (
        lambda s: [child.RemoveAPI(UsdPhysics.CollisionAPI) for child in s.GetPrimAtPath("/Collision").GetChildren()],
        "no Mesh with an enabled CollisionAPI",
    ),
    "switched off": (
        lambda s: [
            UsdPhysics.CollisionAPI(child).CreateCollisionEnabledAttr(False)
            for child in s.GetPrimAtPath("/Collision").GetChildren()
            if child.HasAPI(UsdPhysics.CollisionAPI)
        ],
        "no Mesh with an enabled CollisionAPI",
    ),
    "material of somebody else": (
        lambda s: (
            UsdShade.MaterialBindingAPI(table(s).GetPrim())
            .GetDirectBindingRel("physics")
            .SetTargets(["/World/PhysicsMaterial"])
        ),
        "targets /World/PhysicsMaterial",
    ),
    "no default prim": (lambda s: s.ClearDefaultPrim(), "no defaultPrim"),
}

ROOT_FAULTS: dict[str, tuple[Fault, str]] = {
    "physics scene": (lambda s: UsdPhysics.Scene.Define(s, "/World/Scene"), "PhysicsScene"),
    "target outside": (target_elsewhere, "targets /Elsewhere"),
    "no relation": (
        lambda s: in_variant(s, "collision", "mesh", lambda: splats_of(s).RemoveProperty("omni_gen3d:collider")),
        "names no collider in omni_gen3d:collider in the variant 'mesh'",
    ),
    "payload above": (
        lambda s: s.GetPrimAtPath("/World/Environment").GetReferences().AddReference("../other/scene.usda"),
        "outside the folder",
    ),
    "absolute payload": (
        lambda s: s.GetPrimAtPath("/World/Environment").GetPayloads().AddPayload("/etc/scene.usda"),
        "outside the folder",
    ),
    "remote sublayer": (
        lambda s: s.GetRootLayer().subLayerPaths.append("https://example.com/scene.usda"),
        "outside the folder",
    ),
    "missing payload": (
        lambda s: s.GetPrimAtPath("/World/Environment").GetPayloads().AddPayload("./absent.usdc"),
        "'./absent.usdc', which does not exist",
    ),
    "no splats": (lambda s: s.RemovePrim("/World/Environment/Splats"), "no ParticleField3DGaussianSplat"),
    "no cameras": (lambda s: s.RemovePrim("/World/Environment/Cameras"), "/World/Environment/Cameras: is missing"),
}

FAULTS = {
    f"{layer}: {name}": (layer, fault, expected)
    for layer, faults in (
        ("splats.usdc", SPLAT_FAULTS),
        ("collision.usdc", COLLISION_FAULTS),
        ("environment.usda", ROOT_FAULTS),
    )
    for name, (fault, expected) in faults.items()
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_seeded_fault_is_found(folder: Path, name: str):
    """A fault in one layer, digests brought up to date, gives an error that says what is wrong, on one line."""
    layer, fault, expected = FAULTS[name]
    break_layer(folder, layer, fault)
    errors = [str(finding) for finding in validate(folder) if finding.severity == "error"]
    assert any(expected in line for line in errors), errors
    assert not any("\n" in line for line in errors)


@pytest.mark.parametrize(
    ("layer", "fault", "expected"),
    [
        (
            "collision.usdc",
            lambda s: UsdPhysics.MeshCollisionAPI(table(s)).GetApproximationAttr().Set("convexDecomposition"),
            "approximation is convexDecomposition",
        ),
        ("collision.usdc", lambda s: table(s).GetPrim().RemoveProperty("semantics:labels:class"), "semantic label"),
        ("collision.usdc", lambda s: s.RemovePrim("/Collision/PhysicsMaterial"), "no physics material"),
        ("splats.usdc", lambda s: splats(s).GetPurposeAttr().Set("render"), "purpose 'render'"),
        (
            "splats.usdc",
            lambda s: splats(s).GetRadianceSphericalHarmonicsCoefficientsAttr().ClearColorSpace(),
            "colour space",
        ),
    ],
)
def test_what_some_engine_dislikes_is_a_warning(folder: Path, layer: str, fault: Fault, expected: str):
    """A stage that loads but behaves differently from engine to engine gets a warning and no error."""
    break_layer(folder, layer, fault)
    findings = validate(folder)
    assert {finding.severity for finding in findings} <= {"warning"}
    assert any(expected in str(finding) for finding in findings), findings


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str):
    """Each file of the folder is missed when it is gone."""
    (folder / name).unlink()
    assert any(finding.where == name and "missing" in finding.message for finding in validate(folder))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"PXR-USDC", b"\xff\xfe\x00\x9b" * 50], ids=["empty", "header", "noise"])
def test_a_broken_file_is_a_finding(folder: Path, name: str, content: bytes):
    """A file of other content is an error in its own name, also when its digest was brought up to date."""
    (folder / name).write_bytes(content)
    assert any(finding.severity == "error" and name in str(finding) for finding in validate(folder))
    if name != "environment.yaml":
        describe_again(folder)
        assert any(finding.severity == "error" and name in str(finding) for finding in validate(folder))


def test_a_changed_file_is_noticed(folder: Path):
    """One comment in the root layer is enough to differ from the digest."""
    with (folder / "environment.usda").open("a") as file:
        file.write("\n# a comment\n")
    assert [(finding.severity, finding.where) for finding in validate(folder)] == [("error", "environment.usda")]


def test_time_samples_are_checked(folder: Path):
    """A scene that moves is checked at every time: a quaternion that is wrong at one of them is found."""

    def move(stage: Usd.Stage) -> None:
        orientations = splats(stage).GetOrientationsAttr()
        values = orientations.Get()
        orientations.Set(values, 0.0)
        values[7] = Gf.Quatf(3, 0, 0, 0)
        orientations.Set(values, 1.0)

    break_layer(folder, "splats.usdc", move)
    assert any("unit length by up to 2" in str(finding) for finding in validate(folder))


def test_what_does_not_exist_is_bad_input(tmp_path: Path):
    """A path that is neither file nor folder raises instead of reporting."""
    with pytest.raises(InputError, match="does not exist"):
        validate(tmp_path / "absent")
