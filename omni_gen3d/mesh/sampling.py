"""Spread a few samples over many: the choice of cameras and of spawn poses."""

from __future__ import annotations

import numpy as np

from omni_gen3d.types import Cameras

# Two cameras at one place that look 90 degrees apart count as far from each other as two cameras this far apart.
_METRES_PER_RIGHT_ANGLE = 1.0


def farthest_points(points: np.ndarray, count: int, first: int, min_spacing: float = 0.0) -> np.ndarray:
    """Indices of at most ``count`` points, each the farthest from those chosen before it.

    Args:
        points: Shape ``(N, D)``.
        count: How many to choose at most.
        first: Index of the point to start from.
        min_spacing: Stop when no point is left at least this far from all chosen ones.

    Returns:
        Indices in the order of choice, shape ``(M,)``, ``M <= count``; a tie goes to the lowest index.
    """
    chosen = [first]
    distance = np.linalg.norm(points - points[first], axis=1)
    while len(chosen) < count:
        farthest = int(distance.argmax())
        if distance[farthest] < max(min_spacing, 1e-9):
            break
        chosen.append(farthest)
        distance = np.minimum(distance, np.linalg.norm(points - points[farthest], axis=1))
    return np.array(chosen)


def spread_cameras(cameras: Cameras, count: int, most: int | None = None, min_spacing: float = 0.0) -> Cameras:
    """The ``count`` cameras that differ most in place and direction, camera 0 first, or all where there are fewer.

    With ``most``, up to that many as long as each differs by at least ``min_spacing`` [m] from those before it.
    """
    camera_to_world = cameras.camera_to_world.detach().cpu().double().numpy()
    places = np.concatenate([camera_to_world[:, :3, 3], _METRES_PER_RIGHT_ANGLE * camera_to_world[:, :3, 2]], axis=1)
    chosen = farthest_points(places, most or count, 0, min_spacing)
    return cameras[(chosen if len(chosen) > count else farthest_points(places, count, 0)).tolist()]
