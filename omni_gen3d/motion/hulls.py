"""What a robot collides with where something moves: a convex body around what was seen of it, and what must be behind.

A film shows the sides that face it. Most things that move are as good as symmetric: what looks like a ball is one;
anything else is mirrored in the middle of a small rectangle around its plan with most points on its sides, which two
sides of a box seen over a corner give whole. Down to the floor it is filled where it stands there.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull, KDTree, QhullError
from scipy.spatial.transform import Rotation

from omni_gen3d.mesh.convex import convex_hull
from omni_gen3d.motion.balls import points_on_ball
from omni_gen3d.types import Gaussians, TriMesh

# Gaussians with fewer neighbours than this within two links are floaters.
_MIN_NEIGHBOURS = 4
# A part this close to the floor stands on it; nobody sees its underside.
_STANDS_M = 0.15
# Between the collider and the floor, so that the two do not touch.
_CLEARANCE_M = 0.005
# This much of the outermost, on each side, is blur.
_TRIMMED = 0.01
# What is a ball to this share of its radius, in the median, is one; larger ones are walls.
_ROUND, _MAX_RADIUS_M = 0.03, 1.0
# Rectangles up to this factor larger than the smallest are as good.
_SMALL = 1.1


def collider_hulls(gaussians: Gaussians, to_world: np.ndarray, link: float) -> tuple[TriMesh, ...]:
    """The collider of a part in its own frame; empty where what was seen of it is flat.

    Args:
        gaussians: Of the part, in its own frame.
        to_world: Where it is, floor at z = 0, shape ``(T, 4, 4)``.
        link: How far apart neighbours on one surface may be [m].
    """
    points = _without_floaters(gaussians.means.numpy().astype(np.float64), link)
    if len(points) < 4:
        return ()
    heights = points @ to_world[:, 2, :3].T + to_world[:, 2, 3]
    lowest = np.median(heights.min(0))
    upright = (to_world[:, 2, 2] > 0.99).all()
    ball = _ball(points)
    if ball is not None:
        points = ball
    elif upright:
        floor = _CLEARANCE_M - float(np.median(to_world[:, 2, 3]))
        if lowest < _STANDS_M:
            points = points[points[:, 2] > floor]
            if len(points) < 4:
                return ()
            points = np.concatenate([points, np.column_stack([points[:, :2], np.full(len(points), floor)])])
        points = _mirrored(points)
    hull = convex_hull(points)
    return () if hull is None else (hull,)


def _without_floaters(points: np.ndarray, link: float) -> np.ndarray:
    tree = KDTree(points)
    neighbours = tree.query_ball_point(points, 2 * link, return_length=True)
    kept = points[np.asarray(neighbours) > _MIN_NEIGHBOURS]
    if len(kept) == 0:
        return kept
    low, high = np.quantile(kept, [_TRIMMED, 1 - _TRIMMED], axis=0)
    return kept[((kept >= low) & (kept <= high)).all(1)]


def _ball(points: np.ndarray) -> np.ndarray | None:
    """Points all over the ball that these lie on, by least squares; None where they lie on none."""
    system = np.column_stack([2 * points, np.ones(len(points))])
    solution, *_ = np.linalg.lstsq(system, (points**2).sum(1), rcond=None)
    centre = solution[:3]
    radius = float(np.sqrt(max(solution[3] + centre @ centre, 0.0)))
    off = np.median(np.abs(np.linalg.norm(points - centre, axis=1) - radius))
    if not off < _ROUND * radius < _ROUND * _MAX_RADIUS_M:
        return None
    return points_on_ball(centre, radius)


def _mirrored(points: np.ndarray) -> np.ndarray:
    """The points and their images in both middles of the smallest rectangle around their plan."""
    try:
        corners = points[ConvexHull(points[:, :2]).vertices, :2]
    except QhullError:
        return points
    edges = np.roll(corners, -1, axis=0) - corners
    turns = [Rotation.from_euler("z", -a).as_matrix()[:2, :2] for a in np.arctan2(edges[:, 1], edges[:, 0])]
    areas = np.array([np.ptp(corners @ turn.T, axis=0).prod() for turn in turns])
    # Of a right triangle, the plan of two sides, the rectangle on its longest edge is no larger: points tell.
    small = np.flatnonzero(areas <= _SMALL * areas.min())
    turn = turns[min(small, key=lambda i: _off_sides(points[:, :2] @ turns[i].T))]
    turned = corners @ turn.T
    middle = (turned.min(0) + turned.max(0)) / 2
    plan = points[:, :2] @ turn.T - middle
    images = [np.column_stack([(plan * sign + middle) @ turn, points[:, 2]]) for sign in ((-1, 1), (1, -1), (-1, -1))]
    return np.concatenate([points, *images])


def _off_sides(plan: np.ndarray) -> float:
    """Mean distance of points ``(N, 2)`` from the nearest side of the rectangle around them."""
    return float(np.minimum(plan - plan.min(0), plan.max(0) - plan).min(1).mean())
