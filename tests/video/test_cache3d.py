"""The 3D cache: what one frame looks like from elsewhere."""

from __future__ import annotations

import torch

from omni_gen3d.geometry import intrinsics_from_focal
from omni_gen3d.video.cache3d import Warp, latent_coverage, nearest, reliable_pixels, warp
from omni_gen3d.video.landing import Landing

HEIGHT, WIDTH, FOCAL = 16, 24, 20.0


def lens() -> torch.Tensor:
    return intrinsics_from_focal(FOCAL, WIDTH, HEIGHT).float()[None]


def moved(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> torch.Tensor:
    pose = torch.eye(4).repeat(1, 1, 1, 1)
    pose[..., :3, 3] = torch.tensor([x, y, z])
    return pose


def picture() -> torch.Tensor:
    return torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


def test_from_where_it_was_taken_nothing_changes():
    """The identity camera returns picture and depth everywhere."""
    depth = torch.full((1, HEIGHT, WIDTH), 2.0)
    seen = warp(picture(), depth, lens(), moved())
    torch.testing.assert_close(seen.rgb[:, :, 0], picture(), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.depth[:, 0, 0], depth, atol=1e-4, rtol=0)
    assert bool((seen.mask == 1).all())


def test_a_wall_shifts_by_focal_over_depth():
    """A wall at 2 m moves by f t / d = 3 pixels when the camera steps aside by 0.3 m; what it uncovers is a hole."""
    seen = warp(picture(), torch.full((1, HEIGHT, WIDTH), 2.0), lens(), moved(x=0.3))
    torch.testing.assert_close(seen.rgb[0, :, 0, :, :-3], picture()[0, :, :, 3:], atol=1e-3, rtol=0)
    assert bool((seen.mask[..., -3:] == 0).all())
    assert bool((seen.rgb[..., -3:] == 0).all())


def test_the_nearer_surface_wins():
    """Where a near and a far pixel land on the same place the near one is seen."""
    depth = torch.full((1, HEIGHT, WIDTH), 8.0)
    depth[:, :, :10] = 2.0
    colours = torch.zeros(1, 3, HEIGHT, WIDTH)
    colours[:, 0, :, :10] = 1.0
    seen = warp(colours, depth, lens(), moved(x=-0.5))
    near = seen.rgb[0, 0, 0, 4:12, 6:13]
    assert float(near.min()) > 0.99
    torch.testing.assert_close(seen.depth[0, 0, 0, 4:12, 6:13], torch.full((8, 7), 2.0), atol=1e-2, rtol=0)


def test_cpu_and_gpu_add_alike():
    """Both ways to add up what lands on a pixel agree to the bit, with cameras that see all, some and none of it."""
    generator = torch.Generator().manual_seed(0)
    batch, frames, pixels = 2, 5, HEIGHT * WIDTH
    column, row, depth, nearness = torch.rand(4, batch, frames, pixels, generator=generator)
    column, row = (2 * column - 0.5) * WIDTH, (2 * row - 0.5) * HEIGHT
    column[:, 1] += 3 * WIDTH
    rgb = torch.rand(batch, 3, HEIGHT, WIDTH, generator=generator) * 2 - 1
    landing = Landing(rgb, column, row, depth, nearness, torch.rand(batch, 1, pixels, generator=generator) > 0.2)
    sums = landing._sums_on_cpu()
    assert torch.equal(sums, landing._sums_on_gpu())
    assert float(sums[:, 1].abs().max()) == 0 < float(sums[:, 0].abs().max())


def test_only_depth_edges_are_unreliable():
    """A floor at a grazing angle is reliable all over; a step in depth is not, on both of its sides."""
    row = torch.arange(HEIGHT, dtype=torch.float32)[None, :, None] + 1.5
    assert bool(reliable_pixels((30 / row).expand(1, HEIGHT, WIDTH))[:, 1:-1].all())
    step = torch.full((1, HEIGHT, WIDTH), 2.0)
    step[:, :, 12:] = 4.0
    reliable = reliable_pixels(step)
    assert not bool(reliable[:, :, 11:13].any())
    assert bool(reliable[:, :, :11].all()) and bool(reliable[:, :, 13:].all())


def test_autocast_leaves_geometry_alone():
    """Under bfloat16 autocast the warp is the same to the byte."""
    depth = 2 + torch.rand(1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)) * 0.02
    exact = warp(picture(), depth, lens(), moved(0.2, -0.1, 0.3))
    with torch.autocast("cpu", torch.bfloat16):
        cast = warp(picture(), depth, lens(), moved(0.2, -0.1, 0.3))
    assert torch.equal(exact.mask, cast.mask)
    assert torch.equal(exact.depth, cast.depth)


def test_coverage_is_the_mean_of_each_cell():
    """Channel c of latent frame k holds frame 8 k - 7 + c, averaged over 8x8 cells; the first repeats frame 0."""
    mask = (torch.rand(1, 1, 17, 16, 24, generator=torch.Generator().manual_seed(2)) > 0.5).float()
    coverage = latent_coverage(mask)
    assert coverage.shape == (1, 8, 3, 2, 3)
    assert float(coverage[0, 4, 2, 1, 2]) == float(mask[0, 0, 13, 8:, 16:].mean())
    assert float(coverage[0, 5, 0, 0, 1]) == float(mask[0, 0, 0, :8, 8:16].mean())


def test_several_pictures_show_the_nearest_of_what_they_know():
    """A hole of the first is filled from the second; where both know, the clearly nearer wins and else the first."""

    def known(value: float, depth: list[float]) -> Warp:
        depths = torch.tensor(depth).reshape(1, 1, 1, 1, -1)
        covered = (depths > 0).float()
        return Warp(rgb=(value * covered).expand(-1, 3, -1, -1, -1), mask=covered, depth=depths)

    seen = nearest([known(0.2, [2.0, 0.0, 2.0, 2.0, 0.0]), known(0.8, [2.05, 3.0, 1.0, 1.98, 0.0])])
    torch.testing.assert_close(seen.rgb[0, 0, 0, 0], torch.tensor([0.2, 0.8, 0.8, 0.2, 0.0]))
    torch.testing.assert_close(seen.depth[0, 0, 0, 0], torch.tensor([2.0, 3.0, 1.0, 2.0, 0.0]))
    torch.testing.assert_close(seen.mask[0, 0, 0, 0], torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0]))
