"""The collision proxy of a known room: it stands where the room stands, and free space stays free."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from omni_gen3d.errors import InputError
from omni_gen3d.mesh.proxy import build_proxy
from omni_gen3d.mesh.scoring import joined
from omni_gen3d.types import Cameras, CollisionProxy, Gaussians

FirstHit = Callable[..., tuple[float, np.ndarray]]
DOWN = (0.0, 0.0, -1.0)
# As the room of conftest.py holds them.
BOX = ((2.5, 0.4, 0.0), (3.1, 1.0, 0.5))
COLUMN = ((2.44, -0.86, 0.0), (2.56, -0.74, 1.6))


def test_floor_is_flat_and_faces_up(proxy: CollisionProxy, first_hit: FirstHit):
    """A ray down from free space meets the floor part at exactly z = 0, its normal up."""
    distance, normal = first_hit(joined(proxy.parts), (2.0, 0.1, 1.0), DOWN)
    assert distance == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(normal, (0, 0, 1), atol=1e-6)
    assert proxy.scores["floor_height_m"] == 0.0
    assert proxy.parts[0].label == "floor"


@pytest.mark.parametrize(("x", "y"), [(2.8, 0.7), (2.7, 0.6), (2.9, 0.8)])
def test_box_top(proxy: CollisionProxy, first_hit: FirstHit, x: float, y: float):
    """The top of the 50 cm box is found within 3 cm."""
    distance, normal = first_hit(joined(proxy.parts), (x, y, 0.9), DOWN)
    assert 0.9 - distance == pytest.approx(0.5, abs=0.03)
    assert normal[2] > 0.8


@pytest.mark.parametrize("height", [0.4, 0.8, 1.2])
def test_column_survives(proxy: CollisionProxy, first_hit: FirstHit, height: float):
    """The 12 cm column stops a horizontal ray at its face within 4 cm, at several heights."""
    distance, _ = first_hit(joined(proxy.parts), (1.6, -0.8, height), (1.0, 0.0, 0.0))
    assert 1.6 + distance == pytest.approx(2.44, abs=0.04)


def test_far_wall(proxy: CollisionProxy, first_hit: FirstHit):
    """The wall at x = 5 is found within 3 cm, is labelled wall and looks back at the camera."""
    wall = next(part.mesh for part in proxy.parts if part.label == "wall")
    distance, normal = first_hit(wall, (3.5, 0.0, 1.0), (1.0, 0.0, 0.0))
    assert 3.5 + distance == pytest.approx(5.0, abs=0.03)
    assert normal[0] < -0.95


def test_objects_are_the_box_and_the_column(proxy: CollisionProxy):
    """Each of the two is a part of its own, the larger first, where it stands; the ceiling part hangs high."""
    objects = [part for part in proxy.parts if part.label == "object"]
    assert [part.name for part in objects] == ["object_000", "object_001"] and proxy.scores["objects"] == 2
    for part, (low, high) in zip(objects, (BOX, COLUMN), strict=True):
        middle = (part.mesh.vertices.min(0) + part.mesh.vertices.max(0)) / 2
        np.testing.assert_allclose(middle, np.add(low, high) / 2, atol=0.12)
        np.testing.assert_allclose(part.mesh.vertices[:, 2].max(), high[2], atol=0.04)
    ceiling = next(part.mesh for part in proxy.parts if part.label == "ceiling")
    assert ceiling.vertices[ceiling.faces].mean(1)[:, 2].min() > 1.499


def test_convex_parts_stand_in_for_the_objects(room: Gaussians, cameras: Cameras):
    """Asked for, convex pieces cover the seen top of the box, and their number is a score; else there are none."""
    proxy = build_proxy(room, cameras[::4], voxel_size=0.1, convex=True)
    assert proxy.convex_parts and proxy.scores["convex_hulls"] == len(proxy.convex_parts)
    assert {part.name.split("_hull_")[0] for part in proxy.convex_parts} <= {part.name for part in proxy.parts}
    tops = [part.mesh.vertices for part in proxy.convex_parts if part.mesh.vertices[:, 2].max() < 0.7]
    assert max(float(top[:, 2].max()) for top in tops) == pytest.approx(0.5, abs=0.06)


def test_free_space_has_the_asked_voxels(proxy: CollisionProxy):
    """Surfaces are found on finer voxels, free space is handed over on those that were asked for, whole from 0."""
    grid = proxy.free_space
    assert grid.voxel_size == 0.05
    np.testing.assert_allclose(grid.origin / 0.05, np.round(grid.origin / 0.05), atol=1e-6)


def test_spawn_poses_stand_free_on_the_floor(proxy: CollisionProxy, first_hit: FirstHit):
    """Under a box of 0.3 m held 0.3 m above each pose there is nothing but the floor; poses differ and repeat not."""
    mesh = joined(proxy.parts)
    assert len(proxy.spawn_poses) == 32 == proxy.scores["num_spawn_poses"]
    for pose in proxy.spawn_poses:
        x, y, z = pose.position
        assert z == 0.0 and -np.pi < pose.yaw <= np.pi
        assert np.hypot(max(2.5 - x, 0, x - 3.1), max(0.4 - y, 0, y - 1.0)) > 0.22
        for dx in (-0.15, 0.0, 0.15):
            for dy in (-0.15, 0.0, 0.15):
                distance, _ = first_hit(mesh, (x + dx, y + dy, 0.6), DOWN)
                assert distance == pytest.approx(0.6, abs=1e-6)
    places = np.array([pose.position for pose in proxy.spawn_poses])
    spacing = np.linalg.norm(places[:, None] - places, axis=-1) + 10 * np.eye(32)
    assert spacing.min() > 0.14


def test_free_space_is_what_the_cameras_saw(proxy: CollisionProxy):
    """The middle of the room is free; the inside of the box, behind the wall and behind the camera are not."""
    grid = proxy.free_space

    def is_free(*point: float) -> bool:
        return bool(grid.free[tuple(np.floor((np.array(point) - grid.origin) / grid.voxel_size).astype(int))])

    assert is_free(2.0, 0.0, 1.0) and is_free(4.0, -1.0, 0.5)
    assert not is_free(2.8, 0.7, 0.25) and not is_free(5.08, 0.0, 1.0) and not is_free(-0.75, 0.0, 0.3)


def test_scores_of_a_good_proxy(proxy: CollisionProxy):
    """The known room scores well and comes without warnings."""
    assert proxy.scores["watertight"] is True and None not in proxy.scores.values()
    scores = {name: float(value) for name, value in proxy.scores.items() if value is not None}
    assert scores["faces"] == sum(len(part.mesh.faces) for part in proxy.parts) <= 20_000
    # The splat's own depth is off where its discs are seen at a grazing angle.
    assert scores["depth_agreement_within_5cm"] > 0.85 and scores["depth_agreement_mean_mm"] < 50
    assert scores["decimation_error_mm"] < 10
    assert scores["blocked_free_share"] < 0.01
    assert scores["floor_flatness_mm"] < 15
    assert 5 < scores["traversable_area_m2"] < 14
    assert proxy.warnings == ()


def test_face_budget_and_bytes(room: Gaussians, cameras: Cameras):
    """A small budget is kept, the shell stays closed, and a second run gives the same bytes."""
    first, second = (build_proxy(room, cameras[::3], max_faces=6000) for _ in range(2))
    assert sum(len(part.mesh.faces) for part in first.parts) <= 6000
    assert first.scores["watertight"] and first.scores == second.scores
    assert first.spawn_poses == second.spawn_poses
    for a, b in zip(first.parts, second.parts, strict=True):
        assert a.label == b.label
        assert a.mesh.vertices.tobytes() == b.mesh.vertices.tobytes()
        assert a.mesh.faces.tobytes() == b.mesh.faces.tobytes()


def test_without_floor(bare_wall: Gaussians, cameras: Cameras, first_hit: FirstHit):
    """A wall alone succeeds with a warning, without floor part or spawn poses, and still stops a body."""
    proxy = build_proxy(bare_wall, cameras)
    assert proxy.spawn_poses == () and proxy.scores["floor_height_m"] is None
    assert any("No floor" in warning for warning in proxy.warnings)
    assert {part.label for part in proxy.parts} <= {"wall", "ceiling", "object"}
    distance, _ = first_hit(joined(proxy.parts), (1.5, 0.0, 1.0), (1.0, 0.0, 0.0))
    assert 1.5 + distance == pytest.approx(3.0, abs=0.03)


def test_translucent_soup_is_warned_about(room: Gaussians, cameras: Cameras):
    """Splats scattered half a metre around their surfaces give a proxy that says it is bad."""
    noise = np.random.default_rng(0).normal(0, 0.5, tuple(room.means.shape)).astype(np.float32)
    soup = dataclasses.replace(room, means=room.means + room.means.new_tensor(noise), opacities=0.3 * room.opacities)
    assert build_proxy(soup, cameras[::6], voxel_size=0.1).warnings


def test_progress_rises_to_one_and_may_cancel(room: Gaussians, cameras: Cameras):
    """Fractions rise and end at 1; what the callback raises comes through."""
    seen: list[float] = []
    build_proxy(room, cameras[[0, 3, 5]], progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == 1.0

    def cancel(fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_proxy(room, cameras[[0]], progress=cancel)


@pytest.mark.parametrize(
    "option", [{"robot_radius": -1.0}, {"robot_height": float("nan")}, {"voxel_size": 0.001}, {"max_faces": 10}]
)
def test_bad_arguments(room: Gaussians, cameras: Cameras, option: dict[str, Any]):
    """Each argument out of range is named in the error."""
    with pytest.raises(InputError, match=next(iter(option))):
        build_proxy(room, cameras, **option)
