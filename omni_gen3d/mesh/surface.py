"""The boundary of free space as one closed mesh: marching cubes, decimated to a face budget."""

from __future__ import annotations

import numpy as np

from omni_gen3d.mesh.bvh import FaceTree
from omni_gen3d.mesh.smoothing import smooth_unseen
from omni_gen3d.mesh.tsdf import Tsdf
from omni_gen3d.types import TriMesh

# A decimated vertex within this of z = 0 belongs to the floor and is put back on it.
_FLOOR_TOLERANCE_M = 0.02
_NUM_PROBES = 20_000


def extract_shell(tsdf: Tsdf, max_faces: int) -> tuple[TriMesh, float]:
    """The closed boundary of free space, its faces looking into it.

    Args:
        tsdf: Holds at least one free voxel.
        max_faces: Budget.

    Returns:
        The mesh, and how far decimation moved it: the 99th percentile of the distance from the full surface [m].
    """
    from fast_simplification import simplify
    from skimage.measure import marching_cubes

    low, high = _bounds(tsdf.free)
    padded = np.pad(smooth_unseen(tsdf)[tuple(map(slice, low, high))], 1, constant_values=-1.0)
    vertices, faces, _, _ = marching_cubes(padded, level=0.0, gradient_direction="descent")
    vertices = tsdf.origin + (vertices + low - 0.5) * tsdf.voxel_size
    full = shell = TriMesh(vertices.astype(np.float32), faces.astype(np.int32))
    target = max_faces
    while len(shell.faces) > max_faces:
        simplified = simplify(vertices, faces.astype(np.int32), target_count=target)
        points, triangles = simplified[0], simplified[1]
        shell = TriMesh(points.astype(np.float32), triangles.astype(np.int32))
        shell = part_folds(without_fins(shell))
        target -= max(len(shell.faces) - max_faces, 0)
    level = np.abs(shell.vertices[:, 2]) < _FLOOR_TOLERANCE_M
    shell.vertices[level, 2] = 0.0
    return shell, _farthest(full, shell)


def _bounds(free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and one past the last voxel of the box around the free ones, a voxel wider to each side."""
    along = [np.flatnonzero(free.any(others)) for others in ((1, 2), (0, 2), (0, 1))]
    return np.maximum([at[0] - 1 for at in along], 0), np.array([at[-1] + 2 for at in along])


def _farthest(full: TriMesh, shell: TriMesh) -> float:
    every = max(1, len(full.vertices) // _NUM_PROBES)
    return float(np.percentile(FaceTree.of(shell).distance(full.vertices[::every]), 99))


def is_closed(mesh: TriMesh) -> bool:
    """Whether every edge joins exactly two faces of the same orientation."""
    start = mesh.faces.ravel().astype(np.int64)
    end = np.roll(mesh.faces, -1, axis=1).ravel().astype(np.int64)
    forth = np.sort(start * len(mesh.vertices) + end)
    back = np.sort(end * len(mesh.vertices) + start)
    return bool((np.diff(forth) > 0).all() and np.array_equal(forth, back))


def without_fins(mesh: TriMesh) -> TriMesh:
    """Drop pairs of faces that lie back to back on the same three vertices.

    Decimation leaves them where it collapses a thin bar or a narrow tunnel; they enclose nothing, and the edge on
    which a pair stands joins four faces.
    """
    corners, face_set = np.unique(np.sort(mesh.faces, axis=1), axis=0, return_inverse=True)
    first = mesh.faces.argmin(1)[:, None]
    second, third = (np.take_along_axis(mesh.faces, (first + step) % 3, axis=1)[:, 0] for step in (1, 2))
    side = np.where(second < third, 1, -1)
    surplus = np.bincount(face_set.ravel(), weights=side, minlength=len(corners))[face_set.ravel()]
    # Of three faces on the same vertices the two that cancel go and one of the remaining side stays.
    staying = np.flatnonzero(side * surplus > 0)
    _, one_each = np.unique(face_set.ravel()[staying], return_index=True)
    return TriMesh(mesh.vertices, mesh.faces[np.sort(staying[one_each])])


def part_folds(mesh: TriMesh) -> TriMesh:
    """Make every edge on which decimation joined several folds of the surface an edge of two faces again.

    Such an edge is halved, with a midpoint of its own for each pair of faces that run along it in opposite
    directions. The shape stays the same.
    """
    faces = mesh.faces
    start, end = faces.ravel().astype(np.int64), np.roll(faces, -1, axis=1).ravel()
    edges, sharing = np.unique(np.minimum(start, end) * len(mesh.vertices) + np.maximum(start, end), return_counts=True)
    midpoints: list[np.ndarray] = []
    for a, b in zip(*np.divmod(edges[sharing > 2], len(mesh.vertices)), strict=True):
        for forth, back in zip(_along(faces, a, b), _along(faces, b, a), strict=False):
            middle = len(mesh.vertices) + len(midpoints)
            midpoints.append((mesh.vertices[a] + mesh.vertices[b]) / 2)
            halves = faces[[forth, back]]
            first, second = np.where(halves == b, middle, halves), np.where(halves == a, middle, halves)
            faces = np.concatenate([faces, second])
            faces[[forth, back]] = first
    if not midpoints:
        return mesh
    return TriMesh(np.concatenate([mesh.vertices, np.stack(midpoints)]), faces.astype(np.int32))


def _along(faces: np.ndarray, start: int, end: int) -> np.ndarray:
    """Indices of the faces that hold the half-edge from ``start`` to ``end``."""
    return np.flatnonzero(((faces == start) & (np.roll(faces, -1, axis=1) == end)).any(1))


def face_normals_and_areas(mesh: TriMesh) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals (0 where a face has no area) and areas [m^2], shapes ``(F, 3)`` and ``(F,)``, float64."""
    a, b, c = (mesh.vertices[mesh.faces[:, corner]].astype(np.float64) for corner in range(3))
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.divide(normals, length, out=np.zeros_like(normals), where=length > 0), 0.5 * length[:, 0]


def volume_of(mesh: TriMesh) -> float:
    """What a closed mesh encloses, negative where its faces look inwards [m^3]."""
    a, b, c = (mesh.vertices[mesh.faces[:, corner]].astype(np.float64) for corner in range(3))
    return float((a * np.cross(b, c)).sum() / 6)
