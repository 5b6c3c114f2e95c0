"""Find the floor in a depth map: its plane, and the pixels that show it."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from omni_gen3d.geometry import pixel_rays
from omni_gen3d.types import Ground
from omni_gen3d.video.cache3d import reliable_pixels

# Nobody holds a camera further from upright than this, and floors seen by the network tilt a little more.
_MAX_TILT_DEG = 35.0
_MAX_NORMAL_TILT_DEG = 40.0
_NUM_HYPOTHESES = 300
_MAX_POINTS = 3000
# Distance to the plane over distance to the camera below which a pixel votes for it.
_TOLERANCE = 0.02
_BELOW_PENALTY = 2.0
# The floor grows from the pixels on the plane over connected pixels that face up this well and deviate this little
# from it, over the camera's height above it.
_MAX_BEND_DEG = 35.0
_MAX_DEVIATION = 0.3
_MIN_SHARE = 0.03
_NORMAL_SMOOTHING_PX = 1.5


def find_ground(depth: torch.Tensor, intrinsics: torch.Tensor, rng: np.random.Generator) -> Ground | None:
    """The floor before an upright camera, or None where too little of one is seen.

    Args:
        depth: Along z, any unit, shape ``(H, W)``.
        intrinsics: Shape ``(3, 3)``.
        rng: Draws the plane hypotheses.
    """
    rays = pixel_rays(intrinsics.cpu().double(), *depth.shape).numpy()
    points = rays * depth.cpu().double().numpy()[..., None]
    normals = _normals(points)
    off_edges = reliable_pixels(depth[None].cpu())[0].numpy()
    plane = _find_plane(points[off_edges], normals[off_edges], rng)
    if plane is None:
        return None
    pixels = _floor_pixels(points, normals, off_edges, *plane)
    if pixels.mean() < _MIN_SHARE:
        return None
    return Ground(torch.from_numpy(plane[0]).float(), plane[1], torch.from_numpy(pixels))


def ground_seen(depth: torch.Tensor, intrinsics: torch.Tensor, up: torch.Tensor, camera_height: float) -> Ground:
    """The floor whose plane is known, as a camera sees it; it may see none.

    Args:
        depth: Along z, any unit, shape ``(H, W)``.
        intrinsics: Shape ``(3, 3)``.
        up: The plane's normal in the camera's frame, shape ``(3,)``.
        camera_height: Of the camera above the plane [unit of the depth].
    """
    points = pixel_rays(intrinsics.cpu().double(), *depth.shape).numpy() * depth.cpu().double().numpy()[..., None]
    off_edges = reliable_pixels(depth[None].cpu())[0].numpy()
    pixels = _floor_pixels(points, _normals(points), off_edges, up.cpu().double().numpy(), camera_height)
    return Ground(up.cpu().float(), camera_height, torch.from_numpy(pixels))


def _normals(points: np.ndarray) -> np.ndarray:
    """Unit normals towards the camera from central differences of smoothed points, ``(H, W, 3)``."""
    smooth = ndimage.gaussian_filter(points, (_NORMAL_SMOOTHING_PX, _NORMAL_SMOOTHING_PX, 0), mode="nearest")
    along_rows, along_columns = np.gradient(smooth, axis=0), np.gradient(smooth, axis=1)
    normals = np.cross(along_rows, along_columns)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    return np.where((normals * points).sum(-1, keepdims=True) > 0, -normals, normals)


def _find_plane(points: np.ndarray, normals: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float] | None:
    """The plane ``up @ p = -camera_height`` below the camera with most votes, refined; or None."""
    prior_up = np.array([0.0, -1.0, 0.0])
    ranges = np.linalg.norm(points, axis=-1)
    facing_up = (normals @ prior_up > np.cos(np.deg2rad(_MAX_NORMAL_TILT_DEG))) & (points[:, 1] > 0)
    if facing_up.sum() < 100:
        return None
    votes = rng.choice(len(points), min(_MAX_POINTS, len(points)), replace=False)
    candidates = np.flatnonzero(facing_up)
    best, best_score = None, 0.0
    for _ in range(_NUM_HYPOTHESES):
        a, b, c = points[rng.choice(candidates, 3, replace=False)]
        up = np.cross(b - a, c - a)
        length = np.linalg.norm(up)
        if length < 1e-9:
            continue
        up *= np.sign(up @ prior_up) / length
        camera_height = -float(up @ a)
        if up @ prior_up < np.cos(np.deg2rad(_MAX_TILT_DEG)) or camera_height <= 0:
            continue
        deviation = (points[votes] @ up + camera_height) / ranges[votes]
        on_plane = (np.abs(deviation) < _TOLERANCE) & facing_up[votes]
        score = float(on_plane.sum() - _BELOW_PENALTY * (deviation < -2 * _TOLERANCE).sum())
        if score > best_score:
            best, best_score = (up, camera_height), score
    if best is None:
        return None
    up, camera_height = best
    for _ in range(3):
        near = (np.abs(points @ up + camera_height) / ranges < _TOLERANCE) & facing_up
        weights = 1 / ranges[near] ** 2
        centre = np.average(points[near], axis=0, weights=weights)
        _, axes = np.linalg.eigh(np.cov((points[near] - centre).T, aweights=weights))
        up = axes[:, 0] * np.sign(axes[:, 0] @ prior_up)
        camera_height = -float(up @ centre)
    return (up, camera_height) if camera_height > 0 else None


def _floor_pixels(
    points: np.ndarray, normals: np.ndarray, off_edges: np.ndarray, up: np.ndarray, camera_height: float
) -> np.ndarray:
    """Pixels of the floor, grown from those on the plane, shape ``(H, W)``, bool."""
    above = points @ up + camera_height
    faces_up = normals @ up > np.cos(np.deg2rad(_MAX_BEND_DEG))
    below_horizon = points @ up < 0
    may_be_floor = off_edges & faces_up & below_horizon & (np.abs(above) < _MAX_DEVIATION * camera_height)
    may_be_floor = ndimage.binary_opening(may_be_floor)
    on_plane = may_be_floor & (np.abs(above) < _TOLERANCE * np.linalg.norm(points, axis=-1))
    return np.asarray(ndimage.binary_propagation(on_plane, mask=may_be_floor), np.bool_)
