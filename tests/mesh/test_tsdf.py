"""The TSDF against a reference voxel by voxel, and its cleaning."""

from __future__ import annotations

import numpy as np

from omni_gen3d.mesh.depth_views import DepthViews
from omni_gen3d.mesh.floor import snap_floor
from omni_gen3d.mesh.morphology import connected
from omni_gen3d.mesh.tsdf import TRUNCATION_VOXELS, Tsdf, fuse

INTRINSICS = np.array([[40.0, 0, 24], [0, 40.0, 18], [0, 0, 1]])
# Looks along +X from a metre above the ground: image x is -Y, image y is -Z.
WORLD_TO_CAMERA = np.array([[0, -1.0, 0, 0], [0, 0, -1.0, 1], [1.0, 0, 0, 0], [0, 0, 0, 1]])


def two_views() -> DepthViews:
    """Two cameras 0.4 m apart before a wall at x = 2, a panel at x = 1 and a patch without depth."""
    second = WORLD_TO_CAMERA.copy()
    second[0, 3] = 0.4
    depth = np.full((2, 36, 48), 2.0, np.float32)
    depth[:, 10:24, 15:30] = 1.0
    depth[0, 30:, 40:] = 0.0
    return DepthViews(depth, np.stack([WORLD_TO_CAMERA, second]), np.stack([INTRINSICS] * 2))


def test_fuse_agrees_with_reference():
    """Away from the cameras' clearance the finer voxels hold the weighted mean distance that a plain loop computes."""
    views, voxel_size = two_views(), 0.05
    tsdf = fuse(views, 2 * voxel_size)
    assert tsdf.voxel_size == voxel_size
    truncation = TRUNCATION_VOXELS * voxel_size
    checked = 0
    for index in np.argwhere(tsdf.surface_seen)[::7]:
        point = np.append(tsdf.origin + (index + 0.5) * voxel_size, 1.0)
        if np.linalg.norm(views.positions - point[:3], axis=1).min() < 0.5:
            continue
        values, weights = [], []
        for depth, incidence, pose in zip(views.depth, views.incidence, views.world_to_camera, strict=True):
            x, y, z = (pose @ point)[:3]
            if z <= voxel_size / 2:
                continue
            u, v, reach = 40 * x / z + 24, 40 * y / z + 18, 20 * voxel_size / z
            if not (-reach <= u < 48 + reach and -reach <= v < 36 + reach):
                continue
            pixel = int(np.clip(np.floor(v), 0, 35)), int(np.clip(np.floor(u), 0, 47))
            facing = float(incidence[pixel])
            ahead = (depth[pixel] - z) * np.linalg.norm([x / z, y / z, 1]) * facing / truncation
            if depth[pixel] > 0 and depth[pixel] - z >= -truncation and ahead >= -1:
                values.append(min(ahead, 1.0))
                weights.append(facing * (1 + ahead) if ahead < 0 else facing + (1 - facing) * min(ahead, 1.0))
        expected = np.average(values, weights=weights) if sum(weights) > 0 else -1.0
        if abs(expected) > 0.03:
            assert abs(tsdf.distance[tuple(index)] - expected) < 1e-4
            checked += 1
    assert checked > 500


def test_incidence_of_a_slanted_plane():
    """On a plane tilted by 50 degrees about the image's y axis every pixel knows the angle between it and its ray."""
    tilt = np.deg2rad(50)
    normal = np.array([np.sin(tilt), 0.0, -np.cos(tilt)])
    rays = np.stack(np.meshgrid((np.arange(48) - 23.5) / 40, (np.arange(36) - 17.5) / 40), -1)
    rays = np.concatenate([rays, np.ones((36, 48, 1))], 2)
    depth = (-2 * np.cos(tilt) / (rays @ normal)).astype(np.float32)
    views = DepthViews(depth[None], np.eye(4)[None], INTRINSICS[None])
    expected = -(rays @ normal) / np.linalg.norm(rays, axis=2)
    np.testing.assert_allclose(views.incidence[0], expected, atol=0.06)


