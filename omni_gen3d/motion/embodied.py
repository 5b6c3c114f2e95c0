"""A thing in a film as the body that sightings tell of, where the film agrees with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from omni_gen3d.motion.film import Film
from omni_gen3d.motion.forms import about_z, form_of
from omni_gen3d.motion.sighted import sights_under
from omni_gen3d.motion.ways import smooth_way

MIN_TIMES = 3
# What is this close to the floor stands on it; so much air is left between the two [m].
_STANDS_M, _CLEARANCE_M = 0.08, 0.005
# A body is believed when what the pictures should show of it, and its outlines with their bays filled, share this much
# at most times. Every second pixel is asked.
_AGREES, _EVERY = 0.5, 2


@dataclass(frozen=True)
class Body:
    """A convex body on its way.

    Attributes:
        corners: In its own frame [m], shape ``(M, 3)``.
        to_world: Where it is by time, ``(4, 4)`` each.
    """

    corners: np.ndarray
    to_world: dict[int, np.ndarray]


def body_under(outlines: np.ndarray, film: Film) -> Body | None:
    """The body that is sighted in outlines ``(T, H, W)``, bool; None where none is, or where it does not fill them."""
    if film.sightings is None:
        return None
    sights = sights_under(film.sightings, outlines)
    if len(sights.times) < MIN_TIMES:
        return None
    places = smooth_way(sights.times, sights.centers, film.cameras.positions[sights.times].double().numpy())
    form = form_of(sights)
    matrices = np.tile(np.eye(4), (len(places), 1, 1))
    matrices[:, :3, :3], matrices[:, :3, 3] = about_z(form.turns), places
    corners = _on_floor(form.corners, float(np.median(places[:, 2])))
    body = Body(corners, dict(zip(sights.times.tolist(), matrices, strict=True)))
    shares = [_share(body, outlines[time], film, time) for time in body.to_world]
    return body if np.median(shares) >= _AGREES else None


def _on_floor(corners: np.ndarray, height: float) -> np.ndarray:
    """Corners of a body in that height, its lowest ones on the floor if they are about there."""
    lowest = corners[:, 2].min()
    if abs(height + lowest) > _STANDS_M:
        return corners
    low = corners[:, 2] < lowest + _STANDS_M
    return np.column_stack([corners[:, :2], np.where(low, _CLEARANCE_M - height, corners[:, 2])])


def _share(body: Body, outline: np.ndarray, film: Film, time: int) -> float:
    """Common share of what the picture should show of a body and of the convex hull of an outline ``(H, W)``."""
    matrix = body.to_world[time]
    row, column, _ = film.seen(body.corners @ matrix[:3, :3].T + matrix[:3, 3], time)
    pixels = np.stack(np.meshgrid(*(np.arange(0, size, _EVERY) for size in outline.shape), indexing="ij"), -1)
    drawn, shown = (
        _within(points, pixels.reshape(-1, 2)) for points in (np.column_stack([row, column]), np.argwhere(outline))
    )
    return float((drawn & shown).sum() / max((drawn | shown).sum(), 1))


def _within(points: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Which places ``(N, 2)`` lie in the convex hull of some points ``(K, 2)``, ``(N,)``."""
    try:
        sides = ConvexHull(points).equations
    except (QhullError, ValueError):
        return np.zeros(len(places), np.bool_)
    return (places @ sides[:, :2].T + sides[:, 2] <= 0).all(1)
