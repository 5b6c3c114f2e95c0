"""Windows of a film in which a number means the same sighted body in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from omni_gen3d.motion.sighted import SIGHTED
from omni_gen3d.motion.split import Split


def with_same_numbers(windows: Sequence[Split]) -> list[Split]:
    """Windows that follow each other, each of which begins with the last picture of the one before; bodies that both
    show there at the same pixels are the same."""
    joined, used = list(windows[:1]), _largest(windows[0])
    for window in windows[1:]:
        before = joined[-1].film
        if window.things is None or window.film is None or window.film.shown is None:
            joined.append(window)
            continue
        last = np.zeros_like(window.film.shown[0]) if before is None or before.shown is None else before.shown[-1]
        names = _names(last, window.film.shown, used)
        film = replace(window.film, shown=names[window.film.shown])
        joined.append(replace(window, film=film, things=tuple(names[one] for one in window.things)))
        used = max(used, _largest(joined[-1]))
    return joined


def _largest(window: Split) -> int:
    """The largest number of a body in a window."""
    shown = None if window.film is None else window.film.shown
    return SIGHTED if shown is None else max(int(shown.max(initial=0)), SIGHTED)


def _names(last: np.ndarray, shown: np.ndarray, used: int) -> np.ndarray:
    """For each number of a window ``(T, H, W)`` the one that it is to have: that in the picture before ``(H, W)``, or
    one that is not used yet."""
    names = np.arange(max(int(shown.max(initial=0)), SIGHTED) + 1, dtype=np.int16)
    bodies, earlier = (np.unique(picture[picture > SIGHTED]) for picture in (shown, last))
    shared = np.array([[((shown[0] == body) & (last == other)).sum() for other in earlier] for body in bodies])
    names[bodies] = used + 1 + np.arange(len(bodies))
    for i, j in zip(*linear_sum_assignment(-shared.reshape(len(bodies), len(earlier))), strict=True):
        if shared[i, j] > 0:
            names[bodies[i]] = earlier[j]
    return names
