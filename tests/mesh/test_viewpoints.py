"""Cameras for scenes without any: inside rooms, around objects, never in or at a surface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.mesh.depth_views import render_depth_views
from omni_gen3d.mesh.viewpoints import find_viewpoints, place_cameras
from omni_gen3d.types import Cameras, Gaussians

LOW, HIGH = torch.tensor([-1.0, -2.2, 0.0]), torch.tensor([5.0, 2.2, 2.6])  # the room fixture


def joined(*scenes: Gaussians) -> Gaussians:
    return Gaussians(*(torch.cat([getattr(scene, field.name) for scene in scenes]) for field in fields(Gaussians)))


def specks(means: torch.Tensor, scale: float, opacity: float) -> Gaussians:
    """Round Gaussians of one size."""
    n = len(means)
    quats = torch.tensor([[1.0, 0, 0, 0]]).repeat(n, 1)
    return Gaussians(means.float(), quats, torch.full((n, 3), scale), torch.full((n,), opacity), torch.zeros(n, 1, 3))


def clearance(cameras: Cameras, gaussians: Gaussians) -> float:
    return float(torch.cdist(cameras.positions, gaussians.means).min())


@pytest.fixture(scope="module")
def placed(room: Gaussians) -> Cameras:
    found = find_viewpoints(room, seed=0)
    assert found.inside
    return found.cameras


def test_cameras_stand_inside_the_room(room: Gaussians, placed: Cameras) -> None:
    """24 of them, wide, 20 cm from every surface, at several heights; the first one nearly level."""
    assert len(placed) == 24 and (placed.width, placed.height) == (320, 240)
    positions = placed.positions
    assert ((positions > LOW - 0.15) & (positions < HIGH)).all()  # one wall is missing
    assert clearance(placed, room) > 0.2
    assert float(positions[:, 2].min()) < 0.6 and float(positions[:, 2].max()) > 1.9
    assert abs(float(placed.camera_to_world[0, 2, 2])) < 0.3


def test_cameras_see_nearly_everything(room: Gaussians, placed: Cameras) -> None:
    """Of the patches of 20 cm that the room's surfaces consist of, at least 97 % appear in a depth map."""
    points = render_depth_views(room, placed).points
    seen = set(map(tuple, np.floor(points / 0.2).astype(int)))
    near = {(x + a, y + b, z + c) for x, y, z in seen for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)}
    patches = set(map(tuple, np.floor(room.means.numpy() / 0.2).astype(int)))
    assert len(patches & near) > 0.97 * len(patches)


def test_same_seed_places_the_same_cameras(room: Gaussians, placed: Cameras) -> None:
    """Bit for bit; another seed places others; fewer are the first ones of more."""
    assert torch.equal(place_cameras(room, seed=0).world_to_camera, placed.world_to_camera)
    assert torch.equal(place_cameras(room, count=5, seed=0).world_to_camera, placed.world_to_camera[:5])
    assert not torch.equal(place_cameras(room, seed=1).world_to_camera, placed.world_to_camera)


def test_floaters_and_background_do_not_matter(room: Gaussians) -> None:
    """2,000 faint floaters in the room and 200 splats far outside: the cameras stay in the room."""
    generator = torch.Generator().manual_seed(0)
    floaters = specks(LOW + (HIGH - LOW) * torch.rand(2000, 3, generator=generator), 0.015, 0.4)
    background = specks(40 * torch.randn(200, 3, generator=generator), 1.0, 0.9)
    found = find_viewpoints(joined(room, floaters, background), seed=0)
    assert found.inside and clearance(found.cameras, room) > 0.2
    assert ((found.cameras.positions > LOW - 0.15) & (found.cameras.positions < HIGH)).all()


def test_objects_are_seen_from_around(bare_wall: Gaussians) -> None:
    """A sphere of splats has no inside to stand in that is seen, a wall none at all: cameras look from outside."""
    generator = torch.Generator().manual_seed(0)
    sphere = specks(0.3 * torch.nn.functional.normalize(torch.randn(2000, 3, generator=generator), dim=1), 0.02, 0.9)
    for scene in (sphere, bare_wall):
        found = find_viewpoints(scene, seed=0)
        assert not found.inside and len(found.cameras) == 24
        assert clearance(found.cameras, scene) > 0.2
        assert (render_depth_views(scene, found.cameras).depth > 0).any((1, 2)).all()


def test_open_ground_is_seen_from_above_it(scene_of_discs: Callable[..., Gaussians]) -> None:
    """A yard of 24 m is too large to be seen from outside: cameras stand in it, at most 2.5 m above the ground."""
    yard = scene_of_discs([((-12.0, -12.0, 0.0), (24.0, 0.0, 0.0), (0.0, 24.0, 0.0))], spacing=0.3)
    found = find_viewpoints(yard, seed=0)
    positions = found.cameras.positions
    assert not found.inside
    assert int(((positions[:, :2].abs() < 12).all(1) & (positions[:, 2] > 0.2) & (positions[:, 2] < 3)).sum()) > 12


def test_impossible_requests_are_refused(room: Gaussians) -> None:
    """No camera at all."""
    with pytest.raises(InputError, match="count is 0"):
        place_cameras(room, count=0, seed=0)