def test_what_is_seen_through_a_small_hole_is_no_free_space():
    """The inside of a closed panel's far side, seen through a hole of 10 cm, is filled; before the panel is free."""
    views = two_views()
    views.depth[:] = 1.0
    views.depth[:, 16:20, 22:26] = 2.0
    tsdf = fuse(views, 0.05)
    inside = [(0.7, 0.0, 1.0), (1.5, 0.0, 1.0)]
    assert [bool(tsdf.free[tuple(tsdf.voxel_of(np.array(point)))]) for point in inside] == [True, False]


def test_unseen_is_solid_and_seen_is_free():
    """Before the panel is free; behind it, beyond the wall and outside the pictures is solid."""
    tsdf = fuse(two_views(), 0.05)
    inside = [(0.7, 0.0, 1.0), (1.5, 0.6, 1.0), (1.2, 0.24, 1.0), (2.1, 0.0, 1.4), (0.5, 0.8, 1.0)]
    free = [bool(tsdf.free[tuple(tsdf.voxel_of(np.array(point)))]) for point in inside]
    assert free == [True, True, False, False, False]


def test_floaters_go_and_pockets_are_filled():
    """A speck of a pixel or two in the air leaves no solid; free space has one piece."""
    views = two_views()
    views.depth[:] = 2.0
    views.depth[0, 18:20, 24:26] = 1.0
    tsdf = fuse(views, 0.05)
    assert tsdf.free[tuple(tsdf.voxel_of(np.array([0.98, -0.02, 0.98])))]
    assert len(connected(tsdf.free).sizes) == 1


def test_snapped_floor_is_level():
    """A bumpy floor within 5 cm becomes z = 0 with equal and opposite distances on both sides; a step stays."""
    shape = (30, 30, 20)
    height = np.zeros(shape[:2])
    height[10:20, 10:20] = 0.04
    height[22:, 22:] = 0.3
    z = 0.05 * (np.arange(20) + 0.5) - 0.25
    distance = np.clip((z - height[..., None]) / 0.15, -1, 1).astype(np.float32)
    tsdf, floor = snap_floor(Tsdf(distance, np.abs(distance) < 1, np.array([0.0, 0.0, -0.25]), 0.05), np.zeros((9, 3)))
    assert floor is not None and floor.open[:20, :20].all() and not floor.open[22:, 22:].any()
    below, above = tsdf.distance[..., 4], tsdf.distance[..., 5]
    np.testing.assert_array_equal(below[floor.open], -above[floor.open])
    assert (tsdf.distance[22:, 22:, 5] < 0).all() and not tsdf.free[..., :5].any()


def test_the_top_of_a_bump_does_not_hang_in_the_air():
    """Where the bump that a voxel of noise leans on is freed, the voxel is freed, too."""
    shape, ground = (30, 30, 20), 5
    distance = np.full(shape, -1.0, np.float32)
    distance[..., ground:] = 1.0
    distance[10, 10, ground : ground + 2] = distance[10, 11, ground + 1] = -1.0
    heights = np.random.default_rng(0).normal(0, 0.05, 1000)
    points = np.stack([np.zeros(1000), np.zeros(1000), heights], 1)
    tsdf, floor = snap_floor(Tsdf(distance, np.abs(distance) < 2, np.array([0.0, 0.0, -0.25]), 0.05), points)
    assert floor is not None and tsdf.free[..., ground:].all()


def test_too_little_floor_is_no_floor():
    """A strip of 10 cm by 1 m is not taken for a floor."""
    shape = (30, 30, 20)
    z = 0.05 * (np.arange(20) + 0.5) - 0.25
    distance = np.full(shape, -1.0, np.float32)
    distance[5:7, 5:25] = np.clip(z / 0.15, -1, 1)
    grid = Tsdf(distance, np.abs(distance) < 1, np.array([0.0, 0.0, -0.25]), 0.05)
    assert snap_floor(grid, np.zeros((9, 3))) == (grid, None)
