"""Find which way is down: the floor as a plane below upright cameras, and the motion that puts it at z = 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from omni_gen3d.mesh.depth_views import normals_of, render_depth_views
from omni_gen3d.mesh.sampling import spread_cameras
from omni_gen3d.types import Cameras, Gaussians

_NUM_VIEWS = 8
_MAX_POINTS = 20_000
_NUM_HYPOTHESES = 400
# The prior: nobody holds a camera further from upright than this.
_MAX_TILT_DEG = 35.0
# Normals of noisy depth stray further from the plane than the plane from the prior.
_MAX_NORMAL_TILT_DEG = _MAX_TILT_DEG + 15.0
# Lengths relative to the median distance of what is seen, so that the scale of the scene does not matter.
_TOLERANCE = 0.015
_MIN_EXTENT = 0.1
# A floor holds this share of all points, and next to nothing lies below it: what does speaks against it twice.
_MIN_INLIER_SHARE = 0.03
_MAX_BELOW_SHARE = 0.1
_BELOW_PENALTY = 2.0
# Without a floor the ground is put under nearly all that is seen below the camera.
_GROUND_PERCENTILE = 2.0


@dataclass(frozen=True)
class Levelling:
    """The rigid motion ``p' = rotation @ p + translation`` into a Z-up world with its floor at z = 0.

    Attributes:
        rotation: Shape ``(3, 3)``, float64.
        translation: [unit of the scene], shape ``(3,)``, float64.
        floor_found: False when gravity and height are only a guess.
        note: A sentence about the guess, or None when the floor was found.
    """

    rotation: torch.Tensor
    translation: torch.Tensor
    floor_found: bool
    note: str | None


def level_scene(gaussians: Gaussians, cameras: Cameras, seed: int = 0) -> Levelling:
    """Find the floor by RANSAC on points lifted from median depth and level the scene on it.

    Camera 0 ends above the origin and looks along +X.

    The floor is the plane with most points on it and fewest below it among those that lie below every camera and
    are tilted at most 35 degrees from the mean image y axis; least squares on its inliers and then on
    the Gaussians near it refines it. Without such
    a plane, gravity is the mean image y axis and the ground lies at the 2nd percentile of the heights seen below
    camera 0.

    Raises:
        InputError: The cameras see no surface.
    """
    views = render_depth_views(gaussians, spread_cameras(cameras, _NUM_VIEWS))
    grid = views.lift()
    normals = normals_of(grid, views.positions)
    usable = np.flatnonzero(np.isfinite(normals).all(-1))
    rng = np.random.default_rng(seed)
    if len(usable) > _MAX_POINTS:
        usable = np.sort(rng.choice(usable, _MAX_POINTS, replace=False))
    points = grid.reshape(-1, 3)[usable].astype(np.float64)
    normals = normals.reshape(-1, 3)[usable].astype(np.float64)

    prior_up = _unit(-views.world_to_camera[:, 1, :3].mean(0))
    first, forward = views.positions[0], views.world_to_camera[0, 2, :3]
    plane = _find_floor(points, normals, views.positions, prior_up, rng)
    if plane is not None:
        up, offset = refine_on_gaussians(*plane, gaussians, _TOLERANCE * _median_range(points, first))
        note = None
    else:
        up = prior_up
        heights = grid[views.depth > 0].astype(np.float64) @ up
        below = heights[heights < first @ up]
        offset = float(np.percentile(below if len(below) else heights, _GROUND_PERCENTILE))
        note = (
            "No floor found: gravity was taken from the cameras and the ground put under what they see, "
            f"{first @ up - offset:.2f} m below camera 0."
        )
    along_x = _unit(forward - (forward @ up) * up)
    rotation = np.stack([along_x, np.cross(up, along_x), up])
    translation = -rotation @ (first - (first @ up - offset) * up)
    return Levelling(torch.from_numpy(rotation), torch.from_numpy(translation), plane is not None, note)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _median_range(points: np.ndarray, eye: np.ndarray) -> float:
    return float(np.median(np.linalg.norm(points - eye, axis=1)))


def refine_on_gaussians(
    up: np.ndarray, offset: float, gaussians: Gaussians, tolerance: float
) -> tuple[np.ndarray, float]:
    """Least squares on the centres of the Gaussians near the plane, weighted by opacity.

    A splat is rendered at the depth of its centre all over its footprint, so that at a grazing angle the nearer half
    of its neighbours hides behind it: depth maps see a floor too high by a good part of a splat.
    """
    means = gaussians.means.detach().cpu().double().numpy()
    opacities = gaussians.opacities.detach().cpu().double().numpy()
    for reach in (tolerance, tolerance, tolerance / 2, tolerance / 2):
        near = np.abs(means @ up - offset) < reach
        if opacities[near].sum() <= 0 or near.sum() < 3:
            break
        up, offset, _ = fit_plane(means[near], opacities[near], up)
    return up, offset


def fit_plane(points: np.ndarray, weights: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Weighted least squares: normal on the side of ``up``, offset, and standard deviations in ascending order."""
    centre = np.average(points, axis=0, weights=weights)
    variance, axes = np.linalg.eigh(np.cov((points - centre).T, aweights=weights, bias=True))
    normal = axes[:, 0] * np.sign(axes[:, 0] @ up)
    return normal, float(normal @ centre), np.sqrt(np.maximum(variance, 0))


