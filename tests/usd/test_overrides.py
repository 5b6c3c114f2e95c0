"""A sample on a stage: it shows what the pure functions make of the file, and nothing but the session changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pxr import Usd, UsdGeom, UsdPhysics

from omni_gen3d.envs.applying import apply_to_gaussians, apply_to_stage
from omni_gen3d.envs.sample import Appearance, CameraChange, Contact, Placement, Sample
from omni_gen3d.errors import InputError
from omni_gen3d.types import GeneratedScene
from omni_gen3d.usd import read_environment, write_environment
from omni_gen3d.usd.root_layer import select_variants
from omni_gen3d.usd.splats import read_splats

SPLATS, MATERIAL = "/World/Environment/Splats", "/World/Environment/Collision/PhysicsMaterial"
LOOK = Appearance(exposure=0.4, warmth=0.6, tint=-0.2, hue=0.5, contrast=0.7)
NEUTRAL = Sample(
    environment="toy-0",
    digest="0",
    seed=0,
    index=0,
    appearance=Appearance(),
    contact=None,
    placement=Placement(),
    spawn=None,
    camera=CameraChange(),
)


def sample_of(**parts) -> Sample:
    """A sample that changes nothing but ``parts``."""
    return replace(NEUTRAL, **parts)


@pytest.fixture
def toy(toy_scene: GeneratedScene, tmp_path: Path) -> Path:
    """The folder of the toy scene."""
    return write_environment(toy_scene, tmp_path / "toy").parent


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("half", [False, True])
def test_a_stage_shows_the_sample(toy_scene: GeneratedScene, tmp_path: Path, half: bool) -> None:
    """What is read from the stage is what the pure function makes of the file; no file and no other layer changes."""
    folder = write_environment(toy_scene, tmp_path / "toy", half=half).parent
    before, gaussians = bytes_of(folder), read_environment(folder).gaussians
    stage = Usd.Stage.Open(str(folder / "environment.usda"))
    contact = Contact(static_friction=0.3, dynamic_friction=0.25, restitution=0.1)
    sample = sample_of(appearance=LOOK, contact=contact, placement=Placement(scale=1.5, yaw=0.5))
    apply_to_stage(stage, sample)

    shown = read_splats(stage.GetPrimAtPath(SPLATS))
    expected = apply_to_gaussians(gaussians, replace(sample, placement=Placement()))
    torch.testing.assert_close(shown.sh, expected.sh, rtol=0, atol=0)
    material = UsdPhysics.MaterialAPI(stage.GetPrimAtPath(MATERIAL))
    assert material.GetStaticFrictionAttr().Get() == pytest.approx(0.3)
    assert material.GetDynamicFrictionAttr().Get() == pytest.approx(0.25)
    assert material.GetRestitutionAttr().Get() == pytest.approx(0.1)
    matrix = UsdGeom.Xformable(stage.GetPrimAtPath(SPLATS)).ComputeLocalToWorldTransform(Usd.TimeCode.Default())
    placed = apply_to_gaussians(gaussians, replace(sample, appearance=Appearance()))
    moved = torch.tensor([list(matrix.Transform(tuple(map(float, mean)))) for mean in gaussians.means])
    torch.testing.assert_close(moved.float(), placed.means, rtol=0, atol=1e-5)

    assert bytes_of(folder) == before
    assert not any(layer.dirty for layer in stage.GetUsedLayers() if layer != stage.GetSessionLayer())
    assert stage.GetEditTarget().GetLayer() == stage.GetRootLayer()


def test_another_sample_replaces_the_first(toy: Path) -> None:
    """Samples do not add up, and a neutral one brings the file's values back."""
    root = str(toy / "environment.usda")
    stage, fresh = Usd.Stage.Open(root), Usd.Stage.Open(Usd.Stage.Open(root).GetRootLayer(), Usd.Stage.LoadAll)
    other = sample_of(appearance=Appearance(hue=1.0), placement=Placement(yaw=1.0))
    contact = Contact(static_friction=0.3, dynamic_friction=0.25, restitution=0.1)
    apply_to_stage(stage, sample_of(appearance=LOOK, contact=contact, placement=Placement(scale=3.0)))
    apply_to_stage(stage, other)
    apply_to_stage(fresh, other)
    assert flattened(stage) == flattened(fresh)
    apply_to_stage(stage, sample_of())
    untouched = Usd.Stage.Open(root)
    assert torch.equal(read_splats(stage.GetPrimAtPath(SPLATS)).sh, read_splats(untouched.GetPrimAtPath(SPLATS)).sh)
    assert UsdPhysics.MaterialAPI(stage.GetPrimAtPath(MATERIAL)).GetStaticFrictionAttr().Get() == pytest.approx(0.8)


