"""Bodies rest on a written environment in PhysX where the surface is."""

from __future__ import annotations

import numpy as np
import pytest

from omni_gen3d.usd import Manifest


def test_boxes_rest_on_the_surface(toy_environment, drop_in_physx):
    """In PhysX, boxes dropped on floor and table rest within 1 cm of the surface, and one beside the room falls."""
    points = [(0.0, 0.0, 0.0), (-1.0, -1.0, 0.0), (1.0, 1.0, 0.5), (9.0, 0.0, 0.0)]
    heights = drop_in_physx(toy_environment, points)
    np.testing.assert_allclose(heights[:3], [0.0, 0.0, 0.5], atol=0.01)
    assert heights[3] < -5


def test_boxes_rest_on_convex_pieces(toy_environment_in_pieces, drop_in_physx):
    """In PhysX, a box over the seam of two hulls and one on the floor rest within 1 cm of the surface."""
    heights = drop_in_physx(toy_environment_in_pieces, [(1.0, 1.0, 0.5), (0.0, 0.0, 0.0)])
    np.testing.assert_allclose(heights, [0.5, 0.0], atol=0.01)


@pytest.mark.parametrize("made_from", ["text", "picture"])
def test_boxes_rest_in_generated_environments(made_from, request, drop_in_physx):
    """In PhysX, boxes dropped at three spawn poses of a generated environment rest within 2 cm of its floor."""
    environment = request.getfixturevalue(f"environment_from_{made_from}")
    poses = Manifest.read(environment.environment / "environment.yaml").spawn_poses
    points = [poses[i].position for i in (0, len(poses) // 2, -1)]
    heights = drop_in_physx(environment.usd, points)
    np.testing.assert_allclose(heights, 0.0, atol=0.02)
