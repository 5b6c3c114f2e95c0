"""The body of a thing that a film shows: a box around what was seen of it, carved by its outlines at all times.

A depth network is right about how far away a thing is, to some percent, and wrong about its form: it draws what is near
nearer, and what is thin towards the background. Outlines and motions are right to a pixel and a centimetre. So depth
only bounds a box, whose sides lie along the thing's way and across, as those of most things that drive, roll along or
swing do; what of the box leaves the outlines is cut off (a visual hull, Laurentini 1994, by as many cameras as times).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from omni_gen3d.mesh.convex import convex_hull
from omni_gen3d.motion.film import Film
from omni_gen3d.types import TriMesh

# How much of the points is noise: of the nearest, which a network draws too near, of the farthest, and elsewhere.
_NEAR, _FAR, _ELSEWHERE = 0.15, 0.03, 0.01
# A way is told by where a thing is so many times before and after [times].
_STEPS = 2
# What is this close to the floor stands on it; so much air is left between the two [m].
_STANDS_M, _CLEARANCE_M = 0.15, 0.005
# Voxels fill the box, of this breadth at least [m].
_VOXELS, _MIN_EDGE_M = 30_000, 0.012
# What is of a thing is within its outlines, give or take some pixels, at this share of the times at which it is in the
# picture, which are so many at least.
_WITHIN_SHARE, _MARGIN_PX, _MIN_ASKED = 0.75, 1, 3
_CORNERS = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3), -1).reshape(-1, 3)


def carved_hull(points: np.ndarray, onto: dict[int, np.ndarray], film: Film, outlines: np.ndarray) -> TriMesh | None:
    """A convex collider in the world, where the thing is at the reference time; None where nothing of it is left.

    Args:
        points: On the sides of it that were seen, at the reference time [m], shape ``(N, 3)``.
        onto: Each time's motion onto the reference time, ``(4, 4)`` each, turns about +Z and shifts.
        film: Who filmed it, in a world with the floor at z = 0.
        outlines: Of the thing, shape ``(T, H, W)``, bool.
    """
    axes = _axes(np.median(points, axis=0), onto)
    low, high = _bounds(points, axes, film.cameras.positions[min(onto)].double().numpy())
    edge = max(float(np.prod(np.maximum(high - low, _MIN_EDGE_M)) / _VOXELS) ** (1 / 3), _MIN_EDGE_M)
    sides = [
        np.arange(a + edge / 2, b, edge) if b - a > edge else np.array([(a + b) / 2])
        for a, b in zip(low, high, strict=True)
    ]
    voxels = np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 3)
    kept = voxels[stay_within(voxels @ axes, onto, film, outlines)]
    corners = (kept[:, None] + edge * _CORNERS).reshape(-1, 3)
    return convex_hull(np.clip(corners, low, high) @ axes)


def stay_within(points: np.ndarray, onto: dict[int, np.ndarray], film: Film, outlines: np.ndarray) -> np.ndarray:
    """Which of the points ``(N, 3)`` are within the outlines ``(T, H, W)`` when they move as the thing does, ``(N,)``.

    At the ends of a way an outline also holds floor that the thing covers at most times, and one of a thing with joints
    holds limbs that go their own ways. Moved along, they leave the outlines of other times.
    """
    inside, asked = np.zeros(len(points)), np.zeros(len(points))
    for time, matrix in onto.items():
        row, column, seen = film.seen((points - matrix[:3, 3]) @ matrix[:3, :3], time)
        near = ndimage.maximum_filter(outlines[time], 2 * _MARGIN_PX + 1)
        at = np.flatnonzero(seen)
        asked[at] += 1
        inside[at] += near[np.rint(row[at]).astype(int), np.rint(column[at]).astype(int)]
    return (asked >= _MIN_ASKED) & (inside >= _WITHIN_SHARE * asked)


def _axes(centre: np.ndarray, onto: dict[int, np.ndarray]) -> np.ndarray:
    """Unit vectors along the way of a thing, across and up, as it stands at the reference time, in rows ``(3, 3)``."""
    matrices = [onto[time] for time in sorted(onto)]
    places = np.stack([matrix[:3, :3].T @ (centre - matrix[:3, 3]) for matrix in matrices])
    last = len(places) - 1
    steps = [
        matrix[:3, :3] @ (places[min(i + _STEPS, last)] - places[max(i - _STEPS, 0)])
        for i, matrix in enumerate(matrices)
    ]
    plan = np.stack(steps)[:, :2]
    along = np.linalg.eigh(plan.T @ plan)[1][:, 1]
    return np.array([[along[0], along[1], 0.0], [-along[1], along[0], 0.0], [0.0, 0.0, 1.0]])


def _bounds(points: np.ndarray, axes: np.ndarray, eye: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Low and high corners of the box along its axes, ``(3,)`` each."""
    turned = points @ axes.T
    low, high = np.quantile(turned, [_ELSEWHERE, 1 - _ELSEWHERE], axis=0)
    if low[2] < _STANDS_M:
        low[2] = _CLEARANCE_M
    to_eye = (axes @ (eye - np.median(points, axis=0)))[:2]
    shares = np.abs(to_eye) / max(float(np.linalg.norm(to_eye)), 1e-9)
    for axis, (share, towards) in enumerate(zip(shares, to_eye, strict=True)):
        near, far = _ELSEWHERE + (_NEAR - _ELSEWHERE) * share, _ELSEWHERE + (_FAR - _ELSEWHERE) * share
        trimmed = (near, 1 - far) if towards < 0 else (far, 1 - near)
        low[axis], high[axis] = np.quantile(turned[:, axis], trimmed)
    return low, np.maximum(high, low)
