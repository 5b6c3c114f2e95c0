"""The camera of one picture keeps its lens wherever it is carried and whatever its size."""

from __future__ import annotations

import math

import pytest
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.geometry import fov_x, intrinsics_from_fov
from omni_gen3d.render.view import pick_camera, resize_cameras, turn_camera
from omni_gen3d.types import Cameras


def toy_cameras() -> Cameras:
    intrinsics = intrinsics_from_fov(math.radians(60), 320, 176).repeat(3, 1, 1)
    intrinsics[:, 0, 2] += 4.0
    return Cameras(torch.eye(4).repeat(3, 1, 1), intrinsics, 320, 176)


def test_pick_refuses_numbers_that_do_not_exist() -> None:
    """The last camera is 2; 3 and -1 are refused by name."""
    assert len(pick_camera(toy_cameras(), 2)) == 1
    for index in (3, -1):
        with pytest.raises(InputError, match=f"camera {index} does not exist; the environment has cameras 0 to 2"):
            pick_camera(toy_cameras(), index)


def test_turned_camera_sees_its_target_on_the_axis() -> None:
    """The eye maps to the origin and the target to +z at its distance; the lens stays."""
    camera = turn_camera(pick_camera(toy_cameras(), 0), (1.0, 2.0, 1.5), (4.0, -2.0, 1.5))
    points = torch.tensor([[1.0, 2.0, 1.5, 1.0], [4.0, -2.0, 1.5, 1.0]]) @ camera.world_to_camera[0].T
    torch.testing.assert_close(points[:, :3], torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 5.0]]), atol=1e-5, rtol=0)
    assert torch.equal(camera.intrinsics, toy_cameras().intrinsics[:1])


@pytest.mark.parametrize("size", [(640, 352), (160, 160), (100, 300)])
def test_resizing_keeps_the_horizontal_view_and_square_pixels(size: tuple[int, int]) -> None:
    """The left and right borders stay, and so does where the axis meets the picture above and below its middle."""
    resized = resize_cameras(toy_cameras(), *size)
    assert (resized.width, resized.height) == size
    torch.testing.assert_close(fov_x(resized.intrinsics, size[0]), fov_x(toy_cameras().intrinsics, 320))
    torch.testing.assert_close(resized.intrinsics[:, 0, 0], resized.intrinsics[:, 1, 1])
    torch.testing.assert_close(resized.intrinsics[:, 1, 2], torch.full((3,), size[1] / 2))
