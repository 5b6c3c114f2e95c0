"""Plain shapes of unit size as objects: stretched and covered with a texture they become boards, poles and clutter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omni_gen3d.training.object_set import PLACES, ObjectSet

SHAPES = ("box", "ball", "cylinder", "ring", "cone")
_AROUND = 24


def with_shapes(objects: ObjectSet) -> ObjectSet:
    """The set with ``SHAPES`` before its own objects; they stand on the floor and look as their texture does."""
    made = [_box(), _turned(_half_circle()), _turned(_CYLINDER), _turned(_RING, closed=True), _turned(_CONE)]
    first_vertex = np.cumsum([0, *(len(positions) for positions, *_ in made)])
    first_face = np.cumsum([0, *(len(faces) for *_, faces in made)])
    parts = [np.concatenate(rows) for rows in zip(*made, strict=True)]
    positions, normals, texture_coordinates, faces = parts
    material = len(objects.material_color)
    return replace(
        objects,
        names=(*SHAPES, *objects.names),
        places=np.concatenate([np.full(len(SHAPES), PLACES.index("floor")), objects.places]),
        sizes=np.concatenate([np.ones((len(SHAPES), 3), np.float32), objects.sizes]),
        first_vertex=np.concatenate([first_vertex[:-1], objects.first_vertex + first_vertex[-1]]),
        first_face=np.concatenate([first_face[:-1], objects.first_face + first_face[-1]]),
        positions=np.concatenate([positions, objects.positions]).astype(np.float32),
        normals=np.concatenate([normals, objects.normals]).astype(np.float32),
        texture_coordinates=np.concatenate([texture_coordinates, objects.texture_coordinates]).astype(np.float32),
        faces=np.concatenate([faces, objects.faces]),
        face_material=np.concatenate([np.full(len(faces), material), objects.face_material]),
        material_color=np.concatenate([objects.material_color, [[0.8, 0.8, 0.8]]]).astype(np.float32),
        material_texture=np.concatenate([objects.material_texture, [-1]]),
    )


_Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
# Outlines (radius, height) that are turned about the z axis.
_CYLINDER = np.array([[0.0, 1.0], [0.5, 1.0], [0.5, 1.0], [0.5, 0.0], [0.5, 0.0], [0.0, 0.0]])
_CONE = np.array([[0.0, 1.0], [0.5, 0.0], [0.5, 0.0], [0.0, 0.0]])
_RING = np.stack(
    [0.4 + 0.1 * np.cos(np.linspace(0, -2 * np.pi, 9)), 0.5 + 0.5 * np.sin(np.linspace(0, -2 * np.pi, 9))], 1
)


def _half_circle() -> np.ndarray:
    angle = np.linspace(np.pi / 2, -np.pi / 2, 13)
    return np.stack([0.5 * np.cos(angle).clip(0), 0.5 + 0.5 * np.sin(angle)], 1)


def _box() -> _Rows:
    positions, normals, texture_coordinates, faces = [], [], [], []
    for axis in range(3):
        for side in (-1.0, 1.0):
            u, v = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3]
            normal = np.eye(3)[axis] * side
            corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
            faces += [[len(positions), len(positions) + i, len(positions) + i + 1] for i in (1, 2)]
            positions += [(normal + a * u + b * v) / 2 + [0, 0, 0.5] for a, b in corners]
            normals += [normal] * 4
            texture_coordinates += [((a + 1) / 2, (b + 1) / 2) for a, b in corners]
    return np.array(positions), np.array(normals), np.array(texture_coordinates), np.array(faces)


def _turned(outline: np.ndarray, closed: bool = False) -> _Rows:
    """A surface of revolution; equal neighbours in the outline are an edge, unless it is ``closed`` and smooth."""
    angle = np.linspace(0, 2 * np.pi, _AROUND + 1)
    steps = np.diff(outline, axis=0)
    across = np.stack([-steps[:, 1], steps[:, 0]], 1)
    sides = (
        np.concatenate([across[-1:] if closed else across[:1], across]),
        np.concatenate([across, across[:1] if closed else across[-1:]]),
    )
    slope = sides[0] + sides[1]
    edge = np.linalg.norm(steps, axis=1) < 1e-9
    slope[1:][edge], slope[:-1][edge] = sides[1][1:][edge], sides[0][:-1][edge]
    slope = slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-12)
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    positions = np.concatenate([outline[:, None, :1] * ring, np.repeat(outline[:, None, 1:], len(angle), 1)], 2)
    normals = np.concatenate([slope[:, None, :1] * ring, np.repeat(slope[:, None, 1:], len(angle), 1)], 2)
    along = np.linspace(1, 0, len(outline))
    coordinates = np.stack(np.broadcast_arrays(angle[None] / (2 * np.pi), along[:, None]), 2)
    rows, columns = np.meshgrid(np.flatnonzero(~edge), np.arange(_AROUND), indexing="ij")
    a = (rows * len(angle) + columns).ravel()
    b, c, d = a + 1, a + len(angle), a + len(angle) + 1
    faces = np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
    return positions.reshape(-1, 3), normals.reshape(-1, 3), coordinates.reshape(-1, 2), faces
