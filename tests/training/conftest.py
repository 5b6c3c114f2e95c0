"""Toy objects that several suites of the training share."""

from __future__ import annotations

import numpy as np
import pytest

from omni_gen3d.training.object_set import ObjectSet


@pytest.fixture(scope="session")
def toy_objects() -> ObjectSet:
    """Two objects: a red wedge that stands, and a blue one that lies on others; one texture of each kind."""
    positions = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0], [0, 0, 1]], np.float32)
    faces = np.array([[0, 2, 1], [0, 3, 2], [0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
    rng = np.random.default_rng(0)
    return ObjectSet(
        names=("Traffic cone", "Toy"),
        places=np.array([0, 1]),
        sizes=np.array([[1, 1, 1], [0.2, 0.2, 0.2]], np.float32),
        first_vertex=np.array([0, 5, 10]),
        first_face=np.array([0, 6, 12]),
        positions=np.concatenate([positions, 0.2 * positions]),
        normals=np.tile(np.array([[0, 0, 1]], np.float32), (10, 1)),
        texture_coordinates=rng.random((10, 2), np.float32),
        faces=np.concatenate([faces, faces]),
        face_material=np.repeat([0, 1], 6),
        material_color=np.array([[0.8, 0.1, 0.1], [1, 1, 1]], np.float32),
        material_texture=np.array([-1, 0]),
        textures=rng.integers(0, 255, (2, 128, 128, 3), np.uint8),
        surfaces=("wood tiles",),
        skies=np.ones((1, 16, 32, 3), np.float32),
    )
