"""Levelling: gravity, floor height and heading are recovered, and a guess is called a guess."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.geometry import quat_to_matrix, transform_cameras, transform_gaussians
from omni_gen3d.mesh.levelling import level_scene
from omni_gen3d.types import Cameras, Gaussians


def degrees_between(a: torch.Tensor, b: torch.Tensor) -> float:
    return math.degrees(math.acos(min(1.0, float(a @ b / (a.norm() * b.norm())))))


@pytest.mark.parametrize(("axis", "degrees"), [((0.0, 1.0, 0.0), 0), ((1.0, 0.5, 0.0), 15), ((0.3, -1.0, 0.5), -14)])
def test_tilted_room_is_levelled(room: Gaussians, cameras: Cameras, axis: tuple[float, ...], degrees: float):
    """A scene turned and shifted by a known motion comes back upright within 0.5 degrees, floor within 5 mm."""
    half = math.radians(degrees) / 2
    direction = torch.nn.functional.normalize(torch.tensor(axis), dim=0) * math.sin(half)
    tilt = quat_to_matrix(torch.cat([torch.tensor([math.cos(half)]), direction]))
    shift = torch.tensor([0.4, -1.0, 2.0])
    levelling = level_scene(transform_gaussians(room, tilt, shift), transform_cameras(cameras, tilt, shift))

    assert levelling.floor_found and levelling.note is None
    rotation = levelling.rotation.float() @ tilt
    assert degrees_between(rotation[:, 2], torch.tensor([0.0, 0.0, 1.0])) < 0.5
    seen_floor = torch.tensor([3.0, 0.0, 0.0])
    levelled = rotation @ seen_floor + levelling.rotation.float() @ shift + levelling.translation.float()
    assert abs(float(levelled[2])) < 0.005


def test_camera_zero_stands_over_the_origin_and_looks_along_x(room: Gaussians, cameras: Cameras):
    """The levelled camera 0 is 1.4 m above the origin and its heading is +X."""
    levelling = level_scene(room, cameras)
    first = transform_cameras(cameras, levelling.rotation, levelling.translation).camera_to_world[0]
    np.testing.assert_allclose(first[:3, 3], [0, 0, 1.4], atol=0.01)
    assert first[0, 2] > 0.9 and abs(first[1, 2]) < 1e-5


def test_table_is_not_the_floor(table_over_floor: Gaussians, cameras: Cameras):
    """A big horizontal plane with something below it loses against the floor."""
    levelling = level_scene(table_over_floor, cameras)
    assert levelling.floor_found
    assert abs(float(levelling.translation[2])) < 0.02


def test_without_floor_the_cameras_are_believed(bare_wall: Gaussians, cameras: Cameras):
    """A wall alone gives the mean image y axis as gravity, ground below what is seen, and a note that says so."""
    levelling = level_scene(bare_wall, cameras)
    assert not levelling.floor_found
    assert levelling.note is not None and "No floor" in levelling.note
    mean_up = -cameras.world_to_camera[:, 1, :3].double().mean(0)
    assert degrees_between(levelling.rotation[2], mean_up) < 3
    levelled = transform_gaussians(bare_wall, levelling.rotation, levelling.translation)
    assert (levelled.means[:, 2] < 0).float().mean() < 0.5


def test_same_seed_same_levelling(room: Gaussians, cameras: Cameras):
    """Two runs agree to the last bit."""
    first, second = level_scene(room, cameras, seed=4), level_scene(room, cameras, seed=4)
    assert torch.equal(first.rotation, second.rotation) and torch.equal(first.translation, second.translation)


def test_nothing_to_see_is_an_input_error(room: Gaussians, cameras: Cameras):
    """Cameras far outside the scene raise and say what to check."""
    away = transform_cameras(cameras, torch.eye(3), torch.tensor([500.0, 0.0, 0.0]))
    with pytest.raises(InputError, match="no surface"):
        level_scene(room, away)
