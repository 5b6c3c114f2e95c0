"""The depth network, tiny and untrained."""

from __future__ import annotations

import math

import pytest
import torch

from omni_gen3d.video.depth import MAX_DEPTH_M, MIN_DEPTH_M, DepthNetwork, estimate_depth, estimate_fov, ray_image

HEIGHT, WIDTH = 16, 32
FOV = math.radians(60)


def network(seed: int = 0) -> DepthNetwork:
    torch.manual_seed(seed)
    return DepthNetwork(channels=(8, 32), num_attention_layers=1).eval()


def pictures(count: int) -> torch.Tensor:
    return torch.rand(count, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.no_grad()
def test_each_picture_of_a_batch_stands_alone():
    """A batch gives one depth map and one positive tangent a picture, the same as one picture at a time."""
    made, batch = network(), pictures(2)
    log_depth, tangent = made(batch, torch.zeros(2, 2, HEIGHT, WIDTH))
    assert log_depth.shape == (2, HEIGHT, WIDTH) and tangent.shape == (2,)
    assert bool((tangent > 0).all())
    alone, _ = made(batch[1:], torch.zeros(1, 2, HEIGHT, WIDTH))
    torch.testing.assert_close(log_depth[1:], alone, atol=1e-5, rtol=1e-5)


def test_depth_follows_weights_and_lens():
    """The same weights and lens give the same bytes; another lens or other weights give another depth."""
    picture = pictures(1)[0]
    depth = estimate_depth(network(), picture, FOV)
    assert depth.shape == (HEIGHT, WIDTH)
    assert torch.equal(depth, estimate_depth(network(), picture, FOV))
    assert not torch.equal(depth, estimate_depth(network(), picture, 2 * FOV))
    assert not torch.equal(depth, estimate_depth(network(1), picture, FOV))


@pytest.mark.parametrize(("bias", "limit"), [(-50.0, MIN_DEPTH_M), (50.0, MAX_DEPTH_M)])
def test_depth_stays_in_its_range(bias, limit):
    """However extreme the network's answer, the depth stops at the nearest or farthest allowed."""
    made = network()
    torch.nn.init.constant_(made.depth_head.bias, bias)
    depth = estimate_depth(made, pictures(1)[0], FOV)
    torch.testing.assert_close(depth, torch.full((HEIGHT, WIDTH), limit))


def test_fov_head_speaks_in_tangents():
    """A head that answers the tangent 1 whatever it sees means a field of view of 90 degrees."""
    made = network()
    torch.nn.init.zeros_(made.fov_head.weight)
    torch.nn.init.constant_(made.fov_head.bias, math.log(math.e - 1))
    assert estimate_fov(made, pictures(1)[0]) == pytest.approx(math.pi / 2, abs=1e-5)


def test_ray_image_holds_the_slope_of_every_pixel():
    """Channel 0 is x / z and channel 1 is y / z at pixel centres."""
    lens = torch.tensor([[[20.0, 0, 15], [0, 10, 7], [0, 0, 1]]])
    rays = ray_image(lens, HEIGHT, WIDTH)
    assert rays.shape == (1, 2, HEIGHT, WIDTH)
    assert float(rays[0, 0, 3, 9]) == pytest.approx((9.5 - 15) / 20)
    assert float(rays[0, 1, 3, 9]) == pytest.approx((3.5 - 7) / 10)
