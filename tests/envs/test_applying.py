"""A sample on Gaussians, cameras and stages: exact against evaluating colours, and nothing but the session changes."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pxr import Usd, UsdGeom, UsdPhysics

from omni_gen3d.envs.applying import apply_to_cameras, apply_to_gaussians, apply_to_stage, color_change
from omni_gen3d.envs.randomize import Randomization, draw
from omni_gen3d.envs.registry import Registry
from omni_gen3d.envs.sample import Appearance, CameraChange, Contact, Placement, Sample
from omni_gen3d.errors import InputError
from omni_gen3d.geometry import eval_sh, pixel_rays, rgb_to_sh_dc
from omni_gen3d.render import render
from omni_gen3d.types import Cameras, Gaussians, GeneratedScene
from omni_gen3d.usd import read_environment, write_environment
from omni_gen3d.usd.root_layer import select_variants
from omni_gen3d.usd.splats import read_splats

WriteToy = Callable[..., Path]
LOOK = Appearance(exposure=0.4, warmth=0.6, tint=-0.2, hue=0.5, contrast=0.7)
SPLATS, MATERIAL = "/World/Environment/Splats", "/World/Environment/Collision/PhysicsMaterial"


def sample_of(**parts) -> Sample:
    """A sample that changes nothing but ``parts``."""
    neutral = {
        "appearance": Appearance(),
        "contact": None,
        "placement": Placement(),
        "spawn": None,
        "camera": CameraChange(),
    }
    return Sample(environment="toy-0", digest="0", seed=0, index=0, **(neutral | parts))


def recolored_slowly(rgb: torch.Tensor, look: Appearance) -> torch.Tensor:
    """The five changes one after the other on colours ``(N, 3)``, as their definitions have them."""
    rgb = rgb * 2**look.exposure
    rgb = rgb * rgb.new_tensor([2 ** (look.warmth / 2), 2**look.tint, 2 ** (-look.warmth / 2)])
    axis = torch.full_like(rgb, 1 / math.sqrt(3))
    along = (rgb * axis).sum(1, keepdim=True) * axis
    across = rgb - along
    rgb = along + across * math.cos(look.hue) + torch.linalg.cross(axis, across) * math.sin(look.hue)
    return 0.5 + look.contrast * (rgb - 0.5)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_colours_are_exact_from_everywhere(degree: int) -> None:
    """For random harmonics and directions, the changed harmonics show the changed colour."""
    generator = torch.Generator().manual_seed(degree)
    sh = torch.randn(200, (degree + 1) ** 2, 3, generator=generator, dtype=torch.float64)
    directions = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    ones = torch.ones(200, 3, dtype=torch.float64)
    gaussians = Gaussians(ones, torch.ones(200, 4, dtype=torch.float64) / 2, ones, ones[:, 0], sh)
    changed = apply_to_gaussians(gaussians, sample_of(appearance=LOOK))
    expected = recolored_slowly(eval_sh(sh, directions), LOOK)
    torch.testing.assert_close(eval_sh(changed.sh, directions), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(changed.means, gaussians.means)
    single = apply_to_gaussians(replace(gaussians, sh=sh.float()), sample_of(appearance=LOOK))
    torch.testing.assert_close(eval_sh(single.sh, directions.float()), expected.float(), rtol=0, atol=2e-5)


def test_what_the_words_mean() -> None:
    """Warm is redder and less blue, a turn of hue is one of the colour wheel, grey keeps its place, contrast too."""
    grey = torch.full((3,), 0.5, dtype=torch.float64)

    def shown(rgb: torch.Tensor, **look) -> torch.Tensor:
        matrix, offset = color_change(Appearance(**look))
        return matrix @ rgb + offset

    red, green, blue = shown(grey, warmth=1.0).tolist()
    assert red / blue == pytest.approx(2) and green == 0.5
    torch.testing.assert_close(shown(grey, hue=1.0), grey)
    torch.testing.assert_close(shown(grey, contrast=3.0), grey)
    assert shown(grey, exposure=1.0).tolist() == pytest.approx([1.0] * 3)
    red_now = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    third = shown(red_now, hue=2 * math.pi / 3)
    assert colorsys.rgb_to_hsv(*third.clamp(0, 1).tolist())[0] == pytest.approx(1 / 3)


def test_a_picture_changes_as_its_colours_do(toy_scene: GeneratedScene) -> None:
    """Blending is linear: the picture over black is the changed picture, its offset by the coverage."""
    assert isinstance(toy_scene.gaussians, Gaussians)
    bright = torch.cat([torch.full((50, 1, 3), 0.5), 0.05 * toy_scene.gaussians.sh[:, 1:]], 1)
    gaussians = replace(toy_scene.gaussians, sh=bright, scales=5 * toy_scene.gaussians.scales)
    look = Appearance(exposure=-1.0, warmth=0.5, tint=0.1, hue=0.3, contrast=0.8)
    black = (0.0, 0.0, 0.0)
    camera = replace(toy_scene.cameras[[0]], width=64, height=64)
    before = render(gaussians, camera, background=black)
    after = render(apply_to_gaussians(gaussians, sample_of(appearance=look)), camera, background=black)
    matrix, offset = (part.float() for part in color_change(look))
    expected = before.color @ matrix.T + before.alpha[..., None] * offset
    assert before.alpha.max() > 0.3 and 0.01 < float(expected.max()) < 0.99
    torch.testing.assert_close(after.color, expected.clamp(0, 1), rtol=0, atol=1e-5)


def test_what_is_not_changed_keeps_its_bits(toy_scene: GeneratedScene) -> None:
    """A neutral sample is the same object; a placement moves centres, sizes and harmonics."""
    gaussians = toy_scene.gaussians
    assert isinstance(gaussians, Gaussians) and apply_to_gaussians(gaussians, sample_of()) is gaussians
    placed = apply_to_gaussians(gaussians, sample_of(placement=Placement(scale=2.0, yaw=math.pi / 2)))
    expected = 2 * gaussians.means @ torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(placed.means, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(placed.scales, 2 * gaussians.scales)
    # What was seen looking along +x is now seen looking along +y.
    along_x, along_y = (torch.eye(3)[axis].expand(50, 3) for axis in (0, 1))
    torch.testing.assert_close(eval_sh(placed.sh, along_y), eval_sh(gaussians.sh, along_x), rtol=0, atol=1e-5)


def test_cameras(toy_scene: GeneratedScene) -> None:
    """The lens is scaled and shifted; the pose moves in the camera's own frame."""
    cameras = toy_scene.cameras
    same = apply_to_cameras(cameras, CameraChange())
    torch.testing.assert_close(same.intrinsics, cameras.intrinsics, rtol=0, atol=0)
    torch.testing.assert_close(same.world_to_camera, cameras.world_to_camera, rtol=0, atol=0)
    change = CameraChange(
        focal_scale=1.1, principal_shift=(0.1, -0.2), position=(0.0, 0.0, 0.3), rotation=(0.0, 0.2, 0.0)
    )
    moved = apply_to_cameras(cameras, change)
    torch.testing.assert_close(moved.intrinsics[:, 0, 0], 1.1 * cameras.intrinsics[:, 0, 0])
    torch.testing.assert_close(moved.intrinsics[:, 0, 2], cameras.intrinsics[:, 0, 2] + 32)
    torch.testing.assert_close(moved.intrinsics[:, 1, 2], cameras.intrinsics[:, 1, 2] - 0.2 * 176)
    forward = cameras.camera_to_world[:, :3, 2]
    torch.testing.assert_close(moved.positions, cameras.positions + 0.3 * forward, rtol=0, atol=1e-5)
    cosines = (moved.camera_to_world[:, :3, 2] * forward).sum(1)
    torch.testing.assert_close(cosines, torch.full((7,), math.cos(0.2)), rtol=0, atol=1e-5)
    # A positive turn about the axis that points down looks to the right.
    right = cameras.camera_to_world[:, :3, 0]
    assert ((moved.camera_to_world[:, :3, 2] * right).sum(1) > 0.19).all()
    assert isinstance(moved, Cameras) and pixel_rays(moved.intrinsics, 4, 4).isfinite().all()


