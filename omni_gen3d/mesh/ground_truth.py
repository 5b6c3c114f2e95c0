"""How good a collision proxy is where the true surface is known."""

from __future__ import annotations

import numpy as np
from scipy import ndimage, sparse

from omni_gen3d.errors import InputError
from omni_gen3d.mesh.bvh import FaceTree
from omni_gen3d.mesh.scoring import joined
from omni_gen3d.mesh.surface import face_normals_and_areas, is_closed, volume_of
from omni_gen3d.types import FreeSpace, ProxyPart, TriMesh

_CLOSE_M = 0.05
_NUM_SAMPLES = 100_000
_NUM_INSIDE = 20_000
# A face counts when there is free space this close before it: nobody meets the underside of a slab.
_REACH_M = 0.1
# What a solid holds no deeper than this counts as its surface.
_SKIN_M = 0.01
# Rays that rise from a solid never meet the floor, which need not be closed; the slanted ones leave a column that
# reaches the ceiling.
_RAYS = ((0.003, 0.005, 1.0), (0.9, 0.2, 0.8), (-0.2, 0.9, 0.8), (-0.9, -0.2, 0.8), (0.2, -0.9, 0.8))


def score_against(parts: tuple[ProxyPart, ...], free_space: FreeSpace, truth: TriMesh) -> dict[str, float | None]:
    """Compare a proxy with the true surface by exact distances between points and triangles.

    Only what free space touches counts, on either mesh: samples with a free voxel at most 10 cm before them. What
    nobody saw and nobody can reach is neither right nor wrong. The draws are seeded; the same input gives the same
    figures.

    Args:
        parts: The proxy; faces look into free space.
        free_space: Which space counts as open, in the frame of both meshes.
        truth: The true surface [m]. Where it holds closed pieces whose faces look outwards, these are solids.

    Returns:
        ``accuracy_mm``: mean distance from the proxy's surface to the truth [mm]. ``completeness``: share of the true
        surface with the proxy within 5 cm. ``f_5cm``: harmonic mean of that and of the share of the proxy with the
        truth within 5 cm. ``solid_share``: share of the solids' volume near free space that the proxy holds to be
        inside. Shares lie in [0, 1]; a figure that nothing can be said about is None.

    Raises:
        InputError: One of the meshes has no area.
    """
    proxy = joined(parts)
    for name, mesh in (("the proxy", proxy), ("the ground truth", truth)):
        if face_normals_and_areas(mesh)[1].sum() <= 0:
            raise InputError(f"{name} has no area ({len(mesh.faces)} faces); a surface is needed to compare with.")
    rng = np.random.default_rng(0)
    proxy_tree, truth_tree = FaceTree.of(proxy), FaceTree.of(truth)
    points, normals = sample_surface(proxy, _NUM_SAMPLES, rng)
    to_truth = truth_tree.distance(points[_touches(free_space, points, normals)])
    points, normals = sample_surface(truth, _NUM_SAMPLES, rng)
    exposed = _touches(free_space, points, normals) | _touches(free_space, points, -normals)
    to_proxy = proxy_tree.distance(points[exposed])

    completeness = float((to_proxy < _CLOSE_M).mean()) if len(to_proxy) else None
    precision = float((to_truth < _CLOSE_M).mean()) if len(to_truth) else None
    total = (completeness or 0.0) + (precision or 0.0)
    inside = _solid_points(truth, free_space, rng)
    return {
        "accuracy_mm": _rounded(float(to_truth.mean()) * 1000) if len(to_truth) else None,
        "completeness": _rounded(completeness),
        "f_5cm": _rounded(2 * (completeness or 0.0) * (precision or 0.0) / total if total > 0 else None),
        "solid_share": _rounded(float(is_inside(proxy_tree, inside).mean())) if len(inside) else None,
    }


