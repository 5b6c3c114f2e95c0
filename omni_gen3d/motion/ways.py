"""Where a body goes, by where it is said to be: things go smoothly, and are seen worst along the line of sight."""

from __future__ import annotations

import numpy as np

# What is believed of a place along the line of sight and across [m], and of a way: how much its third differences are
# [m, rad].
_ALONG_M, _ACROSS_M = 0.08, 0.03
JERK_M, JERK_RAD = 0.006, 0.012
# Errors count linearly beyond so many deviations.
_LINEAR, _ITERATIONS = 1.5, 8


def smooth_way(times: np.ndarray, places: np.ndarray, eyes: np.ndarray, doubts: np.ndarray) -> np.ndarray:
    """Places ``(S, 3)`` on a smooth way near those that a body was seen at.

    Args:
        times: At which it was seen, ascending, shape ``(S,)``.
        places: Where it was then [m], shape ``(S, 3)``.
        eyes: Where the camera was [m], shape ``(S, 3)``.
        doubts: How doubtful they are, where 1 is usual, shape ``(S,)``.
    """
    rays = places - eyes
    rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-9)
    along = rays[:, :, None] * rays[:, None]
    whitened = ((np.eye(3) - along) / _ACROSS_M + along / _ALONG_M) / doubts[:, None, None]
    count = len(places)
    seen = np.zeros((count, 3, count, 3))
    seen[np.arange(count), :, np.arange(count)] = whitened
    jerk = np.kron(third_differences(times), np.eye(3)) / JERK_M
    slopes = np.concatenate([seen.reshape(3 * count, 3 * count), jerk])
    told = np.concatenate([(whitened @ places[..., None]).ravel(), np.zeros(len(jerk))])
    way = places.ravel()
    for _ in range(_ITERATIONS):
        way = least_squares(slopes, told, robust(slopes @ way - told))
    return way.reshape(-1, 3)


def least_squares(slopes: np.ndarray, told: np.ndarray, weights: np.ndarray, damping: float = 0.0) -> np.ndarray:
    """What explains best what is told ``(R,)``, each with its weight, by ``slopes (R, N)``; ``(N,)``."""
    weighted = slopes.T * weights
    return np.linalg.solve(weighted @ slopes + damping * np.eye(slopes.shape[1]), weighted @ told)


def third_differences(times: np.ndarray) -> np.ndarray:
    """What takes values at S times to their third differences, as of steps of one, ``(S - 3, S)``."""
    rows = np.zeros((max(len(times) - 3, 0), len(times)))
    for i, row in enumerate(rows):
        four = times[i : i + 4].astype(np.float64)
        row[i : i + 4] = 6 / (four[:, None] - four + np.eye(4)).prod(1)
    return rows


def robust(off: np.ndarray) -> np.ndarray:
    """Weights of errors, in deviations, so that large ones count linearly (Huber 1964)."""
    return np.minimum(1.0, _LINEAR / np.maximum(np.abs(off), 1e-9))
