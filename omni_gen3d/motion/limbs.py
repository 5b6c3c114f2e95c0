"""What looks like one thing in a film, apart into what moves as one: the links of an arm, a door and its doorway.

Every point of a picture moves as one of a few rigid bodies does, or stays: the one under whose motion later and earlier
pictures show its colours best (Wang and Adelson's (1994) layers, with motions in space).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from omni_gen3d.motion.film import Film
from omni_gen3d.motion.following import Follower, sampled

# So many bodies at most, each fitted so often anew to the points that it explains best, at every second time.
MAX_LIMBS, _ROUNDS, _EVERY = 2, 2, 2
# Points that stay are wrong by less than this in colour [of 2]; those that no body explains so far, by more than that.
_MOVES, _UNEXPLAINED = 0.04, 0.08
# A body that is more wrong about its own points is none.
_EXPLAINED = 0.13
# What another body explains almost as well, by this much in the mean, is of that one: a plain side fits any motion.
_SAME = 0.02
# What goes nearly the same way, by this much in the mean [m], is of the same body too.
_ALIKE_M = 0.05
# Fewer points are no body. Errors of colour are blurred by some pixels, and count no more beyond a limit [of 2].
_MIN_POINTS, _BLUR_PX, _MAX_ERROR = 30, 2.5, 0.4


def limbs_shown(
    film: Film, points: np.ndarray, reference: int, times: Sequence[int], outlines: np.ndarray
) -> np.ndarray:
    """Number of the body that each pixel of a thing shows, from 1; 0 for what stays, and elsewhere, ``(T, H, W)``.

    Args:
        film: What was filmed.
        points: On the sides of the thing that the camera sees at the reference time, in the world, shape ``(N, 3)``.
        reference: Index of that time.
        times: At which the thing is seen, ascending, the reference among them.
        outlines: Of the thing, shape ``(T, H, W)``, bool.
    """
    follower = Follower(film)
    numbers = moving_together(follower, points, reference, times)
    shown = np.zeros(outlines.shape, np.int16)
    bodies = np.unique(numbers[numbers > 0])
    if len(bodies) == 0 or (len(bodies) == 1 and (numbers > 0).all()):
        shown[outlines] = 1
        return shown
    ways = {body: follower.follow(points[numbers == body], reference, times).motions for body in bodies}
    ways[0] = {time: np.eye(4) for time in times}
    for time in times:
        # A pixel shows the body that the nearest point is of.
        places, owners = [], []
        for body, motions in ways.items():
            matrix = motions[time]
            row, column, inside = film.seen(points[numbers == body] @ matrix[:3, :3].T + matrix[:3, 3], time)
            places.append(np.column_stack([row, column])[inside])
            owners.append(np.full(int(inside.sum()), body))
        pixels, owner = np.argwhere(outlines[time]), np.concatenate(owners)
        if len(owner) and len(pixels):
            shown[time][outlines[time]] = owner[KDTree(np.concatenate(places)).query(pixels)[1]]
    return shown


def moving_together(follower: Follower, points: np.ndarray, reference: int, times: Sequence[int]) -> np.ndarray:
    """Number of the body that each point moves with, from 1, or 0 where it stays, ``(N,)``; see ``limbs_shown``."""
    some = sorted({*times[::_EVERY], reference})
    patch = _Patch(follower.film, points, reference, some)
    # First what stays, then each body.
    ways = [{time: np.eye(4) for time in some}]
    errors = [patch.errors(ways[0])]
    for _ in range(MAX_LIMBS):
        new = patch.largest(np.min(errors, axis=0) > _UNEXPLAINED) if ways[1:] else errors[0] > _MOVES
        if new.sum() < _MIN_POINTS:
            break
        ways.append(follower.follow(points[new], reference, some).motions)
        errors.append(patch.errors(ways[-1]))
        for _ in range(_ROUNDS):
            nearest = np.argmin(errors, axis=0)
            for body in range(1, len(errors)):
                own = nearest == body
                if own.sum() >= _MIN_POINTS:
                    ways[body] = follower.follow(points[own], reference, some).motions
                    errors[body] = patch.errors(ways[body])
    return _merged(points, ways, np.stack(errors))


class _Patch:
    """Points as a picture shows them, to be found in others."""

    def __init__(self, film: Film, points: np.ndarray, reference: int, times: Sequence[int]) -> None:
        self._film, self._points, self._times = film, points, times
        self._pictures = {time: ndimage.gaussian_filter(film.pictures[time], (1, 1, 0)) for time in times}
        self._colors, _ = sampled(film, reference, points, self._pictures[reference])
        row, column, _ = film.seen(points, reference)
        shape = film.pictures.shape[1:3]
        self._at = tuple(
            np.clip(np.rint(place), 0, size - 1).astype(int) for place, size in zip((row, column), shape, strict=True)
        )
        self._count = np.zeros(shape)
        np.add.at(self._count, self._at, 1.0)

    def errors(self, motions: dict[int, np.ndarray]) -> np.ndarray:
        """How wrong the colours of the points and of those around them are in the mean over the times, if they move so
        [of 2], ``(N,)``."""
        total, asked = np.zeros(len(self._points)), np.zeros(len(self._points))
        for time in self._times:
            matrix = motions[time]
            moved = self._points @ matrix[:3, :3].T + matrix[:3, 3]
            colors, inside = sampled(self._film, time, moved, self._pictures[time])
            off = np.abs(colors - self._colors).max(1)
            total += np.where(inside, np.minimum(off, _MAX_ERROR), 0.0)
            asked += inside
        mean = np.where(asked > 0, total / np.maximum(asked, 1), _MAX_ERROR)
        picture = np.zeros(self._count.shape)
        np.add.at(picture, self._at, mean)
        weight = ndimage.gaussian_filter(self._count, _BLUR_PX)
        return (ndimage.gaussian_filter(picture, _BLUR_PX) / np.maximum(weight, 1e-9))[self._at]

    def largest(self, which: np.ndarray) -> np.ndarray:
        """Of some points ``(N,)``, bool, those that lie together in the largest number."""
        picture = np.zeros(self._count.shape, np.bool_)
        picture[self._at[0][which], self._at[1][which]] = True
        # Points are seen at every second pixel or so.
        labels = np.zeros(picture.shape, np.int32)
        ndimage.label(ndimage.binary_dilation(picture), output=labels)
        own = np.where(which, labels[self._at], 0)
        sizes = np.bincount(own, minlength=2)
        sizes[0] = 0
        return own == sizes.argmax() if sizes.any() else np.zeros_like(which)


def _merged(points: np.ndarray, ways: Sequence[dict[int, np.ndarray]], errors: np.ndarray) -> np.ndarray:
    """The number of the body that explains each point ``(N, 3)`` best, 0 for what stays, once those are gone that are
    none of their own; ``errors (B, N)`` are those of what stays and of each body."""
    alive = list(range(len(errors)))
    while True:
        best = np.array(alive)[np.argmin(errors[alive], axis=0)]
        sizes = np.bincount(best, minlength=len(errors))
        small = [body for body in alive if body and (sizes[body] < _MIN_POINTS or _wrong(errors, best, body))]
        # What stays may be of a body, but no body stays.
        pairs = [
            (body, other)
            for body in alive
            for other in alive
            if other and other != body and sizes[body] and (not body or sizes[body] <= sizes[other])
        ]
        worse = {
            (body, other): float((errors[other] - errors[body])[best == body].mean())
            for body, other in pairs
            if not small
        }
        alike = [
            body for body, other in worse if body and _apart(points[best == body], ways[body], ways[other]) < _ALIKE_M
        ]
        (body, _), more = min(worse.items(), key=lambda pair: pair[1], default=((0, 0), np.inf))
        gone = [*small, *alike, *([body] if more < _SAME else [])]
        if not gone:
            return np.searchsorted(alive, best) + (alive[0] > 0)
        alive.remove(gone[0])
        if not any(alive):
            return np.zeros(len(points), int)


def _wrong(errors: np.ndarray, best: np.ndarray, body: int) -> bool:
    """Whether a body does not even explain its own points."""
    return bool(errors[body][best == body].mean() > _EXPLAINED)


def _apart(points: np.ndarray, way: dict[int, np.ndarray], other: dict[int, np.ndarray]) -> float:
    """How far two motions take the same points from each other in the mean [m]."""
    off = [np.linalg.norm(points @ (way[t] - other[t])[:3, :3].T + (way[t] - other[t])[:3, 3], axis=1) for t in way]
    return float(np.mean(off))
