"""The mini decoder: Gaussians along rays, fused over views."""

from __future__ import annotations

import pytest
import torch

from omni_gen3d.decoder.mini import MiniDecoder, decode, decode_maps, decoded_cameras, plucker_rays, shared_first
from omni_gen3d.decoder.pruning import most_shown
from omni_gen3d.geometry import intrinsics_from_focal
from omni_gen3d.types import Cameras, VideoLatents
from omni_gen3d.video.trajectories import six_trajectories

VIEWS, LATENT_FRAMES, ROWS, COLUMNS = 6, 3, 4, 6
CELLS = 4 * ROWS * 4 * COLUMNS


@pytest.fixture
def network() -> MiniDecoder:
    torch.manual_seed(0)
    return MiniDecoder(channels=16, token_channels=64, num_layers=1, token_rows=2, token_columns=3).eval()


@pytest.fixture
def video() -> VideoLatents:
    generator = torch.Generator().manual_seed(0)
    poses = six_trajectories(17, generator, "cpu").flatten(0, 1)
    lens = intrinsics_from_focal(40.0, 8 * COLUMNS, 8 * ROWS).float().repeat(len(poses), 1, 1)
    cache = torch.rand(VIEWS, LATENT_FRAMES, 4 * ROWS, 4 * COLUMNS, generator=generator) + 0.5
    latents = torch.randn(VIEWS, 16, LATENT_FRAMES, ROWS, COLUMNS, generator=generator)
    latents[:, :, 0] = latents[:1, :, 0]
    cache[:, 0] = cache[:1, 0]
    return VideoLatents(latents, cache, Cameras(torch.linalg.inv(poses), lens, 8 * COLUMNS, 8 * ROWS), 17)


def run(network: MiniDecoder, video: VideoLatents) -> dict[str, torch.Tensor]:
    poses = video.cameras.camera_to_world.unflatten(0, (VIEWS, 17))
    with torch.no_grad():
        return decode_maps(
            network, video.latents[None], video.cache_depth[None], poses[None], video.cameras.intrinsics[:1]
        )


def test_without_an_opinion_gaussians_lie_on_the_cache(network, video):
    """With a silent head every Gaussian sits on its cell's ray at the cache's depth, in its own camera."""
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.zeros_(network.head.bias)
    maps = run(network, video)
    assert maps["means"].shape == (1, (1 + VIEWS * (LATENT_FRAMES - 1)) * CELLS, 3)
    second = maps["means"][0, 2 * CELLS : 3 * CELLS]
    camera = video.cameras.world_to_camera[16]
    local = second @ camera[:3, :3].T + camera[:3, 3]
    torch.testing.assert_close(local[:, 2], video.cache_depth[0, 2].flatten(), atol=1e-4, rtol=1e-4)
    u = (local[:, 0] / local[:, 2] * 40.0 + 4 * COLUMNS).reshape(4 * ROWS, 4 * COLUMNS)
    expected = 2 * torch.arange(4 * COLUMNS) + 1.0
    torch.testing.assert_close(u, expected.expand_as(u), atol=1e-2, rtol=0)


def test_views_may_come_in_any_order(network, video):
    """Permuting the trajectories permutes their Gaussians and leaves the shared first frame where it is."""
    order = torch.tensor([0, 3, 1, 5, 2, 4])
    poses = video.cameras.world_to_camera.unflatten(0, (VIEWS, 17))[order].flatten(0, 1)
    cameras = Cameras(poses, video.cameras.intrinsics, video.cameras.width, video.cameras.height)
    permuted = VideoLatents(video.latents[order], video.cache_depth[order], cameras, 17)
    one, two = run(network, video)["means"][0], run(network, permuted)["means"][0]
    torch.testing.assert_close(two[:CELLS], one[:CELLS], atol=1e-4, rtol=1e-4)
    by_view = one[CELLS:].reshape(VIEWS, -1, 3)
    torch.testing.assert_close(two[CELLS:].reshape(VIEWS, -1, 3), by_view[order], atol=1e-4, rtol=1e-4)


def test_what_is_shown_is_kept(network, video):
    """``decode`` keeps what the decoded pictures show in its order, as a valid set; they look as all together do."""
    everything = decode(network, video, max_gaussians=10**9)
    cameras = decoded_cameras(video.cameras, video.num_frames)
    assert len(cameras.world_to_camera) == 1 + VIEWS * 2
    torch.testing.assert_close(everything.means, run(network, video)["means"][0])
    kept = decode(network, video, max_gaussians=len(everything) // 2)
    kept.validate()
    assert len(kept) == len(everything) // 2
    assert torch.equal(kept.means, everything[most_shown(everything, cameras, len(kept))].means)


def test_moments_are_origin_cross_direction():
    """A Plücker ray is (o x d, d) with unit d, so moment and direction are perpendicular."""
    poses = six_trajectories(5, torch.Generator().manual_seed(1), "cpu")[:, -1]
    lens = intrinsics_from_focal(40.0, 48, 32).float()
    rays = plucker_rays(poses, lens, 4, 6)
    moment, direction = rays[:, :3], rays[:, 3:]
    torch.testing.assert_close(direction.norm(dim=1), torch.ones(6, 4, 6))
    torch.testing.assert_close((moment * direction).sum(1), torch.zeros(6, 4, 6), atol=1e-6, rtol=0)
    origin = poses[:, :3, 3, None, None].expand_as(direction)
    torch.testing.assert_close(torch.linalg.cross(origin, direction, dim=1), moment)


def test_the_cache_is_right_about_colours_it_contradicts(network, video):
    """At another time a slot keeps its colour unless the cache knows one that differs by more than a tenth."""
    poses = video.cameras.camera_to_world.unflatten(0, (VIEWS, 17))[None]
    depth = video.cache_depth.clone()
    depth[:, :, 0] = 0.0

    def colours(cache_rgb: torch.Tensor, cache_depth: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            maps = decode_maps(
                network, video.latents[None], cache_depth[None], poses, video.cameras.intrinsics[:1], cache_rgb[None],
                torch.tensor([0.5]),
            )  # fmt: skip
        return maps["rgb"].unflatten(1, (-1, 4 * ROWS, 4 * COLUMNS))[0]

    with torch.no_grad():
        expected = decode_maps(
            network, video.latents[None], depth[None], poses, video.cameras.intrinsics[:1]
        )["rgb"].unflatten(1, (-1, 4 * ROWS, 4 * COLUMNS))[0]  # fmt: skip
    in_maps = torch.cat([expected[:1].expand(VIEWS, -1, -1, -1)[:, None], expected[1:].unflatten(0, (VIEWS, -1))], 1)
    cache_rgb = in_maps.movedim(-1, 2) + 0.05
    cache_rgb[:, :, 0, :, : 2 * COLUMNS] += 0.1
    shown = colours(cache_rgb, depth)
    torch.testing.assert_close(shown[:, 0], expected[:, 0], msg="where the cache knows nothing")
    torch.testing.assert_close(shown[:, :, 2 * COLUMNS :], expected[:, :, 2 * COLUMNS :], msg="where they agree")
    there = shared_first(cache_rgb[None])[0].movedim(1, -1)
    torch.testing.assert_close(shown[:, 1:, : 2 * COLUMNS], there[:, 1:, : 2 * COLUMNS])