# -------------------------------------------------------------------------------------------------------- stages


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


def test_another_sample_replaces_the_first(write_toy: WriteToy) -> None:
    """Samples do not add up, and a neutral one brings the file's values back."""
    root = str(write_toy() / "environment.usda")
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


def test_the_selected_look_is_worked_in(write_toy: WriteToy) -> None:
    """With the variant 'warm' selected, the sample changes the warm colours, once."""
    folder = write_toy()
    warm = read_environment(folder, appearance="warm").gaussians
    stage = Usd.Stage.Open(str(folder / "environment.usda"))
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


def test_several_environments_on_one_stage(write_toy: WriteToy) -> None:
    """Each reference gets a sample of its own; instances and wrong paths are refused."""
    root = str(write_toy() / "environment.usda")
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


def test_a_stored_record_gives_the_same_picture(registry: Registry, write_toy: WriteToy) -> None:
    """From the library to the pixel and again from the record alone: byte for byte."""
    for seed in range(3):
        registry.add(write_toy(seed=seed))
    ranges = Randomization()
    sample = replace(draw(ranges, registry.entries(), seed=5), appearance=LOOK, placement=Placement(yaw=0.4, scale=1.1))

    def picture(record: Sample) -> bytes:
        environment = read_environment(record.find(registry).folder)
        camera = replace(apply_to_cameras(environment.cameras[[0]], record.camera), width=32, height=32)
        return render(apply_to_gaussians(environment.gaussians, record), camera).color.numpy().tobytes()

    assert picture(sample) == picture(Sample.from_json(sample.to_json()))
    registry.remove(sample.environment)
    with pytest.raises(InputError, match="not in the library"):
        sample.find(registry)
    with pytest.raises(InputError, match="but not the environment"):
        replace(sample, environment=registry.entries()[0].id, digest="1").find(registry)


def test_mid_grey_is_the_zero_of_the_harmonics() -> None:
    """The pivot of contrast is the colour of harmonics that are all zero."""
    assert rgb_to_sh_dc(torch.tensor(0.5)) == 0
