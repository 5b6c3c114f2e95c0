"""Bodies rest on a written environment where the surface is, in every engine."""

from __future__ import annotations

import numpy as np
import pytest

from omni_gen3d.usd import Manifest

BALL_RADIUS_M = 0.1


def test_boxes_rest_on_the_surface(toy_environment, drop):
    """Boxes dropped on floor and table rest within 1 cm of the surface, and one beside the room falls."""
    points = [(0.0, 0.0, 0.0), (-1.0, -1.0, 0.0), (1.0, 1.0, 0.5), (9.0, 0.0, 0.0)]
    heights = drop(toy_environment, points)
    np.testing.assert_allclose(heights[:3], [0.0, 0.0, 0.5], atol=0.01)
    assert heights[3] < -5


def test_boxes_rest_where_the_extension_puts_an_environment(toy_environment, drop_on_a_host):
    """On a stage in centimetres with Y up and no physics scene of its own, a box rests on the table."""
    assert drop_on_a_host(toy_environment, (1.0, 1.0)) == pytest.approx(0.5, abs=0.01)


def test_boxes_rest_on_convex_pieces(toy_environment_in_pieces, drop):
    """A box over the seam of two hulls and one on the floor rest within 1 cm of the surface."""
    heights = drop(toy_environment_in_pieces, [(1.0, 1.0, 0.5), (0.0, 0.0, 0.0)])
    np.testing.assert_allclose(heights, [0.5, 0.0], atol=0.01)


@pytest.mark.parametrize("made", ["from_text", "from_picture", "by_converting"])
def test_boxes_rest_at_every_spawn_pose(made, request, drop):
    """A box dropped at any spawn pose of a real environment rests within 1 cm of its floor."""
    environment = request.getfixturevalue(f"environment_{made}")
    poses = Manifest.read(environment.environment / "environment.yaml").spawn_poses
    assert len(poses) >= 24  # 32 but for very small floors
    heights = drop(environment.usd, [pose.position for pose in poses])
    np.testing.assert_allclose(heights, 0.0, atol=0.01)


@pytest.mark.parametrize("made", ["from_text", "by_converting"])
def test_balls_stay_in_the_room(made, request, roll):
    """No ball that rolls off from a spawn pose leaves the room through floor or walls."""
    environment = request.getfixturevalue(f"environment_{made}")
    manifest = Manifest.read(environment.environment / "environment.yaml")
    places = roll(environment.usd, manifest.spawn_poses[::4])
    space = manifest.free_space
    assert space is not None
    high = space.origin + np.array(space.free.shape) * space.voxel_size
    assert (places > space.origin).all() and (places < high).all()
    # Up to a hand higher: a ball may still be climbing the foot of a wall.
    assert (places[:, 2] > BALL_RADIUS_M - 0.02).all() and (places[:, 2] < BALL_RADIUS_M + 0.1).all()
