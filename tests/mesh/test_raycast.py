"""Mesh depth against a ray cast face by face."""

from __future__ import annotations

import numpy as np

from omni_gen3d.mesh.raycast import mesh_depth
from omni_gen3d.types import TriMesh


def test_mesh_depth_agrees_with_rays(first_hit):
    """Random triangles, some reaching behind the camera: same depth as Moeller and Trumbore on front faces."""
    rng = np.random.default_rng(0)
    corners = rng.uniform((-3, -3, -2), (3, 3, 6), (60, 1, 3)) + rng.normal(0, 1.5, (60, 3, 3))
    vertices = corners.reshape(-1, 3).astype(np.float32)
    faces = np.arange(180, dtype=np.int32).reshape(-1, 3)
    intrinsics = np.array([[14.0, 0, 11.5], [0, 15.0, 8.2], [0, 0, 1]])
    depth = mesh_depth(TriMesh(vertices, faces), np.eye(4)[None], intrinsics[None], height=16, width=24)[0]

    a, b, c = (vertices[faces[:, corner]].astype(float) for corner in range(3))
    facing = faces[(np.cross(b - a, c - a) * a).sum(1) < 0]
    hits = 0
    for row in range(16):
        for column in range(24):
            ray = ((column + 0.5 - 11.5) / 14.0, (row + 0.5 - 8.2) / 15.0, 1.0)
            expected, _ = first_hit(TriMesh(vertices, facing), (0, 0, 0), ray)
            np.testing.assert_allclose(depth[row, column], expected, rtol=1e-6)
            hits += np.isfinite(expected)
    assert 50 < hits
