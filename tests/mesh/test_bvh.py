"""The tree over faces against a look at every face."""

from __future__ import annotations

import numpy as np
import pytest

from omni_gen3d.mesh.bvh import FaceTree
from omni_gen3d.types import TriMesh


def soup(count: int, seed: int) -> TriMesh:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-2, 2, (count, 1, 3)) + rng.normal(0, 0.4, (count, 3, 3))
    return TriMesh(corners.reshape(-1, 3).astype(np.float32), np.arange(3 * count, dtype=np.int32).reshape(-1, 3))


def slow_distance(point: np.ndarray, corners: np.ndarray) -> float:
    """The nearest of the projection onto the plane, where it falls inside, and of the points of the three edges."""
    candidates = []
    for a, b in ((0, 1), (1, 2), (2, 0)):
        edge = corners[b] - corners[a]
        t = np.clip((point - corners[a]) @ edge / (edge @ edge), 0, 1)
        candidates.append(np.linalg.norm(corners[a] + t * edge - point))
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    foot = point - (point - corners[0]) @ normal / (normal @ normal) * normal
    sides = [np.cross(corners[(k + 1) % 3] - corners[k], foot - corners[k]) @ normal for k in range(3)]
    if min(sides) >= 0:
        candidates.append(np.linalg.norm(foot - point))
    return min(candidates)


@pytest.mark.parametrize("count", [1, 9, 120])
def test_distance_is_exact(count: int):
    """Distances to a soup of triangles agree with a loop over all of them; a face without area is nothing."""
    mesh = soup(count, seed=count)
    flat = TriMesh(mesh.vertices, np.concatenate([mesh.faces, [[0, 0, 1]]]).astype(np.int32))
    points = np.random.default_rng(0).uniform(-3, 3, (80, 3))
    corners = mesh.vertices[mesh.faces].astype(float)
    expected = [min(slow_distance(point, face) for face in corners) for point in points]
    np.testing.assert_allclose(FaceTree.of(flat).distance(points), expected, rtol=1e-9, atol=1e-12)


def test_first_hit_sees_the_right_side(first_hit):
    """Which side of the nearest face a ray meets agrees with ray casting face by face."""
    mesh = soup(60, seed=2)
    points = np.random.default_rng(1).uniform(-3, 3, (200, 3))
    direction = np.array([0.2, -0.3, 1.0])
    sides = FaceTree.of(mesh).first_hit(points, direction)
    assert {-1, 0, 1} == set(sides.tolist())
    for point, side in zip(points, sides, strict=True):
        distance, normal = first_hit(mesh, point, direction)
        assert side == (np.sign(normal @ direction) if np.isfinite(distance) else 0)
