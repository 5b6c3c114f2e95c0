"""What is sighted of bodies, with noise, becomes bodies on their ways; what the film denies does not."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull

from omni_gen3d.geometry import intrinsics_from_fov, look_at
from omni_gen3d.motion.embodied import Body, body_under
from omni_gen3d.motion.film import Film, join_films
from omni_gen3d.motion.filmed import outlined_parts
from omni_gen3d.motion.joining import with_same_numbers
from omni_gen3d.motion.painting import as_filmed
from omni_gen3d.motion.scene import assemble_scene, dynamic_scene
from omni_gen3d.motion.scoring import score_parts
from omni_gen3d.motion.sighted import SIGHTED, bodies_shown, pixels_shown
from omni_gen3d.motion.sightings import CELL, DIRECTIONS, Sightings
from omni_gen3d.motion.split import Split, split_sequence
from omni_gen3d.render import render
from omni_gen3d.types import Cameras, Gaussians, GaussianSequence

TIMES, HEIGHT, WIDTH = 9, 96, 160
EYE = np.array([0.0, 0.0, 1.2])
_UNIT_BOX = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])


def _film() -> Film:
    lens = intrinsics_from_fov(math.radians(67), WIDTH, HEIGHT).expand(TIMES, 3, 3).contiguous()
    view = look_at(torch.tensor([[0.0, 0, 1.2]]), torch.tensor([[3.0, 0.0, 0.4]])).expand(TIMES, 4, 4).contiguous()
    return Film(np.zeros((TIMES, HEIGHT, WIDTH, 3), np.float32), Cameras(view, lens, WIDTH, HEIGHT))


def _poses(places: np.ndarray, turn: float = 0.0) -> np.ndarray:
    """Of a box at places ``(T, 3)`` that turns evenly, ``(T, 4, 4)``."""
    poses = np.tile(np.eye(4), (len(places), 1, 1))
    angles = np.linspace(0, turn, len(places))
    poses[:, 0, 0] = poses[:, 1, 1] = np.cos(angles)
    poses[:, 1, 0], poses[:, 0, 1] = np.sin(angles), -np.sin(angles)
    poses[:, :3, 3] = places
    return poses


def _sightings(
    film: Film, bodies: list[tuple[np.ndarray, np.ndarray]], noise: float = 1.0
) -> tuple[Sightings, np.ndarray]:
    """Of bodies told by corners ``(K, 3)`` and poses ``(T, 4, 4)``, later ones before earlier ones, as a network would
    tell them; and the number of the body at each pixel."""
    rng = np.random.default_rng(0)
    times, height, width = film.pictures.shape[:3]
    shown = np.zeros((times, height, width), np.int16)
    rows, columns = height // CELL, width // CELL
    centers = np.array([3.0, 0.0, 0.0]) + rng.normal(size=(times, rows, columns, 3))
    supports = np.abs(rng.normal(0.3, 0.1, (times, rows, columns, len(DIRECTIONS))))
    pixels = np.indices((height, width)).reshape(2, -1).T
    for number, (corners, poses) in enumerate(bodies, 1):
        wrong = rng.normal(size=len(DIRECTIONS))
        for time, pose in enumerate(poses):
            row, column, _ = film.seen(corners @ pose[:3, :3].T + pose[:3, 3], time)
            sides = ConvexHull(np.column_stack([row, column])).equations
            inside = (pixels @ sides[:, :2].T + sides[:, 2] <= 0).all(1).reshape(height, width)
            shown[time][inside] = number
            cells = inside[CELL // 2 :: CELL, CELL // 2 :: CELL]
            ray = pose[:3, 3] - EYE
            ray /= np.linalg.norm(ray)
            center = pose[:3, 3] + noise * (0.045 * rng.normal() * ray + 0.015 * rng.normal(size=3))
            reach = (DIRECTIONS @ (corners @ pose[:3, :3].T).T).max(1)
            reach *= 1 + noise * (0.05 * wrong + 0.05 * rng.normal() + 0.06 * rng.normal(size=len(reach)))
            centers[time][cells] = center + 0.02 * noise * rng.normal(size=(int(cells.sum()), 3))
            supports[time][cells] = reach
    moves = np.where(shown[:, CELL // 2 :: CELL, CELL // 2 :: CELL] > 0, 0.9, 0.1)
    moves = np.where(rng.uniform(size=moves.shape) < 0.05 * noise, 1 - moves, moves)
    directions = np.tile(DIRECTIONS, (times, 1, 1))
    depth = np.full(shown.shape, 3.0)
    return Sightings(moves, centers, supports, directions, np.full(moves.shape, 0.03), depth), shown


def _told_by(body: Body) -> np.ndarray:
    """How far a body reaches from its middle at its first time, ``(50,)``."""
    return (DIRECTIONS @ (body.corners @ body.to_world[min(body.to_world)][:3, :3].T).T).max(1)


@pytest.mark.parametrize("turn", [0.0, 0.9])
def test_a_box_has_its_way_its_turn_and_its_form(turn: float):
    """From sights 4.5 cm and 10 percent off: places to 5 cm, the turn to 5 degrees, reaches to 4 cm in the mean."""
    corners = _UNIT_BOX * (0.8, 0.5, 0.6)
    places = np.column_stack([3 + 0.05 * np.arange(TIMES), np.linspace(-0.8, 0.8, TIMES), np.full(TIMES, 0.3)])
    poses = _poses(places, turn)
    film = _film()
    sightings, shown = _sightings(film, [(corners, poses)])
    film = Film(film.pictures, film.cameras, shown, sightings)
    body = body_under(shown == 1, film)
    assert body is not None and sorted(body.to_world) == list(range(TIMES))
    found = np.stack([body.to_world[time] for time in range(TIMES)])
    assert np.linalg.norm(found[:, :3, 3] - places, axis=1).mean() < 0.05
    turned = found[-1, :3, :3] @ found[0, :3, :3].T
    assert abs(math.atan2(turned[1, 0], turned[0, 0]) - turn) < math.radians(5)
    assert np.abs(_told_by(body) - (DIRECTIONS @ corners.T).max(1)).mean() < 0.04
    # It stands on the floor.
    assert abs(body.corners[:, 2].min() + np.median(found[:, 2, 3])) < 0.01


def test_without_noise_a_box_is_itself():
    """To half a centimetre in any direction, though its sides lie between those that are told."""
    corners = _UNIT_BOX * (0.9, 0.1, 0.6)
    places = np.column_stack([np.full(TIMES, 3.0), np.linspace(-0.5, 0.5, TIMES), np.full(TIMES, 0.305)])
    film = _film()
    sightings, shown = _sightings(film, [(corners, _poses(places, 0.7))], noise=0.0)
    body = body_under(shown == 1, Film(film.pictures, film.cameras, shown, sightings))
    assert body is not None
    np.testing.assert_allclose(np.ptp(body.corners, axis=0), np.ptp(corners, axis=0), atol=0.02)


def _two_boxes() -> list[tuple[np.ndarray, np.ndarray]]:
    boxes = []
    for begin in (-0.6, -0.2):
        places = np.column_stack([np.full(TIMES, 2.5), begin + np.linspace(0, 0.5, TIMES), np.full(TIMES, 0.8)])
        boxes.append((_UNIT_BOX * 0.28, _poses(places)))
    return boxes


def test_two_boxes_on_a_belt_stay_two():
    """One number each at all times, at 0.95 of the cells that it has, though each goes where the other was."""
    film = _film()
    sightings, shown = _sightings(film, _two_boxes())
    numbers = bodies_shown(sightings)
    true = shown[:, CELL // 2 :: CELL, CELL // 2 :: CELL]
    assert set(np.unique(numbers)) == {0, 1, 2}
    names = [np.bincount(numbers[(true == number) & (numbers > 0)]).argmax() for number in (1, 2)]
    assert sorted(names) == [1, 2]
    for number, name in zip((1, 2), names, strict=True):
        assert (numbers == name)[true == number].mean() > 0.95


@pytest.mark.parametrize("change", [{"doubts": 3.0}, {"moves": 0.8}])
def test_what_the_network_does_not_know_is_no_body(change: dict[str, float]) -> None:
    """Cells that agree in all but are doubted, or not quite sure to move, leave a thing to its silhouette."""
    sightings, _ = _sightings(_film(), _two_boxes())
    assert bodies_shown(sightings).any()
    ((name, factor),) = change.items()
    assert not bodies_shown(replace(sightings, **{name: factor * getattr(sightings, name)})).any()


def test_what_reaches_equally_far_everywhere_is_a_ball():
    """Of 25 cm, to 2 cm, that does not turn."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400, 3))
    points *= 0.25 / np.linalg.norm(points, axis=1, keepdims=True)
    places = np.column_stack([np.full(TIMES, 3.0), np.linspace(-0.5, 0.5, TIMES), np.full(TIMES, 0.25)])
    film = _film()
    sightings, shown = _sightings(film, [(points, _poses(places))])
    body = body_under(shown == 1, Film(film.pictures, film.cameras, shown, sightings))
    assert body is not None
    assert np.linalg.norm(body.corners[body.corners[:, 2] > -0.1], axis=1) == pytest.approx(0.25, abs=0.02)
    assert all(np.array_equal(matrix[:3, :3], np.eye(3)) for matrix in body.to_world.values())