def sample_surface(mesh: TriMesh, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points spread evenly over a mesh and the normals there, shapes ``(count, 3)``, float64; none without area."""
    normals, areas = face_normals_and_areas(mesh)
    if areas.sum() <= 0:
        return np.zeros((0, 3)), np.zeros((0, 3))
    chosen = np.searchsorted(np.cumsum(areas), rng.uniform(0, areas.sum(), count)).clip(max=len(areas) - 1)
    u, v = rng.uniform(size=(2, count))
    folded = u + v > 1
    u, v = np.where(folded, 1 - u, u), np.where(folded, 1 - v, v)
    a, b, c = (mesh.vertices[mesh.faces[chosen, corner]].astype(np.float64) for corner in range(3))
    return a + u[:, None] * (b - a) + v[:, None] * (c - a), normals[chosen]


def is_inside(tree: FaceTree, points: np.ndarray) -> np.ndarray:
    """Whether a mesh holds points to be inside a solid, ``(M, 3)`` -> ``(M,)``, bool.

    Of five rays that rise from the point more meet the back of a face first than the front of one. Unlike a winding
    number, that needs no closed mesh, only one with a lid on each solid; a ray that leaves through a wall
    meets nothing and says nothing.
    """
    votes = sum(tree.first_hit(points, np.array(ray)) for ray in _RAYS)
    return np.asarray(votes > 0)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _touches(space: FreeSpace, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Whether there is a free voxel at most ``_REACH_M`` along the normal, shape ``(M,)``, bool."""
    touches = np.zeros(len(points), np.bool_)
    for step in np.arange(space.voxel_size / 2, _REACH_M + 1e-9, space.voxel_size / 2):
        touches |= _is_free(space, space.free, points + step * normals)
    return touches


def _is_free(space: FreeSpace, free: np.ndarray, points: np.ndarray) -> np.ndarray:
    voxels = np.floor((points - space.origin) / space.voxel_size).astype(np.int64)
    inside = ((voxels >= 0) & (voxels < free.shape)).all(1)
    result = np.zeros(len(points), np.bool_)
    result[inside] = free[tuple(voxels[inside].T)]
    return result


def _solid_points(truth: TriMesh, space: FreeSpace, rng: np.random.Generator) -> np.ndarray:
    """Points in the closed, outward-looking pieces of the truth within half a metre of free space, ``(M, 3)``."""
    bounded = ndimage.binary_dilation(space.free, iterations=max(1, round(0.5 / space.voxel_size)))
    pieces = [piece for piece in _pieces(truth) if is_closed(piece) and volume_of(piece) > 0]
    total = sum(map(volume_of, pieces))
    kept = [np.zeros((0, 3))]
    for piece in pieces:
        low, high = piece.vertices.min(0).astype(np.float64), piece.vertices.max(0).astype(np.float64)
        share = volume_of(piece) / total
        fill = min(1.0, volume_of(piece) / max(float(np.prod(high - low)), 1e-12))
        points = rng.uniform(low, high, (max(50, round(_NUM_INSIDE * share / max(fill, 0.05))), 3))
        points = points[_is_free(space, bounded, points)]
        if len(points):
            tree = FaceTree.of(piece)
            points = points[is_inside(tree, points)]
            kept.append(points[tree.distance(points) > _SKIN_M] if len(points) else points)
    return np.concatenate(kept)


def _pieces(mesh: TriMesh) -> list[TriMesh]:
    """The connected pieces, with vertices at one place merged."""
    vertices, merged = np.unique(mesh.vertices, axis=0, return_inverse=True)
    faces = merged.reshape(-1)[mesh.faces]
    count = len(vertices)
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = sparse.coo_matrix((np.ones(len(edges)), edges.T), (count, count))
    label = sparse.csgraph.connected_components(graph, directed=False)[1][faces[:, 0]]
    order = np.argsort(label, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    pieces = []
    for group in groups:
        used, compact = np.unique(faces[group], return_inverse=True)
        pieces.append(TriMesh(vertices[used], compact.reshape(-1, 3).astype(np.int32)))
    return pieces