def flattened(stage: Usd.Stage) -> list[str]:
    """All that a stage composes to, but for the comments that name its session layer."""
    lines = stage.Flatten().ExportToString().splitlines()
    return [line for line in lines if "session" not in line and "Generated from" not in line]


def test_the_selected_look_is_worked_in(toy: Path) -> None:
    """With the variant 'warm' selected, the sample changes the warm colours, once."""
    warm = read_environment(toy, appearance="warm").gaussians
    stage = Usd.Stage.Open(str(toy / "environment.usda"))
    select_variants(stage, appearance="warm")
    apply_to_stage(stage, sample_of(appearance=LOOK))
    shown = read_splats(stage.GetPrimAtPath(SPLATS))
    assert torch.equal(shown.sh, apply_to_gaussians(warm, sample_of(appearance=LOOK)).sh)


@pytest.mark.parametrize("moving", ["moving_gaussians", "growing_gaussians"])
def test_scenes_that_move(
    toy_scene: GeneratedScene, tmp_path: Path, moving: str, request: pytest.FixtureRequest
) -> None:
    """Every frame is changed, with time samples as with value clips."""
    sequence = request.getfixturevalue(moving)
    scene = replace(toy_scene, gaussians=sequence, provenance=replace(toy_scene.provenance, kind="dynamic"))
    root = write_environment(scene, tmp_path / "moving")
    stage = Usd.Stage.Open(str(root))
    apply_to_stage(stage, sample_of(appearance=LOOK))
    for time, frame in enumerate(sequence.frames):
        shown = read_splats(stage.GetPrimAtPath(SPLATS), time)
        assert torch.equal(shown.sh, apply_to_gaussians(frame, sample_of(appearance=LOOK)).sh)


def test_several_environments_on_one_stage(toy: Path) -> None:
    """Each reference gets a sample of its own; instances and wrong paths are refused."""
    root = str(toy / "environment.usda")
    stage = Usd.Stage.CreateInMemory()
    for name in ("A", "B", "C"):
        stage.DefinePrim(f"/Worlds/{name}").GetReferences().AddReference(root)
    stage.GetPrimAtPath("/Worlds/C").SetInstanceable(True)
    apply_to_stage(stage, sample_of(appearance=LOOK), root="/Worlds/A")
    a, b = (read_splats(stage.GetPrimAtPath(f"/Worlds/{name}/Environment/Splats")) for name in "AB")
    assert torch.equal(a.sh, apply_to_gaussians(b, sample_of(appearance=LOOK)).sh)
    for wrong, words in (("/Worlds/C", "instance"), ("/Worlds/D", "no prim"), ("a path", "no path")):
        with pytest.raises(InputError, match=words):
            apply_to_stage(stage, sample_of(appearance=LOOK), root=wrong)


def test_without_a_collider(toy_scene: GeneratedScene, tmp_path: Path) -> None:
    """There is no material to change, and that is no error."""
    stage = Usd.Stage.Open(str(write_environment(replace(toy_scene, proxy=None), tmp_path / "toy")))
    contact = Contact(static_friction=0.3, dynamic_friction=0.25, restitution=0.1)
    apply_to_stage(stage, sample_of(contact=contact))
    assert not stage.GetPrimAtPath(MATERIAL)
