"""Things of a film are found as wholes, placed on the floor, followed by their colours and completed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from omni_gen3d.geometry import intrinsics_from_fov, look_at, matrix_to_quat
from omni_gen3d.motion.film import Film, join_films
from omni_gen3d.motion.following import Follower
from omni_gen3d.motion.hulls import collider_hulls
from omni_gen3d.motion.placing import believed_things
from omni_gen3d.motion.scene import dynamic_scene
from omni_gen3d.motion.scoring import TrueMover, score_parts
from omni_gen3d.motion.silhouettes import silhouettes
from omni_gen3d.render import render
from omni_gen3d.types import Cameras, Gaussians, MovingPart, TriMesh

TIMES, HEIGHT, WIDTH = 9, 60, 100
EYE = np.array([0.0, 0.0, 1.2])


@pytest.fixture(scope="module")
def plain_film() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A plain square that moves by more than its breadth before a wall, a shadow below it: pictures, depth, masks."""
    rng = np.random.default_rng(0)
    wall = np.repeat(np.repeat(rng.uniform(-0.4, 0.6, (HEIGHT // 4, WIDTH // 4, 3)), 4, 0), 4, 1)
    pictures = np.tile(wall, (TIMES, 1, 1, 1)).astype(np.float32)
    depth, masks = np.full((TIMES, HEIGHT, WIDTH), 4.0), np.zeros((TIMES, HEIGHT, WIDTH), bool)
    for time in range(TIMES):
        left = 30 + 4 * time
        masks[time, 18:42, left : left + 24] = True
        pictures[time, 42:46, left : left + 24] = 0.7 * (pictures[time, 42:46, left : left + 24] + 1) - 1
        pictures[time][masks[time]] = (0.9, -0.8, -0.8)
        depth[time][masks[time]] = 2.5
    return pictures, depth, masks


def test_a_plain_thing_is_found_whole(plain_film):
    """Halfway its silhouette overlaps the truth by 0.85, though never all of it is uncovered; its shadow is not it."""
    pictures, depth, masks = plain_film
    numbers = silhouettes(pictures, depth)
    assert set(np.unique(numbers)) == {0, 1}
    found = numbers[TIMES // 2] == 1
    assert (found & masks[TIMES // 2]).sum() > 0.85 * (found | masks[TIMES // 2]).sum()
    assert found[44:].mean() < 0.01


def test_a_film_that_stays_shows_nothing(plain_film):
    pictures, depth, _ = plain_film
    assert not silhouettes(pictures[:1].repeat(TIMES, 0), depth).any()


def _film(pictures: np.ndarray) -> Film:
    height, width = pictures.shape[1:3]
    lens = intrinsics_from_fov(math.radians(67), width, height).expand(len(pictures), 3, 3).contiguous()
    view = look_at(torch.tensor([[0.0, 0, 1.2]]), torch.tensor([[3.0, 0.0, 0.4]])).expand(len(pictures), 4, 4)
    return Film(pictures, Cameras(view.contiguous(), lens, width, height))


def test_depth_that_bends_at_an_edge_is_not_believed():
    """Of a wall 2.5 m away the inside is believed, and its last column, drawn 6 m away, is not."""
    film = _film(np.zeros((1, HEIGHT, WIDTH, 3), np.float32))
    pixels = np.zeros((1, HEIGHT, WIDTH), np.int16)
    pixels[0, 20:45, 36:60] = 1
    depth = np.where(pixels > 0, 2.5, 6.0)
    depth[0, :, 59] = 6.0
    believed = believed_things(pixels, depth, film)
    assert not believed[0, :, 59].any() and (believed == pixels)[0, :, :59].all()


@pytest.mark.parametrize("turn", [0.0, 0.5])
def test_a_thing_is_followed_by_its_colours(moving_world, turn: float):
    """Of the wagon's visible points the way is found to 3 cm and 3 degrees."""
    world = moving_world("following", turn, jitter=0.0, color_noise=0.0)
    camera = world.cameras[[0]]
    drawn = [render(frame, camera).color[0] for frame in world.sequence.frames]
    pictures = (2 * torch.stack(drawn) - 1).numpy()
    film = Film(pictures, world.cameras[[0] * len(drawn)])
    middle = len(drawn) // 2
    wagon = world.sequence.frames[middle].means[world.num_static :].numpy().astype(np.float64)
    to_world = world.truth.to_world
    local = (wagon - to_world[middle, :3, 3]) @ to_world[middle, :3, :3]
    seen = wagon[(local[:, 0] < -0.34) | (local[:, 2] > 0.22)]
    followed = Follower(film).follow(seen, middle, range(len(drawn)))
    for time, motion in followed.motions.items():
        true = to_world[time] @ np.linalg.inv(to_world[middle])
        off = seen.mean(0) @ (motion - true)[:3, :3].T + (motion - true)[:3, 3]
        assert np.linalg.norm(off) < 0.03
        angle = motion[:3, :3] @ true[:3, :3].T
        assert abs(math.atan2(angle[1, 0], angle[0, 0])) < math.radians(3)


def test_a_wagon_in_a_film_is_one_part(moving_world):
    """Through the whole line, with the film: one part, 0.7 of the truth's volume shared."""
    world = moving_world("fading")
    drawn = [render(frame, world.cameras[[0]]).color[0] for frame in world.sequence.frames]
    film = 2 * torch.stack(drawn).permute(3, 0, 1, 2) - 1
    scene = dynamic_scene(world.sequence, world.cameras, film)
    assert len(scene.parts) == 1
    scores = score_parts(scene.parts, [world.truth], EYE)
    assert scores.iou > 0.7 and scores.position_error_m is not None and scores.position_error_m < 0.05


def test_windows_of_a_film_share_a_picture():
    pictures = np.arange(5, dtype=np.float32)[:, None, None, None].repeat(3, 3)
    joined = join_films([_film(pictures[:3]), _film(pictures[2:])])
    assert joined.pictures[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4] and len(joined.cameras) == 5


def _discs(points: np.ndarray) -> Gaussians:
    count = len(points)
    return Gaussians(
        torch.from_numpy(points).float(),
        matrix_to_quat(torch.eye(3)).expand(count, 4).contiguous(),
        torch.full((count, 3), 0.02),
        torch.ones(count),
        torch.zeros(count, 1, 3),
    )


def test_half_a_ball_is_completed():
    """Of the half that is seen of a ball the collider is the ball, 30 cm to 1 cm in every direction."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(1500, 3))
    points *= 0.3 / np.linalg.norm(points, axis=1, keepdims=True)
    (hull,) = collider_hulls(_discs(points[points[:, 0] < 0]), _at(0.3), 0.06)
    np.testing.assert_allclose(np.abs(hull.vertices).max(0), 0.3, atol=0.01)


def test_two_sides_of_a_box_make_the_box():
    """Two sides seen over a corner give the whole box, to 3 cm, down to the floor."""
    rng = np.random.default_rng(0)
    u, v = rng.uniform(-0.5, 0.5, (2, 1500))
    left = np.column_stack([np.full(1500, -0.4), 0.6 * u, 0.5 * v])
    front = np.column_stack([0.8 * u, np.full(1500, -0.3), 0.5 * v])
    points = np.concatenate([left, front])
    (hull,) = collider_hulls(_discs(points[points[:, 2] > -0.15]), _at(0.25), 0.06)
    np.testing.assert_allclose(hull.vertices.max(0), (0.4, 0.3, 0.25), atol=0.03)
    np.testing.assert_allclose(hull.vertices.min(0), (-0.4, -0.3, -0.245), atol=0.03)


def _at(height: float) -> np.ndarray:
    to_world = np.tile(np.eye(4), (3, 1, 1))
    to_world[:, 2, 3] = height
    return to_world


def test_a_solid_that_is_not_convex_scores_by_its_hull():
    """The hull of two boxes that stand apart scores 1 against their hull, and the boxes' share of it against them; an
    error of 10 cm at 6 m counts as 5 cm at 3 m."""
    corners = np.array([[x, y, z] for x in (0.0, 0.2) for y in (0.0, 1.0) for z in (0.0, 1.0)])
    quads = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    faces = quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)
    both = np.concatenate([corners, corners + np.array([0.8, 0, 0])]).astype(np.float32)
    truth = TrueMover(TriMesh(both, np.concatenate([faces, faces + 8]).astype(np.int32)), _at(0.0))
    whole = np.array([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)], np.float32)
    hull = TriMesh(whole, faces.astype(np.int32))
    eye = np.array([0.5, 0.5, 6.5])
    exact = score_parts([MovingPart("part", _discs(whole), _at(0.0), np.ones(3, bool), (hull,))], [truth], eye)
    assert exact.iou == pytest.approx(1, abs=0.01) and exact.solid_iou == pytest.approx(0.4, abs=0.03)
    off = score_parts([MovingPart("part", _discs(whole), _at(0.1), np.ones(3, bool), (hull,))], [truth], eye)
    assert off.position_error_m == pytest.approx(0.1, abs=1e-3)
    assert off.position_error_at_3m == pytest.approx(0.05, abs=1e-3)