def test_a_sighting_that_the_film_denies_is_not_believed():
    """Half a metre beside the outline, or three times as large, is no body; nor is what nobody sighted."""
    film = _film()
    sightings, shown = _sightings(film, _two_boxes()[:1])
    outlines = shown == 1
    beside = replace(sightings, centers=np.array([0, 0.5, 0]) + sightings.centers)
    large = replace(sightings, supports=3 * sightings.supports)
    for wrong in (beside, large, None):
        assert body_under(outlines, Film(film.pictures, film.cameras, shown, wrong)) is None
    assert body_under(outlines, Film(film.pictures, film.cameras, shown, sightings)) is not None
    assert body_under(np.zeros_like(outlines), Film(film.pictures, film.cameras, shown, sightings)) is None


def test_silhouettes_become_bodies_or_stay():
    """Pixels near a body's cells are its; a thing far off keeps its number; a shadow of the body is none."""
    silhouettes = np.zeros((1, 96, 160), np.int16)
    silhouettes[0, 20:60, 20:60] = 1
    silhouettes[0, 60:63, 75:80] = 1
    silhouettes[0, 20:60, 120:140] = 2
    silhouettes[0, 80:92, 20:24] = 3
    cells = np.zeros((1, 24, 40), np.int16)
    cells[0, 5:15, 5:15] = 1
    cells[0, 20:23, 5:15] = 2
    cells[0, 20:23, 20:35] = 3
    numbers = pixels_shown(silhouettes, cells)
    assert (numbers[0, 20:60, 20:60] == SIGHTED + 1).all() and (numbers[0, 20:60, 120:140] == 2).all()
    assert not numbers[0, 60:63, 75:80].any()
    # Where no silhouette is, only what is well inside of a body is of it, and a body without any silhouette is none.
    assert numbers[0, 85, 40] == SIGHTED + 2 and numbers[0, 80, 40] == 0
    assert not numbers[0, 80:92, 80:140].any()


