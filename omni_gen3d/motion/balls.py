"""A ball in a film: where it rolls and how large it is, by its rim and the floor alone.

The rays to the rim of a ball make a round cone. Its axis and its angle tell where the middle is and how large the ball
is, but for one factor, and that it rests on the floor tells the factor. No depth is asked, and no colour: it rolls on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage

from omni_gen3d.motion.film import Film
from omni_gen3d.types import Gaussians

# Of the rim that lies in the picture this share is within that share of the angle from the cone, at most times.
_ROUND_SHARE, _ROUND = 0.65, 0.045
# A cone that explains less of it was no look at the ball, and a rim of fewer pixels tells nothing.
_MIN_SHARE, _MIN_RIM = 0.3, 20
# No ball fills more of the view than this to either side of its middle [rad]: to a wide cone any rim is near.
_WIDEST = 0.6
_TRIALS, _REFINEMENTS = 60, 3
_NUM_POINTS = 128


@dataclass(frozen=True)
class Ball:
    """A ball on the floor.

    Attributes:
        radius: [m].
        centres: Where its middle is in the world by time [m], ``(3,)`` each.
    """

    radius: float
    centres: dict[int, np.ndarray]


def find_ball(outlines: np.ndarray, film: Film) -> Ball | None:
    """The ball of which these are the outlines ``(T, H, W)``, bool; None where they are not round.

    The film is of a world with its floor at z = 0.
    """
    cones = {time: _cone(outline, film, time) for time, outline in enumerate(outlines)}
    found = {time: cone for time, cone in cones.items() if cone is not None}
    if not found or np.median([share for *_, share in found.values()]) < _ROUND_SHARE:
        return None
    seen = {time: (axis, angle) for time, (axis, angle, share) in found.items() if share >= _MIN_SHARE}
    eyes = film.cameras.positions.double().numpy()
    # A middle d away is d sin(angle) above the floor, which is the radius.
    radii = [
        eyes[time, 2] * np.sin(angle) / (np.sin(angle) - axis[2])
        for time, (axis, angle) in seen.items()
        if axis[2] < 0 < eyes[time, 2]
    ]
    if not radii:
        return None
    radius = float(np.median(radii))
    centres = {
        time: eyes[time] + axis * (eyes[time, 2] - radius) / -axis[2]
        for time, (axis, _) in seen.items()
        if axis[2] < 0 and eyes[time, 2] > radius
    }
    return Ball(radius, centres) if centres else None


def onto_ball(gaussians: Gaussians, ball: Ball, time: int, film: Film) -> Gaussians:
    """Gaussians in the world moved along their rays onto the side of the ball that the camera sees."""
    eye = film.cameras.positions[time].double().numpy()
    away = gaussians.means.double().numpy() - eye
    distance = np.maximum(np.linalg.norm(away, axis=1), 1e-9)
    centre = ball.centres[time] - eye
    along = away @ centre / distance
    # A ray that misses the ball goes on to where it is nearest to the middle.
    reach = along - np.sqrt(np.maximum(along**2 - centre @ centre + ball.radius**2, 0.0))
    factor = torch.from_numpy(reach / distance).to(gaussians.means)[:, None]
    origin = film.cameras.positions[time]
    return replace(gaussians, means=origin + (gaussians.means - origin) * factor, scales=gaussians.scales * factor)


def points_on_ball(centre: np.ndarray, radius: float) -> np.ndarray:
    """Points all over a ball, evenly by the golden angle, ``(128, 3)``."""
    height = 1 - 2 * (np.arange(_NUM_POINTS) + 0.5) / _NUM_POINTS
    turn = np.arange(_NUM_POINTS) * np.pi * (3 - np.sqrt(5))
    across = np.sqrt(1 - height**2)
    return centre + radius * np.column_stack([across * np.cos(turn), across * np.sin(turn), height])


def _cone(outline: np.ndarray, film: Film, time: int) -> tuple[np.ndarray, float, float] | None:
    """Axis ``(3,)`` in the world and angle [rad] of the cone around an outline ``(H, W)``, and the share of the rim
    that lies on it; None where too little of the rim is seen.

    For all rays b on a round cone b @ n = 1, where n is its axis over the cosine of its angle.
    """
    rays, pixel = _rim(outline, film, time)
    if len(rays) < _MIN_RIM:
        return None
    rng = np.random.default_rng(0)
    on = np.zeros(len(rays), np.bool_)
    for _ in range(_TRIALS):
        three = rays[rng.choice(len(rays), 3, replace=False)]
        if abs(np.linalg.det(three)) > 1e-12:
            tried = _on_cone(rays, np.linalg.solve(three, np.ones(3)))
            on = tried if tried.sum() > on.sum() else on
    normal = np.zeros(3)
    for _ in range(_REFINEMENTS):
        if on.sum() < _MIN_RIM // 2:
            return None
        normal = np.linalg.lstsq(rays[on], np.ones(on.sum()), rcond=None)[0]
        on = _on_cone(rays, normal)
    length = float(np.linalg.norm(normal))
    # The rim is the middle of the outermost pixels.
    return (normal / length, float(np.arccos(1 / length)) + pixel / 2, float(on.mean())) if on.any() else None


def _rim(outline: np.ndarray, film: Film, time: int) -> tuple[np.ndarray, float]:
    """Unit rays in the world to the outermost pixels of an outline, but for those at the edge of the picture
    ``(N, 3)``, and the breadth of a pixel [rad]."""
    inner = np.s_[2:-2, 2:-2]
    whole = np.asarray(ndimage.binary_fill_holes(outline), np.bool_)
    rows, columns = np.nonzero((whole & ~np.asarray(ndimage.binary_erosion(whole), np.bool_))[inner])
    lens = film.cameras.intrinsics[time].double().numpy()
    rays = np.column_stack(
        [(columns + 2.5 - lens[0, 2]) / lens[0, 0], (rows + 2.5 - lens[1, 2]) / lens[1, 1], np.ones(len(rows))]
    )
    turn = film.cameras.camera_to_world[time, :3, :3].double().numpy()
    return rays / np.linalg.norm(rays, axis=1, keepdims=True) @ turn.T, 1 / float(lens[0, 0])


def _on_cone(rays: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Which rays ``(N, 3)`` lie on the cone that ``normal`` describes, ``(N,)``."""
    length = np.linalg.norm(normal)
    if not 1 < length < 1 / np.cos(_WIDEST):
        return np.zeros(len(rays), np.bool_)
    angle = np.arccos(1 / length)
    return np.abs(np.arccos(np.clip(rays @ normal / length, -1, 1)) - angle) < _ROUND * angle
