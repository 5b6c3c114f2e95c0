"""Lyra's six trajectories."""

from __future__ import annotations

import torch

from omni_gen3d.video.trajectories import TRAJECTORY_NAMES, centre_facing, six_trajectories, trajectory_positions


def cameras(seed: int = 0) -> torch.Tensor:
    return six_trajectories(17, torch.Generator().manual_seed(seed), "cpu")


def test_all_start_at_the_input_camera():
    """Frame 0 of every trajectory is the first camera itself."""
    torch.testing.assert_close(cameras()[:, 0], torch.eye(4).expand(6, 4, 4))


def test_each_goes_its_own_way():
    """Left, right, up, out and in end within Lyra's ranges along their axes; the spiral turns twice and returns."""
    ends = cameras()[:, -1, :3, 3]
    for name, axis, sign, low, high in [
        ("left", 0, -1, 0.2, 0.3),
        ("right", 0, 1, 0.2, 0.3),
        ("up", 1, -1, 0.1, 0.2),
        ("zoom_out", 2, -1, 0.3, 0.4),
        ("zoom_in", 2, 1, 0.3, 0.4),
    ]:
        end = ends[TRAJECTORY_NAMES.index(name)]
        assert low <= float(end[axis]) * sign <= high, name
        assert float(end.abs().sum() - end[axis].abs()) < 1e-6, name
    spiral = cameras()[5, :, :3, 3]
    torch.testing.assert_close(spiral[-1], torch.zeros(3), atol=1e-5, rtol=0)
    assert int((torch.diff(torch.sign(spiral[1:-1, 1])) != 0).sum()) == 3


def test_every_camera_faces_the_centre():
    """The point one unit before the first camera stays on every optical axis, and rotations are rotations."""
    poses = cameras().flatten(0, 1)
    centre = (torch.linalg.inv(poses) @ torch.tensor([0.0, 0, 1, 1]))[:, :3]
    torch.testing.assert_close(centre[:, :2], torch.zeros(len(poses), 2), atol=1e-5, rtol=0)
    assert (centre[:, 2] > 0).all()
    rotation = poses[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand_as(rotation), atol=1e-5, rtol=0)
    assert (torch.linalg.det(rotation) > 0.99).all()


def test_seed_decides_the_lengths():
    """The same seed gives the same cameras, another seed others."""
    assert torch.equal(cameras(1), cameras(1))
    assert not torch.equal(cameras(1), cameras(2))


def test_positions_scale_with_the_distance():
    """Twice the distance puts every camera twice as far, and looking straight ahead needs no turning."""
    one = trajectory_positions(torch.full((6,), 0.3), 9)
    torch.testing.assert_close(trajectory_positions(torch.full((6,), 0.6), 9), 2 * one)
    zoom_in = centre_facing(one[TRAJECTORY_NAMES.index("zoom_in")])
    torch.testing.assert_close(zoom_in[:, :3, :3], torch.eye(3).expand(9, 3, 3))
