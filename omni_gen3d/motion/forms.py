"""The form of a body, and how it turns, by how far it is said to reach.

What is sought is a convex body, as the hull of some corners in its own frame, and the turn of this frame about +Z at
each time: in every direction the farthest corner is as far as is said. That is least squares for Gauss and Newton, in
which each direction asks the corner that is the farthest just then (max-affine regression, Magnani and Boyd 2009).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omni_gen3d.motion.balls import points_on_ball
from omni_gen3d.motion.sighted import Sights
from omni_gen3d.motion.ways import JERK_RAD, least_squares, robust, third_differences

# Corners begin around so many directions that rise and as many that fall, each tilted by [rad], begun so many ways.
_AROUND, _TILT, _BEGINNINGS = 8, 0.6, 4
# What is believed of supports [share, m].
_SUPPORT, _SUPPORT_M = 0.12, 0.02
# A body that reaches equally far everywhere, but for this share, is a ball.
_ROUND = 0.1
_ITERATIONS, _DAMPING, _MAX_STEP = 20, 10.0, 0.2
# Turns tried from one time to the next [rad].
_TURNS = np.deg2rad(np.arange(-30, 31, 1.0))


@dataclass(frozen=True)
class Form:
    """A convex body that turns.

    Attributes:
        corners: In its own frame [m], shape ``(M, 3)``.
        turns: Of the frame about +Z at S times [rad], shape ``(S,)``.
    """

    corners: np.ndarray
    turns: np.ndarray


def form_of(sights: Sights) -> Form:
    """The form that fits best what is said of a body."""
    usual = np.median(sights.supports, axis=0)
    if usual.std() < _ROUND * usual.mean():
        return Form(points_on_ball(np.zeros(3), float(np.median(usual))), np.zeros(len(sights.times)))
    turns = _first_turns(sights)
    own = np.einsum("sji,skj->ski", about_z(turns), sights.directions)
    form = Form(_first_corners(own.reshape(-1, 3), sights.supports.ravel()), turns)
    for _ in range(_ITERATIONS):
        form = _improved(form, sights)
    return form


def _first_turns(sights: Sights) -> np.ndarray:
    """How far a body is turned at each time [rad], ``(S,)``: its level supports, turned back, are like their mean so
    far."""
    level = np.abs(sights.directions[0, :, 2]) < 1e-6
    begin = np.arctan2(sights.directions[:, level, 1], sights.directions[:, level, 0])[:, 0]
    waves = np.fft.rfft(sights.supports[:, level], axis=1)
    order = np.arange(waves.shape[1])
    turns, mean = np.zeros(len(waves)), waves[0] * np.exp(-1j * order * begin[0])
    for i in range(1, len(waves)):
        before = turns[max(i - 3, 0)]
        tried = turns[i - 1] + (turns[i - 1] - before) / max(min(i - 1, 2), 1) + _TURNS
        back = waves[i] * np.exp(1j * order * (tried[:, None] - begin[i]))
        turns[i] = tried[(np.abs(back - mean) ** 2).sum(1).argmin()]
        mean += (waves[i] * np.exp(1j * order * (turns[i] - begin[i])) - mean) / (i + 1)
    return turns


def _first_corners(directions: np.ndarray, supports: np.ndarray) -> np.ndarray:
    """Corners, each fitted to the supports ``(N,)`` around one direction of all ``(N, 3)``, ``(M, 3)``."""
    tried = []
    for begin in np.arange(_BEGINNINGS) / _BEGINNINGS:
        angles = (begin + np.arange(_AROUND)) * 2 * np.pi / _AROUND
        ring = np.stack([np.cos(angles) * np.cos(_TILT), np.sin(angles) * np.cos(_TILT)], 1)
        around = np.concatenate([np.insert(ring, 2, z, axis=1) for z in (np.sin(_TILT), -np.sin(_TILT))])
        owner = (directions @ around.T).argmax(1)
        corners = 0.5 * around * supports.mean()
        for k, corner in enumerate(corners):
            rows = directions[owner == k]
            pull = 0.02 * max(len(rows), 1) * np.eye(3)
            corners[k] = np.linalg.solve(rows.T @ rows + pull, rows.T @ supports[owner == k] + pull @ corner)
        tried.append(corners)
    return min(tried, key=lambda corners: float(np.abs((directions @ corners.T).max(1) - supports).mean()))


def _improved(form: Form, sights: Sights) -> Form:
    """One step of Gauss and Newton."""
    num, count = len(form.corners), len(form.turns)
    told = sights.supports.ravel()
    deviation = ((_SUPPORT_M + _SUPPORT * sights.supports) * sights.doubts[:, None]).ravel()
    own = np.einsum("sji,skj->ski", about_z(form.turns), sights.directions).reshape(-1, 3)
    reach = own @ form.corners.T
    corner = reach.argmax(1)
    arm = form.corners[corner]
    swung = own[:, 1] * arm[:, 0] - own[:, 0] * arm[:, 1]
    jerk = third_differences(sights.times) / JERK_RAD
    slopes = np.zeros((len(told) + len(jerk), 3 * num + count))
    row = np.arange(len(told))
    for axis in range(3):
        slopes[row, 3 * corner + axis] = own[:, axis] / deviation
    slopes[row, 3 * num + row // sights.supports.shape[1]] = swung / deviation
    slopes[len(told) :, 3 * num :] = jerk
    off = np.concatenate([(reach.max(1) - told) / deviation, jerk @ form.turns])
    step = np.clip(least_squares(slopes, -off, robust(off), _DAMPING), -_MAX_STEP, _MAX_STEP)
    return Form(form.corners + step[: 3 * num].reshape(-1, 3), form.turns + step[3 * num :])


def about_z(angles: np.ndarray) -> np.ndarray:
    """Turns ``(S, 3, 3)``."""
    cos, sin, zero, one = np.cos(angles), np.sin(angles), np.zeros_like(angles), np.ones_like(angles)
    return np.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], -1).reshape(-1, 3, 3)
