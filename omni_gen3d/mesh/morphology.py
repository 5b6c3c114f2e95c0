"""Voxel masks dilated and taken apart into connected pieces, on all cores.

Pieces are sought among runs, unbroken stretches of voxels along z, of which a grid of twenty million voxels has a few
hundred thousand (He, Chao and Suzuki 2008, "A run-based two-scan labeling algorithm").
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from omni_gen3d.mesh.tasks import in_tasks

_LAYERS_A_TASK = 8


@dataclass(frozen=True)
class Pieces:
    """Pieces of a mask whose voxels share faces, in the order of their first voxels.

    Attributes:
        shape: Of the mask.
        runs: Column of each run (x index times columns along y, plus y index), its first voxel along z, and one past
            its last, shape ``(R, 3)``, int64.
        piece: Number of the piece that each run belongs to, shape ``(R,)``, int64.
        sizes: Voxels of each piece, shape ``(P,)``, int64.
    """

    shape: tuple[int, int, int]
    runs: np.ndarray
    piece: np.ndarray
    sizes: np.ndarray

    def bordering(self) -> np.ndarray:
        """Which pieces touch the border of the grid, shape ``(P,)``, bool."""
        size_x, size_y, size_z = self.shape
        x, y = np.divmod(self.runs[:, 0], size_y)
        touching = (x == 0) | (x == size_x - 1) | (y == 0) | (y == size_y - 1)
        touching |= (self.runs[:, 1] == 0) | (self.runs[:, 2] == size_z)
        bordering = np.zeros(len(self.sizes), np.bool_)
        bordering[self.piece[touching]] = True
        return bordering

    def paint(self, chosen: np.ndarray, values: np.ndarray, value: float | bool) -> None:
        """Write ``value`` into every voxel of the chosen pieces.

        Args:
            chosen: Shape ``(P,)``, bool.
            values: Where to, of the mask's shape, contiguous.
            value: What.
        """
        _fill(self.runs[chosen[self.piece]], values.reshape(-1, self.shape[2]), values.dtype.type(value))


def connected(mask: np.ndarray) -> Pieces:
    """The pieces of a mask, shape ``(X, Y, Z)``, bool."""
    size_x, size_y, _ = mask.shape
    voxels = np.ascontiguousarray(mask).view(np.uint8)
    ends = np.zeros(size_x * size_y + 1, np.int64)
    in_tasks(_count_runs, size_x, _LAYERS_A_TASK, voxels, ends[1:])
    np.cumsum(ends, out=ends)
    runs = np.empty((int(ends[-1]), 3), np.int64)
    in_tasks(_list_runs, size_x, _LAYERS_A_TASK, voxels, ends, runs)
    piece, count = _unite(runs, ends, size_y)
    sizes = np.zeros(count, np.int64)
    np.add.at(sizes, piece, runs[:, 2] - runs[:, 1])
    return Pieces(mask.shape, runs, piece, sizes)


def dilated(mask: np.ndarray, reach: int) -> np.ndarray:
    """Voxels with a true one at most ``reach`` away along each axis, ``(X, Y, Z)`` -> ``(X, Y, Z)``, bool.

    Nothing outside of the grid is true.
    """
    voxels = np.ascontiguousarray(mask).view(np.uint8)
    in_planes, grown = np.empty_like(voxels), np.empty_like(voxels)
    in_tasks(_dilate_planes, len(voxels), _LAYERS_A_TASK, voxels, reach, in_planes)
    in_tasks(_dilate_across, len(voxels), _LAYERS_A_TASK, in_planes, reach, grown)
    return grown.view(np.bool_)


def reached(start: np.ndarray, mask: np.ndarray, steps: int) -> np.ndarray:
    """Voxels of a mask that ``steps`` steps within it lead to, each to one of 26 neighbours, bool.

    Args:
        start: From where, part of the mask, shape ``(X, Y, Z)``, bool.
        mask: Shape ``(X, Y, Z)``, bool.
        steps: At most so many.
    """
    for _ in range(steps):
        start = dilated(start, 1)
        start &= mask
    return start


@numba.njit(nogil=True, cache=True)
def _count_runs(first: int, last: int, mask: np.ndarray, counts: np.ndarray) -> None:
    _, size_y, size_z = mask.shape
    for i in range(first, last):
        for j in range(size_y):
            count = 0
            before = 0
            for k in range(size_z):
                here = mask[i, j, k]
                count += here > before
                before = here
            counts[i * size_y + j] = count


@numba.njit(nogil=True, cache=True)
def _list_runs(first: int, last: int, mask: np.ndarray, ends: np.ndarray, runs: np.ndarray) -> None:
    _, size_y, size_z = mask.shape
    for i in range(first, last):
        for j in range(size_y):
            column = i * size_y + j
            run = ends[column]
            before = 0
            for k in range(size_z):
                here = mask[i, j, k]
                if here > before:
                    runs[run, 0], runs[run, 1], runs[run, 2] = column, k, size_z
                elif here < before:
                    runs[run, 2] = k
                    run += 1
                before = here


@numba.njit(nogil=True, cache=True)
def _unite(runs: np.ndarray, ends: np.ndarray, size_y: int) -> tuple[np.ndarray, int]:
    """Number of the piece of each run, and how many pieces there are."""
    parent = np.arange(len(runs))
    for column in range(len(ends) - 1):
        for step in range(2):
            other = column - (1 if step == 0 else size_y)
            if other < 0 or (step == 0 and column % size_y == 0):
                continue
            a, b = ends[column], ends[other]
            while a < ends[column + 1] and b < ends[other + 1]:
                if runs[a, 1] < runs[b, 2] and runs[b, 1] < runs[a, 2]:
                    p, q = _root(parent, a), _root(parent, b)
                    parent[max(p, q)] = min(p, q)
                if runs[a, 2] < runs[b, 2]:
                    a += 1
                else:
                    b += 1
    piece = np.empty(len(runs), np.int64)
    count = 0
    for run in range(len(runs)):
        # The first run of a piece is its root, and comes before the others.
        root = _root(parent, run)
        if root == run:
            piece[run] = count
            count += 1
        else:
            piece[run] = piece[root]
    return piece, count


@numba.njit(nogil=True, cache=True)
def _root(parent: np.ndarray, run: int) -> int:
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@numba.njit(nogil=True, cache=True)
def _fill(runs: np.ndarray, values: np.ndarray, value: float) -> None:
    for run in range(len(runs)):
        values[runs[run, 0], runs[run, 1] : runs[run, 2]] = value


@numba.njit(nogil=True, cache=True)
def _dilate_planes(first: int, last: int, mask: np.ndarray, reach: int, grown: np.ndarray) -> None:
    """Along z, then along y."""
    _, size_y, size_z = mask.shape
    along = np.empty((size_y, size_z), np.uint8)
    for i in range(first, last):
        for j in range(size_y):
            for k in range(size_z):
                along[j, k] = mask[i, j, k]
            for step in range(1, reach + 1):
                for k in range(size_z - step):
                    along[j, k] |= mask[i, j, k + step]
                for k in range(step, size_z):
                    along[j, k] |= mask[i, j, k - step]
        for j in range(size_y):
            for k in range(size_z):
                grown[i, j, k] = along[j, k]
            for n in range(max(j - reach, 0), min(j + reach + 1, size_y)):
                for k in range(size_z):
                    grown[i, j, k] |= along[n, k]


@numba.njit(nogil=True, cache=True)
def _dilate_across(first: int, last: int, planes: np.ndarray, reach: int, grown: np.ndarray) -> None:
    """Along x."""
    size_x, size_y, size_z = planes.shape
    for i in range(first, last):
        for j in range(size_y):
            for k in range(size_z):
                grown[i, j, k] = planes[i, j, k]
            for n in range(max(i - reach, 0), min(i + reach + 1, size_x)):
                for k in range(size_z):
                    grown[i, j, k] |= planes[n, j, k]
