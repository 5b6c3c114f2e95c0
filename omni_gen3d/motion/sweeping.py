"""Where moving parts pass nothing stands, and no robot starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from omni_gen3d.mesh.convex import in_hull
from omni_gen3d.types import CollisionProxy, Gaussians, MovingPart, SpawnPose

# So far inside of a part no floor is mistaken for what it drives through; what is higher over the floor than that, is
# in its way if it is no farther outside [m]: a body is carved a little too small.
_DEEP_M = 0.05
# What the film shows standing so often while no part is there was there before it.
_MIN_WITNESSES = 3


def clear_way(static: Gaussians, parts: Sequence[MovingPart], witnessed: np.ndarray | None = None) -> Gaussians:
    """What stands still, without what a part would drive through.

    The end of a way that leads away from the camera is hidden by what moves there, or shown with the same colours all
    along: no picture tells that it is empty, and a decoder leaves a copy of the thing there. The way itself tells. But
    what is seen while the part is elsewhere, stays: then the collider is too large, as that of an arm must be.

    Args:
        static: In the world.
        parts: In the same world.
        witnessed: See ``Split``; of the first T times.
    """
    if not parts:
        return static
    points = static.means.numpy().astype(np.float64)
    above = points[:, 2] > _DEEP_M
    inside = np.zeros((len(parts[0].to_world), len(points)), np.bool_)
    for part in parts:
        for time in np.flatnonzero(part.present):
            matrix = part.to_world[time]
            local = (points - matrix[:3, 3]) @ matrix[:3, :3]
            for hull in part.hulls:
                inside[time] |= in_hull(hull, local, _DEEP_M) | (above & in_hull(hull, local, -_DEEP_M))
    clear = ~inside.any(0)
    if witnessed is not None:
        clear |= (witnessed & ~inside[: len(witnessed)]).sum(0) >= _MIN_WITNESSES
    return static if clear.all() else static[torch.from_numpy(np.flatnonzero(clear))]


def clear_spawn_poses(proxy: CollisionProxy, parts: Sequence[MovingPart], robot_radius: float) -> CollisionProxy:
    """The proxy without the spawn poses that a part comes nearer than the robot's radius to, at any time.

    Args:
        proxy: Of what stands still.
        parts: In the same world.
        robot_radius: [m].
    """
    boxes = [box for part in parts for box in _boxes(part)]
    kept = tuple(pose for pose in proxy.spawn_poses if all(_distance(pose, *box) > robot_radius for box in boxes))
    if len(kept) == len(proxy.spawn_poses):
        return proxy
    return replace(proxy, spawn_poses=kept, scores={**proxy.scores, "num_spawn_poses": len(kept)})


def _boxes(part: MovingPart) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rectangles on the floor around the part, at each time and on to the next: low and high corners ``(2,)``."""
    if not part.hulls:
        return []
    corners = np.concatenate([hull.vertices for hull in part.hulls])
    placed = [corners @ matrix[:3, :3].T + matrix[:3, 3] for matrix in part.to_world[part.present]]
    pairs = zip(placed, [*placed[1:], placed[-1]], strict=True)
    return [(both.min(0)[:2], both.max(0)[:2]) for both in (np.concatenate(pair) for pair in pairs)]


def _distance(pose: SpawnPose, low: np.ndarray, high: np.ndarray) -> float:
    """From a pose to a rectangle on the floor [m]."""
    place = np.array(pose.position[:2])
    return float(np.linalg.norm(np.maximum(np.maximum(low - place, place - high), 0)))
