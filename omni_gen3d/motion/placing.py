"""Where the depth of a thing in a film can be believed.

A depth network blurs across the edge of a thing: what near the edge is not about as deep as its inside is left out.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from omni_gen3d.motion.film import Film

# Depth this near the edge of a thing is not believed [pixels]; fewer pixels than that are no inside.
_EDGE_PX, _MIN_INSIDE = 2, 20
# Near the edge it differs from the inside by no more than this share of the thing's breadth, and all of it is no deeper
# than this many of them.
_BEND, _DEPTH = 0.2, 1.5
# This much of the nearest and of the farthest is noise.
_TRIMMED = 0.02


def believed_things(numbers: np.ndarray, depth: np.ndarray, film: Film) -> np.ndarray:
    """Numbers of things where their depth can be believed, else 0, ``(T, H, W)``.

    Args:
        numbers: Of the thing at each pixel, 0 for none, shape ``(T, H, W)``.
        depth: Of what each pixel shows [m], 0 where unknown, shape ``(T, H, W)``.
        film: Who filmed them.
    """
    believed = np.zeros_like(numbers)
    for time, (shown, seen) in enumerate(zip(numbers, depth, strict=True)):
        for number in np.unique(shown[shown > 0]):
            good = _believed(seen, shown == number, 1 / float(film.cameras.intrinsics[time, 0, 0]))
            believed[time][good] = number
    return believed


def _believed(depth: np.ndarray, pixels: np.ndarray, breadth: float) -> np.ndarray:
    """Pixels of a thing whose depth is about that of its inside, ``(H, W)``.

    A pixel at a depth of one is ``breadth`` wide.
    """
    inside = np.asarray(ndimage.binary_erosion(pixels, iterations=_EDGE_PX), np.bool_) & (depth > 0)
    if inside.sum() < _MIN_INSIDE:
        inside = pixels & (depth > 0)
    if not inside.any():
        return inside
    rows, columns = np.asarray(ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True))
    carried = depth[rows, columns]
    width = breadth * (np.ptp(np.nonzero(pixels)[1]) + 1) * float(np.median(carried[pixels]))
    low, high = np.quantile(carried[pixels], [_TRIMMED, 1 - _TRIMMED])
    limit = min(high, low + _DEPTH * width) + _BEND * width
    return pixels & (np.abs(depth - carried) < _BEND * width) & (depth < limit)
