"""Rigid motion between two sets of coloured points, one of which shows only a part of the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

Freedom = Literal["shift", "yaw", "turn"]
# A point of another colour counts as this much farther away for the full range of a channel [m].
_METRES_PER_COLOR = 0.15
_ITERATIONS = 20
# The worst pairs take no part: they show what only one of the sets shows.
_TRIMMED_SHARE = 0.2


@dataclass(frozen=True)
class Registration:
    """A motion, and how well it fits.

    Attributes:
        matrix: Moves the points onto the model, shape ``(4, 4)``.
        cost: Mean squared distance of the points from the model in place and colour, each at most the tolerance
            squared [m^2].
        inliers: Share of the points within the tolerance of the model.
    """

    matrix: np.ndarray
    cost: float
    inliers: float


class Model:
    """Coloured points to register others with."""

    def __init__(self, points: np.ndarray, colors: np.ndarray) -> None:
        """Index points [m], ``(N, 3)``, and their colours in [0, 1], ``(N, 3)``."""
        self.points = points
        self._tree = KDTree(np.concatenate([points, _METRES_PER_COLOR * colors], axis=1))

    def nearest(self, points: np.ndarray, colors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances [m] to the nearest points in place and colour, and their indices, shapes ``(M,)``."""
        distance, index = self._tree.query(np.concatenate([points, _METRES_PER_COLOR * colors], axis=1))
        return np.asarray(distance), np.asarray(index)

    def register(
        self,
        points: np.ndarray,
        colors: np.ndarray,
        guesses: Sequence[np.ndarray],
        freedom: Freedom,
        tolerance: float,
    ) -> Registration:
        """The best motion of some points onto the model: trimmed iterated closest points (Chetverikov et al. 2002).

        Args:
            points: Shape ``(M, 3)`` [m].
            colors: In [0, 1], shape ``(M, 3)``.
            guesses: Matrices ``(4, 4)`` to start from, at least one.
            freedom: To shift only, to turn about +Z as well, or to turn freely.
            tolerance: How far a point may be off [m].
        """
        tried = [self._descend(points, colors, guess, freedom, tolerance) for guess in guesses]
        return min(tried, key=lambda result: result.cost)

    def _descend(
        self, points: np.ndarray, colors: np.ndarray, guess: np.ndarray, freedom: Freedom, tolerance: float
    ) -> Registration:
        matrix = guess.copy()
        for _ in range(_ITERATIONS):
            moved = points @ matrix[:3, :3].T + matrix[:3, 3]
            distance, index = self.nearest(moved, colors)
            pairs = self.points[index]
            good = distance <= max(np.quantile(distance, 1 - _TRIMMED_SHARE), 1e-9)
            step = fit_motion(moved[good], pairs[good], freedom)
            matrix = step @ matrix
            if np.linalg.norm(step[:3, 3]) < 1e-4 and np.linalg.norm(step[:3, :3] - np.eye(3)) < 1e-4:
                break
        moved = points @ matrix[:3, :3].T + matrix[:3, 3]
        distance, _ = self.nearest(moved, colors)
        cost = float((np.minimum(distance, tolerance) ** 2).mean())
        return Registration(matrix, cost, float((distance <= tolerance).mean()))


def fit_motion(points: np.ndarray, targets: np.ndarray, freedom: Freedom) -> np.ndarray:
    """The rigid motion that takes paired points nearest to their targets in least squares, ``(4, 4)``.

    A free turn is Kabsch's (1976); about +Z it is the planar one.
    """
    matrix = np.eye(4)
    centre, goal = points.mean(0), targets.mean(0)
    a, b = points - centre, targets - goal
    if freedom == "yaw":
        angle = np.arctan2((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum(), (a[:, :2] * b[:, :2]).sum())
        matrix[:3, :3] = Rotation.from_euler("z", angle).as_matrix()
    elif freedom == "turn":
        u, _, vt = np.linalg.svd(a.T @ b)
        flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(vt.T @ u.T)) or 1.0])
        matrix[:3, :3] = vt.T @ flip @ u.T
    matrix[:3, 3] = goal - matrix[:3, :3] @ centre
    return matrix
