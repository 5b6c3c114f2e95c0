"""The shell around free space: closed, looking inwards, within its budget."""

from __future__ import annotations

import numpy as np
import pytest

from omni_gen3d.mesh.surface import extract_shell, face_normals_and_areas, is_closed, part_folds, without_fins
from omni_gen3d.mesh.tsdf import Tsdf
from omni_gen3d.types import TriMesh

TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]], np.int32)
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], np.float32)


@pytest.mark.parametrize("max_faces", [100_000, 3000, 600])
def test_shell_of_a_noisy_cave(max_faces: int):
    """Free space of ragged shape gives a closed shell of its volume whose faces look into it, at any budget."""
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*[np.arange(40) - 19.5] * 3, indexing="ij")
    distance = np.clip((15 - np.sqrt(x**2 + y**2 + z**2)) / 3 + rng.normal(0, 0.25, x.shape), -1, 1)
    shell, moved = extract_shell(Tsdf(distance.astype(np.float32), np.abs(distance) < 1, np.zeros(3), 0.1), max_faces)
    assert is_closed(shell) and len(shell.faces) <= max_faces
    assert 0 <= moved < 0.25 and (moved == 0) == (max_faces == 100_000)
    a, b, c = (shell.vertices[shell.faces[:, corner]].astype(float) for corner in range(3))
    volume = (a * np.cross(b, c)).sum() / 6
    assert -volume == pytest.approx(4 / 3 * np.pi * 1.5**3, rel=0.05)
    normals, areas = face_normals_and_areas(shell)
    towards_centre = ((2.0 - (a + b + c) / 3) * normals).sum(1) > 0
    assert areas[towards_centre].sum() > 0.85 * areas.sum()


def test_closedness():
    """A tetrahedron is closed; without a face, or with one turned round, it is not."""
    assert is_closed(TriMesh(CORNERS, TETRAHEDRON))
    assert not is_closed(TriMesh(CORNERS, TETRAHEDRON[1:]))
    assert not is_closed(TriMesh(CORNERS, np.concatenate([TETRAHEDRON[:3], TETRAHEDRON[3:, ::-1]])))


def test_fins_are_dropped():
    """Two faces back to back on an edge make it join four faces; without them the tetrahedron is as before."""
    fin = np.array([[0, 1, 4], [1, 0, 4]], np.int32)
    finned = TriMesh(CORNERS, np.concatenate([TETRAHEDRON, fin]))
    assert not is_closed(finned)
    np.testing.assert_array_equal(without_fins(finned).faces, TETRAHEDRON)


def test_folds_are_parted():
    """Two tetrahedra that share an edge become closed, with the same area and volume."""
    other = np.array([[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]], np.int32)
    corners = np.concatenate([CORNERS[:2], -CORNERS[2:4], CORNERS[2:4]])
    mesh = TriMesh(corners, np.concatenate([np.array([0, 1, 4, 5])[TETRAHEDRON], other[:, ::-1][:, [0, 1, 2]]]))
    assert not is_closed(mesh)
    parted = part_folds(mesh)
    assert is_closed(parted)
    assert face_normals_and_areas(parted)[1].sum() == pytest.approx(face_normals_and_areas(mesh)[1].sum())
