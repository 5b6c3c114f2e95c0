"""A scene that moves in parts: written once, read back at every time, retimed, and its faults found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from pxr import Gf, Usd, UsdGeom, UsdPhysics

from omni_gen3d.errors import InputError
from omni_gen3d.geometry import transform_gaussians
from omni_gen3d.types import DynamicScene, Gaussians
from omni_gen3d.usd import Manifest, package_usdz, read_environment, validate, write_environment
from omni_gen3d.usd.manifest import FileDigest
from omni_gen3d.usd.moving import gaussians_of_stage
from omni_gen3d.usd.overrides import override_colors, override_motion

if TYPE_CHECKING:
    from tests.conftest import ToyScene

WAGON = "/World/Environment/Moving/wagon"


def expected(scene: DynamicScene, frame: int) -> Gaussians:
    """What is there at a time, joined part after part in the order of the stage."""
    sets = [scene.static]
    for part in scene.parts:
        if part.present[frame]:
            matrix = torch.from_numpy(part.to_world[frame])
            sets.append(transform_gaussians(part.gaussians, matrix[:3, :3], matrix[:3, 3]))
    if scene.residual is not None and len(scene.residual[frame]):
        sets.append(scene.residual[frame])
    return Gaussians.joined(sets)


def assert_close(read: Gaussians, written: Gaussians, count: int | None = None) -> None:
    for name in ("means", "scales", "opacities", "sh"):
        torch.testing.assert_close(getattr(read, name)[:count], getattr(written, name), atol=1e-5, rtol=1e-5)
    assert ((read.quats[:count] * written.quats).sum(1).abs() > 1 - 1e-5).all()


@pytest.fixture
def folder(wagon_scene: ToyScene, tmp_path: Path) -> Path:
    return write_environment(wagon_scene, tmp_path / "env").parent


def test_every_time_comes_back(wagon_scene, folder: Path):
    """Static, parts and rest are read back joined at every time; an empty rest is one transparent particle; halfway
    the wagon is halfway; without a time all is as at time 0."""
    assert validate(folder) == []
    scene: DynamicScene = wagon_scene.gaussians
    for frame in range(scene.num_frames):
        want = expected(scene, frame)
        assert_close(read_environment(folder, time=frame).gaussians, want, len(want))
    read = read_environment(folder)
    assert_close(read.gaussians, expected(scene, 0), len(expected(scene, 0)))
    (wagon, ghost) = read.moving
    np.testing.assert_allclose(wagon.to_world, scene.parts[0].to_world, atol=1e-6)
    assert ghost.present.tolist() == scene.parts[1].present.tolist()
    assert len(wagon.hulls) == 1 and not ghost.hulls
    stage = Usd.Stage.Open(str(folder / "environment.usda"))
    half = np.array(UsdGeom.Xformable(stage.GetPrimAtPath(WAGON)).GetLocalTransformation(1.5)).T[:3, 3]
    np.testing.assert_allclose(half, scene.parts[0].to_world[1:3, :3, 3].mean(0), atol=1e-6)
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode(), stage.GetTimeCodesPerSecond()) == (0, 3, 10)
    manifest = Manifest.read(folder / "environment.yaml")
    assert manifest.kind == "dynamic" and "preview.webp" in manifest.files
    bounds = np.array(manifest.bounds_m)
    assert (bounds[0] <= scene.parts[0].to_world[:, :3, 3].min(0)).all()


def test_what_stands_still_is_stored_once(wagon_scene, folder: Path, tmp_path: Path):
    """Seventeen times of a scene whose wagon is a tenth of it take less than twice the bytes of its static part."""
    generator = torch.Generator().manual_seed(0)
    many = wagon_scene.gaussians.static[torch.randint(50, (20_000,), generator=generator)]
    some = many[slice(0, 2000)]
    wagon = wagon_scene.gaussians.parts[0]
    to_world = np.tile(np.eye(4), (17, 1, 1))
    to_world[:, 0, 3] = np.linspace(0, 1, 17)
    part = dataclasses.replace(wagon, gaussians=some, to_world=to_world, present=np.ones(17, np.bool_))
    moving = DynamicScene(many, (part,), None, 8.0, 17)
    standing = write_environment(dataclasses.replace(wagon_scene, gaussians=many, film=None), tmp_path / "one").parent
    scene = dataclasses.replace(wagon_scene, gaussians=moving, film=None)
    sizes = [
        sum(file.stat().st_size for file in path.glob("*.usd*"))
        for path in (write_environment(scene, tmp_path / "many").parent, standing)
    ]
    assert sizes[0] < 2 * sizes[1]


def test_variants_of_motion(wagon_scene, folder: Path):
    """Frozen is time 0 at every time, none is the static part alone."""
    scene: DynamicScene = wagon_scene.gaussians
    want = expected(scene, 0)
    frozen = read_environment(folder, motion="frozen", time=3)
    assert_close(frozen.gaussians, want, len(want))
    bare = read_environment(folder, motion="none", time=3)
    assert_close(bare.gaussians, scene.static)
    assert bare.moving == ()
    with pytest.raises(InputError, match="variant 'still' of motion does not exist"):
        read_environment(folder, motion="still")  # pyright: ignore[reportArgumentType]


def test_colliders_follow_the_variant_of_collision(folder: Path):
    """The wagon is a kinematic body with a convex hull where there are colliders, and no body where there are none."""
    stage = Usd.Stage.Open(str(folder / "environment.usda"))
    variants = stage.GetPrimAtPath("/World/Environment").GetVariantSets()
    for name, bodies in (("mesh", True), ("convex", True), ("none", False)):
        variants.SetSelection("collision", name)
        prim = stage.GetPrimAtPath(WAGON)
        assert prim.HasAPI(UsdPhysics.RigidBodyAPI) == bodies
        assert bool(stage.GetPrimAtPath(f"{WAGON}/Collision/hull_00")) == bodies
        if bodies:
            assert UsdPhysics.RigidBodyAPI(prim).GetKinematicEnabledAttr().Get()
    assert not stage.GetCompositionErrors()


def test_it_composes_by_reference_at_another_pace(wagon_scene, folder: Path):
    """Under a prim of a stage of 20 time codes a second, time 2 is at time code 4, twice over."""
    stage = Usd.Stage.CreateInMemory()
    stage.SetTimeCodesPerSecond(20)
    for i in range(2):
        stage.DefinePrim(f"/Lab/env_{i}", "Xform").GetReferences().AddReference(str(folder / "environment.usda"))
    want = expected(wagon_scene.gaussians, 2)
    for i in range(2):
        read = gaussians_of_stage(stage.GetPrimAtPath(f"/Lab/env_{i}/Environment"), 4)
        assert_close(read, want, len(want))


def test_it_is_packed(folder: Path):
    """The package holds every layer of what moves, and validates."""
    assert validate(package_usdz(folder)) == []
    assert validate(folder) == []


def test_retiming_freezing_and_removing(wagon_scene, folder: Path):
    """At half speed from 0.1 s on, time code 2 shows what time 2 was; at speed 0 every time shows the start; a removed
    part is gone; the next call replaces all of it, and no file is touched."""
    scene: DynamicScene = wagon_scene.gaussians
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    stage = Usd.Stage.Open(str(folder / "environment.usda"))
    environment = stage.GetPrimAtPath("/World/Environment")

    def check(code: float, frame: int) -> None:
        want = expected(scene, frame)
        assert_close(gaussians_of_stage(environment, code), want, len(want))

    override_motion(stage, "/World", start=0.1, speed=0.5)
    for code, frame in ((0, 1), (2, 2), (4, 3), (9, 3)):
        check(code, frame)
    override_motion(stage, "/World", start=0.2, speed=0.0)
    for code in (0, 1, 3):
        check(code, 2)
    override_motion(stage, "/World", removed=[0])
    assert [stage.GetPrimAtPath(path).IsActive() for path in (WAGON, WAGON.replace("wagon", "ghost"))] == [False, True]
    override_motion(stage, "/World")
    for frame in range(4):
        check(frame, frame)
    assert before == {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(InputError, match="speed -1"):
        override_motion(stage, "/World", speed=-1)


def test_colours_change_on_what_moves_too(folder: Path):
    """An inverted look inverts static, parts and rest alike."""
    stage = Usd.Stage.Open(str(folder / "environment.usda"))
    environment = stage.GetPrimAtPath("/World/Environment")
    plain = gaussians_of_stage(environment, 1)
    override_colors(stage, "/World", (-torch.eye(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)))
    torch.testing.assert_close(gaussians_of_stage(environment, 1).sh[:, 0], -plain.sh[:, 0], atol=1e-5, rtol=1e-5)
    dim = read_environment(folder, appearance="dim", time=1).gaussians
    assert not torch.allclose(dim.sh[-1], plain.sh[-1])


def break_layer(folder: Path, layer: str, fault: Callable[[Usd.Stage], object]) -> None:
    stage = Usd.Stage.Open(str(folder / layer), Usd.Stage.LoadNone)
    fault(stage)
    stage.GetRootLayer().Save()
    manifest = Manifest.read(folder / "environment.yaml")
    files = {name: FileDigest.of(folder / name) for name in manifest.files}
    dataclasses.replace(manifest, files=files).write(folder / "environment.yaml")


def body(stage: Usd.Stage) -> UsdPhysics.RigidBodyAPI:
    return UsdPhysics.RigidBodyAPI(stage.GetPrimAtPath("/Moving/wagon"))


def translate(stage: Usd.Stage) -> Usd.Attribute:
    return stage.GetPrimAtPath("/Moving/wagon").GetAttribute("xformOp:translate")


FAULTS: dict[str, tuple[str, Callable[[Usd.Stage], object], str]] = {
    "falls": ("moving_collision.usdc", lambda s: body(s).GetKinematicEnabledAttr().Set(False), "not kinematic"),
    "switched off": ("moving_collision.usdc", lambda s: body(s).CreateRigidBodyEnabledAttr(False), "switched off"),
    "no body": (
        "moving_collision.usdc",
        lambda s: s.GetPrimAtPath("/Moving/wagon").RemoveAPI(UsdPhysics.RigidBodyAPI),
        "no RigidBodyAPI",
    ),
    "triangles": (
        "moving_collision.usdc",
        lambda s: (
            UsdPhysics.MeshCollisionAPI(s.GetPrimAtPath("/Moving/wagon/Collision/hull_00"))
            .GetApproximationAttr()
            .Set("none")
        ),
        "collides by convexHull",
    ),
    "too late": ("moving.usdc", lambda s: translate(s).Set(Gf.Vec3d(0, 0, 0), 99), "is sampled from 0 to 99"),
    "jumps": ("moving.usdc", lambda s: translate(s).Set(Gf.Vec3d(90, 0, 0), 2), "m/s"),
    "not a number": ("moving.usdc", lambda s: translate(s).Set(Gf.Vec3d(float("nan"), 0, 0), 2), "NaN"),
    "stretched": (
        "moving.usdc",
        lambda s: UsdGeom.Xformable(s.GetPrimAtPath("/Moving/wagon")).AddScaleOp().Set(Gf.Vec3f(1, 2, 1)),
        "stretched",
    ),
    "no splats": ("moving.usdc", lambda s: s.RemovePrim("/Moving/wagon/Splats"), "holds no splats"),
    "frozen moves": (
        "environment.usda",
        lambda s: (
            s.GetRootLayer()
            .GetPrimAtPath("/World/Environment{motion=frozen}Moving/wagon")
            .RemoveProperty(
                s.GetRootLayer().GetPropertyAtPath("/World/Environment{motion=frozen}Moving/wagon.xformOp:translate")
            )
        ),
        "moves in the variant 'frozen'",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_seeded_faults_are_found(folder: Path, fault: str):
    """Each fault is one finding that names it."""
    layer, commit, message = FAULTS[fault]
    break_layer(folder, layer, commit)
    assert any(message in str(finding) for finding in validate(folder)), [*map(str, validate(folder))]


def test_a_name_that_is_no_identifier_is_refused(wagon_scene, tmp_path: Path):
    """Nothing is written."""
    scene: DynamicScene = wagon_scene.gaussians
    part = dataclasses.replace(scene.parts[0], name="a wagon")
    with pytest.raises(InputError, match="'a wagon' cannot be used"):
        write_environment(
            dataclasses.replace(wagon_scene, gaussians=dataclasses.replace(scene, parts=(part,))), tmp_path / "env"
        )
    assert not list(tmp_path.iterdir())
