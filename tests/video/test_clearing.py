"""The square that stays free: where it lies, and what its cameras see of it."""

from __future__ import annotations

import pytest
import torch

from omni_gen3d.geometry import intrinsics_from_focal, pixel_rays
from omni_gen3d.types import Ground
from omni_gen3d.video.clearing import Clearing, find_clearing
from omni_gen3d.video.exploring import turn

HEIGHT, WIDTH = 120, 160
UP = torch.tensor([0.0, -1.0, 0.0])
LENS = intrinsics_from_focal(0.5 * WIDTH, WIDTH, HEIGHT)
METRES_PER_UNIT, SIDE_M = 2.0, 4.0


def view(wall_m: float, left_wall_m: float = 99.0) -> tuple[torch.Tensor, Ground]:
    """Depth and floor [scene units] of a room with a wall ahead and one to the left; the camera is 1 m up."""
    rays = pixel_rays(LENS, HEIGHT, WIDTH)
    x, y, _ = rays.unbind(-1)
    to_floor = torch.where(y > 0, 1.0 / y.clamp(min=1e-6), torch.inf)
    to_left = torch.where(x < 0, -left_wall_m / x.clamp(max=-1e-6), torch.inf)
    depth = torch.stack([to_floor, to_left, torch.full_like(x, wall_m)]).amin(0)
    return depth / METRES_PER_UNIT, Ground(UP, 1.0 / METRES_PER_UNIT, depth == to_floor)


def clearing(wall_m: float, left_wall_m: float = 99.0) -> Clearing:
    depth, ground = view(wall_m, left_wall_m)
    return find_clearing(depth, ground, LENS, METRES_PER_UNIT, SIDE_M)


@pytest.mark.parametrize("wall_m", [1.5, 2.5, 9.0])
def test_the_square_ends_before_what_stands_ahead(wall_m: float) -> None:
    """It reaches as far ahead as the wall lets it, or as the camera may stand at its rear; it is centred sideways."""
    found = clearing(wall_m)
    low, high = found.low * METRES_PER_UNIT, found.high * METRES_PER_UNIT
    assert float(high[0]) == pytest.approx(min(wall_m, SIDE_M - 0.6), abs=0.15)
    torch.testing.assert_close((high - low)[:2], torch.full((2,), SIDE_M))
    assert float((low + high)[1].abs()) < 1e-4
    assert float(low[2]) == 0 and float(high[2]) > 1


@pytest.mark.parametrize("left_wall_m", [1.0, 1.8])
def test_the_square_steps_aside(left_wall_m: float) -> None:
    """A wall to the left pushes it to the right: staying centred would end it where that wall is first seen."""
    found = clearing(9.0, left_wall_m)
    assert float(found.high[1]) * METRES_PER_UNIT == pytest.approx(left_wall_m, abs=0.11)
    assert float(found.high[0]) * METRES_PER_UNIT == pytest.approx(SIDE_M - 0.6, abs=0.01)


def test_points_off_the_floor_are_held() -> None:
    """Above and below the floor of the square, but for what lies on it; nothing beside or above the box."""
    found = clearing(2.5)
    local = torch.tensor([[0.0, 0, 0.2], [0, 0, -0.2], [0, 0, 0.001], [0, 1.1, 0.2], [0, 0, 9]])
    points = (local - found.translation) @ found.rotation
    assert found.holds(points, off_floor=0.01).tolist() == [True, True, False, False, False]
    assert not bool(found.holds(points, off_floor=0.01, off_border=1.0).any())


@pytest.mark.parametrize("degrees", [0, 60, -135, 180])
def test_rays_leave_through_the_box_faces(degrees: int) -> None:
    """Every ray ends on the box's surface, on the floor where it is said so; just before that it is inside."""
    found, (_, ground) = clearing(2.5), view(2.5)
    pose = turn(degrees, ground)
    reach, through_floor = found.seen_by(pose, LENS, HEIGHT, WIDTH)
    rays = pixel_rays(LENS, HEIGHT, WIDTH) @ pose[:3, :3].T
    inside, outside = (found.local(share * reach[..., None] * rays) for share in (0.99, 1.01))
    assert bool(((inside > found.low) & (inside < found.high)).all())
    assert bool(((outside < found.low) | (outside > found.high)).any(-1).all())
    heights = found.local(reach[..., None] * rays)[..., 2]
    assert bool((heights[through_floor].abs() < 1e-5).all()) and float(through_floor.float().mean()) > 0.05
    assert bool((heights[~through_floor] > -1e-5).all())
