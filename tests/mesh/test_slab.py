"""The floor slab: closed, flat, and exactly under the cells that need ground."""

from __future__ import annotations

import numpy as np
import pytest

from omni_gen3d.mesh.slab import floor_slab
from omni_gen3d.mesh.surface import face_normals_and_areas, is_closed


@pytest.mark.parametrize("seed", range(6))
def test_slab_is_closed_flat_and_covers(seed: int, first_hit):
    """Random scattered ground gives a watertight slab with flat top and bottom of equal area under every point."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-2, 2, (rng.integers(1, 40), 2))
    slab = floor_slab(points, margin=0.1)
    normals, areas = face_normals_and_areas(slab)
    assert is_closed(slab) and areas.min() > 0
    top, bottom = normals[:, 2] > 0.5, normals[:, 2] < -0.5
    assert (slab.vertices[slab.faces[top], 2] == 0).all()
    assert areas[top].sum() == pytest.approx(areas[bottom].sum())
    for x, y in points:
        for dx, dy in ((0.09, 0.09), (-0.09, 0.09), (0.09, -0.09), (-0.09, -0.09)):
            # Off the diagonals of the fans, where a ray may slip between two faces.
            distance, normal = first_hit(slab, (x + dx + 1e-4, y + dy, 1.0), (0, 0, -1))
            assert distance == pytest.approx(1.0) and normal[2] == pytest.approx(1.0)


def test_rectangle_needs_few_faces():
    """Ground in the shape of a rectangle is one fan above, one below and its sides."""
    x, y = np.meshgrid(np.arange(0.125, 5, 0.25), np.arange(0.125, 3, 0.25))
    assert len(floor_slab(np.stack([x.ravel(), y.ravel()], 1), margin=0.05).faces) == 16
