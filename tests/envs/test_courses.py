"""Goals lie on one piece of floor, and ways go around what stands in them."""

from __future__ import annotations

import math

import numpy as np
import torch
import trimesh

from omni_gen3d.envs.courses import Ways, blocked_cells, lay_course
from omni_gen3d.envs.occupancy import FREE, OCCUPIED, OccupancyMap
from omni_gen3d.types import TriMesh


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
    # From within the wall: to the nearest place that is free, and from there.
    inside = ways.length(torch.zeros(1, dtype=torch.long), torch.tensor([goal]), torch.tensor([[-0.5, 3.5]]))
    assert float(inside) in (2.0, 1.0 + float(found[2]))


def test_a_place_beyond_the_map_is_not_free() -> None:
    """Of two courses each is looked up in its own cells."""
    courses = [lay_course(plan_of(rows), goal_distance=(0.5, 20.0)) for rows in (["..#."], ["..", ".#"])]
    ways = Ways([course for course in courses if course is not None], torch.device("cpu"))
    row = torch.tensor([[-0.5, 2.5], [0.5, 2.5], [1.5, 2.5], [-1.5, 2.5], [0.5, 3.5]])
    assert ways.is_free(torch.tensor(0), row).tolist() == [True, True, False, False, False]
    assert ways.is_free(torch.tensor(1), row).tolist() == [True, False, False, False, True]


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


def test_detours_are_those_whose_straight_line_meets_something() -> None:
    """A pillar in an open room blocks the lines through its middle, as far as the robot is wide."""
    plan = OccupancyMap(np.full((20, 20), FREE, np.uint8), (0.0, 0.0), 0.1)
    pillar = trimesh.creation.box((0.2, 0.2, 1.0))
    pillar.apply_translation((1.0, 1.0, 0.5))
    solid = TriMesh(np.asarray(pillar.vertices, np.float32), np.asarray(pillar.faces))
    blocked = blocked_cells(plan, solid, robot_radius=0.25, heights=(0.1, 0.5))
    middles = (np.stack(np.meshgrid(np.arange(20), np.arange(20), indexing="ij"), -1) + 0.5) * 0.1
    outside = np.maximum(np.abs(middles - 1.0) - 0.1, 0)
    apart = np.hypot(outside[..., 0], outside[..., 1])
    assert blocked[apart < 0.1].all() and not blocked[apart >= 0.25].any()
    assert not blocked_cells(plan, solid, robot_radius=0.25, heights=(1.1, 1.5)).any()  # it drives over the pillar
    course = lay_course(plan, goal_distance=(0.5, 3.0), blocked=blocked)
    assert course is not None
    for goal, starts, detours in zip(course.goals, course.starts, course.detours, strict=True):
        lines = starts + np.linspace(0, 1, 200)[:, None, None] * (goal - starts)
        apart = np.hypot(*np.moveaxis(np.maximum(np.abs(lines - 1.0) - 0.1, 0), -1, 0)).min(0)
        chosen = (starts[:, None] == detours).all(-1).any(1)
        assert chosen[apart < 0.05].all() and not chosen[apart > 0.3].any() and chosen.sum() == len(detours)
    plain = lay_course(plan, goal_distance=(0.5, 3.0))
    assert plain is not None and plain.detours == ()
