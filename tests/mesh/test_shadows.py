"""Shadows behind what the cameras see: opened where the splat's discs show them open, solid where they say nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from omni_gen3d.geometry import intrinsics_from_fov, look_at
from omni_gen3d.mesh.depth_views import DepthViews, render_depth_views
from omni_gen3d.mesh.discs import flat_discs
from omni_gen3d.mesh.shadows import open_shadows
from omni_gen3d.mesh.tsdf import Tsdf, fuse
from omni_gen3d.types import Cameras, Gaussians

MakeDiscs = Callable[..., Gaussians]
# A board 40 to 46 cm above the floor, fixed to the wall at y = 0: rectangles as in conftest.py.
FLOOR = ((-1.5, 0.0, 0.0), (3.0, 0.0, 0.0), (0.0, 2.5, 0.0))
WALL = ((-1.5, 0.0, 0.0), (3.0, 0.0, 0.0), (0.0, 0.0, 1.5))
TOP = ((-0.7, 0.0, 0.46), (1.4, 0.0, 0.0), (0.0, 0.5, 0.0))
EDGE = ((-0.7, 0.5, 0.40), (1.4, 0.0, 0.0), (0.0, 0.0, 0.06))
UNDERSIDE = ((-0.7, 0.0, 0.40), (1.4, 0.0, 0.0), (0.0, 0.5, 0.0))
# Below the board near the wall, where no ray from above its edge gets.
BELOW = np.array([[x, 0.1, 0.34] for x in (-0.4, 0.0, 0.4)])


def fused(gaussians: Gaussians) -> tuple[Tsdf, DepthViews]:
    """As five cameras at 1.2 m height, 2 m before the wall, find it."""
    eyes = torch.tensor([[x, 2.0, 1.2] for x in (-0.8, -0.4, 0.0, 0.4, 0.8)])
    target = torch.tensor([0.0, 0.2, 0.4]).expand_as(eyes)
    lens = intrinsics_from_fov(1.4, 160, 120).expand(len(eyes), 3, 3)
    views = render_depth_views(gaussians, Cameras(look_at(eyes, target), lens, 160, 120))
    return fuse(views, 0.05), views


def free_at(tsdf: Tsdf, points: np.ndarray) -> list[bool]:
    return tsdf.free[tuple(tsdf.voxel_of(points).T)].tolist()


def test_below_a_board_is_open_up_to_its_underside(scene_of_discs: MakeDiscs):
    """The wedge that the cameras cannot see becomes free; the board and what is behind the wall stay solid."""
    scene = scene_of_discs([FLOOR, WALL, TOP, EDGE, UNDERSIDE], 0.05)
    tsdf, views = fused(scene)
    assert not any(free_at(tsdf, BELOW))
    opened = open_shadows(tsdf, flat_discs(scene, tsdf), views)
    assert all(free_at(opened, BELOW))
    solid = np.array([(0.0, 0.25, 0.43), (0.0, -0.1, 0.3), (0.4, 0.4, 0.43)])
    assert not any(free_at(opened, solid))
    assert (opened.free | ~tsdf.free).all(), "known-free space stays free"


@pytest.mark.parametrize("held", [[FLOOR, WALL, TOP, EDGE], [FLOOR, TOP, EDGE, UNDERSIDE]])
def test_without_evidence_shadows_stay_solid(scene_of_discs: MakeDiscs, held: list):
    """Below a board without an underside, or before a wall that is missing, the discs do not tell: solid."""
    scene = scene_of_discs(held, 0.05)
    tsdf, views = fused(scene)
    opened = open_shadows(tsdf, flat_discs(scene, tsdf), views)
    assert not any(free_at(opened, BELOW))


def test_the_inside_of_a_box_stays_solid(scene_of_discs: MakeDiscs):
    """A box whose far side holds no discs is not hollow, although its inside lies open to the shadow behind it."""
    low, size = np.array([-0.4, 0.6, 0.0]), np.array([0.8, 0.5, 0.6])
    x, y, z = np.diag(size)
    box = [(low + z, x, y), (low + y, z, x), (low, y, z), (low + x, z, y)]
    scene = scene_of_discs([FLOOR, WALL, *box], 0.05)
    tsdf, views = fused(scene)
    opened = open_shadows(tsdf, flat_discs(scene, tsdf), views)
    inside = np.array([(x, y, z) for x in (-0.2, 0.0, 0.2) for y in (0.75, 0.95) for z in (0.15, 0.45)])
    assert not any(free_at(opened, inside))
