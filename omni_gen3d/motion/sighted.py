"""The bodies that sightings tell of: which cell of a film shows which, and what all its cells say of one together.

Cells of one body agree about where its middle is. At each time they are told apart by that, and joined with those of
the times before by where a body should be by now and how far it reaches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from omni_gen3d.motion.gathering import MIN_CELLS, Sight, agreeing, join
from omni_gen3d.motion.sightings import Sightings

# A cell shows what moves when that is likelier than not. A body is seen at so many times at least, and at this share of
# those between the first and the last.
_MOVES, MIN_TIMES, _SEEN_SHARE = 0.5, 3, 0.5
# What a network doubts more [share of the distance], or is less sure to see move in the mean, is of a kind that it does
# not know.
_MAX_DOUBT, _SURE = 0.06, 0.85
# A cell within more than so many of a body is of it.
_AROUND = 4.5
# No time is believed much more or less than others.
_DOUBTS = (0.5, 4.0)
# Numbers of sighted bodies begin after this; those of silhouettes are below.
SIGHTED = 1000
# A pixel of a silhouette is of a body when one of its cells is this near; any pixel is, so far inside of it [cells].
_NEAR, _INSIDE = 2.5, 0.5
# A body that silhouettes show less than this share of does not move; less than this of a silhouette, left by bodies, is
# their shadow.
_SHOWN_SHARE, _LEFT_SHARE = 0.05, 0.25


@dataclass(frozen=True)
class Sights:
    """What is said of one body, at S times.

    Attributes:
        times: Indices, ascending, shape ``(S,)``.
        centers: Its middle in the world [m], shape ``(S, 3)``.
        supports: How far it reaches from there along each direction [m], shape ``(S, 50)``.
        directions: Those, in the world, shape ``(S, 50, 3)``.
        doubts: How doubtful that is, where 1 is usual, shape ``(S,)``.
    """

    times: np.ndarray
    centers: np.ndarray
    supports: np.ndarray
    directions: np.ndarray
    doubts: np.ndarray


def bodies_shown(sightings: Sightings) -> np.ndarray:
    """Number of the body that each cell shows, from 1, 0 for none, the one of the most cells first, ``(T, h, w)``."""
    tracks: list[list[Sight]] = []
    for time in range(len(sightings.moves)):
        moving = sightings.moves[time] > _MOVES
        said, cells = _said(sightings, time, moving), np.argwhere(moving)
        groups = agreeing(said, sightings.moves[time][moving])
        join(tracks, time, [(time, cells[group], np.median(said[group], axis=0)) for group in groups])
    kept = [track for track in tracks if _is_known(track, sightings)]
    numbers = np.zeros(sightings.moves.shape, np.int16)
    for number, track in enumerate(sorted(kept, key=lambda track: -sum(len(cells) for _, cells, _ in track)), 1):
        for time, cells, _ in track:
            own = np.zeros(numbers.shape[1:])
            own[tuple(cells.T)] = 1
            own += 9 * ndimage.uniform_filter(own, 3, mode="constant") > _AROUND
            numbers[time][(own > 0) & (numbers[time] == 0)] = number
    return numbers


def _is_known(track: list[Sight], sightings: Sightings) -> bool:
    """Whether a track is of a kind of body that the network knows, and no glimpse."""
    seen = track[-1][0] - track[0][0] + 1
    doubts, moves = (
        float(np.mean(np.concatenate([maps[time][tuple(cells.T)] for time, cells, _ in track])))
        for maps in (sightings.doubts, sightings.moves)
    )
    return len(track) >= max(MIN_TIMES, _SEEN_SHARE * seen) and doubts < _MAX_DOUBT and moves > _SURE


def pixels_shown(silhouettes: np.ndarray, bodies: np.ndarray) -> np.ndarray:
    """Number of the thing that each pixel shows, that of a body plus ``SIGHTED``, ``(T, H, W)``.

    Args:
        silhouettes: Numbers of things, shape ``(T, H, W)``: a pixel of one is of the body that is nearest, or keeps its
            number where none is near, unless little of that silhouette does. What is well inside of a body is of it,
            too: a plain thing that goes by less than its breadth shows only its ends.
        bodies: Numbers of bodies, shape ``(T, h, w)``.
    """
    numbers = silhouettes.copy()
    cell = silhouettes.shape[1] // bodies.shape[1]
    pixels = np.kron(bodies, np.ones((1, cell, cell), bodies.dtype))
    size, shown = (np.bincount(pixels[which].ravel(), minlength=2) for which in (..., silhouettes > 0))
    moves = np.pad(shown, (0, len(size) - len(shown))) >= _SHOWN_SHARE * size
    for time, large in enumerate(np.where(moves[pixels], pixels, 0)):
        if large.any():
            rows, columns = np.asarray(
                ndimage.distance_transform_edt(large == 0, return_distances=False, return_indices=True)
            )
            distance = np.hypot(*(np.indices(large.shape) - (rows, columns)))
            size = 2 * int(_INSIDE * cell) + 1
            inside = ndimage.minimum_filter(large, size) == ndimage.maximum_filter(large, size)
            own = np.where(numbers[time] > 0, distance <= _NEAR * cell, inside & (large > 0))
            numbers[time][own] = SIGHTED + large[rows, columns][own]
    left, total = (np.bincount(which.ravel(), minlength=SIGHTED + 1) for which in (numbers, silhouettes))
    few = left[:SIGHTED] < _LEFT_SHARE * total[:SIGHTED]
    return np.where((numbers < SIGHTED) & few[np.minimum(numbers, SIGHTED - 1)], 0, numbers).astype(np.int16)


def sights_under(sightings: Sightings, outlines: np.ndarray) -> Sights:
    """What the cells in outlines ``(T, H, W)``, bool, say together, at the times at which enough of them do."""
    times, rows, columns = sightings.moves.shape
    shares = outlines.reshape(times, rows, -1, columns, outlines.shape[2] // columns).mean((2, 4))
    cells = (shares >= 0.5) & (sightings.moves > _MOVES)
    seen = np.flatnonzero(cells.sum((1, 2)) >= MIN_CELLS)
    said, doubts = [], []
    for time in seen:
        doubt = sightings.doubts[time][cells[time]]
        # The better half speaks.
        good = doubt <= np.median(doubt)
        said.append(np.median(_said(sightings, time, cells[time])[good], axis=0))
        doubts.append(float(doubt[good].mean()))
    both = np.array(said).reshape(len(seen), 3 + sightings.supports.shape[-1])
    relative = np.array(doubts) / max(float(np.median(doubts)), 1e-6) if doubts else np.zeros(0)
    return Sights(seen, both[:, :3], both[:, 3:], sightings.directions[seen], np.clip(relative, *_DOUBTS))


def _said(sightings: Sightings, time: int, cells: np.ndarray) -> np.ndarray:
    """Middle and supports that each of N cells tells, of a mask ``(h, w)``; ``(N, 53)``."""
    return np.concatenate([sightings.centers[time][cells], sightings.supports[time][cells]], axis=-1)
