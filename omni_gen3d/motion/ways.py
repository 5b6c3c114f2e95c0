"""Where a body goes, by where it is said to be: things go smoothly, and are seen worst along the line of sight."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve

# What is believed of a place along the line of sight and across [m], and of a way: how much its third differences are
# [m, rad].
_ALONG_M, _ACROSS_M = 0.08, 0.03
JERK_M, JERK_RAD = 0.006, 0.012
# Errors count linearly beyond so many deviations.
_LINEAR, _ITERATIONS = 1.5, 8


def smooth_way(times: np.ndarray, places: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """Places ``(S, 3)`` on a smooth way near those that a body was seen at.

    Args:
        times: At which it was seen, ascending, shape ``(S,)``.
        places: Where it was then [m], shape ``(S, 3)``.
        eyes: Where the camera was [m], shape ``(S, 3)``.
    """
    rays = places - eyes
    rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-9)
    along = rays[:, :, None] * rays[:, None]
    seen = sparse.block_diag(list((np.eye(3) - along) / _ACROSS_M + along / _ALONG_M), format="csr")
    jerk = sparse.kron(third_differences(times), np.eye(3), format="csr") / JERK_M
    slopes = sparse.vstack([seen, jerk], format="csr")
    told = np.concatenate([seen @ places.ravel(), np.zeros(jerk.shape[0])])
    way = places.ravel()
    for _ in range(_ITERATIONS):
        weights = robust(slopes @ way - told)
        way = spsolve((slopes.T @ slopes.multiply(weights[:, None])).tocsc(), slopes.T @ (weights * told))
    return way.reshape(-1, 3)


def third_differences(times: np.ndarray) -> sparse.csr_matrix:
    """What takes values at S times to their third differences, as of steps of one, ``(S - 3, S)``."""
    four = np.stack([times[i : len(times) - 3 + i] for i in range(4)], 1).astype(np.float64)
    apart = four[:, :, None] - four[:, None] + np.eye(4)
    weights = 6 / apart.prod(2)
    rows = np.arange(len(four)).repeat(4)
    columns = (np.arange(len(four))[:, None] + np.arange(4)).ravel()
    return sparse.csr_matrix((weights.ravel(), (rows, columns)), (len(four), len(times)))


def robust(off: np.ndarray) -> np.ndarray:
    """Weights of errors, in deviations, so that large ones count linearly (Huber 1964)."""
    return np.minimum(1.0, _LINEAR / np.maximum(np.abs(off), 1e-9))
