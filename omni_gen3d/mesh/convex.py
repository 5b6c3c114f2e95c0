"""Objects as convex pieces, for simulators and bodies that collide with nothing else.

Only single objects are decomposed: of a whole room the pieces would fill the free space.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from omni_gen3d.mesh.sampling import farthest_points
from omni_gen3d.mesh.surface import volume_of
from omni_gen3d.types import ProxyPart, TriMesh

# Concavity at which coacd stops cutting; its finer settings take minutes and gain little on noisy scans.
_THRESHOLD = 0.2
_MAX_HULLS, _MAX_HULLS_AN_OBJECT = 128, 8
# Of the objects that are not convex the largest are decomposed, at about a second each.
_MAX_DECOMPOSED = 16
# An object that fills this share of its hull is convex enough.
_CONVEX_SHARE = 0.92
# What PhysX cooks for the GPU.
_MAX_VERTICES = 64
_MIN_VOLUME_M3 = 1e-6


def convex_parts(objects: tuple[ProxyPart, ...], seed: int = 0) -> tuple[ProxyPart, ...]:
    """Decompose objects with coacd (Wei et al. 2022), the same way for the same seed.

    An object that is nearly convex becomes its hull; so does what is left when 16 objects are decomposed or 128 hulls
    used up. No object becomes more than 8 hulls, no hull has more than 64 vertices.

    Args:
        objects: Parts of the shell, the largest first, open where they meet the floor, a wall or the unseen.
        seed: Of coacd's search.

    Returns:
        Closed convex parts labelled ``object``, named ``<object>_hull_00`` and so on; a flat object gives none.
    """
    parts: list[ProxyPart] = []
    decomposed = 0
    for part in objects:
        closed = capped(part.mesh)
        hull = convex_hull(closed.vertices)
        if hull is None:
            continue
        room = min(_MAX_HULLS_AN_OBJECT, _MAX_HULLS - len(parts))
        convex = abs(volume_of(closed)) >= _CONVEX_SHARE * volume_of(hull)
        hulls = [hull]
        if not convex and room > 1 and decomposed < _MAX_DECOMPOSED:
            hulls = _decompose(closed, room, seed) or hulls
            decomposed += 1
        parts += [ProxyPart(f"{part.name}_hull_{i:02}", "object", piece) for i, piece in enumerate(hulls)]
    return tuple(parts)


def capped(mesh: TriMesh) -> TriMesh:
    """The mesh with a fan over every hole, from the middle of its rim."""
    start = mesh.faces.ravel().astype(np.int64)
    end = np.roll(mesh.faces, -1, axis=1).ravel().astype(np.int64)
    count = len(mesh.vertices)
    open_edges = ~np.isin(start * count + end, end * count + start)
    follower: dict[int, list[int]] = {}
    for a, b in zip(start[open_edges].tolist(), end[open_edges].tolist(), strict=True):
        follower.setdefault(a, []).append(b)
    vertices, faces = [mesh.vertices], [mesh.faces]
    while follower:
        loop = [next(iter(follower))]
        while loop[-1] in follower:
            ends = follower[loop[-1]]
            loop.append(ends.pop())
            if not ends:
                del follower[loop[-2]]
        rim = np.array(loop)
        middle = count + len(vertices) - 1
        vertices.append(mesh.vertices[np.unique(rim)].mean(0, keepdims=True))
        faces.append(np.stack([rim[1:], rim[:-1], np.full(len(rim) - 1, middle)], 1))
    return TriMesh(np.concatenate(vertices).astype(np.float32), np.concatenate(faces).astype(np.int32))


def _decompose(mesh: TriMesh, max_hulls: int, seed: int) -> list[TriMesh]:
    import coacd

    coacd.set_log_level("error")
    pieces = coacd.run_coacd(
        coacd.Mesh(mesh.vertices.astype(np.float64), mesh.faces),
        threshold=_THRESHOLD,
        max_convex_hull=max_hulls,
        preprocess_mode="on",
        preprocess_resolution=30,
        resolution=200,
        mcts_nodes=8,
        mcts_iterations=20,
        mcts_max_depth=2,
        max_ch_vertex=_MAX_VERTICES,
        seed=seed,
    )
    hulls = [convex_hull(np.asarray(vertices)) for vertices, _ in pieces[:max_hulls]]
    return [hull for hull in hulls if hull is not None]


def convex_hull(points: np.ndarray) -> TriMesh | None:
    """The convex hull of points, of at most 64 of its corners, looking outwards; None where it is flat."""
    points = np.asarray(points, np.float64)
    try:
        hull = ConvexHull(points)
        if len(hull.vertices) > _MAX_VERTICES:
            points = points[np.sort(hull.vertices)]
            first = int(np.linalg.norm(points - points.mean(0), axis=1).argmax())
            points = points[np.sort(farthest_points(points, _MAX_VERTICES, first))]
            hull = ConvexHull(points)
    except (QhullError, ValueError):
        return None
    if hull.volume < _MIN_VOLUME_M3:
        return None
    used, faces = np.unique(hull.simplices, return_inverse=True)
    faces = faces.reshape(-1, 3)
    vertices = points[used]
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    inwards = (np.cross(b - a, c - a) * hull.equations[:, :3]).sum(1) < 0
    faces[inwards] = faces[inwards][:, ::-1]
    return TriMesh(vertices.astype(np.float32), faces.astype(np.int32))


def in_hull(hull: TriMesh, points: np.ndarray, depth: float = 0.0) -> np.ndarray:
    """Whether points lie behind every face of a convex mesh, by at least ``depth`` [m], shape ``(N,)``."""
    a, b, c = (hull.vertices[hull.faces[:, corner]].astype(np.float64) for corner in range(3))
    normals = np.cross(b - a, c - a)
    offsets = (normals * a).sum(1) - depth * np.linalg.norm(normals, axis=1)
    return (points @ normals.T <= offsets + 1e-9).all(1)
