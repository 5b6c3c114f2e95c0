"""Goals lie on one piece of floor, and ways go around what stands in them."""

from __future__ import annotations

import math

import numpy as np
import torch

from omni_gen3d.envs.courses import Ways, lay_course
from omni_gen3d.envs.occupancy import FREE, OCCUPIED, OccupancyMap


def plan_of(rows: list[str]) -> OccupancyMap:
    """Rows along -Y, ``.`` free, cells of 1 m; the low corner at (-1, 2)."""
    picture = np.array([[FREE if cell == "." else OCCUPIED for cell in row] for row in rows], np.uint8)
    return OccupancyMap(np.flipud(picture).T, (-1.0, 2.0), 1.0)


def test_the_way_leads_around_a_wall() -> None:
    """Lengths over eight neighbours, worked out by hand; a place beyond the map counts as its edge."""
    course = lay_course(plan_of([".....", "####.", "....."]), goal_distance=(0.5, 20.0))
    assert course is not None
    ways = Ways([course], torch.device("cpu"))
    goal = int(np.flatnonzero((course.goals == [-0.5, 4.5]).all(1))[0])
    places = torch.tensor([[-0.5, 4.5], [3.5, 4.5], [-0.5, 2.5], [-9.0, 9.0]])
    found = ways.length(torch.zeros(4, dtype=torch.long), torch.full((4,), goal), places)
    np.testing.assert_allclose(found, [0, 4, 6 + 2 * math.sqrt(2), 0], atol=1e-5)


def test_goals_and_starts_are_connected_and_as_far_as_asked() -> None:
    """Two rooms without a door: no start is across, and each is 2 to 3 m of way from its goal."""
    course = lay_course(plan_of(["....#....", "....#....", "....#...."]), goal_distance=(2.0, 3.0))
    assert course is not None
    for number, (goal, starts) in enumerate(zip(course.goals, course.starts, strict=True)):
        assert len(starts) and ((starts[:, 0] > 3.5) == (goal[0] > 3.5)).all()
        lengths = Ways([course], torch.device("cpu")).length(
            torch.zeros(len(starts), dtype=torch.long), torch.full((len(starts),), number), torch.tensor(starts).float()
        )
        assert (lengths >= 2).all() and (lengths <= 3).all()
    assert lay_course(plan_of(["..#.."]), goal_distance=(2.0, 3.0)) is None
