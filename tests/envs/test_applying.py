"""A sample on Gaussians and cameras: exact against evaluating colours, and the same again from its record."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from omni_gen3d.envs.applying import apply_to_cameras, apply_to_gaussians, color_change
from omni_gen3d.envs.randomize import draw
from omni_gen3d.envs.ranges import Randomization
from omni_gen3d.envs.registry import Registry
from omni_gen3d.envs.sample import Appearance, CameraChange, Placement, Sample
from omni_gen3d.errors import InputError
from omni_gen3d.geometry import eval_sh, pixel_rays, rgb_to_sh_dc
from omni_gen3d.render import render
from omni_gen3d.types import Cameras, Gaussians, GeneratedScene
from omni_gen3d.usd import read_environment

WriteToy = Callable[..., Path]
LOOK = Appearance(exposure=0.4, warmth=0.6, tint=-0.2, hue=0.5, contrast=0.7)


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
    gaussians = replace(
        toy_scene.gaussians, sh=bright, scales=8 * toy_scene.gaussians.scales, opacities=torch.full((50,), 0.9)
    )
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
