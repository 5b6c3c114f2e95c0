"""Sights of bodies gathered: cells that agree at one time, and the tracks that these make over time."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

# Fewer cells that agree are no sight of a body.
MIN_CELLS = 4
# Cells agree within this share of the mean reach of a body, but at least within that [m].
_AGREE, _AGREE_M, _SHIFTS = 0.35, 0.08, 3
# So many of them at most are asked which agrees with most others.
_SEEDS = 300
# How far a body may be from where its way led [m], besides this share of its reach; how many times it may be hidden.
_SURPRISE_M, _SURPRISE, _MAX_GAP = 0.1, 0.5, 4
# A way is told by so many sights, and is rather slow: as if as much as this [squared times] spoke against moving.
_RECENT, _SLOW = 6, 2.0

# A time, the cells ``(N, 2)`` that show a body then, and what they say of it: its middle and its supports, ``(53,)``.
Sight = tuple[int, np.ndarray, np.ndarray]


def agreeing(said: np.ndarray, moves: np.ndarray) -> list[np.ndarray]:
    """Indices of cells that tell of the same body, of all ``(N, 53)``, the most first."""
    groups: list[np.ndarray] = []
    left = np.arange(len(said))
    radius = np.maximum(_AGREE * said[:, 3:].mean(1), _AGREE_M)
    while len(left) >= MIN_CELLS:
        seeds = left[:: -(-len(left) // _SEEDS)]
        support = [((_unlike(said[left], said[seed]) < radius[seed]) * moves[left]).sum() for seed in seeds]
        middle = said[seeds[np.argmax(support)]]
        for _ in range(_SHIFTS):
            near = _unlike(said[left], middle) < max(_AGREE * middle[3:].mean(), _AGREE_M)
            if not near.any():
                break
            middle = np.median(said[left[near]], axis=0)
        near = _unlike(said[left], middle) < 1.5 * max(_AGREE * middle[3:].mean(), _AGREE_M)
        if near.sum() < MIN_CELLS:
            break
        groups.append(left[near])
        left = left[~near]
    return groups


def join(tracks: list[list[Sight]], time: int, found: list[Sight]) -> None:
    """Give what was found at a time to the tracks that lead there, or let it begin new ones."""
    recent = [track for track in tracks if time - track[-1][0] <= _MAX_GAP + 1]
    # How many cells are explained, and how well: a few cells at an edge take no body's way from it.
    gain = np.zeros((len(recent), len(found)))
    for i, track in enumerate(recent):
        expected = _expected(track, time)
        surprise = _SURPRISE_M * (time - track[-1][0]) + _SURPRISE * expected[3:].mean()
        for j, (_, cells, said) in enumerate(found):
            share = 1 - float(_unlike(said, expected)) / surprise
            gain[i, j] = max(share, 0.0) * min(len(cells), len(track[-1][1]))
    rows, columns = linear_sum_assignment(-gain)
    taken = {j: i for i, j in zip(rows.tolist(), columns.tolist(), strict=True) if gain[i, j] > 0}
    for j, sight in enumerate(found):
        if j in taken:
            recent[taken[j]].append(sight)
        else:
            tracks.append([sight])


def _expected(track: list[Sight], time: int) -> np.ndarray:
    """What a track leads one to be told ``(53,)``."""
    times, _, said = zip(*track[-_RECENT:], strict=True)
    ago, middles = np.array(times, np.float64) - time, np.stack(said)[:, :3]
    # A straight way, slow if little is known of it.
    off = ago - ago.mean()
    pace = off @ middles / (off @ off + _SLOW)
    expected = np.median(said, axis=0)
    expected[:3] = middles.mean(0) - ago.mean() * pace
    return expected


def _unlike(said: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How far two tellings are apart: their middles, and their supports in the mean [m]."""
    off = (said - other) ** 2
    return np.sqrt(off[..., :3].sum(-1) + off[..., 3:].mean(-1))
