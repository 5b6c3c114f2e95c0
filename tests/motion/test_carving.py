"""What a film's outlines tell of the form and the place of a thing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from omni_gen3d.geometry import intrinsics_from_fov, look_at, matrix_to_quat, pixel_rays
from omni_gen3d.mesh.convex import in_hull
from omni_gen3d.motion.balls import find_ball, onto_ball
from omni_gen3d.motion.carving import carved_hull
from omni_gen3d.motion.film import Film
from omni_gen3d.types import Cameras, Gaussians

TIMES, HEIGHT, WIDTH = 9, 120, 200
SIZE = np.array([0.8, 0.5, 0.4])


def empty_film() -> Film:
    """By a camera 1.2 m above the floor that looks ahead and down."""
    lens = intrinsics_from_fov(math.radians(67), WIDTH, HEIGHT).expand(TIMES, 3, 3).contiguous()
    view = look_at(torch.tensor([[0.0, 0, 1.2]]), torch.tensor([[3.0, 0.0, 0.4]])).expand(TIMES, 4, 4)
    return Film(np.zeros((TIMES, HEIGHT, WIDTH, 3), np.float32), Cameras(view.contiguous(), lens, WIDTH, HEIGHT))


def rays_of(film: Film) -> np.ndarray:
    """Unit rays of all pixels in the world, ``(H, W, 3)``."""
    rays = (
        pixel_rays(film.cameras.intrinsics[0], HEIGHT, WIDTH).numpy()
        @ film.cameras.camera_to_world[0, :3, :3].T.numpy()
    )
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def eye_of(film: Film) -> np.ndarray:
    return film.cameras.positions[0].double().numpy()


def outlines_of_a_ball(film: Film, centres: np.ndarray, radius: float) -> np.ndarray:
    """Pixels whose rays pass nearer to the middle than the radius, ``(T, H, W)``."""
    away = centres[:, None, None] - eye_of(film)
    along = (rays_of(film) * away).sum(-1)
    return (away**2).sum(-1) - along**2 < radius**2


@pytest.mark.parametrize("first_y", [-0.7, -2.1])
def test_a_ball_is_where_its_rim_and_the_floor_say(first_y: float):
    """Radius to 1 cm and place to 3 cm, 2.5 m away, also where the ball comes from outside of the picture."""
    film = empty_film()
    centres = np.column_stack([np.linspace(2.2, 2.8, TIMES), np.linspace(first_y, 0.8, TIMES), np.full(TIMES, 0.25)])
    ball = find_ball(outlines_of_a_ball(film, centres, 0.25), film)
    assert ball is not None and ball.radius == pytest.approx(0.25, abs=0.01)
    assert set(ball.centres) >= {4, 5, 6, 7, 8}
    for time, centre in ball.centres.items():
        if time >= 4:
            np.testing.assert_allclose(centre, centres[time], atol=0.03)


def test_what_is_seen_of_a_ball_is_brought_onto_it():
    """Gaussians at a wrong depth within the rim go to the near side of the ball, along their rays."""
    film = empty_film()
    centres = np.tile([2.5, 0.1, 0.3], (TIMES, 1))
    outlines = outlines_of_a_ball(film, centres, 0.3)
    ball = find_ball(outlines, film)
    assert ball is not None
    rays = rays_of(film)[outlines[0]]
    placed = onto_ball(_discs(eye_of(film) + 2.9 * rays), ball, 0, film).means.double().numpy()
    np.testing.assert_allclose(np.linalg.norm(placed - ball.centres[0], axis=1), ball.radius, atol=0.03)
    seen = placed - eye_of(film)
    np.testing.assert_allclose(seen / np.linalg.norm(seen, axis=1, keepdims=True), rays, atol=1e-5)
    assert np.median(np.linalg.norm(seen, axis=1)) < np.linalg.norm(centres[0] - eye_of(film))


def box_that_drives() -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Each time's motion onto the middle time of a box that drives from right to left and turns; its pose then."""
    to_world = np.tile(np.eye(4), (TIMES, 1, 1))
    for time, share in enumerate(np.linspace(-1, 1, TIMES)):
        angle = math.pi / 2 + 0.2 * share
        to_world[time, :2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        to_world[time, :3, 3] = [2.8, 0.7 * share, SIZE[2] / 2]
    middle = to_world[TIMES // 2]
    return {time: middle @ np.linalg.inv(pose) for time, pose in enumerate(to_world)}, middle


def outlines_of_a_box(film: Film, poses: list[np.ndarray]) -> np.ndarray:
    """Pixels whose rays meet the box, by slabs, ``(T, H, W)``."""
    rays, eye, outlines = rays_of(film), eye_of(film), []
    for pose in poses:
        origin, turned = (eye - pose[:3, 3]) @ pose[:3, :3], rays @ pose[:3, :3]
        turned = np.where(np.abs(turned) < 1e-9, 1e-9, turned)
        ends = np.stack([(-SIZE / 2 - origin) / turned, (SIZE / 2 - origin) / turned])
        outlines.append(ends.min(0).max(-1) < ends.max(0).min(-1))
    return np.stack(outlines)


def test_a_box_is_carved_out_of_noisy_depth():
    """Of points up to 25 cm off along their rays, as a depth network's, outlines leave the box that drives: two
    thirds of the volume of both shared, its middle to 6 cm, and on the floor."""
    film = empty_film()
    onto, pose = box_that_drives()
    outlines = outlines_of_a_box(film, [np.linalg.inv(matrix) @ pose for matrix in onto.values()])
    rng = np.random.default_rng(0)
    eye = eye_of(film)
    local = rng.uniform(-0.5, 0.5, (3000, 3)) * SIZE
    # Its front and its top are seen.
    local[::2, 1], local[1::2, 2] = SIZE[1] / 2, SIZE[2] / 2
    points = local @ pose[:3, :3].T + pose[:3, 3]
    points = eye + (points - eye) * rng.normal(1, 0.04, (3000, 1))
    hull = carved_hull(points, onto, film, outlines)
    assert hull is not None
    low, high = hull.vertices.min(0), hull.vertices.max(0)
    np.testing.assert_allclose((low + high) / 2, pose[:3, 3], atol=0.06)
    assert 0 < low[2] < 0.03
    grid = rng.uniform(np.minimum(low, 0) - 0.1, high + 0.6, (60_000, 3))
    ours = in_hull(hull, grid)
    true = (np.abs((grid - pose[:3, 3]) @ pose[:3, :3]) <= SIZE / 2).all(1)
    assert (ours & true).sum() > 2 / 3 * (ours | true).sum()
    assert find_ball(outlines, film) is None


def _discs(points: np.ndarray) -> Gaussians:
    count = len(points)
    quats = matrix_to_quat(torch.eye(3)).expand(count, 4).contiguous()
    return Gaussians(
        torch.from_numpy(points).float(),
        quats,
        torch.full((count, 3), 0.02),
        torch.ones(count),
        torch.zeros(count, 1, 3),
    )
