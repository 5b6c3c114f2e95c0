"""The floor as a solid: a closed slab with a perfectly flat top, in as few triangles as its outline allows."""

from __future__ import annotations

import numpy as np

from omni_gen3d.types import TriMesh

# Coarse cells keep the staircase outline short; the slab may reach this far under the walls.
_CELL_M = 0.25
# Thick enough that a fast body does not tunnel through within one physics step.
_THICKNESS_M = 0.2


def floor_slab(points: np.ndarray, margin: float) -> TriMesh:
    """A watertight slab with its top at z = 0 under every point.

    The cells under the points are joined into rectangles. Each becomes a fan around its centre through every corner,
    its own or a neighbour's, that lies on its border; so rectangles of different size meet edge to edge.

    Args:
        points: Horizontal positions that need ground [m], shape ``(M, 2)``, ``M >= 1``.
        margin: The slab reaches at least this far beyond each [m], less than a cell.
    """
    corners = np.array([(-margin, -margin), (-margin, margin), (margin, -margin), (margin, margin)])
    cells = np.floor((points[:, None] + corners) / _CELL_M).astype(np.int64).reshape(-1, 2)
    first = cells.min(0) - 1
    mask = np.zeros(tuple(cells.max(0) - first + 2), np.bool_)
    mask[tuple((cells - first).T)] = True
    rectangles = _rectangles(_without_diagonal_contacts(mask))

    grid_corners = {corner for x0, y0, x1, y1 in rectangles for corner in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))}
    index: dict[tuple[float, float], int] = {}
    top: list[tuple[int, int, int]] = []
    outline: dict[tuple[int, int], None] = {}
    for rectangle in rectangles:
        border = [index.setdefault(corner, len(index)) for corner in _border(rectangle, grid_corners)]
        x0, y0, x1, y1 = rectangle
        centre = index.setdefault(((x0 + x1) / 2, (y0 + y1) / 2), len(index))
        for a, b in zip(border, border[1:] + border[:1], strict=True):
            top.append((centre, a, b))
            if (b, a) in outline:
                del outline[b, a]
            else:
                outline[a, b] = None

    xy = (np.array(list(index)) + first) * _CELL_M
    lower = len(xy)
    vertices = np.concatenate([np.insert(xy, 2, 0.0, axis=1), np.insert(xy, 2, -_THICKNESS_M, axis=1)])
    bottom = [(a + lower, c + lower, b + lower) for a, b, c in top]
    sides = [face for a, b in outline for face in ((a, a + lower, b + lower), (a, b + lower, b))]
    return TriMesh(vertices.astype(np.float32), np.array(top + bottom + sides, np.int32))


def _without_diagonal_contacts(mask: np.ndarray) -> np.ndarray:
    """Fill cells until no two touch at a corner only, where the slab would pinch to an edge of four faces."""
    mask = mask.copy()
    while True:
        a, b, c, d = mask[:-1, :-1], mask[1:, :-1], mask[:-1, 1:], mask[1:, 1:]
        pinched = (a & d & ~b & ~c) | (b & c & ~a & ~d)
        if not pinched.any():
            return mask
        for i, j in np.argwhere(pinched):
            mask[i : i + 2, j : j + 2] = True


def _rectangles(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Disjoint rectangles (x0, y0, x1, y1) that cover the mask, each grown greedily along y, then along x."""
    left = mask.copy()
    rectangles = []
    for x0, y0 in np.argwhere(mask).tolist():
        if not left[x0, y0]:
            continue
        x1, y1 = x0 + 1, y0 + 1
        while y1 < left.shape[1] and left[x0, y1]:
            y1 += 1
        while x1 < left.shape[0] and left[x1, y0:y1].all():
            x1 += 1
        left[x0:x1, y0:y1] = False
        rectangles.append((x0, y0, x1, y1))
    return rectangles


def _border(rectangle: tuple[int, int, int, int], corners: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """The given corners that lie on the rectangle's border, counter-clockwise."""
    x0, y0, x1, y1 = rectangle
    loop = (
        [(x, y0) for x in range(x0, x1)]
        + [(x1, y) for y in range(y0, y1)]
        + [(x, y1) for x in range(x1, x0, -1)]
        + [(x0, y) for y in range(y1, y0, -1)]
    )
    return [corner for corner in loop if corner in corners]
