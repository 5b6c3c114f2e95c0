"""The types check what they are given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.types import Cameras, Gaussians, TriMesh, VideoLatents


@pytest.fixture
def gaussians() -> Gaussians:
    quats = torch.tensor([[1.0, 0, 0, 0]]).repeat(5, 1)
    return Gaussians(torch.zeros(5, 3), quats, torch.ones(5, 3), torch.full((5,), 0.5), torch.zeros(5, 4, 3))


def eyes(count: int) -> torch.Tensor:
    return torch.eye(4).repeat(count, 1, 1)


def test_good_values_pass(gaussians):
    """A proper set validates, knows its degree and can be sliced."""
    gaussians.validate()
    assert (len(gaussians), gaussians.sh_degree, len(gaussians[:2])) == (5, 1, 2)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("means", torch.full((5, 3), torch.nan), "means"),
        ("scales", torch.zeros(5, 3), "scales"),
        ("opacities", torch.full((5,), 1.5), "opacities"),
        ("quats", torch.ones(5, 4), "quats"),
    ],
)
def test_bad_values_are_named(gaussians, field, value, message):
    """NaN, scales that are not positive, opacities beyond 1 and quaternions off unit length are refused by name."""
    with pytest.raises(InputError, match=message):
        replace(gaussians, **{field: value}).validate()


def test_infinities_of_both_signs_do_not_cancel(gaussians):
    """One of each sign is found as one alone is; values whose sum overflows are none the worse for it."""
    sh = gaussians.sh.clone()
    sh[0, 0, 0], sh[0, 0, 1] = float("inf"), -float("inf")
    with pytest.raises(InputError, match="sh holds NaN or infinite values in 1 of"):
        replace(gaussians, sh=sh).validate()
    replace(gaussians, sh=torch.full_like(sh, 3e38)).validate()


@pytest.mark.parametrize(
    ("field", "shape"), [("means", (5, 2)), ("quats", (4, 4)), ("opacities", (5, 1)), ("sh", (5, 5, 3))]
)
def test_bad_shapes_are_named(gaussians, field, shape):
    """A shape that does not fit is refused when the set is built."""
    with pytest.raises(InputError, match=field):
        replace(gaussians, **{field: torch.zeros(shape)})


def test_no_gaussians_are_no_scene(gaussians):
    """An empty set does not validate."""
    with pytest.raises(InputError, match="0 Gaussians"):
        gaussians[:0].validate()


def test_cameras_know_where_they_are():
    """Positions are those of the inverse; sizes and counts must fit."""
    world_to_camera = eyes(2)
    world_to_camera[1, :3, 3] = torch.tensor([1.0, 2, 3])
    cameras = Cameras(world_to_camera, torch.eye(3).repeat(2, 1, 1), 4, 3)
    torch.testing.assert_close(cameras[1:].positions, torch.tensor([[-1.0, -2, -3]]))
    with pytest.raises(InputError, match="intrinsics"):
        Cameras(world_to_camera, torch.eye(3)[None], 4, 3)
    with pytest.raises(InputError, match="0x3"):
        replace(cameras, width=0)


def test_video_latents_count_their_cameras():
    """Six trajectories of three latent frames need 6 x 17 cameras."""
    cameras = Cameras(eyes(102), torch.eye(3).repeat(102, 1, 1), 32, 16)
    video = VideoLatents(torch.zeros(6, 16, 3, 2, 4), torch.zeros(6, 3, 8, 16), cameras, 17)
    assert len(video.cameras) == 102
    with pytest.raises(InputError, match="cameras"):
        replace(video, cameras=cameras[:100])
    with pytest.raises(InputError, match="cache_depth"):
        replace(video, cache_depth=torch.zeros(6, 3, 8, 8))


def test_meshes_index_their_vertices():
    """A face that points past the vertices is refused."""
    TriMesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]], np.int32))
    with pytest.raises(InputError, match="3 vertices"):
        TriMesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 3]], np.int32))
