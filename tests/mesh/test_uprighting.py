"""Up is found in the splats themselves: by the floor, by what stands on it, and by custom where both are silent."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch

from omni_gen3d.geometry import quat_to_matrix, transform_gaussians
from omni_gen3d.mesh.squaring import yaw_to_walls
from omni_gen3d.mesh.uprighting import UpAxis, upright_scene
from omni_gen3d.types import Gaussians

# From Z-up to a file in which this axis is up.
FROM_Z_UP: dict[UpAxis, torch.Tensor] = {
    "-y": torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "y": torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "z": torch.eye(3),
}
UNITS = 0.3  # of the file, per metre


def turn(axis: tuple[float, float, float], degrees: float) -> torch.Tensor:
    half = math.radians(degrees) / 2
    direction = torch.nn.functional.normalize(torch.tensor(axis).float(), dim=0) * math.sin(half)
    return quat_to_matrix(torch.cat([torch.tensor([math.cos(half)]), direction]))


@pytest.mark.parametrize("up", get_args(UpAxis))
@pytest.mark.parametrize("tilt", [((1, 0, 0), 0), ((1, 0.5, 0), 14), ((0.3, -1, 0.4), -25), ((0, 0, 1), 33)])
def test_room_is_found_upright(up: UpAxis, tilt: tuple, room: Gaussians) -> None:
    """Box and column tell the floor from the ceiling, whatever the order of the axes; walls end square, floor at 0."""
    turned, shift = FROM_Z_UP[up] @ turn(*tilt), torch.tensor([0.4, -1.0, 2.0])
    scene = transform_gaussians(room, turned, shift, UNITS)
    orders: list[tuple[UpAxis, ...]] = [("-y", "z", "y"), ("y", "-y", "z")]
    for axes in orders:
        motion = upright_scene(scene, axes)
        assert motion.floor_found and motion.note is None
        rotation = motion.rotation @ turned.double()
        assert float(rotation[2, 2]) > math.cos(math.radians(0.1))
        assert float(rotation[:2, :2].abs().amax(1).min()) > math.cos(math.radians(0.2))
        floor = UNITS * rotation @ torch.tensor([3.0, 0, 0]).double() + motion.rotation @ shift.double()
        assert abs(float((floor + motion.translation)[2])) < 0.005 * UNITS
        assert motion.translation[:2].tolist() == [0, 0]


def test_custom_decides_where_nothing_else_does(scene_of_discs: Callable[..., Gaussians]) -> None:
    """An empty closed box is the same upside down: the axis given first is up."""
    x, y, z = (4.0, 0.0, 0.0), (0.0, 4.0, 0.0), (0.0, 0.0, 2.4)
    rectangles = [((0, 0, 0), x, y), ((0, 0, 2.4), y, x), ((0, 0, 0), z, y), ((4, 0, 0), y, z), ((0, 0, 0), x, z)]
    empty = scene_of_discs([*rectangles, ((0, 4, 0), z, x)], spacing=0.08)
    scene = transform_gaussians(empty, FROM_Z_UP["-y"], torch.zeros(3))
    orders: list[tuple[UpAxis, ...]] = [("-y", "z", "y"), ("y", "z", "-y")]
    for axes, sign in zip(orders, (-1, 1), strict=True):
        assert sign * float(upright_scene(scene, axes).rotation[2, 1]) > 0.99


def test_without_levelling_axes_are_only_exchanged(room: Gaussians) -> None:
    """A room tilted by 8 degrees keeps its tilt; every entry of the rotation is 0 or 1, and the shift is vertical."""
    scene = transform_gaussians(room, FROM_Z_UP["y"] @ turn((1, 0, 0), 8), torch.zeros(3))
    motion = upright_scene(scene, ("-y", "z", "y"), level=False)
    assert motion.floor_found
    assert torch.equal(motion.rotation, FROM_Z_UP["y"].T.double())


def test_no_floor_is_said(bare_wall: Gaussians) -> None:
    """A wall alone: the first axis is taken, the lowest of it put near 0, and a note says so."""
    motion = upright_scene(bare_wall, ("z",))
    assert not motion.floor_found and motion.note is not None and "no floor" in motion.note
    heights = bare_wall.means[:, 2].double() + motion.translation[2]
    assert -0.3 < float(heights.min()) < 0.1


def test_same_seed_finds_the_same(room: Gaussians) -> None:
    """Bit for bit."""
    one, two = (upright_scene(room, ("-y", "z", "y"), seed=5) for _ in range(2))
    assert torch.equal(one.rotation, two.rotation) and torch.equal(one.translation, two.translation)


def test_round_rooms_are_not_turned() -> None:
    """Without straight walls the yaw stays."""
    angle = torch.linspace(0, 2 * math.pi, 4001)[:-1]
    tower = torch.stack([2 * angle.cos(), 2 * angle.sin(), (angle * 37) % 3], 1).double().numpy()
    assert (yaw_to_walls(tower, 0.03) == torch.eye(3).numpy()).all()
