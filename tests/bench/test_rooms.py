"""The synthetic rooms: closed truth, discs on it, cameras in the open."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from omni_gen3d.bench.rooms import Room, rooms
from omni_gen3d.mesh.bvh import FaceTree
from omni_gen3d.mesh.surface import is_closed, volume_of


@pytest.mark.parametrize("room", rooms(), ids=lambda room: room.name)
def test_the_truth_is_closed_and_cameras_stand_in_the_air(room: Room):
    """Shell and solids are closed; no camera is in a wall or a solid; free space has the shell's volume less them."""
    truth = room.truth()
    assert is_closed(truth)
    assert all(is_closed(solid.mesh()) and volume_of(solid.mesh()) > 0 for solid in room.solids)
    cameras = room.cameras(24, 32, 24)
    assert len(cameras) == 24 and room.is_free(cameras.positions.double().numpy()).all()
    space = room.free_space()
    assert space.free.sum() * space.voxel_size**3 == pytest.approx(-volume_of(truth), rel=0.02)


@pytest.mark.parametrize("room", rooms(), ids=lambda room: room.name)
def test_discs_lie_on_the_surface_and_look_out_of_it(room: Room):
    """All but the floaters are within their noise of the truth, and the air begins on the side of their z axis."""
    gaussians = room.gaussians(6000, seed=1)
    gaussians.validate()
    num_floaters = 30
    discs = gaussians[: len(gaussians) - num_floaters]
    points = discs.means.double().numpy()
    assert FaceTree.of(room.truth()).distance(points).max() < 0.03
    axis = torch.nn.functional.normalize(discs.quats, dim=1)
    w, x, y, z = axis.T
    normals = torch.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], 1).double().numpy()
    assert room.is_free(points + 0.03 * normals).mean() > 0.97
    again = room.gaussians(6000, seed=1)
    assert torch.equal(gaussians.means, again.means) and torch.equal(gaussians.quats, again.quats)
    assert not np.array_equal(gaussians.means, room.gaussians(6000, seed=2).means[: len(gaussians)])
