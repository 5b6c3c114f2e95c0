"""What belongs to a rigid thing stays within its outlines."""

from __future__ import annotations

import numpy as np
import torch

from omni_gen3d.motion.carving import stay_within
from omni_gen3d.motion.film import Film, join_films
from omni_gen3d.types import Cameras

TIMES, HEIGHT, WIDTH = 5, 60, 100


def film_of_a_square() -> tuple[Film, dict[int, np.ndarray]]:
    """A square of 20 pixels that goes 8 to the right a time, 2 m away, and each time's motion onto the first."""
    lens = torch.tensor([[100.0, 0, WIDTH / 2], [0, 100, HEIGHT / 2], [0, 0, 1]])
    cameras = Cameras(torch.eye(4).repeat(TIMES, 1, 1), lens.repeat(TIMES, 1, 1), WIDTH, HEIGHT)
    shown = np.zeros((TIMES, HEIGHT, WIDTH), np.int16)
    onto = {}
    for time in range(TIMES):
        shown[time, 20:40, 30 + 8 * time : 50 + 8 * time] = 1
        onto[time] = np.eye(4)
        onto[time][0, 3] = -0.16 * time
    return Film(np.zeros((TIMES, HEIGHT, WIDTH, 3), np.float32), cameras, shown), onto


def test_what_leaves_the_outlines_is_not_of_the_thing() -> None:
    """The middle of the square stays, also where the camera sees it for a while only; floor beside it goes."""
    film, onto = film_of_a_square()
    middle, beside = (-0.2, 0.0, 2.0), (0.2, 0.0, 2.0)
    assert film.shown is not None
    assert stay_within(np.array([middle, beside]), onto, film, film.shown > 0).tolist() == [True, False]
    # Pushed out of the picture on the left at all times but the last three: where nothing is asked, nothing tells.
    far = {time: matrix.copy() for time, matrix in onto.items()}
    for time in range(2):
        far[time][0, 3] = 5.0
    assert stay_within(np.array([middle]), far, film, film.shown > 0).tolist() == [True]


def test_outlines_are_joined_as_pictures_are() -> None:
    """The frame that two windows share counts once; without outlines in one there are none in all."""
    film, _ = film_of_a_square()
    joined = join_films([film, film])
    assert joined.shown is not None and len(joined.shown) == len(joined) == 2 * TIMES - 1
    assert join_films([film, Film(film.pictures, film.cameras)]).shown is None
