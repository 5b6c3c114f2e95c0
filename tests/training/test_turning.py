"""Where the views that the diffusion network completes are taken from."""

from __future__ import annotations

import math

import pytest
import torch

from omni_gen3d.training.clips import Views, sample_views
from omni_gen3d.training.turning import turn_about_vertical, turning_cameras
from omni_gen3d.training.worlds import distance_to_nearest, world_generator


@pytest.fixture(scope="module")
def views() -> Views:
    return sample_views(48, 32, 16, world_generator(3, "train", "cpu"))


def test_a_turn_keeps_place_and_pitch() -> None:
    """Turned by 90 degrees a camera that looks along +X looks along +Y, from the same place and as far down."""
    camera = torch.eye(4)
    camera[:3, :3] = torch.stack(
        [camera.new_tensor(axis) for axis in ([0, -1, 0], [-0.6, 0, -0.8], [0.8, 0, -0.6])], -1
    )
    camera[:3, 3] = torch.tensor([1.0, 2.0, 1.5])
    turned = turn_about_vertical(camera[None], torch.tensor([math.pi / 2]))[0]
    torch.testing.assert_close(turned[:3, 2], torch.tensor([0.0, 0.8, -0.6]))
    torch.testing.assert_close(turned[:3, 3], camera[:3, 3])


def test_views_lie_clear_between_what_is_known(views: Views) -> None:
    """The start camera comes second, the view to complete is clear of solids and turns at most 65 degrees from it."""
    cameras, second_known = turning_cameras(views, torch.Generator().manual_seed(0))
    torch.testing.assert_close(cameras[:, 1], torch.eye(4).expand(48, 4, 4), atol=1e-5, rtol=0)
    in_world = views.camera_to_world[:, None] @ cameras
    assert float(distance_to_nearest(views.worlds, in_world[:, :1, :3, 3]).min()) > 0.2
    ahead = torch.nn.functional.normalize(in_world[:, :, :2, 2], dim=-1)
    turn = torch.rad2deg((ahead[:, 0] * ahead[:, 1]).sum(-1).clamp(-1, 1).arccos())
    assert float(turn.max()) <= 65.01
    moved = cameras[:, 0, :3, 3].norm(dim=-1)
    assert 0.1 < float((moved > 0.1).float().mean()) < 0.7
    assert float(turn[moved > 0.1].max()) <= 25.01
    assert 0.1 < float(second_known.float().mean()) < 0.9
