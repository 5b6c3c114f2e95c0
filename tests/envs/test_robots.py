"""Wheeled robots in Newton drive as they are told, stop at walls, and feel them."""

from __future__ import annotations

import math

import pytest
import torch

from omni_gen3d.envs.entry import Entry
from omni_gen3d.envs.newton import join_parts
from omni_gen3d.envs.robots import RobotBody, Robots
from omni_gen3d.errors import InputError
from omni_gen3d.usd import read_environment

RADIUS_M = 0.25


def robots_in(entries: list[Entry], poses: list[tuple[float, float, float]], scale: float = 1.0, friction: float = 0.6):
    """A robot at each pose, all in the first environment."""
    robots = Robots([join_parts(read_environment(entry.folder).parts) for entry in entries], len(poses))
    count = len(poses)
    robots.place(
        torch.arange(count),
        torch.zeros(count),
        torch.tensor(poses),
        scales=torch.full((count,), scale),
        yaws=torch.zeros(count),
        frictions=torch.full((count,), friction),
    )
    return robots


def test_robots_drive_turn_and_stop_at_walls(rooms: list[Entry]) -> None:
    """Full speed forwards ends at the wall's face, a turn on the spot stays there, and a way that is free is driven."""
    robots = robots_in(rooms[:1], [(1.0, -1.0, 0.0), (0.0, 0.0, 0.0), (-1.0, -1.0, math.pi / 2)])
    actions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    touched = torch.zeros(3, dtype=torch.bool)
    for _ in range(10):
        robots.step(actions)
        touched |= robots.touching
    assert touched.tolist() == [True, False, False]
    x, y, _ = robots.pose[0].tolist()
    assert x == pytest.approx(2 - RADIUS_M, abs=0.01) and y == pytest.approx(-1, abs=0.01)
    assert robots.pose[1, :2].norm() < 0.01 and robots.pose[1, 2] == pytest.approx(1.5 * 2.0, abs=0.15)
    x, y, _ = robots.pose[2].tolist()
    assert x == pytest.approx(-1, abs=1e-3) and y == pytest.approx(-1 + 0.6 * 2.0, abs=0.05)


def test_friction_limits_how_fast_wheels_pull_away(rooms: list[Entry]) -> None:
    """On ice of friction 0.05 a robot gains 0.05 g in a second of 0.2 s steps, as far as it has got by then."""
    robots = robots_in(rooms[:1], [(-1.5, -1.0, 0.0)], friction=0.05)
    robots.step(torch.tensor([[1.0, 0.0]]))
    assert robots.speed[0, 0] == pytest.approx(0.05 * 9.81 * 0.2, rel=0.01)


def test_another_collider_surrounds_a_robot_that_is_placed_anew(rooms: list[Entry]) -> None:
    """After a swap into a room scaled to a half, the wall is met at half the distance."""
    robots = robots_in(rooms, [(0.5, -0.5, 0.0)])
    for world, scale, wall in ((1, 0.5, 1.0), (2, 1.0, 2.0)):
        robots.place(
            torch.tensor([0]),
            torch.tensor([world]),
            torch.tensor([[0.5, -0.5, 0.0]]),
            scales=torch.tensor([scale]),
            yaws=torch.zeros(1),
            frictions=torch.full((1,), 0.6),
        )
        for _ in range(12):
            robots.step(torch.tensor([[1.0, 0.0]]))
        assert robots.touching.all()
        assert robots.pose[0, 0] == pytest.approx(wall - RADIUS_M, abs=0.01)


def test_a_body_that_would_scrape_the_floor_is_refused() -> None:
    """The message names the heights."""
    with pytest.raises(InputError, match=r"from 0\.01 to 0\.5"):
        RobotBody(clearance=0.01, height=0.5)
