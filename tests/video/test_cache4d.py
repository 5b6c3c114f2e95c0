"""The 4D cache: still films are the 3D cache, moving ones show every frame from its own input frame."""

from __future__ import annotations

import pytest
import torch

from omni_gen3d.geometry import intrinsics_from_focal
from omni_gen3d.video.cache3d import nearest_in_cells, warp
from omni_gen3d.video.cache4d import cache_at_times, warp_video
from omni_gen3d.video.depth import steady_depth
from omni_gen3d.video.trajectories import six_trajectories

HEIGHT, WIDTH, FRAMES = 16, 32, 9
LENS = intrinsics_from_focal(30.0, WIDTH, HEIGHT).float()


@pytest.fixture
def picture() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    depth = torch.linspace(0.8, 1.3, WIDTH).expand(HEIGHT, WIDTH)
    return torch.rand(3, HEIGHT, WIDTH, generator=generator) * 2 - 1, depth


@pytest.fixture
def cameras() -> torch.Tensor:
    return six_trajectories(FRAMES, torch.Generator().manual_seed(1), "cpu")


def test_a_still_film_is_the_3d_cache(picture, cameras):
    """Frames that repeat one picture warp, bit for bit, as that picture does."""
    rgb, depth = picture
    film, film_depth = rgb[:, None].expand(-1, FRAMES, -1, -1), depth.expand(FRAMES, -1, -1)
    for path in cameras:
        ours = warp_video(film[None], film_depth[None], LENS[None], path[None])
        still = warp(rgb[None], depth[None], LENS[None], path[None])
        for name in ("rgb", "mask", "depth"):
            assert torch.equal(getattr(ours, name), getattr(still, name)), name


def test_every_frame_comes_from_its_own(picture, cameras):
    """Changing one input frame changes that frame of the warp and no other."""
    rgb, depth = picture
    film = rgb[:, None].repeat(1, FRAMES, 1, 1)
    changed = film.clone()
    changed[:, 4] = 0.25
    depths = depth.expand(FRAMES, -1, -1)[None]
    before, after = (warp_video(f[None], depths, LENS[None], cameras[:1]).rgb for f in (film, changed))
    differs = [bool((before[:, :, t] != after[:, :, t]).any()) for t in range(FRAMES)]
    assert differs == [t == 4 for t in range(FRAMES)]
    times = cache_at_times(changed, depths[0], LENS, cameras, [0, 4])
    assert float((times.rgb[1] - 0.625).abs()[times.depth[1][:, :, None].expand_as(times.rgb[1]) > 0].max()) < 1e-5
    assert times.times.tolist() == [0.0, 0.5]


def test_a_camera_that_moves_along_sees_its_own_picture(picture, cameras):
    """Seen from where it was filmed, every frame is itself."""
    rgb, depth = picture
    film, depths = rgb[:, None].expand(-1, FRAMES, -1, -1), depth.expand(FRAMES, -1, -1)
    seen = warp_video(film[None], depths[None], LENS[None], cameras[:1], source_to_first=cameras[:1])
    covered = (seen.mask > 0).expand_as(seen.rgb)
    assert float(covered.float().mean()) > 0.8
    torch.testing.assert_close(seen.rgb[covered], film[None].expand_as(seen.rgb)[covered], atol=2e-3, rtol=0)


def test_the_decoder_gets_the_depth_it_gets_for_a_still_scene(picture, cameras):
    """At any time of a still film the decoder's cameras see the depth of the static path."""
    rgb, depth = picture
    film, depths = rgb[:, None].expand(-1, FRAMES, -1, -1), depth.expand(FRAMES, -1, -1)
    moments = cache_at_times(film, depths, LENS, cameras, [7])
    for view, path in enumerate(cameras):
        static = nearest_in_cells(warp(rgb[None], depth[None], LENS[None], path[None, ::8]).depth[:, 0])
        assert torch.equal(moments.depth[0, view], static[0])


def test_depth_of_still_pixels_agrees_over_time():
    """Scale drift is taken out, pixels away from all motion share one depth, and what moves keeps its own."""
    frames = torch.zeros(1, 3, 5, HEIGHT, WIDTH)
    truth = torch.full((1, 5, HEIGHT, WIDTH), 2.0)
    for t in range(5):
        box = (0, slice(None), t, slice(4, 10), slice(4 * t, 4 * t + 6))
        frames[box] = 0.9
        truth[0, t, 4:10, 4 * t : 4 * t + 6] = 1.0
    drift = torch.tensor([0.0, 0.1, -0.1, 0.05, -0.05])[None, :, None, None]
    noise = 0.02 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    depth = steady_depth(frames, truth.log() + drift + noise)
    background = truth == 2.0
    near = torch.nn.functional.max_pool2d((~background).float(), 3, stride=1, padding=1) > 0
    still = ~near.any(1)
    assert float((depth - depth[:, :1]).abs().amax(1)[still].max()) < 1e-5
    inside = torch.zeros_like(background)
    for t in range(5):
        inside[0, t, 5:9, 4 * t + 1 : 4 * t + 5] = True
    assert float((depth[inside] - 1.0).abs().max()) < 0.12
    assert float((depth[background] - 2.0).abs().max()) < 0.3
