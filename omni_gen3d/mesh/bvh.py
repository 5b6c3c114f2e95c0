"""Exact questions about a triangle mesh: the distance to its nearest face, and the first face along a ray.

Both walk a tree of boxes over the faces, split at the median of the longest side (Ericson, "Real-Time Collision
Detection", 2005, chapter 6; closest point of a triangle: chapter 5.1.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from omni_gen3d.mesh.tasks import in_tasks
from omni_gen3d.types import TriMesh

_LEAF = 8
_MIN_DOUBLE_AREA_M2 = 1e-12
_STACK = 64
_POINTS_A_TASK = 4096
_LEFT, _RIGHT, _BEGIN, _END = range(4)


@dataclass(frozen=True)
class FaceTree:
    """Boxes over the faces of a mesh.

    Attributes:
        corners: Of the faces in the order of the leaves [m], shape ``(F, 3, 3)``, float64.
        faces: Index of each in the mesh, shape ``(F,)``, int64.
        low: Corners of the boxes [m], shape ``(B, 3)``, float64; box 0 holds all.
        high: Likewise.
        links: Children of each box (-1 in a leaf) and its range of faces, shape ``(B, 4)``, int64.
    """

    corners: np.ndarray
    faces: np.ndarray
    low: np.ndarray
    high: np.ndarray
    links: np.ndarray

    @staticmethod
    def of(mesh: TriMesh) -> FaceTree:
        """The tree over a mesh of at least one face with area; faces without are left out."""
        corners = mesh.vertices.astype(np.float64)[mesh.faces]
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        kept = np.flatnonzero(np.linalg.norm(across, axis=1) > _MIN_DOUBLE_AREA_M2)
        corners, order = corners[kept], np.arange(len(kept))
        boxes = 2 * -(-2 * len(corners) // _LEAF) + 1
        links = np.full((boxes, 4), -1, np.int64)
        count = _split(corners.mean(1), order, links)
        low, high = np.empty((count, 3)), np.empty((count, 3))
        corners = np.ascontiguousarray(corners[order])
        _bound(corners, links[:count], low, high)
        return FaceTree(corners, kept[order], low, high, links[:count].copy())

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Distance from points ``(M, 3)`` to the surface [m], exact, shape ``(M,)``, float64."""
        points = np.ascontiguousarray(points, np.float64)
        distance = np.empty(len(points))
        boxes = (self.low, self.high, self.links)
        in_tasks(_distances, len(points), _POINTS_A_TASK, points, self.corners, *boxes, distance)
        return distance

    def first_hit(self, points: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """How the first face that a ray meets looks: 1 along the ray (its back is hit), -1 against it, 0 no face.

        Args:
            points: Where the rays start [m], shape ``(M, 3)``.
            direction: Of all rays, shape ``(3,)``.

        Returns:
            Shape ``(M,)``, int8.
        """
        points, direction = np.ascontiguousarray(points, np.float64), np.asarray(direction, np.float64)
        sides = np.empty(len(points), np.int8)
        boxes = (self.low, self.high, self.links)
        in_tasks(_first_hits, len(points), _POINTS_A_TASK, points, direction, self.corners, *boxes, sides)
        return sides


@numba.njit(cache=True)
def _split(centres: np.ndarray, order: np.ndarray, links: np.ndarray) -> int:
    """Order the faces and link the boxes; returns how many boxes there are."""
    links[0, _BEGIN], links[0, _END] = 0, len(order)
    count, box = 1, 0
    while box < count:
        begin, end = links[box, _BEGIN], links[box, _END]
        if end - begin > _LEAF:
            part = centres[order[begin:end]]
            axis, longest = 0, -1.0
            for k in range(3):
                side = part[:, k].max() - part[:, k].min()
                if side > longest:
                    axis, longest = k, side
            order[begin:end] = order[begin:end][np.argsort(part[:, axis], kind="mergesort")]
            middle = (begin + end) // 2
            links[box, _LEFT], links[box, _RIGHT] = count, count + 1
            links[count, _BEGIN], links[count, _END] = begin, middle
            links[count + 1, _BEGIN], links[count + 1, _END] = middle, end
            count += 2
        box += 1
    return count


@numba.njit(cache=True)
def _bound(corners: np.ndarray, links: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    # A child follows its parent, so that backwards every box comes after its children.
    for box in range(len(links) - 1, -1, -1):
        left, right = links[box, _LEFT], links[box, _RIGHT]
        for k in range(3):
            if left >= 0:
                low[box, k] = min(low[left, k], low[right, k])
                high[box, k] = max(high[left, k], high[right, k])
            else:
                part = corners[links[box, _BEGIN] : links[box, _END], :, k]
                low[box, k], high[box, k] = part.min(), part.max()


@numba.njit(cache=True, inline="always")
def _dot(ax, ay, az, bx, by, bz):
    return ax * bx + ay * by + az * bz


@numba.njit(cache=True)
def _squared_distance(px: float, py: float, pz: float, face: np.ndarray) -> float:
    """From a point to a triangle, by the region of the triangle that is nearest."""
    ax, ay, az = face[0]
    bx, by, bz = face[1, 0] - ax, face[1, 1] - ay, face[1, 2] - az
    cx, cy, cz = face[2, 0] - ax, face[2, 1] - ay, face[2, 2] - az
    qx, qy, qz = px - ax, py - ay, pz - az
    d1, d2 = _dot(bx, by, bz, qx, qy, qz), _dot(cx, cy, cz, qx, qy, qz)
    bb, bc, cc = _dot(bx, by, bz, bx, by, bz), _dot(bx, by, bz, cx, cy, cz), _dot(cx, cy, cz, cx, cy, cz)
    d3, d4, d5, d6 = d1 - bb, d2 - bc, d1 - bc, d2 - cc
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    if d1 <= 0.0 and d2 <= 0.0:
        u, v = 0.0, 0.0
    elif d3 >= 0.0 and d4 <= d3:
        u, v = 1.0, 0.0
    elif vc <= 0.0 and d1 >= 0.0 and d3 <= 0.0:
        u, v = d1 / (d1 - d3), 0.0
    elif d6 >= 0.0 and d5 <= d6:
        u, v = 0.0, 1.0
    elif vb <= 0.0 and d2 >= 0.0 and d6 <= 0.0:
        u, v = 0.0, d2 / (d2 - d6)
    elif va <= 0.0 and d4 - d3 >= 0.0 and d5 - d6 >= 0.0:
        v = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        u = 1.0 - v
    else:
        total = va + vb + vc
        u, v = vb / total, vc / total
    rx, ry, rz = qx - u * bx - v * cx, qy - u * by - v * cy, qz - u * bz - v * cz
    return _dot(rx, ry, rz, rx, ry, rz)


@numba.njit(nogil=True, cache=True)
def _distances(
    first: int,
    last: int,
    points: np.ndarray,
    corners: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    links: np.ndarray,
    distance: np.ndarray,
) -> None:
    stack = np.empty(_STACK, np.int64)
    bounds = np.empty(_STACK)
    for i in range(first, last):
        x, y, z = points[i]
        best = np.inf
        stack[0], bounds[0] = 0, 0.0
        depth = 1
        while depth > 0:
            depth -= 1
            box = stack[depth]
            if bounds[depth] >= best:
                continue
            if links[box, _LEFT] < 0:
                for face in range(links[box, _BEGIN], links[box, _END]):
                    best = min(best, _squared_distance(x, y, z, corners[face]))
                continue
            left, right = links[box, _LEFT], links[box, _RIGHT]
            near, far = _to_box(x, y, z, low[left], high[left]), _to_box(x, y, z, low[right], high[right])
            if far < near:
                left, right, near, far = right, left, far, near
            stack[depth], bounds[depth] = right, far
            stack[depth + 1], bounds[depth + 1] = left, near
            depth += 2
        distance[i] = np.sqrt(best)


@numba.njit(cache=True)
def _to_box(x: float, y: float, z: float, low: np.ndarray, high: np.ndarray) -> float:
    dx = max(low[0] - x, 0.0, x - high[0])
    dy = max(low[1] - y, 0.0, y - high[1])
    dz = max(low[2] - z, 0.0, z - high[2])
    return dx * dx + dy * dy + dz * dz


@numba.njit(nogil=True, cache=True)
def _first_hits(
    first: int,
    last: int,
    points: np.ndarray,
    direction: np.ndarray,
    corners: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    links: np.ndarray,
    sides: np.ndarray,
) -> None:
    stack = np.empty(_STACK, np.int64)
    for i in range(first, last):
        nearest, side = np.inf, 0
        stack[0] = 0
        depth = 1
        while depth > 0:
            depth -= 1
            box = stack[depth]
            if not _meets_box(points[i], direction, low[box], high[box], nearest):
                continue
            if links[box, _LEFT] >= 0:
                stack[depth], stack[depth + 1] = links[box, _LEFT], links[box, _RIGHT]
                depth += 2
                continue
            for face in range(links[box, _BEGIN], links[box, _END]):
                t, facing = _ray_face(points[i], direction, corners[face])
                if t < nearest:
                    nearest, side = t, facing
        sides[i] = side


@numba.njit(cache=True)
def _meets_box(point: np.ndarray, direction: np.ndarray, low: np.ndarray, high: np.ndarray, nearest: float) -> bool:
    enter, leave = 0.0, nearest
    for k in range(3):
        if direction[k] == 0.0:
            if point[k] < low[k] or point[k] > high[k]:
                return False
        else:
            a, b = (low[k] - point[k]) / direction[k], (high[k] - point[k]) / direction[k]
            enter, leave = max(enter, min(a, b)), min(leave, max(a, b))
    return enter <= leave


@numba.njit(cache=True)
def _ray_face(point: np.ndarray, direction: np.ndarray, face: np.ndarray) -> tuple[float, int]:
    """Where the ray meets the triangle (infinite where it does not), and the side (Moeller and Trumbore 1997)."""
    u, v = face[1] - face[0], face[2] - face[0]
    px, py, pz = (
        direction[1] * v[2] - direction[2] * v[1],
        direction[2] * v[0] - direction[0] * v[2],
        direction[0] * v[1] - direction[1] * v[0],
    )
    # The normal times the ray, negative: above 0 where the face looks against the ray.
    determinant = _dot(u[0], u[1], u[2], px, py, pz)
    if determinant == 0.0:
        return np.inf, 0
    s = point - face[0]
    a = _dot(s[0], s[1], s[2], px, py, pz) / determinant
    qx, qy, qz = s[1] * u[2] - s[2] * u[1], s[2] * u[0] - s[0] * u[2], s[0] * u[1] - s[1] * u[0]
    b = _dot(direction[0], direction[1], direction[2], qx, qy, qz) / determinant
    t = _dot(v[0], v[1], v[2], qx, qy, qz) / determinant
    if a < 0.0 or b < 0.0 or a + b > 1.0 or t <= 0.0:
        return np.inf, 0
    return t, -1 if determinant > 0.0 else 1
