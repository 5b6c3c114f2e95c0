"""Environments on stages of other people: units, axes, places, physics, and everything back again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pxr import Gf, Sdf, Usd, UsdGeom, UsdPhysics

from omni_gen3d.errors import InputError
from omni_gen3d.kit.placing import (
    Snapshot,
    add_environment,
    environments_on,
    hide_variation,
    next_path,
    physics_scene_path,
    place_in_metres,
    replace_environment,
    selected_variants,
    show_variation,
)
from omni_gen3d.types import GeneratedScene
from omni_gen3d.usd import write_environment

# Of the toy room, walls included, from its own origin [m].
ROOM_X = (-2.2, 2.2)


@pytest.fixture
def room(toy_scene: GeneratedScene, tmp_path: Path) -> Path:
    return write_environment(toy_scene, tmp_path / "room")


def new_stage(up: str = "Z", unit: float = 1.0) -> Usd.Stage:
    stage = Usd.Stage.CreateInMemory()
    UsdGeom.SetStageUpAxis(stage, up)
    UsdGeom.SetStageMetersPerUnit(stage, unit)
    stage.SetDefaultPrim(stage.DefinePrim("/World", "Xform"))
    return stage


def text_of(stage: Usd.Stage) -> str:
    return stage.GetRootLayer().ExportToString() + stage.GetSessionLayer().ExportToString()


def world(stage: Usd.Stage, path: str) -> Gf.Matrix4d:
    return UsdGeom.XformCache().GetLocalToWorldTransform(stage.GetPrimAtPath(path))


@pytest.mark.parametrize("up", ["Y", "Z"])
@pytest.mark.parametrize("unit", [1.0, 0.01])
def test_units_and_axes_are_those_of_the_host(room, up, unit):
    """A point 1 m above the floor is 1 m above the host's floor, in the host's unit and along its up axis."""
    stage = new_stage(up, unit)
    path = add_environment(stage, room, title="a toy room")
    assert path == "/World/A_Toy_Room"
    moved = world(stage, path).Transform(Gf.Vec3d(0.5, 0.25, 1.0)) * unit
    expected = (0.5, 1.0, -0.25) if up == "Y" else (0.5, 0.25, 1.0)
    assert np.allclose(moved, expected)
    assert np.allclose(np.reshape(place_in_metres(stage, stage.GetPrimAtPath(path)), (4, 4))[3, :3], 0)


def test_a_parent_that_is_moved_and_scaled_does_not_matter(room):
    """The environment stands at the wished point of the stage whatever transform the default prim has."""
    stage = new_stage()
    parent = UsdGeom.Xform(stage.GetPrimAtPath("/World"))
    parent.AddTranslateOp().Set(Gf.Vec3d(3, 4, 5))
    parent.AddRotateZOp().Set(30)
    parent.AddScaleOp().Set(Gf.Vec3f(2, 2, 2))
    path = add_environment(stage, room, position=(1.0, 2.0, 0.0))
    assert Gf.IsClose(world(stage, path), Gf.Matrix4d(1).SetTranslate(Gf.Vec3d(1, 2, 0)), 1e-6)


def test_the_next_one_stands_beside(room):
    """The first is at the origin although a ground and a robot are there; further ones and a wall are avoided."""
    stage = new_stage()
    UsdGeom.Cube.Define(stage, "/World/Robot")
    UsdPhysics.RigidBodyAPI.Apply(stage.GetPrimAtPath("/World/Robot"))
    ground = UsdGeom.Cube.Define(stage, "/World/Ground")
    ground.AddScaleOp().Set(Gf.Vec3f(50, 50, 0.01))
    paths = [add_environment(stage, room, title="room") for _ in range(2)]
    block = UsdGeom.Cube.Define(stage, "/World/Block")
    block.AddTranslateOp().Set(Gf.Vec3d(12, 0, 0))
    paths.append(add_environment(stage, room, title="room"))
    assert paths == ["/World/Room", "/World/Room_1", "/World/Room_2"]
    width = ROOM_X[1] - ROOM_X[0]
    xs = [world(stage, path).ExtractTranslation()[0] for path in paths]
    # The splats of the toy stay inside its walls but for their tails.
    assert xs[0] == 0 and width + 1 <= xs[1] < width + 1.6
    assert 13 + 1 + width / 2 <= xs[2] < 13 + 1 + width / 2 + 0.6


def test_physics_is_there_once(room):
    """A stage without a physics scene gets one; one that has its own keeps it as the only one."""
    stage = new_stage()
    add_environment(stage, room)
    add_environment(stage, room)
    assert [p.GetPath() for p in stage.Traverse() if p.IsA(UsdPhysics.Scene)] == ["/PhysicsScene"]
    stage = new_stage()
    UsdPhysics.Scene.Define(stage, "/World/Mine")
    add_environment(stage, room)
    assert physics_scene_path(stage) == "/World/Mine" and not stage.GetPrimAtPath("/PhysicsScene")


@pytest.mark.parametrize("collision", ["mesh", "none"])
def test_collider_and_labels_are_chosen(room, collision):
    """The variant of the collider is selected on the host's stage; labels that are not wanted are gone."""
    stage = new_stage()
    path = add_environment(stage, room, collision=collision, labels=False)
    assert selected_variants(stage, path)["collision"] == collision
    colliders = [p for p in stage.Traverse() if p.HasAPI(UsdPhysics.CollisionAPI)]
    assert bool(colliders) == (collision == "mesh")
    assert not [s for p in stage.Traverse() for s in p.GetAppliedSchemas() if s.startswith("SemanticsLabelsAPI")]
    with_labels = add_environment(stage, room, collision="mesh")
    assert [s for p in Usd.PrimRange(stage.GetPrimAtPath(with_labels)) for s in p.GetAppliedSchemas() if "Labels" in s]


