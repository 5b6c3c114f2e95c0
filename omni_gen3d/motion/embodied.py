"""A thing in a film as the body that sightings tell of, where the film agrees with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from omni_gen3d.mesh.convex import convex_hull
from omni_gen3d.motion.film import Film
from omni_gen3d.motion.forms import about_z, form_of
from omni_gen3d.motion.sighted import MIN_TIMES, sights_under
from omni_gen3d.motion.ways import smooth_way

# What is this close to the floor stands on it, with all corners that are this close to its lowest; so much air is left
# between the two [m].
_STANDS_M, _LOW_M, _CLEARANCE_M = 0.08, 0.03, 0.005
# A body is believed when it covers this share of its outlines at most times, and they that of it, but for where other
# things that move are: outlines have bays, and what stands still may hide some of it.
_COVERS, _COVERED = 0.5, 0.25


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
    """The body that is sighted in outlines ``(T, H, W)``, bool; None where none is, where it is flat, or where it
    does not fill them."""
    if film.sightings is None:
        return None
    sights = sights_under(film.sightings, outlines)
    if len(sights.times) < MIN_TIMES:
        return None
    eyes = film.cameras.positions[sights.times].double().numpy()
    places = smooth_way(sights.times, sights.centers, eyes, sights.doubts)
    form = form_of(sights)
    matrices = np.tile(np.eye(4), (len(places), 1, 1))
    matrices[:, :3, :3], matrices[:, :3, 3] = about_z(form.turns), places
    corners = _on_floor(form.corners, places[:, 2])
    if convex_hull(corners) is None:
        return None
    body = Body(corners, dict(zip(sights.times.tolist(), matrices, strict=True)))
    shares = [_shares(body, outlines[time], film, time) for time in body.to_world]
    return body if (np.median(shares, axis=0) >= (_COVERS, _COVERED)).all() else None


def _on_floor(corners: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Corners of a body in heights ``(S,)``, its lowest ones on the floor if they are about there all the time."""
    floor, lowest = _CLEARANCE_M - float(np.median(heights)), float(corners[:, 2].min())
    if abs(lowest - floor) > _STANDS_M or np.ptp(heights) > _STANDS_M:
        return corners
    low = corners[:, 2] < max(lowest, floor) + _LOW_M
    return np.column_stack([corners[:, :2], np.where(low, floor, corners[:, 2])])


def _shares(body: Body, outline: np.ndarray, film: Film, time: int) -> tuple[float, float]:
    """How much of an outline ``(H, W)`` a body covers in the picture, and how much of the body the outline does."""
    assert film.shown is not None, "outlines are known"
    matrix = body.to_world[time]
    row, column, _ = film.seen(body.corners @ matrix[:3, :3].T + matrix[:3, 3], time)
    pixels = np.indices(outline.shape).reshape(2, -1).T
    try:
        sides = ConvexHull(np.column_stack([row, column])).equations
    except (QhullError, ValueError):
        return 0.0, 0.0
    drawn = (pixels @ sides[:, :2].T + sides[:, 2] <= 0).all(1).reshape(outline.shape)
    common = float((drawn & outline).sum())
    free = drawn & (outline | (film.shown[time] == 0))
    return common / max(int(outline.sum()), 1), common / max(int(free.sum()), 1)
