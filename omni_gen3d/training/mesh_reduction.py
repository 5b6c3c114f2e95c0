"""Meshes with fewer faces that keep their textures: collapsed edges, then colours and creases from the original."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omni_gen3d.training.obj_file import ObjMesh

_CREASE_COSINE = 0.64  # faces of more than 50 degrees between them keep their edge sharp
_WELD_SHARE = 2e-5  # of the extent, below which corners are one point
_TEXEL = 1 / 128  # to which texture coordinates are rounded


def reduced(mesh: ObjMesh, most: int) -> ObjMesh:
    """A mesh of about ``most`` faces, or the mesh itself if it has no more.

    Quadric edge collapse (Garland and Heckbert 1997) on the points alone; then every new face takes the material and
    the affine map of texture coordinates of the old face that lies nearest and faces alike.
    """
    if len(mesh.faces) <= most:
        return mesh
    import fast_simplification
    from scipy.spatial import KDTree

    extent = float(np.ptp(mesh.positions, axis=0).max())
    cell = np.round(mesh.positions / (extent * _WELD_SHARE)).astype(np.int64)
    _, first, index = np.unique(cell, axis=0, return_index=True, return_inverse=True)
    welded = index.reshape(-1)[mesh.faces]
    whole = (welded[:, 0] != welded[:, 1]) & (welded[:, 1] != welded[:, 2]) & (welded[:, 0] != welded[:, 2])
    made = fast_simplification.simplify(mesh.positions[first], welded[whole].astype(np.int32), target_count=most, agg=5)
    points, faces = made[0].astype(np.float64), made[1].astype(np.int64)
    weight = 0.05 * extent
    across = face_normals(points, faces)
    old = np.hstack([mesh.positions[mesh.faces].mean(1), face_normals(mesh.positions, mesh.faces) * weight])
    source = np.asarray(KDTree(old).query(np.hstack([points[faces].mean(1), across * weight]))[1])
    coordinates = _carried(mesh, source, points[faces])
    material = mesh.face_material[source]
    return shared(mesh, points[faces], creased_normals(points, faces), coordinates, material)


def shared(
    mesh: ObjMesh, corners: np.ndarray, normals: np.ndarray, coordinates: np.ndarray, material: np.ndarray
) -> ObjMesh:
    """A mesh of faces ``(F, 3, ...)`` whose equal corners are one."""
    rounded = np.round(coordinates / _TEXEL) * _TEXEL
    rows = np.concatenate([corners, np.round(normals, 2), rounded], 2).reshape(-1, 8).astype(np.float32)
    kept, index = np.unique(rows, axis=0, return_inverse=True)
    return replace(
        mesh,
        positions=kept[:, :3].astype(np.float64),
        normals=kept[:, 3:6],
        texture_coordinates=kept[:, 6:],
        faces=index.reshape(-1, 3),
        face_material=material,
    )


def face_normals(positions: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals ``(F, 3)``; 0 where a face has no area."""
    corners = positions[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-20)


def creased_normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Normals of the corners ``(F, 3, 3)``: the mean over the faces at a point that bend little from its own."""
    unit = face_normals(points, faces)
    order = np.argsort(faces.ravel(), kind="stable")
    point, face = faces.ravel()[order], order // 3
    total = unit[face].copy()
    degree = int(np.bincount(point).max())
    for step in range(1, degree):
        here, there = slice(None, -step), slice(step, None)
        near = (point[here] == point[there]) & ((unit[face[here]] * unit[face[there]]).sum(1) > _CREASE_COSINE)
        total[here] += unit[face[there]] * near[:, None]
        total[there] += unit[face[here]] * near[:, None]
    total /= np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-20)
    normals = np.empty_like(total)
    normals[order] = total
    return normals.reshape(-1, 3, 3)


def _carried(mesh: ObjMesh, source: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Texture coordinates ``(F, 3, 2)`` of new corners by the affine map of each one's source face."""
    old, given = mesh.positions[mesh.faces[source]], mesh.texture_coordinates[mesh.faces[source]].astype(np.float64)
    a, b = old[:, 1] - old[:, 0], old[:, 2] - old[:, 0]
    aa, ab, bb = (a * a).sum(1), (a * b).sum(1), (b * b).sum(1)
    determinant = aa * bb - ab * ab
    determinant = np.where(np.abs(determinant) < 1e-18, np.inf, determinant)[:, None]
    offset = corners - old[:, :1]
    pa, pb = (offset * a[:, None]).sum(2), (offset * b[:, None]).sum(2)
    # A sliver's map is not trusted far outside of it.
    u = np.clip((bb[:, None] * pa - ab[:, None] * pb) / determinant, -1, 2)[..., None]
    v = np.clip((aa[:, None] * pb - ab[:, None] * pa) / determinant, -1, 2)[..., None]
    return given[:, :1] + u * (given[:, 1:2] - given[:, :1]) + v * (given[:, 2:] - given[:, :1])
