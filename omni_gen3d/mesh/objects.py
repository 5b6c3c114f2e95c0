"""Objects told apart: each connected group of object faces becomes a part of its own, crumbs stay with a neighbour."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from omni_gen3d.mesh.surface import face_normals_and_areas
from omni_gen3d.types import PART_LABELS, TriMesh

# Less surface than this is a crumb: a bump of the wall, a rest that decimation left.
_CRUMB_M2 = 0.03
_MAX_OBJECTS = 64
_OBJECT, _FLOOR = PART_LABELS.index("object"), PART_LABELS.index("floor")


def separate_objects(shell: TriMesh, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the objects of a shell, the one with most surface first.

    Of the groups of object faces that share vertices, those with at least 3 dm2 of surface are objects, at most 64.
    A smaller one takes the label of the wall or ceiling that it touches, else it goes to the nearest object; alone it
    is an object nevertheless.

    Args:
        shell: All faces.
        labels: Of the faces, indices into ``PART_LABELS``, shape ``(F,)``.

    Returns:
        The labels, and the number of the object of each face (-1 for other faces), both of shape ``(F,)``.
    """
    labels, objects = labels.copy(), np.full(len(labels), -1)
    of_objects = np.flatnonzero(labels == _OBJECT)
    if len(of_objects) == 0:
        return labels, objects
    areas = face_normals_and_areas(shell)[1]
    groups = _connected(shell.faces[of_objects], len(shell.vertices))
    sizes = np.bincount(groups, areas[of_objects])
    by_size = np.argsort(-sizes, kind="stable")
    large = by_size[:_MAX_OBJECTS][sizes[by_size[:_MAX_OBJECTS]] >= _CRUMB_M2]
    number = np.full(len(sizes), -1)
    number[large] = np.arange(len(large))

    centres = shell.vertices[shell.faces].astype(np.float64).mean(1)
    middles = np.stack([np.bincount(groups, centres[of_objects, k]) for k in range(3)], 1)
    middles /= np.bincount(groups)[:, None]
    vertex_label = np.full(len(shell.vertices), -1)
    for label in range(len(PART_LABELS)):
        if label not in (_OBJECT, _FLOOR):
            vertex_label[shell.faces[labels == label]] = label
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(groups))[:-1])
    for group in np.flatnonzero(number < 0):
        faces = of_objects[members[group]]
        touched = vertex_label[shell.faces[faces]].ravel()
        touched = touched[touched >= 0]
        if len(touched):
            labels[faces] = np.bincount(touched).argmax()
        elif len(large):
            number[group] = np.linalg.norm(middles[large] - middles[group], axis=1).argmin()
        else:
            number[group] = 0
    objects[of_objects] = np.where(labels[of_objects] == _OBJECT, number[groups], -1)
    return labels, objects


def _connected(faces: np.ndarray, num_vertices: int) -> np.ndarray:
    """Number of the group of faces that share vertices, shape ``(F,)``."""
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = sparse.coo_matrix((np.ones(len(edges)), edges.T), (num_vertices, num_vertices))
    vertex_group = sparse.csgraph.connected_components(graph, directed=False)[1]
    return np.unique(vertex_group[faces[:, 0]], return_inverse=True)[1].reshape(-1)
