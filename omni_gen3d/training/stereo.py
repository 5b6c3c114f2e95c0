"""Depth of a rectified pair of pictures where it is sure, to measure estimates against.

Hamming distance of census transforms (Zabih and Woodfill 1994), summed over windows; a pixel counts only where both
pictures choose each other, the choice is clear, and the picture has structure. Plain, slow, few assumptions.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter

_CENSUS_RADIUS = 3
_WINDOW = 11  # side of the window [pixels]
_AGREEMENT_PX = 1
_UNIQUE = 0.85  # best cost over the best one elsewhere, at most
_MIN_CONTRAST = 0.015  # standard deviation in the window, of grey values in [0, 1]
_NEVER = 1e3


def match(left: np.ndarray, right: np.ndarray, most: int) -> np.ndarray:
    """Disparity of the left picture's pixels [pixels], NaN where it is not sure.

    Args:
        left: Grey, in [0, 1], shape ``(H, W)``, float32.
        right: Likewise; a point of the left picture lies at x - disparity in it.
        most: Greatest disparity looked for [pixels].

    Returns:
        Shape ``(H, W)``, float32.
    """
    height, width = left.shape
    of_left, of_right = _census(left), _census(right)
    cost = np.full((most + 1, height, width), _NEVER, np.float32)
    # The same costs, along the columns of the right picture.
    mirrored = np.full_like(cost, _NEVER)
    for shift in range(most + 1):
        differs = np.bitwise_count(of_left[:, shift:] ^ of_right[:, : width - shift]).astype(np.float32)
        cost[shift, :, shift:] = mirrored[shift, :, : width - shift] = uniform_filter(differs, _WINDOW)
    disparity = cost.argmin(0)
    column = np.arange(width)
    back = np.take_along_axis(mirrored.argmin(0), np.maximum(column - disparity, 0), 1)
    low, best, high = (np.take_along_axis(cost, np.clip(disparity + i, 0, most)[None], 0)[0] for i in (-1, 0, 1))
    for i in (-1, 0, 1):
        np.put_along_axis(cost, np.clip(disparity + i, 0, most)[None], _NEVER, 0)
    contrast = np.sqrt(np.maximum(uniform_filter(left**2, _WINDOW) - uniform_filter(left, _WINDOW) ** 2, 0))
    sure = (np.abs(back - disparity) <= _AGREEMENT_PX) & (best < _UNIQUE * cost.min(0)) & (contrast > _MIN_CONTRAST)
    sure &= (disparity > 0) & (disparity < most)
    # Between whole pixels: the vertex of the parabola through three costs.
    bend = np.maximum(low - 2 * best + high, 1e-6)
    return np.where(sure, disparity + np.clip((low - high) / (2 * bend), -0.5, 0.5), np.nan).astype(np.float32)


def _census(picture: np.ndarray) -> np.ndarray:
    """Which of the 48 neighbours are brighter, a bit each, shape ``(H, W)``, uint64."""
    r = _CENSUS_RADIUS
    padded = np.pad(picture, r, mode="edge")
    height, width = picture.shape
    bits = np.zeros((height, width), np.uint64)
    for y in range(2 * r + 1):
        for x in range(2 * r + 1):
            if (y, x) != (r, r):
                bits = (bits << np.uint64(1)) | (padded[y : y + height, x : x + width] > picture)
    return bits
