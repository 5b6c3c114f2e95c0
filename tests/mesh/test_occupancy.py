"""Occupancy: opacity lands in the right voxels, and enclosure counts what slow rays count."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy import ndimage

from omni_gen3d.geometry import quat_to_matrix
from omni_gen3d.mesh.occupancy import distance_to, enclosure, largest_region, occupy
from omni_gen3d.mesh.sampling import covered_area, draw_surface
from omni_gen3d.types import Gaussians


def test_enclosure_counts_directions_that_end_on_something() -> None:
    """The same as walking every ray voxel by voxel."""
    solid = np.random.default_rng(0).random((7, 6, 5)) < 0.04
    expected = np.zeros(solid.shape, int)
    for start in np.ndindex(*solid.shape):
        for direction in product((-1, 0, 1), repeat=3):
            here = np.add(start, direction)
            while any(direction) and ((here >= 0) & (here < solid.shape)).all():
                if solid[tuple(here)]:
                    expected[start] += 1
                    break
                here = here + direction
    assert (enclosure(solid) == expected).all() and expected.max() > 3


@pytest.mark.parametrize("share", [0.0, 0.002, 0.4, 1.0])
def test_distances_and_regions_are_those_of_scipy(share: float) -> None:
    """Euclid's distance to the nearest marked voxel, and the largest region that is connected by faces."""
    marked = np.random.default_rng(1).random((19, 14, 11)) < share
    expected = ndimage.distance_transform_edt(~marked) if marked.any() else np.full(marked.shape, np.inf)
    np.testing.assert_allclose(distance_to(marked), np.asarray(expected), rtol=1e-12)
    labels, count = ndimage.label(marked)  # pyright: ignore[reportGeneralTypeIssues]
    sizes = np.bincount(labels.ravel())[1:]
    largest = labels == 1 + sizes.argmax() if count else np.zeros(marked.shape, bool)
    assert (largest_region(marked) == largest).all()


def test_surfaces_are_solid_and_ways_through_them_closed(room: Gaussians) -> None:
    """Nearly every splat lies in a solid voxel; walls block, the open room does not."""
    grid = occupy(room)
    inside = np.floor((room.means.numpy() - grid.origin) / grid.voxel_size).astype(int)
    assert grid.solid[tuple(inside.T)].mean() > 0.95
    eyes = np.array([[1.5, -1.5, 1.2], [4.0, 0.7, 0.3]])
    targets = np.array([[4.9, -1.5, 1.2], [7.0, -1.5, 1.2], [1.5, 0.7, 0.3]])
    assert grid.open_ways(eyes, targets, 96).tolist() == [[True, False, True], [True, False, False]]


@pytest.fixture(scope="module")
def gaussians() -> Gaussians:
    """Turned ellipsoids from specks to discs of half a metre."""
    generator = torch.Generator().manual_seed(0)
    n = 400
    return Gaussians(
        means=torch.rand(n, 3, generator=generator) * torch.tensor([4.0, 3.0, 2.0]),
        quats=torch.nn.functional.normalize(torch.randn(n, 4, generator=generator), dim=1),
        scales=0.005 * 50 ** torch.rand(n, 3, generator=generator),
        opacities=torch.rand(n, generator=generator),
        sh=torch.zeros(n, 1, 3),
    )


def test_cover_is_what_a_slow_sum_gives(gaussians: Gaussians) -> None:
    """Opacity times area, spread evenly over the two wide axes out to 1.5 sigma, summed up voxel by voxel."""
    grid = occupy(gaussians)
    cover = np.zeros(grid.solid.shape)
    frames = quat_to_matrix(gaussians.quats.double()).numpy()
    for mean, frame, scale, opacity in zip(
        gaussians.means.double().numpy(), frames, gaussians.scales.double().numpy(), gaussians.opacities, strict=True
    ):
        _, v, u = np.argsort(scale)
        side = int(np.clip(np.ceil(3 * scale[u] / grid.voxel_size), 1, 8))
        share = 2 * np.pi * float(opacity) * scale[u] * scale[v] / side**2
        for a, b in product(1.5 * ((2 * np.arange(side) + 1) / side - 1), repeat=2):
            point = mean + a * scale[u] * frame[:, u] + b * scale[v] * frame[:, v]
            voxel = np.floor((point - grid.origin) / grid.voxel_size).astype(int)
            if ((voxel >= 0) & (voxel < cover.shape)).all():
                cover[tuple(voxel)] += share
    solid = cover >= 0.5 * grid.voxel_size**2
    assert (solid == grid.solid).mean() > 0.9999 and 100 < solid.sum() < solid.size / 2


def test_wide_splats_cover_many_voxels() -> None:
    """One opaque disc of 20 cm fills the voxels of its plane and no others."""
    corners = torch.tensor([[-1.0, -1, -1], [1, 1, 1]])
    disc = Gaussians(
        means=torch.cat([torch.zeros(1, 3), corners.repeat(60, 1)]),
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(121, 1),
        scales=torch.cat([torch.tensor([[0.2, 0.2, 0.001]]), torch.full((120, 3), 0.001)]),
        opacities=torch.ones(121),
        sh=torch.zeros(121, 1, 3),
    )
    grid = occupy(disc)
    x, y, z = (grid.origin + (np.argwhere(grid.solid) + 0.5) * grid.voxel_size).T
    assert len(z) > 30
    assert np.ptp(z) == 0 and abs(z[0]) < grid.voxel_size
    assert np.hypot(x, y).max() < 3 * 0.2


def test_drawn_gaussians_are_those_that_cover_most() -> None:
    """Without replacement, ascending, in proportion to opacity times area; flat ones by their two wide axes."""
    scales = torch.full((1000, 3), 0.01)
    scales[:500, 0], scales[:, 2] = 0.1, 1e-9
    gaussians = Gaussians(
        torch.rand(1000, 3), torch.rand(1000, 4), scales, torch.full((1000,), 0.5), torch.zeros(1000, 1, 3)
    )
    np.testing.assert_allclose(covered_area(gaussians)[[0, 999]], [0.5e-3, 0.5e-4], rtol=1e-6)
    drawn = draw_surface(gaussians, 200, np.random.default_rng(0))
    assert (np.diff(drawn) > 0).all() and len(drawn) == 200
    assert 0.8 < (drawn < 500).mean() < 1.0
    assert len(draw_surface(gaussians, 5000, np.random.default_rng(0))) == 1000
