"""Occupancy: opacity lands in the right voxels, and enclosure counts what slow rays count."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch

from omni_gen3d.mesh.occupancy import enclosure, occupy
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


def test_surfaces_are_solid_and_ways_through_them_closed(room: Gaussians) -> None:
    """Nearly every splat lies in a solid voxel; walls block, the open room does not."""
    grid = occupy(room)
    inside = np.floor((room.means.numpy() - grid.origin) / grid.voxel_size).astype(int)
    assert grid.solid[tuple(inside.T)].mean() > 0.95
    eyes = np.array([[1.5, -1.5, 1.2], [4.0, 0.7, 0.3]])
    targets = np.array([[4.9, -1.5, 1.2], [7.0, -1.5, 1.2], [1.5, 0.7, 0.3]])
    assert grid.open_ways(eyes, targets, 96).tolist() == [[True, False, True], [True, False, False]]


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