def test_numbers_go_on_in_the_next_window():
    """A body that both windows show at the shared picture keeps its number; a new one gets one of its own."""
    film = _film()
    nothing = Gaussians(*(torch.zeros(0, *shape) for shape in ((3,), (4,), (3,), (), (1, 3))))

    def window(numbers: list[int]) -> Split:
        shown = np.zeros((TIMES, HEIGHT, WIDTH), np.int16)
        for place, number in enumerate(numbers):
            shown[:, 10:30, 40 * place : 40 * place + 20] = number
        things = tuple(np.array(numbers, np.int16) for _ in range(TIMES))
        return Split(nothing, (nothing,) * TIMES, things, Film(film.pictures, film.cameras, shown))

    first, second = with_same_numbers([window([SIGHTED + 1, SIGHTED + 2, 0]), window([SIGHTED + 2, 7, SIGHTED + 1])])
    assert first.things is not None and first.things[0].tolist() == [SIGHTED + 1, SIGHTED + 2, 0]
    assert second.things is not None and second.things[0].tolist()[:2] == [SIGHTED + 1, 7]
    assert second.things[0][2] == SIGHTED + 3
    assert second.film is not None and second.film.shown is not None
    assert second.film.shown[3, 15, 5] == SIGHTED + 1 and second.film.shown[3, 15, 85] == SIGHTED + 3


