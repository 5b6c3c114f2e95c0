"""Which way is up in a splat that nobody knows a camera of: the floor, sought in the Gaussians themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from omni_gen3d.mesh.levelling import Levelling, fit_plane, refine_on_gaussians
from omni_gen3d.mesh.sampling import draw_surface
from omni_gen3d.mesh.squaring import yaw_to_walls
from omni_gen3d.types import Gaussians

UpAxis = Literal["-y", "y", "z"]
# Rows: where the file's axis that is up, and the two others, go in a Z-up frame. Proper rotations by right angles.
_TO_Z_UP: dict[UpAxis, np.ndarray] = {
    "-y": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]),
    "y": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]),
    "z": np.eye(3),
}
_NUM_POINTS = 8000
_NUM_HYPOTHESES = 1000
_HYPOTHESES_A_BLOCK = 50
# Three points of a hypothesis come from one neighbourhood of about so many, which is likelier to lie on one surface.
_NEIGHBOURS = 300
_MAX_TILT_DEG = 35.0
# Lengths relative to the median distance from the middle; what is farther than the last is background.
_TOLERANCE = 0.015
_MIN_EXTENT = 0.1
_CORE = 4.0
# Points below a floor count against it twice; it holds this share of all, and no more than that lies below.
_BELOW_PENALTY = 2.0
_MIN_ON = 0.03
_MAX_BELOW = 0.1
# Things stand on floors and do not hang from ceilings; how much that weighs against the size of the plane.
_CLUTTER_WEIGHT = 0.1
# Planes whose scores differ by less are equally good: the order in which the axes were given decides.
_TIE = 0.04
_GROUND_PERCENTILE = 2.0


@dataclass(frozen=True)
class _FloorCandidate:
    axis: UpAxis
    up: np.ndarray
    offset: float
    score: float


def upright_scene(gaussians: Gaussians, axes: Sequence[UpAxis], *, level: bool = True, seed: int = 0) -> Levelling:
    """Find the floor among planes that one of ``axes`` stands on, and bring it to z = 0.

    RANSAC over Gaussians drawn by the surface they cover proposes planes at most 35 degrees from level. A plane's
    score is the share of the points on it, less twice the share below it, plus a tenth of how much more stands in the
    lower third of the space above it than in the upper third, walls aside (from -1 to 1): that tells a floor from a
    ceiling of the same size. The axis of the best plane is up; of planes within 0.04 of the best, the first axis wins.

    Args:
        gaussians: The scene, in any unit.
        axes: What may be up, likeliest first; one alone is taken at its word.
        level: Turn the floor's normal exactly onto +Z and the walls parallel to X and Y (by at most 45 degrees). If
            False, the motion is the exchange of axes and a shift along Z alone.
        seed: Of the random draws.

    Returns:
        The motion [unit of the scene]; horizontally the origin stays. Without a floor the first axis is up and the
        ground lies at the 2nd percentile of the heights, and the note says so.
    """
    rng = np.random.default_rng(seed)
    points = gaussians.means.detach().cpu().numpy()[draw_surface(gaussians, _NUM_POINTS, rng)].astype(np.float64)
    middle = np.median(points, axis=0)
    distance = np.linalg.norm(points - middle, axis=1)
    unit = max(float(np.median(distance)), 1e-9)
    points = points[distance <= _CORE * unit]
    floor = _best_floor(points, axes, unit, rng)
    if floor is None:
        rotation = _TO_Z_UP[axes[0]]
        ground = float(np.percentile(points @ rotation[2], _GROUND_PERCENTILE))
        note = f"no floor was found: the file's {axes[0]} axis was taken as up and the ground put under the scene."
        return Levelling(torch.from_numpy(rotation), torch.tensor([0.0, 0.0, -ground]).double(), False, note)

    up, offset = refine_on_gaussians(floor.up, floor.offset, gaussians, _TOLERANCE * unit)
    rotation = _TO_Z_UP[floor.axis]
    if level:
        rotation = _shortest_rotation_to_z(rotation @ up) @ rotation
        rotation = yaw_to_walls(points @ rotation.T - [0, 0, offset], _TOLERANCE * unit) @ rotation
    else:
        on_floor = points[np.abs(points @ up - offset) < _TOLERANCE * unit]
        offset = float(np.median(on_floor @ rotation[2])) if len(on_floor) else offset
    return Levelling(torch.from_numpy(rotation), torch.tensor([0.0, 0.0, -offset]).double(), True, None)


def _shortest_rotation_to_z(up: np.ndarray) -> np.ndarray:
    """Rodrigues' formula for the rotation about the horizontal axis that takes the unit vector ``up`` to +Z."""
    x, y, z = up
    cross = np.array([[0.0, 0.0, -x], [0.0, 0.0, -y], [x, y, 0.0]])
    return np.eye(3) + cross + cross @ cross / (1 + z)


