"""How far away the things of a film are: depth inside of them, set right by where they touch the floor.

A depth network blurs across the edge of a thing, and its guess of how far away the thing stands is off by some percent.
What near the edge of a thing is not about as deep as its inside is left out. What stands on the floor is as far away as
the floor seen right below it, unless it is round and touches the floor out of sight.
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
# What touches the floor does so along this share of its lower edge; what would be moved by more than this, in natural
# logarithms of the depth, does not touch it.
_TOUCHING_SHARE, _MAX_LOG_SHIFT = 0.2, 0.2
# What covers this share of the disc of its area and middle, and of which the disc covers as much, is round.
_ROUND_SHARE = 0.93


def placed_things(numbers: np.ndarray, depth: np.ndarray, film: Film) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of things where their depth can be believed, and factors that set it right, each ``(T, H, W)``.

    Args:
        numbers: Of the thing at each pixel, 0 for none, shape ``(T, H, W)``.
        depth: Of what each pixel shows [m], 0 where unknown, shape ``(T, H, W)``.
        film: Who filmed them, in a world with the floor at z = 0.
    """
    believed = np.zeros_like(numbers)
    factors = np.ones(depth.shape, np.float32)
    for time, (shown, seen) in enumerate(zip(numbers, depth, strict=True)):
        for number in np.unique(shown[shown > 0]):
            pixels = shown == number
            good, inside = _believed(seen, pixels, 1 / float(film.cameras.intrinsics[time, 0, 0]))
            believed[time][good] = number
            factors[time][pixels] = _to_floor(inside, pixels, film, time)
    return believed, factors


def _believed(depth: np.ndarray, pixels: np.ndarray, breadth: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixels whose depth is about that of the inside, and that depth carried to the edge, each ``(H, W)``.

    A pixel at a depth of one is ``breadth`` wide.
    """
    inside = np.asarray(ndimage.binary_erosion(pixels, iterations=_EDGE_PX), np.bool_) & (depth > 0)
    if inside.sum() < _MIN_INSIDE:
        inside = pixels & (depth > 0)
    if not inside.any():
        return inside, depth
    rows, columns = np.asarray(ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True))
    carried = depth[rows, columns]
    width = breadth * (np.ptp(np.nonzero(pixels)[1]) + 1) * float(np.median(carried[pixels]))
    low, high = np.quantile(carried[pixels], [_TRIMMED, 1 - _TRIMMED])
    limit = min(high, low + _DEPTH * width) + _BEND * width
    return pixels & (np.abs(depth - carried) < _BEND * width) & (depth < limit), carried


def _to_floor(depth: np.ndarray, pixels: np.ndarray, film: Film, time: int) -> float:
    """Factor that brings the lower edge of a thing to the floor; 1 where it does not stand there."""
    if _is_round(pixels):
        return 1.0
    height = len(pixels)
    columns = np.flatnonzero(pixels.any(0))
    rows = height - 1 - pixels[::-1, columns].argmax(0)
    whole = rows < height - 2
    rows, columns = rows[whole], columns[whole]
    if len(rows) < _MIN_INSIDE // 4:
        return 1.0
    lens = film.cameras.intrinsics[time].double().numpy()
    pose = film.cameras.camera_to_world[time].double().numpy()
    ray = np.stack(
        [(columns + 0.5 - lens[0, 2]) / lens[0, 0], (rows + 1 - lens[1, 2]) / lens[1, 1], np.ones(len(rows))], 1
    )
    fall = -(ray @ pose[2, :3])
    floor = np.where(fall > 1e-3, pose[2, 3] / np.maximum(fall, 1e-3), np.inf)
    factor = float(np.quantile(floor / depth[rows, columns], _TOUCHING_SHARE, method="lower"))
    return factor if factor > 0 and abs(np.log(factor)) < _MAX_LOG_SHIFT else 1.0


def _is_round(pixels: np.ndarray) -> bool:
    rows, columns = np.nonzero(pixels)
    away = np.hypot(rows - rows.mean(), columns - columns.mean())
    return bool((away <= np.sqrt(len(rows) / np.pi)).mean() > _ROUND_SHARE)
