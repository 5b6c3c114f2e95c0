"""The way of a rigid thing through a film: where its points must be so that every picture shows their colours.

Lucas and Kanade's (1981) alignment, of points in space instead of pixels, over the motions that things on a floor make:
a turn about +Z and a shift along the floor. Colours are compared with a robust error, from blurred pictures to sharp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from scipy import ndimage

from omni_gen3d.motion.film import Film
from omni_gen3d.motion.forms import about_z

# Blurs [pixels] from coarse to fine, and how often each is tried.
_BLURS, _ITERATIONS = (4.0, 2.0, 1.0), (12, 8, 8)
_MAX_POINTS = 700
# So many blurred pictures are kept: those of 17 times, and some.
_KEPT = 64
# The parameters are a turn [rad] and a shift [m]: the step of their differences, and the farthest step of a descent.
_DIFFERENCE, _MAX_STEP, _DONE = 0.01, 0.15, 5e-4
# Errors of colour count linearly beyond this, and no more beyond that [of 2].
_LINEAR, _MAX_ERROR = 0.1, 0.4
# A thing is lost when less than this share of it is in the picture.
_MIN_INSIDE = 0.2
# Holds a parameter that no colour tells about, a point.
_DAMPING = 1e-4


@dataclass(frozen=True)
class Followed:
    """Where a thing went.

    Attributes:
        motions: From where it is at the reference time to where it is at each, ``(4, 4)`` by time.
        errors: Mean difference of its colours from those of the picture [of 2] by time.
    """

    motions: dict[int, np.ndarray]
    errors: dict[int, float]


class Follower:
    """Follows things through one film, whose blurred pictures it keeps while they are few."""

    def __init__(self, film: Film) -> None:
        self.film = film
        self._blurred = lru_cache(_KEPT)(partial(_blurred, film))

    def follow(self, points: np.ndarray, reference: int, times: Sequence[int]) -> Followed:
        """Follow points on a thing outwards from the time at which they were seen best.

        Args:
            points: On the side that the camera sees at the reference time, in the world, shape ``(N, 3)``.
            reference: Index of that time.
            times: At which it is wanted, ascending, the reference among them.
        """
        points = points[:: max(1, -(-len(points) // _MAX_POINTS))]
        centre = (points.min(0) + points.max(0)) / 2
        templates = [sampled(self.film, reference, points, self._blurred(reference, blur))[0] for blur in _BLURS]
        states = {reference: np.zeros(3)}
        errors = {reference: 0.0}
        at = list(times).index(reference)
        for path in (times[at + 1 :], list(times[:at])[::-1]):
            last, before = reference, None
            for time in path:
                pictures = [self._blurred(time, blur) for blur in _BLURS]
                guesses = [states[last]]
                if before is not None:
                    guesses.append(states[last] + (states[last] - states[before]) * (time - last) / (last - before))
                aligner = _Aligner(self.film, time, points, centre, templates, pictures)
                found = [aligner.descend(guess) for guess in guesses]
                states[time], errors[time] = min(found, key=lambda one: one[1])
                last, before = time, last
        motions = dict(zip(states, _motions(np.stack(list(states.values())), centre), strict=True))
        return Followed(motions, errors)


@dataclass(frozen=True)
class _Aligner:
    """One picture to be explained."""

    film: Film
    time: int
    points: np.ndarray
    centre: np.ndarray
    templates: list[np.ndarray]
    pictures: list[np.ndarray]

    def descend(self, state: np.ndarray) -> tuple[np.ndarray, float]:
        """Reweighted Gauss-Newton from a turn and shift; where it ends, and its error."""
        aside = _DIFFERENCE * np.eye(4, 3, -1)
        for level, iterations in enumerate(_ITERATIONS):
            for _ in range(iterations):
                errors, *moved = self._errors(state + aside, level)
                weight = 1 / np.maximum(np.abs(errors), _LINEAR)
                slopes = (np.stack(moved, 1) - errors[:, None]) / _DIFFERENCE
                normal = slopes.T @ (slopes * weight[:, None]) + _DAMPING * len(errors) * np.eye(3)
                step = np.clip(np.linalg.solve(normal, -slopes.T @ (weight * errors)), -_MAX_STEP, _MAX_STEP)
                state = state + step
                if np.abs(step).max() < _DONE:
                    break
        errors, inside = self._compared(state[None], len(_BLURS) - 1)
        # What left the picture explains nothing.
        lost = inside.mean() < _MIN_INSIDE
        return state, _MAX_ERROR if lost else float(np.minimum(np.abs(errors[inside]), _MAX_ERROR).mean())

    def _errors(self, states: np.ndarray, level: int) -> np.ndarray:
        """Of all colours of all points, of each of the states ``(S, 3)``, ``(S, 3 N)``."""
        errors, inside = self._compared(states, level)
        return np.where(inside[..., None], errors, 0.0).reshape(len(states), -1)

    def _compared(self, states: np.ndarray, level: int) -> tuple[np.ndarray, np.ndarray]:
        motions = _motions(states, self.centre)
        moved = self.points @ motions[:, :3, :3].transpose(0, 2, 1) + motions[:, None, :3, 3]
        colors, inside = sampled(self.film, self.time, moved, self.pictures[level])
        return colors - self.templates[level], inside


def _motions(states: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Turns about +Z through the centre and shifts along the floor, of states ``(S, 3)``, ``(S, 4, 4)``."""
    matrices = np.tile(np.eye(4), (len(states), 1, 1))
    matrices[:, :3, :3] = about_z(states[:, 0])
    matrices[:, :3, 3] = centre - matrices[:, :3, :3] @ centre
    matrices[:, :2, 3] += states[:, 1:]
    return matrices


def _blurred(film: Film, time: int, blur: float) -> np.ndarray:
    return ndimage.gaussian_filter(film.pictures[time], (blur, blur, 0), mode="nearest")


def sampled(film: Film, time: int, points: np.ndarray, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours of a picture where points ``(..., 3)`` are seen, and whether they lie in it."""
    row, column, inside = film.seen(points, time)
    colors = [ndimage.map_coordinates(picture[..., k], (row, column), order=1, mode="nearest") for k in range(3)]
    return np.stack(colors, -1), inside