def _best_floor(
    points: np.ndarray, axes: Sequence[UpAxis], unit: float, rng: np.random.Generator
) -> _FloorCandidate | None:
    if len(points) < 16:
        return None
    tolerance = _TOLERANCE * unit
    normals, offsets = _hypotheses(points, rng)
    on, below, above = _shares(points, normals, offsets, tolerance)
    candidates = []
    for axis in axes:
        cosine = normals @ _TO_Z_UP[axis][2]
        score = on - _BELOW_PENALTY * np.where(cosine > 0, below, above)
        score[np.abs(cosine) < np.cos(np.deg2rad(_MAX_TILT_DEG))] = -np.inf
        best = int(score.argmax()) if len(score) else 0
        if len(score) and np.isfinite(score[best]):
            sign = np.sign(cosine[best])
            candidates.append(_settle(points, axis, sign * normals[best], float(sign * offsets[best]), unit))
    found = [candidate for candidate in candidates if candidate is not None]
    if not found:
        return None
    best_score = max(candidate.score for candidate in found)
    return next(candidate for candidate in found if candidate.score >= best_score - _TIE)


def _hypotheses(points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals and offsets of planes through three neighbouring points each, ``(H, 3)`` and ``(H,)``."""
    a = points[rng.integers(len(points), size=_NUM_HYPOTHESES)]
    normals = np.cross(_neighbours(a, points, rng) - a, _neighbours(a, points, rng) - a)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    kept = length[:, 0] > 1e-12
    normals = normals[kept] / length[kept]
    return normals, (normals * a[kept]).sum(1)


def _neighbours(of: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each point another one near it: the nearest of a few drawn from all."""
    drawn = points[rng.integers(len(points), size=(len(of), max(1, len(points) // _NEIGHBOURS)))]
    distance = ((drawn - of[:, None]) ** 2).sum(-1)
    distance[distance == 0] = np.inf
    return drawn[np.arange(len(of)), distance.argmin(1)]


def _shares(
    points: np.ndarray, normals: np.ndarray, offsets: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the points, how many lie on, below and above each plane, shape ``(H,)`` each."""
    counts = np.empty((3, len(normals)))
    columns = np.ascontiguousarray(points.T, np.float32)
    # A block of heights stays in a core's cache, and sums of three products gain nothing from the threads of a matmul.
    for first in range(0, len(normals), _HYPOTHESES_A_BLOCK):
        block = slice(first, first + _HYPOTHESES_A_BLOCK)
        heights = np.einsum("ha,ap->hp", normals[block].astype(np.float32), columns)
        heights -= offsets[block, None].astype(np.float32)
        counts[1, block] = np.count_nonzero(heights < -3 * tolerance, axis=1)
        counts[2, block] = np.count_nonzero(heights > 3 * tolerance, axis=1)
        counts[0, block] = np.count_nonzero(np.abs(heights, out=heights) < tolerance, axis=1)
    on, below, above = counts / len(points)
    return on, below, above


def _settle(points: np.ndarray, axis: UpAxis, up: np.ndarray, offset: float, unit: float) -> _FloorCandidate | None:
    """Fit the plane to its points and score it; None when it is no floor."""
    tolerance = _TOLERANCE * unit
    extent = np.zeros(3)
    for _ in range(3):
        inliers = points[np.abs(points @ up - offset) < tolerance]
        if len(inliers) < 3:
            return None
        up, offset, extent = fit_plane(inliers, np.ones(len(inliers)), up)
    heights = points @ up - offset
    on, below = (np.abs(heights) < tolerance).mean(), (heights < -3 * tolerance).mean()
    upright = up @ _TO_Z_UP[axis][2] >= np.cos(np.deg2rad(_MAX_TILT_DEG))
    if on < _MIN_ON or below > _MAX_BELOW or extent[1] < _MIN_EXTENT * unit or not upright:
        return None
    score = on - _BELOW_PENALTY * below + _CLUTTER_WEIGHT * _clutter(points, up, heights, unit)
    return _FloorCandidate(axis, up, offset, float(score))


def _clutter(points: np.ndarray, up: np.ndarray, heights: np.ndarray, unit: float) -> float:
    """How much more of the lower than of the upper third is filled, from -1 to 1, walls aside.

    Columns that are filled nearly from bottom to top are walls, and say nothing.
    """
    bins = 18
    top = np.percentile(heights, 98)
    tolerance = _TOLERANCE * unit
    if top < 6 * tolerance:
        return 0.0
    inside = (heights > 2 * tolerance) & (heights < top - 2 * tolerance)
    layer = (bins * (heights[inside] - 2 * tolerance) / (top - 4 * tolerance)).astype(int)
    side = np.cross(up, np.eye(3)[np.abs(up).argmin()])
    side /= np.linalg.norm(side)
    plan = np.floor(points[inside] @ np.stack([side, np.cross(up, side)], 1) / (unit / 8)).astype(int)
    _, column = np.unique(plan, axis=0, return_inverse=True)
    filled = np.zeros((int(column.max(initial=-1)) + 1, bins), bool)
    filled[column.ravel(), np.clip(layer, 0, bins - 1)] = True
    third = bins // 3
    low, high = filled[:, :third].sum(1), filled[:, -third:].sum(1)
    free_standing = (low < third - 1) | (high < third - 1)
    low, high = int(low[free_standing].sum()), int(high[free_standing].sum())
    # A handful of points is no evidence.
    return (low - high) / (low + high + 10)