def test_what_does_not_stay_within_its_outlines_is_no_body():
    """A box, and the same of which the film shows one half and the other in turn: then nothing of it stays."""
    places = np.column_stack([np.full(TIMES, 3.0), np.linspace(-0.6, 0.6, TIMES), np.full(TIMES, 0.3)])
    film = _film()
    sightings, shown = _sightings(film, [(_UNIT_BOX * (0.8, 0.8, 0.6), _poses(places))], noise=0.0)
    halves = shown.copy()
    for time, outline in enumerate(halves):
        columns = np.flatnonzero(outline.any(0))
        outline[:, np.array_split(columns, 2)[time % 2]] = 0
    for outlines, count in ((shown, 1), (halves, 0)):
        filmed = Film(film.pictures, film.cameras, outlines, sightings)
        seen = {time: as_filmed(filmed, outlines, time)[0] for time in range(TIMES)}
        parts, left = outlined_parts(seen, "part", 0.1, TIMES, filmed, outlines == 1)
        assert len(parts) == count
        assert sum(map(len, left.values())) == (0 if count else sum(map(len, seen.values())))


def test_sightings_of_windows_are_joined():
    film = _film()
    sightings, shown = _sightings(film, _two_boxes()[:1])
    whole = Film(film.pictures, film.cameras, shown, sightings)
    joined = join_films([whole, whole])
    assert joined.sightings is not None and joined.sightings.centers.shape[0] == 2 * TIMES - 1
    assert join_films([whole, film]).sightings is None


def _wagon_world(moving_world, noise: float):
    world = moving_world("fading", 0.5)
    drawn = [render(frame, world.cameras[[0]]) for frame in world.sequence.frames]
    pictures = 2 * torch.stack([seen.color[0] for seen in drawn]) - 1
    depth = np.stack([seen.median_depth[0].numpy() for seen in drawn if seen.median_depth is not None])
    film = Film(pictures.numpy(), world.cameras[[0] * len(drawn)])
    corners = world.truth.mesh.vertices.astype(np.float64)
    sightings, _ = _sightings(film, [(corners, world.truth.to_world)], noise)
    return world, pictures.permute(3, 0, 1, 2), replace(sightings, depth=depth)


def test_a_sighted_wagon_is_one_part(moving_world):
    """Through the whole line: 0.75 of the truth's volume shared; with sightings of something else elsewhere it is the
    part that it is without."""
    world, film, sightings = _wagon_world(moving_world, 1.0)
    scene = dynamic_scene(world.sequence, world.cameras, film, sightings)
    assert len(scene.parts) == 1 and scene.parts[0].present.all()
    assert score_parts(scene.parts, [world.truth], EYE).iou > 0.75
    assert len(scene.parts[0].gaussians) > 50
    elsewhere = replace(sightings, centers=np.array([0, 0, 2.0]) + sightings.centers)
    fallen_back = dynamic_scene(world.sequence, world.cameras, film, elsewhere)
    plain = dynamic_scene(world.sequence, world.cameras, film)
    scores = [score_parts(one.parts, [world.truth], EYE).iou for one in (fallen_back, plain)]
    assert len(fallen_back.parts) == 1 and scores[0] > scores[1] - 0.1


def test_a_sighted_wagon_is_followed_across_windows(moving_world):
    """Two windows that share a picture make the one part that the film as a whole makes, to 5 percent."""
    world, film, sightings = _wagon_world(moving_world, 1.0)
    splits = []
    for which in (slice(0, 5), slice(4, None)):
        window = GaussianSequence(world.sequence.frames[which], world.sequence.frames_per_second)
        cut = Sightings(*(getattr(sightings, field.name)[which] for field in fields(Sightings)))
        splits.append(split_sequence(window, world.cameras, film[:, which], sightings=cut))
    (part,) = assemble_scene(splits, world.sequence.frames_per_second).parts
    assert part.present.all() and len(part.present) == len(world.sequence.frames)
    (whole,) = dynamic_scene(world.sequence, world.cameras, film, sightings).parts
    scores = [score_parts([one], [world.truth], EYE).iou for one in (part, whole)]
    assert scores[0] == pytest.approx(scores[1], abs=0.05)


def test_what_is_lifted_does_not_stand_on_the_floor_and_what_is_flat_is_no_body():
    film = _film()
    places = np.column_stack([np.full(TIMES, 3.0), np.full(TIMES, 0.2), np.linspace(0.2, 0.7, TIMES)])
    sightings, shown = _sightings(film, [(_UNIT_BOX * 0.36, _poses(places))], noise=0.0)
    lifted = body_under(shown == 1, Film(film.pictures, film.cameras, shown, sightings))
    assert lifted is not None and lifted.corners[:, 2].min() == pytest.approx(-0.18, abs=0.01)
    flat = replace(sightings, supports=np.zeros_like(sightings.supports))
    assert body_under(shown == 1, Film(film.pictures, film.cameras, shown, flat)) is None
