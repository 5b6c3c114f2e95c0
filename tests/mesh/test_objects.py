"""Objects told apart, and their convex pieces."""

from __future__ import annotations

import numpy as np
import pytest

from omni_gen3d.mesh.convex import capped, convex_parts
from omni_gen3d.mesh.objects import separate_objects
from omni_gen3d.mesh.scoring import joined
from omni_gen3d.mesh.surface import is_closed, volume_of
from omni_gen3d.types import PART_LABELS, ProxyPart, TriMesh

WALL, OBJECT = PART_LABELS.index("wall"), PART_LABELS.index("object")
CUBE = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
SQUARES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
FACES = np.array([face for a, b, c, d in SQUARES for face in ((a, b, c), (a, c, d))], np.int32)
# Without the two faces of the bottom, z = 0.
LIDDED = np.array([face for face in FACES.tolist() if CUBE[face][:, 2].any()], np.int32)


def box(low: tuple[float, ...], high: tuple[float, ...], faces: np.ndarray = LIDDED) -> ProxyPart:
    vertices = np.asarray(low) + CUBE * (np.asarray(high) - low)
    return ProxyPart("object_000", "object", TriMesh(vertices.astype(np.float32), faces))


def test_objects_are_numbered_by_size_and_crumbs_join_a_neighbour():
    """Two boxes are objects; a speck on a wall is wall, a loose speck belongs to the nearest box."""
    boxes = [box((0, 0, 0), (0.3, 0.3, 0.3)), box((2, 0, 0), (3, 1, 1)), box((2, 1.2, 0), (2.02, 1.22, 0.02))]
    shell = joined(tuple(boxes))
    corners = np.array([[9, 0, 0], [9, 1, 0], [9, 0, 1], [9, 0.01, 1.01]], np.float32)
    wall = np.array([[0, 1, 2], [1, 3, 2]], np.int32) + len(shell.vertices)
    shell = TriMesh(np.concatenate([shell.vertices, corners]), np.concatenate([shell.faces, wall]))
    labels = np.full(len(shell.faces), OBJECT)
    labels[-2] = WALL
    shell.vertices[-1] = (9, 0.02, 0.99)
    new_labels, objects = separate_objects(shell, labels)
    assert new_labels[-2:].tolist() == [WALL, WALL] and (new_labels[:-2] == OBJECT).all()
    assert objects.tolist() == [1] * 10 + [0] * 10 + [0] * 10 + [-1, -1]


def test_crumbs_alone_are_an_object():
    """A scene with nothing but a speck keeps it."""
    speck = box((0, 0, 0), (0.02, 0.02, 0.02)).mesh
    assert separate_objects(speck, np.full(10, OBJECT))[1].tolist() == [0] * 10


def test_a_cap_closes_an_open_box():
    """A box without its bottom becomes closed and has its volume."""
    closed = capped(box((1, 1, 0), (3, 2, 0.5)).mesh)
    assert is_closed(closed) and volume_of(closed) == pytest.approx(1.0)


def test_convex_objects_stay_whole_and_others_are_cut():
    """A box is one hull of its volume; an L of two boxes becomes a few that leave its notch open; runs agree."""
    outline = np.array([(0, 0), (1, 0), (1, 0.3), (0.3, 0.3), (0.3, 1), (0, 1)])
    vertices = np.concatenate([np.insert(outline, 2, 0.0, axis=1), np.insert(outline, 2, 0.6, axis=1)])
    top = np.array([(0, 1, 2), (0, 2, 3), (0, 3, 5), (3, 4, 5)])
    low, after = np.arange(6), np.roll(np.arange(6), -1)
    sides = [np.stack([low, after, after + 6], 1), np.stack([low, after + 6, low + 6], 1)]
    corner = TriMesh(vertices.astype(np.float32), np.concatenate([top + 6, *sides]).astype(np.int32))
    objects = (ProxyPart("object_000", "object", corner), box((3, 0, 0), (4, 1, 1)))
    objects = (objects[0], ProxyPart("object_001", "object", objects[1].mesh))
    parts, again = convex_parts(objects), convex_parts(objects)
    assert [a.mesh.vertices.tobytes() for a in parts] == [b.mesh.vertices.tobytes() for b in again]
    assert all(is_closed(part.mesh) and part.label == "object" and len(part.mesh.vertices) <= 64 for part in parts)
    first = [part for part in parts if part.name.startswith("object_000_hull_")]
    assert parts[-1].name == "object_001_hull_00" and len(first) == len(parts) - 1 and 2 <= len(first) <= 8
    assert volume_of(parts[-1].mesh) == pytest.approx(1.0, rel=1e-5)
    assert sum(volume_of(part.mesh) for part in first) == pytest.approx(0.51 * 0.6, rel=0.25)


def test_a_flat_object_has_no_hull():
    """A single face gives no convex part."""
    flat = TriMesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32))
    assert convex_parts((ProxyPart("object_000", "object", flat),)) == ()
