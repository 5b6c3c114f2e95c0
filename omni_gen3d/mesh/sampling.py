"""Few that stand for many: cameras and spawn poses spread out, Gaussians drawn by the surface they cover."""

from __future__ import annotations

import numpy as np

from omni_gen3d.types import Cameras, Gaussians

# Two cameras at one place that look 90 degrees apart count as far from each other as two cameras this far apart.
_METRES_PER_RIGHT_ANGLE = 1.0
# A few huge Gaussians (a sky, a far background) must not outweigh all others.
_MAX_COVER_PERCENTILE = 95.0


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


def covered_area(gaussians: Gaussians) -> np.ndarray:
    """Opacity times the product of the two larger standard deviations [m^2], shape ``(N,)``, float64.

    A face-on ellipse of one standard deviation has pi times this area.
    """
    scales = gaussians.scales.detach().cpu().numpy().astype(np.float64)
    # The product of all three over the smallest would divide by next to nothing for flat ones.
    x, y, z = scales.T
    area = np.maximum(np.maximum(x * y, y * z), z * x)
    return area * gaussians.opacities.detach().cpu().numpy()


def draw_surface(gaussians: Gaussians, count: int, rng: np.random.Generator) -> np.ndarray:
    """Ascending indices of at most ``count`` different Gaussians, likelier the more surface they cover."""
    weights = covered_area(gaussians)
    weights = np.minimum(weights, np.percentile(weights, _MAX_COVER_PERCENTILE))
    visible = np.flatnonzero(weights > 0)
    if len(visible) <= count:
        return visible
    # The smallest of E / w, E exponential, are a weighted draw without replacement (Efraimidis and Spirakis 2006).
    keys = rng.standard_exponential(len(visible)) / weights[visible]
    return np.sort(visible[np.argpartition(keys, count)[:count]])
