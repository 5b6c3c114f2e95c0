"""Floor splats laid flat."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from omni_gen3d.decoder.ground import settle_on_ground
from omni_gen3d.geometry import intrinsics_from_focal, quat_to_matrix
from omni_gen3d.types import Gaussians, Ground

HEIGHT, WIDTH = 40, 60
LENS = intrinsics_from_focal(40.0, WIDTH, HEIGHT).float()
UP = F.normalize(torch.tensor([0.05, -1.0, -0.15]), dim=0)


@pytest.fixture
def ground() -> Ground:
    pixels = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    pixels[25:] = True
    return Ground(UP, 0.8, pixels)


@pytest.fixture
def gaussians() -> Gaussians:
    """Fifty blobs up to 5 cm off the floor in view of it, ten floating high above."""
    generator = torch.Generator().manual_seed(0)
    u = 5 + 50 * torch.rand(60, generator=generator)
    v = 28 + 10 * torch.rand(60, generator=generator)
    rays = torch.stack([(u - WIDTH / 2) / 40, (v - HEIGHT / 2) / 40, torch.ones(60)], dim=-1)
    means = rays * (-0.8 / (rays @ UP))[:, None] * (0.95 + 0.1 * torch.rand(60, 1, generator=generator))
    means[50:] *= 0.5
    quats = F.normalize(torch.randn(60, 4, generator=generator), dim=-1)
    scales = 0.005 + 0.01 * torch.rand(60, 3, generator=generator)
    return Gaussians(means, quats, scales, torch.ones(60), torch.zeros(60, 1, 3))


def footprint(gaussians: Gaussians) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres and covariances [pixels] in the first camera, to first order."""
    x, y, z = gaussians.means.unbind(-1)
    zero = torch.zeros_like(z)
    jacobian = 40 * torch.stack([1 / z, zero, -x / z**2, zero, 1 / z, -y / z**2], dim=-1).reshape(-1, 2, 3)
    spread = jacobian @ quat_to_matrix(gaussians.quats) * gaussians.scales[:, None]
    return torch.stack([x / z, y / z], dim=-1), spread @ spread.mT


def test_floor_lies_on_the_plane_and_the_rest_stays(gaussians, ground):
    """Blobs seen against the floor and near it end on its plane, facing up; what floats is not touched."""
    settled = settle_on_ground(gaussians, ground, LENS)
    settled.validate()
    heights = settled.means @ UP + 0.8
    assert float(heights[:50].abs().max()) < 1e-5
    normal = quat_to_matrix(settled.quats[:50])[:, :, 2]
    torch.testing.assert_close(normal, UP.expand(50, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(settled.scales[:50, 2], torch.full((50,), 0.8e-3))
    assert float(settled.scales[:50, :2].max()) > 0.02
    for name in ("means", "quats", "scales"):
        assert torch.equal(getattr(settled, name)[50:], getattr(gaussians, name)[50:])


def test_the_first_camera_sees_no_difference(gaussians, ground):
    """Projection along the rays keeps every centre, and every footprint to first order."""
    before, after = footprint(gaussians), footprint(settle_on_ground(gaussians, ground, LENS))
    torch.testing.assert_close(after[0], before[0], atol=1e-5, rtol=1e-5)
    error = (after[1] - before[1])[:50].flatten(1).norm(dim=1) / before[1][:50].flatten(1).norm(dim=1)
    assert float(error.max()) < 0.02
