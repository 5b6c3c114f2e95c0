"""Turn a levelled scene about the vertical until its walls are parallel to X and Y."""

from __future__ import annotations

import numpy as np

_MIN_POINTS = 100
# Walls are looked for between these shares of the height of the scene.
_BAND = (0.15, 0.85)
_BINS_A_SIDE = 400
# Walls that face one way make their histogram this much sharper than it is at the average angle.
_MIN_SHARPNESS = 1.2


def yaw_to_walls(points: np.ndarray, tolerance: float) -> np.ndarray:
    """The rotation about +Z by at most 45 degrees after which walls are parallel to X and Y.

    Walls seen from above are lines, and a histogram across a line is sharpest when it runs along the bins. The angle
    with the sharpest histograms over x and y is then refined by least squares on the longest line.

    Args:
        points: On the surfaces of a scene with its floor at z = 0, Z-up, shape ``(M, 3)``.
        tolerance: How far from a wall its points lie [unit of the points].

    Returns:
        Shape ``(3, 3)``; the identity when there are no walls.
    """
    top = np.percentile(points[:, 2], 98)
    plan = points[(points[:, 2] > _BAND[0] * top) & (points[:, 2] < _BAND[1] * top), :2]
    if len(plan) < _MIN_POINTS:
        return np.eye(3)
    degrees = np.arange(-45.0, 45.0)
    sharpness = np.array([_sharpness(plan, angle, tolerance) for angle in np.deg2rad(degrees)])
    best = int(sharpness.argmax())
    if sharpness[best] < _MIN_SHARPNESS * np.median(sharpness):
        return np.eye(3)
    angle = np.deg2rad(degrees[best])
    for _ in range(4):
        angle += _misalignment(plan @ _turn(angle).T, tolerance)
    # Walls at 45 degrees: either way is right, and the refinement may step over the limit.
    angle = (angle + np.pi / 4) % (np.pi / 2) - np.pi / 4
    rotation = np.eye(3)
    rotation[:2, :2] = _turn(angle)
    return rotation


def _turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _sharpness(plan: np.ndarray, angle: float, tolerance: float) -> float:
    turned = plan @ _turn(angle).T
    return float(sum((_histogram(turned[:, axis], tolerance)[0].astype(float) ** 2).sum() for axis in (0, 1)))


def _histogram(values: np.ndarray, width: float) -> tuple[np.ndarray, float]:
    """Counts in bins of ``width`` or a little more, and the middle of the fullest."""
    low, high = np.percentile(values, (0.5, 99.5))
    low, high = low - width, high + width
    counts, edges = np.histogram(values, bins=min(_BINS_A_SIDE, max(1, int((high - low) / width))), range=(low, high))
    fullest = int(counts.argmax())
    return counts, float(edges[fullest] + edges[fullest + 1]) / 2


def _misalignment(turned: np.ndarray, tolerance: float) -> float:
    """By how much more to turn so that the longest line is parallel to an axis [rad], at most a degree."""
    peaks = [_histogram(turned[:, axis], tolerance) for axis in (0, 1)]
    across = int(peaks[1][0].max() > peaks[0][0].max())
    line = turned[np.abs(turned[:, across] - peaks[across][1]) < 1.5 * tolerance]
    along = line[:, 1 - across] - line[:, 1 - across].mean()
    if len(line) < 3 or not (along**2).sum() > 0:
        return 0.0
    slope = float((along * line[:, across]).sum() / (along**2).sum())
    # A line along y whose x grows with y leans clockwise, one along x whose y grows with x the other way.
    angle = np.arctan(slope) if across == 0 else -np.arctan(slope)
    return float(np.clip(angle, -np.deg2rad(1.0), np.deg2rad(1.0)))
