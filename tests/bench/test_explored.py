"""How rooms are measured, and a robot that drives where the floor is and stops where it is not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from omni_gen3d.bench.explored import bench_room, checks_of, largest_square
from omni_gen3d.bench.newton_drive import drive
from omni_gen3d.errors import InputError
from omni_gen3d.types import ProxyPart, TriMesh

_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
_QUADS = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
_FACES = _QUADS[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3).astype(np.int32)


def box(centre: tuple[float, float, float], half: tuple[float, float, float]) -> ProxyPart:
    return ProxyPart(
        "box", "object", TriMesh(_CORNERS * np.array(half, np.float32) + np.array(centre, np.float32), _FACES)
    )


def test_largest_square_is_that_of_every_square() -> None:
    """The same side as trying every square of every size."""
    free = np.random.default_rng(0).random((30, 24)) < 0.85
    sides = [
        side
        for side in range(1, 25)
        for i in range(31 - side)
        for j in range(25 - side)
        if free[i : i + side, j : j + side].all()
    ]
    assert largest_square(free) == max(sides)
    assert largest_square(np.zeros((3, 3), bool)) == 0


def test_checks_take_the_worst_seed() -> None:
    good = {"square_m": 4.5, "closed_deg": 360.0, "loss_db": 0.2, "drove": True, "within_5cm": 0.6, "s": 100.0}
    assert all(check.ok for check in checks_of([good, good], "cpu"))
    bad = {"square_m": 3.0, "closed_deg": 300.0, "loss_db": 2.0, "drove": False, "within_5cm": 0.4, "s": 200.0}
    assert not any(check.ok for check in checks_of([good, bad], "cpu"))
    assert not checks_of([good], "cuda")[-1].ok


def test_a_robot_drives_on_a_floor_until_something_stops_it() -> None:
    """A bend on a slab is driven to its end; over a slab's edge the robot falls; a wall blocks it."""
    floor = box((0, 0, -0.2), (2, 2, 0.2))
    angle = np.linspace(0, math.pi / 2, 30)
    bend = 0.5 * np.stack([np.cos(angle), np.sin(angle)], 1)
    done = drive((floor,), bend)
    assert done.failure is None and done.share == 1.0
    assert done.tilt_deg < 5 and abs(done.lowest_m) < 0.01
    straight = np.stack([np.linspace(1.6, 3.0, 40), np.zeros(40)], 1)
    assert drive((floor,), straight).failure in ("fell", "upset")
    wall = box((2.1, 0, 0.3), (0.1, 1, 0.3))
    assert drive((floor, wall), straight).failure == "blocked"


def test_no_seeds_are_refused() -> None:
    import torch

    with pytest.raises(InputError, match="seeds"):
        bench_room(0, torch.device("cpu"))
