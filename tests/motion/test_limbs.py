"""What moves in two ways, or stays, is told apart by its colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from omni_gen3d.motion.film import Film
from omni_gen3d.motion.following import Follower
from omni_gen3d.motion.limbs import limbs_shown, moving_together
from omni_gen3d.types import Cameras

TIMES, HEIGHT, WIDTH, REFERENCE = 9, 80, 120, 4
AWAY_M, PIXELS_PER_M = 2.0, 50.0


@pytest.fixture(scope="module")
def two_squares() -> tuple[Film, np.ndarray, np.ndarray]:
    """Two squares before a wall, seen from straight above, one of which goes to the right and one down; the body of
    each pixel by time, 0 for the wall, and outlines that hold both and some of the wall."""
    rng = np.random.default_rng(0)

    def pattern(height: int, width: int) -> np.ndarray:
        return np.repeat(np.repeat(rng.uniform(-0.9, 0.9, (height // 4, width // 4, 3)), 4, 0), 4, 1)

    pictures = np.tile(pattern(HEIGHT, WIDTH), (TIMES, 1, 1, 1)).astype(np.float32)
    bodies = np.zeros((TIMES, HEIGHT, WIDTH), np.int16)
    looks = pattern(20, 20), pattern(20, 20)
    for time in range(TIMES):
        for body, (row, column) in enumerate([(30, 24 + 2 * time), (14 + 2 * time, 62)]):
            at = np.s_[time, row : row + 20, column : column + 20]
            pictures[at], bodies[at] = looks[body], body + 1
    outlines = np.zeros(bodies.shape, np.bool_)
    outlines[:, 10:60, 20:86] = True
    lens = torch.tensor([[100.0, 0, WIDTH / 2], [0, 100, HEIGHT / 2], [0, 0, 1]])
    cameras = Cameras(torch.eye(4).repeat(TIMES, 1, 1), lens.repeat(TIMES, 1, 1), WIDTH, HEIGHT)
    return Film(pictures, cameras), bodies, outlines


def points_of(pixels: np.ndarray) -> np.ndarray:
    """Where pixels ``(N, 2)``, rows and columns, are in the world of the camera."""
    row, column = pixels.T + 0.5
    return np.column_stack(
        [(column - WIDTH / 2) / PIXELS_PER_M, (row - HEIGHT / 2) / PIXELS_PER_M, np.full(len(row), AWAY_M)]
    )


def same_bodies(found: np.ndarray, true: np.ndarray) -> float:
    """Share of what is of the same body, whichever way the two are numbered."""
    swapped = np.array([0, 2, 1])[true]
    return max(float((found == true).mean()), float((found == swapped).mean()))


def test_each_point_moves_with_its_body(two_squares) -> None:
    """Nine of ten points between and on the squares are told right, and those of the wall stay."""
    film, bodies, outlines = two_squares
    pixels = np.argwhere(outlines[REFERENCE])[::2]
    found = moving_together(Follower(film), points_of(pixels), REFERENCE, range(TIMES))
    assert same_bodies(found, bodies[REFERENCE][tuple(pixels.T)]) > 0.9


def test_outlines_fall_apart_at_all_times(two_squares) -> None:
    """At the first and the last time, too, pixels are of the body that they show."""
    film, bodies, outlines = two_squares
    pixels = np.argwhere(outlines[REFERENCE])[::2]
    shown = limbs_shown(film, points_of(pixels), REFERENCE, range(TIMES), outlines)
    for time in (0, TIMES - 1):
        assert same_bodies(shown[time][outlines[time]], bodies[time][outlines[time]]) > 0.8
    assert not shown[~outlines].any()


def test_one_square_is_one_body(two_squares) -> None:
    """Of points that all move alike none is of another body."""
    film, bodies, _ = two_squares
    pixels = np.argwhere(bodies[REFERENCE] == 1)
    assert set(moving_together(Follower(film), points_of(pixels), REFERENCE, range(TIMES))) == {1}