def _find_floor(
    points: np.ndarray, normals: np.ndarray, eyes: np.ndarray, prior_up: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, float] | None:
    """The floor ``up @ p = offset``, or None.

    Args:
        points: Surface points, shape ``(M, 3)``.
        normals: Their unit normals facing the cameras, shape ``(M, 3)``.
        eyes: Camera centres, shape ``(C, 3)``.
        prior_up: Roughly up, shape ``(3,)``.
        rng: Draws the hypotheses.
    """
    candidates = points[normals @ prior_up > np.cos(np.deg2rad(_MAX_NORMAL_TILT_DEG))]
    if len(candidates) < max(3, _MIN_INLIER_SHARE * len(points)):
        return None
    unit = _median_range(points, eyes[0])
    tolerance = _TOLERANCE * unit

    a, b, c = candidates[rng.integers(len(candidates), size=(3, _NUM_HYPOTHESES))]
    ups = np.cross(b - a, c - a)
    ups /= np.linalg.norm(ups, axis=1, keepdims=True) + 1e-12
    ups *= np.sign(ups @ prior_up)[:, None]
    offsets = (ups * a).sum(1)
    upright = ups @ prior_up >= np.cos(np.deg2rad(_MAX_TILT_DEG))
    below_cameras = (ups @ eyes.T - offsets[:, None] > 2 * tolerance).all(1)
    ups, offsets = ups[upright & below_cameras], offsets[upright & below_cameras]
    if len(ups) == 0:
        return None
    on = (np.abs(ups @ candidates.T - offsets[:, None]) < tolerance).sum(1)
    below = (ups @ points.T - offsets[:, None] < -3 * tolerance).sum(1)
    best = int((on - _BELOW_PENALTY * below).argmax())
    up, offset = ups[best], float(offsets[best])

    extent = np.zeros(3)
    for reach in (tolerance, tolerance, tolerance / 2, tolerance / 2):
        inliers = candidates[np.abs(candidates @ up - offset) < reach]
        if len(inliers) < 3:
            return None
        up, offset, extent = fit_plane(inliers, np.ones(len(inliers)), prior_up)
    heights = points @ up - offset
    num_inliers = (np.abs(candidates @ up - offset) < tolerance).sum()
    is_floor = num_inliers >= _MIN_INLIER_SHARE * len(points) and extent[1] >= _MIN_EXTENT * unit
    is_lowest = (heights < -3 * tolerance).mean() <= _MAX_BELOW_SHARE
    is_upright = up @ prior_up >= np.cos(np.deg2rad(_MAX_TILT_DEG))
    is_below_cameras = bool((eyes @ up - offset > 2 * tolerance).all())
    return (up, offset) if is_floor and is_lowest and is_upright and is_below_cameras else None