def test_undoing_leaves_the_layers_as_they_were(room):
    """A snapshot that is restored leaves no byte behind, and spares what has come since."""
    stage = Usd.Stage.CreateInMemory()
    before = text_of(stage)
    snapshot = Snapshot(stage, path := next_path(stage, "a room"), physics_scene_path(stage))
    add_environment(stage, room, path)
    assert len(environments_on(stage)) == 1
    snapshot.restore()
    assert text_of(stage) == before

    snapshot = Snapshot(stage, path, physics_scene_path(stage))
    add_environment(stage, room, path)
    stage.DefinePrim("/World/Robot")
    snapshot.restore()
    assert stage.GetPrimAtPath("/World/Robot") and not stage.GetPrimAtPath(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"usd": "absent.usda"}, "absent.usda is not a file"),
        ({"collision": "rubber"}, "it has convex, mesh, none"),
        ({"path": "/World"}, "no free path"),
        ({"path": "not a path"}, "no free path"),
    ],
)
def test_a_refusal_leaves_the_stage_alone(room, arguments, message):
    """What cannot be added is named, and nothing of it is on the stage."""
    stage = new_stage()
    before = text_of(stage)
    with pytest.raises(InputError, match=message):
        add_environment(stage, **{"usd": room, **arguments})
    assert text_of(stage) == before


def test_any_other_usd_file_is_refused(tmp_path):
    """A stage of somebody else's is no environment."""
    other = Usd.Stage.CreateNew(str(tmp_path / "other.usda"))
    other.SetDefaultPrim(other.DefinePrim("/World"))
    other.Save()
    with pytest.raises(InputError, match="no environment"):
        add_environment(stage := new_stage(), tmp_path / "other.usda")
    assert environments_on(stage) == []


def test_replacing_keeps_the_place(room, toy_scene, tmp_path):
    """Another environment stands where the first one stood, and undoing brings the first one back."""
    other = write_environment(toy_scene, tmp_path / "other")
    stage = new_stage()
    path = add_environment(stage, room, title="one", position=(5.0, 0.0, 0.0))
    place, before = world(stage, path), text_of(stage)
    snapshot = Snapshot(stage, path)
    replace_environment(stage, path, other, title="two")
    (placed,) = environments_on(stage)
    assert (placed.usd, placed.title) == (str(other), "two") and world(stage, path) == place
    snapshot.restore()
    assert text_of(stage) == before
    with pytest.raises(InputError, match=f"on the stage there is {path}"):
        replace_environment(stage, "/World", other)


def test_a_variation_lies_over_the_environment_in_the_session_layer(room, tmp_path):
    """Its opinions win, another replaces it, hiding takes it away; the layer that is saved never changes."""
    stage = new_stage()
    path = add_environment(stage, room)
    saved = stage.GetRootLayer().ExportToString()
    splats = f"{path}/Environment/Splats"
    for exposure in (0.5, 0.7):
        layer = Sdf.Layer.CreateNew(str(tmp_path / f"{exposure}.usda"))
        prim = Sdf.CreatePrimInLayer(layer, "/World/Environment/Splats")
        Sdf.AttributeSpec(prim, "omni_gen3d:exposure", Sdf.ValueTypeNames.Float).default = exposure
        layer.Save()
        shown = show_variation(stage, path, tmp_path / f"{exposure}.usda")
        (tmp_path / f"{exposure}.usda").unlink()
        assert shown.anonymous
        assert stage.GetPrimAtPath(splats).GetAttribute("omni_gen3d:exposure").Get() == pytest.approx(exposure)
        assert environments_on(stage)[0].variation == str(tmp_path / f"{exposure}.usda")
    hide_variation(stage, path)
    assert stage.GetPrimAtPath(splats).GetAttribute("omni_gen3d:exposure").Get() == 0.0
    assert environments_on(stage)[0].variation is None
    assert stage.GetRootLayer().ExportToString() == saved


def test_an_unknown_splat_type_still_has_a_size(room):
    """Boxes come from authored extents, so a host whose OpenUSD does not know the splat prim places it as well."""
    stage = new_stage()
    path = add_environment(stage, room, collision="none")
    other = add_environment(stage, room, collision="none")
    # As far as such a host is concerned, the type is just a name.
    for added in (path, other):
        stage.GetPrimAtPath(f"{added}/Environment/Splats").SetTypeName("NotATypeOfAnyone")
    third = add_environment(stage, room, collision="none")
    xs = [world(stage, added).ExtractTranslation()[0] for added in (path, other, third)]
    assert xs[0] == 0 and xs[1] > 4 and xs[2] > xs[1] + 4


def test_undoing_a_replacement_brings_the_variation_back(room, tmp_path):
    """The layer of the variation lives as long as there is a snapshot that shows it."""
    layer = Sdf.Layer.CreateNew(str(tmp_path / "look.usda"))
    prim = Sdf.CreatePrimInLayer(layer, "/World/Environment/Splats")
    Sdf.AttributeSpec(prim, "omni_gen3d:exposure", Sdf.ValueTypeNames.Float).default = 0.5
    layer.Save()
    stage = new_stage()
    path = add_environment(stage, room)
    show_variation(stage, path, tmp_path / "look.usda")
    exposure = stage.GetPrimAtPath(f"{path}/Environment/Splats").GetAttribute("omni_gen3d:exposure")
    snapshot = Snapshot(stage, path)
    replace_environment(stage, path, room)
    assert exposure.Get() == 0.0
    snapshot.restore()
    assert exposure.Get() == 0.5 and environments_on(stage)[0].variation == str(tmp_path / "look.usda")
