"""The boundary of free space as one closed mesh: marching cubes, decimated to a face budget."""

from __future__ import annotations

import itertools

import numpy as np
from scipy import ndimage

from omni_gen3d.mesh.tsdf import MIN_DISTANCE, Tsdf
from omni_gen3d.types import TriMesh

# A decimated vertex within this of z = 0 belongs to the floor and is put back on it.
_FLOOR_TOLERANCE_M = 0.02
# Where no surface was seen the boundary is a staircase of voxels; blurring it by this much saves most of its faces.
_BLUR_VOXELS = 1.0
# How greedily fast_simplification trades shape for speed, and the share of the budget it is given: it may join two
# folds of the surface in one edge, so the first result that is closed is taken.
_AGGRESSIVENESS = (7.0, 5.0)
_BUDGET_SHARES = (1.0, 0.95, 0.9, 0.85)


def extract_shell(tsdf: Tsdf, max_faces: int) -> TriMesh:
    """The closed boundary of free space, its faces looking into it.

    Args:
        tsdf: Holds at least one free voxel.
        max_faces: Budget, kept also where that costs the mesh its closedness (see ``is_closed``).
    """
    from skimage.measure import marching_cubes

    occupied = np.argwhere(tsdf.free)
    low, high = np.maximum(occupied.min(0) - 1, 0), occupied.max(0) + 2
    padded = np.pad(_smooth_unseen(tsdf)[tuple(map(slice, low, high))], 1, constant_values=-1.0)
    vertices, faces, _, _ = marching_cubes(padded, level=0.0, gradient_direction="descent")
    vertices = tsdf.origin + (vertices + low - 0.5) * tsdf.voxel_size
    shell = TriMesh(vertices.astype(np.float32), faces.astype(np.int32))
    if len(faces) > 2 * max_faces:
        coarse = _simplified(shell, 2 * max_faces, _AGGRESSIVENESS[0])
        shell = coarse if is_closed(coarse) else shell
    if len(shell.faces) > max_faces:
        attempts = itertools.product(_BUDGET_SHARES, _AGGRESSIVENESS)
        candidates = (_simplified(shell, int(share * max_faces), agg) for share, agg in attempts)
        fitting = (mesh for mesh in candidates if len(mesh.faces) <= max_faces)
        shell = next(filter(is_closed, fitting), None) or _simplified(shell, max_faces, _AGGRESSIVENESS[0])
    level = np.abs(shell.vertices[:, 2]) < _FLOOR_TOLERANCE_M
    shell.vertices[level, 2] = 0.0
    return shell


def _simplified(mesh: TriMesh, num_faces: int, aggressiveness: float) -> TriMesh:
    from fast_simplification import simplify

    vertices, faces = simplify(mesh.vertices, mesh.faces, target_count=num_faces, agg=aggressiveness)
    return TriMesh(vertices.astype(np.float32), faces.astype(np.int32))


def _smooth_unseen(tsdf: Tsdf) -> np.ndarray:
    """The distance field, blurred where neither a seen surface nor the floor is within a voxel; no sign changes."""
    evident = ndimage.binary_dilation(tsdf.surface_seen, np.ones((3, 3, 3)))
    evident[:, :, : max(tsdf.ground + 2, 0)] = True
    blurred = ndimage.gaussian_filter(tsdf.distance, _BLUR_VOXELS, mode="nearest")
    blurred = np.where(tsdf.free, np.maximum(blurred, MIN_DISTANCE), np.minimum(blurred, -MIN_DISTANCE))
    return np.where(evident, tsdf.distance, blurred)


def is_closed(mesh: TriMesh) -> bool:
    """Whether every edge joins exactly two faces of the same orientation."""
    edges = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(np.int64)
    forth = np.sort(edges[:, 0] * len(mesh.vertices) + edges[:, 1])
    back = np.sort(edges[:, 1] * len(mesh.vertices) + edges[:, 0])
    return bool((np.diff(forth) > 0).all() and np.array_equal(forth, back))


def face_normals_and_areas(mesh: TriMesh) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals (0 where a face has no area) and areas [m^2], shapes ``(F, 3)`` and ``(F,)``, float64."""
    a, b, c = (mesh.vertices[mesh.faces[:, corner]].astype(np.float64) for corner in range(3))
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.divide(normals, length, out=np.zeros_like(normals), where=length > 0), 0.5 * length[:, 0]
