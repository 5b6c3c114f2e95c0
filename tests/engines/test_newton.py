"""Bodies rest on a written environment in Newton where the surface is."""

from __future__ import annotations

import numpy as np


def test_boxes_rest_on_the_surface(toy_environment, drop_in_newton):
    """In Newton, boxes dropped on floor and table rest within 1 cm of the surface, and one beside the room falls."""
    points = [(0.0, 0.0, 0.0), (-1.0, -1.0, 0.0), (1.0, 1.0, 0.5), (9.0, 0.0, 0.0)]
    heights = drop_in_newton(toy_environment, points)
    np.testing.assert_allclose(heights[:3], [0.0, 0.0, 0.5], atol=0.01)
    assert heights[3] < -5
