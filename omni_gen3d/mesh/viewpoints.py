"""Cameras for a scene that came without any: inside its free space where it has an inside, else around it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.geometry import intrinsics_from_fov, look_at
from omni_gen3d.mesh.occupancy import Occupancy, distance_to, enclosure, largest_region, occupy
from omni_gen3d.mesh.sampling import farthest_points
from omni_gen3d.types import Cameras, Gaussians

WIDTH, HEIGHT = 320, 240
_FOV_X_DEG = 90.0
# No camera comes closer to a solid voxel's centre than this and a voxel.
_CLEARANCE_M = 0.2
# A voxel is inside when most of the 26 directions from it end on something; that is so without a ceiling too.
_MIN_ENCLOSURE = 14
# Inside are at least so many voxels, and this share of the grid.
_MIN_INSIDE = 30, 0.01
_NUM_EYES = 36
_YAWS_DEG = np.arange(0.0, 360.0, 30.0)
_PITCHES_DEG = (-40.0, -10.0, 25.0)
# Around an open scene: rings of eyes, seen from its middle in units of its radius.
_RING_YAWS_DEG = np.arange(0.0, 360.0, 22.5)
_RING_PITCHES_DEG = (12.0, 30.0, 55.0)
_RING_RADII = (1.0, 1.5)
_RING_TARGETS = 5
_MAX_PITCH_DEG = 75.0
_NUM_SURFACE_TARGETS, _NUM_FREE_TARGETS = 2000, 700
_FREE_WEIGHT = 0.5
# A target that was seen already is worth this much less each time it is seen again.
_SEEN_AGAIN = 0.4
_RAY_STEPS = 96
# What is farther away is not seen well enough to count; the collision proxy takes no depth beyond 12 m.
_MAX_RANGE_M = 10.0
# Over open ground eyes are at most this high.
_MAX_EYE_HEIGHT_M = 2.5


@dataclass(frozen=True)
class Viewpoints:
    """Placed cameras.

    Attributes:
        cameras: Camera 0 looks nearly level, as a person would.
        inside: Whether they stand in enclosed free space; False when they look at the scene from around it.
    """

    cameras: Cameras
    inside: bool


@dataclass(frozen=True)
class _Views:
    """Candidates: ``eye[i]`` is the eye of view i, ``direction[i]`` where it looks, ``level[i]`` fits camera 0."""

    eyes: np.ndarray
    eye: np.ndarray
    direction: np.ndarray
    level: np.ndarray

    @staticmethod
    def joined(a: _Views, b: _Views) -> _Views:
        eye = np.concatenate([a.eye, b.eye + len(a.eyes)])
        return _Views(
            np.concatenate([a.eyes, b.eyes]),
            eye,
            np.concatenate([a.direction, b.direction]),
            np.concatenate([a.level, b.level]),
        )


def place_cameras(gaussians: Gaussians, *, count: int = 24, seed: int) -> Cameras:
    """The cameras of ``find_viewpoints``."""
    return find_viewpoints(gaussians, count=count, seed=seed).cameras


def find_viewpoints(gaussians: Gaussians, *, count: int = 24, seed: int) -> Viewpoints:
    """Place cameras of 90 degrees across that together see as much of the surfaces and of the free space as they can.

    Opacity is summed up in voxels. Empty voxels from which most directions end on something solid are inside, however
    many floaters hang there; the largest connected part of them that keeps 20 cm and a voxel from all that is solid is
    where eyes may be. Eyes far from each other (and so at several heights) and all directions from them are
    candidates, and the greedy choice takes, one after the other, the view that sees most of what was seen least,
    occlusion included. A scene without an inside (an object, a table top, a street) is looked at from rings around it
    and from up to 2.5 m above its ground.

    Args:
        gaussians: The levelled, metric scene.
        count: Of cameras; fewer when there are fewer candidates.
        seed: Of the random draws.

    Raises:
        InputError: ``count`` is not positive, or nowhere around the scene is room for a camera.
    """
    if count < 1:
        raise InputError(f"count is {count}; at least 1 camera is needed.")
    rng = np.random.default_rng(seed)
    grid = occupy(gaussians)
    clearance = grid.voxel_size * distance_to(grid.solid)
    roomy = clearance >= _CLEARANCE_M + grid.voxel_size
    inside = _inside(grid, roomy)
    surfaces = np.argwhere(grid.solid)
    if inside is None:
        over_ground = roomy & _over_ground(grid)
        views, free = _views_around(grid, surfaces), np.argwhere(over_ground)
        if len(free):
            views = _Views.joined(_views_within(grid, over_ground, clearance, rng), views)
    else:
        views, free = _views_within(grid, inside, clearance, rng), np.argwhere(inside)
        reach = math.ceil(_CLEARANCE_M / grid.voxel_size) + 3
        near = distance_to(inside) <= reach
        surfaces = np.argwhere(grid.solid & near) if (grid.solid & near).any() else surfaces
    surfaces, free = _some(surfaces, _NUM_SURFACE_TARGETS, rng), _some(free, _NUM_FREE_TARGETS, rng)
    targets = grid.centres(np.concatenate([surfaces, free]))
    weights = np.repeat([1.0, _FREE_WEIGHT], [len(surfaces), len(free)])
    seen = _coverage(grid, views, targets, _MAX_RANGE_M)
    if not seen.any():
        seen = _coverage(grid, views, targets, math.inf)
    # A view without any surface proves nothing: nobody knows how far it reaches.
    seen &= seen[:, : len(surfaces)].any(1, keepdims=True)
    chosen = _most_seen(seen, weights, views.level, count)
    eyes = torch.from_numpy(views.eyes[views.eye[chosen]])
    world_to_camera = look_at(eyes, eyes + torch.from_numpy(views.direction[chosen]))
    cameras = Cameras(
        world_to_camera.float(), _intrinsics().expand(len(chosen), 3, 3).contiguous(), width=WIDTH, height=HEIGHT
    )
    return Viewpoints(cameras, inside is not None)


def _intrinsics() -> torch.Tensor:
    return intrinsics_from_fov(math.radians(_FOV_X_DEG), WIDTH, HEIGHT)


def _some(voxels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    return voxels if len(voxels) <= count else voxels[np.sort(rng.choice(len(voxels), count, replace=False))]


def _inside(grid: Occupancy, roomy: np.ndarray) -> np.ndarray | None:
    """Those of the ``roomy`` voxels that are inside, shape ``(X, Y, Z)``, bool; None when there are too few."""
    enclosed = roomy & (enclosure(grid.solid) >= _MIN_ENCLOSURE)
    at_least = max(_MIN_INSIDE[0], _MIN_INSIDE[1] * enclosed.size)
    inside = largest_region(enclosed)
    return inside if inside.sum() >= at_least else None


def _over_ground(grid: Occupancy) -> np.ndarray:
    """Voxels with something solid straight below, at most the height of a person down, ``(X, Y, Z)``, bool."""
    layers = np.arange(grid.solid.shape[2])
    below = np.maximum.accumulate(np.where(grid.solid, layers, -(1 << 20)), axis=2)
    return ~grid.solid & ((layers - below) * grid.voxel_size <= _MAX_EYE_HEIGHT_M)


def _views_within(grid: Occupancy, region: np.ndarray, clearance: np.ndarray, rng: np.random.Generator) -> _Views:
    """All directions from eyes spread over a region: one half as far apart as can be, one half drawn."""
    voxels = _some(np.argwhere(region), 6000, rng)
    roomiest = int(clearance[tuple(voxels.T)].argmax())
    spread = farthest_points(voxels.astype(np.float64), _NUM_EYES // 2, roomiest)
    drawn = rng.permutation(len(voxels))[: _NUM_EYES - len(spread)]
    eyes = grid.centres(voxels[np.unique(np.concatenate([spread, drawn]))])
    yaw, pitch = (np.deg2rad(a.ravel()) for a in np.meshgrid(_YAWS_DEG, _PITCHES_DEG, indexing="ij"))
    directions = np.stack([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)], -1)
    low, high = np.percentile(eyes[:, 2], (25, 85))
    middling = (eyes[:, 2] >= low) & (eyes[:, 2] <= high)
    is_level = np.abs(np.rad2deg(pitch)) <= 15
    return _Views(
        eyes=eyes,
        eye=np.repeat(np.arange(len(eyes)), len(directions)),
        direction=np.tile(directions, (len(eyes), 1)),
        level=(middling[:, None] & is_level).ravel(),
    )


def _views_around(grid: Occupancy, surfaces: np.ndarray) -> _Views:
    """From rings around what is solid to its middle and to points about it."""
    points = grid.centres(surfaces if len(surfaces) else np.array(grid.solid.shape)[None] / 2)
    low, high = np.percentile(points, (5, 95), axis=0)
    middle = (low + high) / 2
    radius = max(float(np.linalg.norm(high - low)) / 2, 2 * _CLEARANCE_M)
    yaw, pitch, far = (
        axis.ravel() for axis in np.meshgrid(_RING_YAWS_DEG, _RING_PITCHES_DEG, _RING_RADII, indexing="ij")
    )
    azimuth, elevation = np.deg2rad(yaw), np.deg2rad(pitch)
    outward = np.stack(
        [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)], -1
    )
    eyes = middle + outward * (far * (radius + 2 * _CLEARANCE_M))[:, None]
    nearest = np.array([np.linalg.norm(points - eye, axis=1).min() for eye in eyes])
    roomy = nearest >= _CLEARANCE_M + grid.voxel_size
    if not roomy.any():
        raise InputError("nowhere around the scene is room for a camera: it fills all space. Crop it, or check scale.")
    eyes, is_low = eyes[roomy], pitch[roomy] <= _RING_PITCHES_DEG[1]
    spans = (high - low) / 3 * np.array([1, 1, 0.5])
    steps = np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])[:_RING_TARGETS] * spans
    directions = (middle + steps)[None] - eyes[:, None]
    steepest = math.tan(math.radians(_MAX_PITCH_DEG))
    flat = np.maximum(np.linalg.norm(directions[..., :2], axis=-1), 1e-6)
    directions[..., 2] = np.clip(directions[..., 2], -steepest * flat, steepest * flat)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    return _Views(
        eyes=eyes,
        eye=np.repeat(np.arange(len(eyes)), len(steps)),
        direction=directions.reshape(-1, 3),
        level=np.repeat(is_low, len(steps)),
    )


def _coverage(grid: Occupancy, views: _Views, targets: np.ndarray, reach: float) -> np.ndarray:
    """Which view sees which target no farther than ``reach`` [m] away, shape ``(V, T)``, bool."""
    ways = targets[None] - views.eyes[:, None]
    clear = grid.open_ways(views.eyes, targets, _RAY_STEPS) & (np.linalg.norm(ways, axis=-1) <= reach)
    tan_x = math.tan(math.radians(_FOV_X_DEG) / 2)
    tan_y = tan_x * HEIGHT / WIDTH
    origin = torch.zeros(len(views.direction), 3, dtype=torch.float64)
    frames = look_at(origin, torch.from_numpy(views.direction)).numpy()[:, :3, :3]
    seen = np.empty((len(frames), len(targets)), bool)
    for index, (frame, eye) in enumerate(zip(frames, views.eye, strict=True)):
        x, y, z = frame @ ways[eye].T
        seen[index] = clear[eye] & (z > 0) & (np.abs(x) < tan_x * z) & (np.abs(y) < tan_y * z)
    return seen


def _most_seen(seen: np.ndarray, weights: np.ndarray, first_allowed: np.ndarray, count: int) -> np.ndarray:
    """Indices of the greedily chosen views; a tie goes to the lowest."""
    values = seen.astype(np.float32)
    worth = weights.astype(np.float32)
    left = np.ones(len(seen), bool)
    chosen: list[int] = []
    for number in range(min(count, len(seen))):
        allowed = left & first_allowed if number == 0 and first_allowed.any() else left
        best = int(np.where(allowed, np.einsum("vt,t->v", values, worth), -1).argmax())
        chosen.append(best)
        left[best] = False
        worth = np.where(seen[best], worth * np.float32(_SEEN_AGAIN), worth)
    return np.array(chosen)
