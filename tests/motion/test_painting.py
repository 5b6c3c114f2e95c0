"""What moves is painted with the film's pixels, each where its depth says, but within the body where that is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull

from omni_gen3d.geometry import look_at, sh_dc_to_rgb
from omni_gen3d.motion.embodied import Body
from omni_gen3d.motion.film import Film
from omni_gen3d.motion.painting import as_filmed, painted
from omni_gen3d.motion.sightings import DIRECTIONS, Sightings
from omni_gen3d.types import Cameras

HEIGHT, WIDTH, FOCAL = 48, 64, 60.0
MIDDLE = np.array([3.0, 0.2, 0.3])
BOX = np.array([[x, y, z] for x in (-0.3, 0.3) for y in (-0.4, 0.4) for z in (-0.25, 0.25)])


def _film(depth: float) -> tuple[Film, np.ndarray]:
    """A green box on red ground, its depth estimated as one number; and its outline."""
    lens = torch.tensor([[[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1.0]]])
    view = look_at(torch.tensor([[0.0, 0, 1.0]]), torch.tensor([[3.0, 0.2, 0.3]]))
    cameras = Cameras(view, lens, WIDTH, HEIGHT)
    blank = Film(np.zeros((1, HEIGHT, WIDTH, 3), np.float32), cameras)
    row, column, _ = blank.seen(BOX + MIDDLE, 0)
    sides = ConvexHull(np.column_stack([row, column])).equations
    pixels = np.indices((HEIGHT, WIDTH)).reshape(2, -1).T
    outline = (pixels @ sides[:, :2].T + sides[:, 2] <= 0).all(1).reshape(1, HEIGHT, WIDTH)
    pictures = np.where(outline[..., None], (-1.0, 0.6, -1.0), (0.8, -1.0, -1.0)).astype(np.float32)
    cells = (1, HEIGHT // 4, WIDTH // 4)
    sightings = Sightings(
        np.ones(cells), np.zeros((*cells, 3)), np.zeros((*cells, 50)), DIRECTIONS[None], np.zeros(cells),
        np.full((1, HEIGHT, WIDTH), depth),
    )  # fmt: skip
    return Film(pictures, cameras, outline.astype(np.int16), sightings), outline


def _body() -> Body:
    matrix = np.eye(4)
    matrix[:3, 3] = MIDDLE
    return Body(BOX, {0: matrix})


@pytest.mark.parametrize("depth", [2.0, 3.1, 6.0])
def test_pixels_lie_within_the_body(depth: float) -> None:
    """However wrong the estimate, everything lies in the box, give or take the 3 cm that a ray may pass beside it, in
    the colours and at the pixels of the film."""
    film, outline = _film(depth)
    look = painted(_body(), outline, film, 0)
    assert len(look) > 0.7 * outline.sum()
    local = look.means.double().numpy() - MIDDLE
    assert (np.abs(local) <= np.abs(BOX).max(0) + 0.031).all()
    assert torch.allclose(sh_dc_to_rgb(look.sh[:, 0]), torch.tensor([0.0, 0.8, 0.0]), atol=1e-5)
    row, column, inside = film.seen(look.means.double().numpy(), 0)
    assert inside.all() and outline[0, np.rint(row).astype(int), np.rint(column).astype(int)].all()


def test_near_estimates_lie_on_the_near_side() -> None:
    """What is estimated too near is put where its ray enters, what too far where it leaves."""
    depths = []
    for depth in (2.0, 6.0):
        film, outline = _film(depth)
        depths.append(
            float(np.linalg.norm(painted(_body(), outline, film, 0).means.numpy() - (0, 0, 1), axis=1).mean())
        )
    assert depths[1] - depths[0] > 0.3


def test_elsewhere_nothing_is_painted() -> None:
    """Rays that pass a body show nothing of it."""
    film, outline = _film(3.0)
    assert len(painted(_body(), np.roll(outline, 40, axis=2), film, 0)) == 0


def test_what_no_body_is_known_of_lies_where_the_film_shows_it() -> None:
    """Two things in one picture: each pixel at its depth and in its colour; at edges where the estimate falls off to
    what is behind, as deep as the nearest believed pixel; a thing that has none is left out."""
    film, outline = _film(3.0)
    assert film.shown is not None and film.sightings is not None
    left = outline & (np.arange(WIDTH) < WIDTH // 2)
    film.shown[left], film.shown[:, :4, :6] = 7, 9
    rim = outline & ~np.roll(outline, (2, 2), axis=(1, 2))
    film.sightings.depth[rim] = 8.0
    believed = np.where(outline & ~rim, film.shown, 0)
    look, numbers = as_filmed(film, believed, 0)
    assert set(numbers) == {1, 7} and len(numbers) == len(look)
    depth = (
        look.means.double() @ film.cameras.world_to_camera[0, 2, :3].double() + film.cameras.world_to_camera[0, 2, 3]
    )
    assert torch.allclose(depth, torch.full_like(depth, 3.0), atol=1e-4)
    assert torch.allclose(sh_dc_to_rgb(look.sh[:, 0]), torch.tensor([0.0, 0.8, 0.0]), atol=1e-5)
    row, column, _ = film.seen(look.means.double().numpy(), 0)
    assert (film.shown[0, np.rint(row).astype(int), np.rint(column).astype(int)] == numbers).all()
    assert len(as_filmed(film, np.zeros_like(believed), 0)[0]) == 0
