"""What a robot collides with where something moves: the convex hull of a part, down to the floor that it stands on."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from omni_gen3d.mesh.convex import convex_hull
from omni_gen3d.types import Gaussians, TriMesh

# Gaussians with fewer neighbours than this within two links are floaters.
_MIN_NEIGHBOURS = 4
# A part this close to the floor stands on it; nobody sees its underside.
_STANDS_M = 0.15
# Between the collider and the floor, so that the two do not touch.
_CLEARANCE_M = 0.005
# This much of the outermost, on each side, is blur.
_TRIMMED = 0.01


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
    if upright and lowest < _STANDS_M:
        floor = _CLEARANCE_M - float(np.median(to_world[:, 2, 3]))
        points = points[points[:, 2] > floor]
        if len(points) < 4:
            return ()
        points = np.concatenate([points, np.column_stack([points[:, :2], np.full(len(points), floor)])])
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
