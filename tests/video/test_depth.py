"""The depth network around its weights: rays in, metres and angles out."""

from __future__ import annotations

import math

import pytest
import torch

from omni_gen3d.geometry import intrinsics_from_fov
from omni_gen3d.video.depth import MAX_DEPTH_M, MIN_DEPTH_M, DepthNetwork, estimate_depth, estimate_fov, ray_image

HEIGHT, WIDTH = 16, 32


@pytest.fixture
def network() -> DepthNetwork:
    torch.manual_seed(0)
    return DepthNetwork(channels=(16, 16, 16, 32), num_attention_layers=1).eval()


def picture(seed: int = 0) -> torch.Tensor:
    return torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def silence(layer: torch.nn.Module, bias: float) -> None:
    torch.nn.init.zeros_(layer.weight)  # pyright: ignore[reportArgumentType]
    torch.nn.init.constant_(layer.bias, bias)  # pyright: ignore[reportArgumentType]


def test_rays_go_through_pixel_centres():
    """x / z and y / z of pixel (i, j) are ((i, j) + 0.5 - c) / f, each item with its own lens."""
    lenses = torch.tensor([[[20.0, 0, 15], [0, 25, 7], [0, 0, 1]], [[40.0, 0, 16], [0, 40, 8], [0, 0, 1]]])
    rays = ray_image(lenses, HEIGHT, WIDTH)
    assert rays.shape == (2, 2, HEIGHT, WIDTH)
    torch.testing.assert_close(rays[0, :, 3, 30], torch.tensor([(30.5 - 15) / 20, (3.5 - 7) / 25]))
    torch.testing.assert_close(rays[1, :, 0, 5], torch.tensor([(5.5 - 16) / 40, (0.5 - 8) / 40]))


@torch.no_grad()
def test_depth_is_that_of_a_picture_and_its_mirror_image(network):
    """Both are asked with the rays of the given angle and averaged; a mirrored picture has the mirrored depth."""
    rays = ray_image(intrinsics_from_fov(1.0, WIDTH, HEIGHT).float()[None], HEIGHT, WIDTH)
    here, mirrored = (network(seen[None], rays)[0][0] for seen in (picture(), picture().flip(-1)))
    depth = estimate_depth(network, picture(), 1.0)
    assert depth.shape == (HEIGHT, WIDTH)
    torch.testing.assert_close(depth, ((here + mirrored.flip(-1)) / 2).exp())
    torch.testing.assert_close(estimate_depth(network, picture().flip(-1), 1.0), depth.flip(-1))
    assert torch.equal(depth, estimate_depth(network, picture(), 1.0))
    assert float((depth - estimate_depth(network, picture(), 0.5)).abs().max()) > 1e-3


@torch.no_grad()
def test_larger_pictures_keep_their_edges():
    """A picture of twice the size is seen at half of it; at an outline a pixel gets the depth of what it looks like."""

    class TwoWalls(DepthNetwork):
        sizes: tuple[int, ...] = ()

        def candidates(self, image, rays):
            self.sizes = tuple(image.shape)
            depth = torch.where(image[:, 0] > 0, 2.0, 5.0).log()[:, None]
            return depth, torch.zeros_like(depth), torch.ones(len(image))

    network = TwoWalls(channels=(16, 32), num_attention_layers=1)
    image = torch.full((3, 352, 640), -0.5)
    image[:, :, 401:] = 0.5
    depth = estimate_depth(network, image, 1.0)
    assert network.sizes == (2, 3, 176, 320) and depth.shape == (352, 640)
    torch.testing.assert_close(depth, torch.where(image[0] > 0, 2.0, 5.0))


@pytest.mark.parametrize(("bias", "metres"), [(-9.0, MIN_DEPTH_M), (0.0, math.e), (9.0, MAX_DEPTH_M)])
def test_depth_stays_in_range(network, bias, metres):
    """A silent head says e metres, and whatever the head says the depth stays within its range."""
    silence(network.depth_head, bias)
    torch.testing.assert_close(estimate_depth(network, picture(), 1.0), torch.full((HEIGHT, WIDTH), metres))


@torch.no_grad()
def test_angle_is_read_from_the_picture_alone(network):
    """The field of view is twice the arc tangent of the second head under zero rays, between 0 and 180 degrees."""
    _, tangent = network(picture()[None], torch.zeros(1, 2, HEIGHT, WIDTH))
    assert estimate_fov(network, picture()) == pytest.approx(2 * math.atan(float(tangent)))
    assert estimate_fov(network, picture()) != estimate_fov(network, picture(1))
    silence(network.fov_head, math.log(math.e - 1))
    assert estimate_fov(network, picture()) == pytest.approx(math.pi / 2)
    silence(network.fov_head, -50.0)
    assert 0 < estimate_fov(network, picture()) < 1e-3


@torch.no_grad()
def test_pictures_of_a_batch_do_not_mix(network):
    """Each picture of a batch gets what it gets alone."""
    pictures = torch.stack([picture(0), picture(1), picture(2)])
    rays = ray_image(intrinsics_from_fov(1.0, WIDTH, HEIGHT).float()[None], HEIGHT, WIDTH)
    log_depth, tangent = network(pictures, rays.expand(3, -1, -1, -1))
    assert (log_depth.shape, tangent.shape) == ((3, HEIGHT, WIDTH), (3,))
    for i in range(3):
        alone_depth, alone_tangent = network(pictures[i : i + 1], rays)
        torch.testing.assert_close(log_depth[i : i + 1], alone_depth, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(tangent[i : i + 1], alone_tangent, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_likelier_candidate_is_taken():
    """A pixel gets one of its candidates, that of the higher logit, never a mean of them."""
    torch.manual_seed(0)
    network = DepthNetwork(channels=(16, 16, 16, 32), num_attention_layers=1, num_modes=2).eval()
    rays = torch.zeros(1, 2, HEIGHT, WIDTH)
    candidates, logits, _ = network.candidates(picture()[None], rays)
    assert candidates.shape == logits.shape == (1, 2, HEIGHT, WIDTH)
    second = logits[:, 1] > logits[:, 0]
    assert second.any() and not second.all()
    expected = torch.where(second, candidates[:, 1], candidates[:, 0])
    assert torch.equal(network(picture()[None], rays)[0], expected)
