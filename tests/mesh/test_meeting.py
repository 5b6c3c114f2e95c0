"""Depth where rays meet the discs of a splat, not where these have their centres."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from omni_gen3d.geometry import intrinsics_from_focal, look_at
from omni_gen3d.mesh.depth_views import DepthViews, render_surfaces
from omni_gen3d.mesh.meeting import met_discs
from omni_gen3d.types import Cameras, Gaussians


@pytest.fixture
def floor() -> Gaussians:
    """Wide discs on z = 0."""
    x, y = torch.meshgrid(torch.arange(0.5, 8.0, 0.1), torch.arange(-3.0, 3.0, 0.1), indexing="ij")
    return Gaussians(
        means=torch.stack([x.flatten(), y.flatten(), torch.zeros(x.numel())], -1),
        quats=torch.tensor([1.0, 0, 0, 0]).expand(x.numel(), 4),
        scales=torch.tensor([0.15, 0.15, 0.001]).expand(x.numel(), 3),
        opacities=torch.ones(x.numel()),
        sh=torch.zeros(x.numel(), 1, 3),
    )


@pytest.fixture
def camera() -> Cameras:
    """0.7 m above the floor, looking a little down."""
    pose = look_at(torch.tensor([[0.0, 0.0, 0.7]]), torch.tensor([[4.0, 0.0, 0.0]]))
    return Cameras(pose, intrinsics_from_focal(60.0, 80, 48)[None], 80, 48)


def heights(views: DepthViews) -> np.ndarray:
    """Of the surface in the middle of the picture [m]."""
    return views.lift()[0, 26:40, 24:56, 2]


def test_a_floor_at_a_grazing_angle_is_where_it_is(floor: Gaussians, camera: Cameras) -> None:
    """The centres of the discs that win lie nearer than the floor; most rays meet the discs on the floor, the others
    at most a little before, where discs end."""
    views, index = render_surfaces(floor, camera)
    assert float(np.median(heights(views))) > 0.1
    met = heights(met_discs(floor, views, index))
    assert float(np.median(met)) < 1e-3 and float(met.max()) < 0.06


def test_what_is_no_disc_keeps_its_depth(floor: Gaussians, camera: Cameras) -> None:
    """Balls have no plane, and pixels without a surface get none."""
    balls = replace(floor, scales=floor.scales[:, :1].expand(-1, 3).contiguous())
    views, index = render_surfaces(balls, camera)
    assert (views.depth == 0).any()
    assert np.array_equal(met_discs(balls, views, index).depth, views.depth)
