"""A rigid body out of what was seen of it at several times: its Gaussians, and where its frame is at each time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation, Slerp

from omni_gen3d.geometry import transform_gaussians
from omni_gen3d.types import Gaussians, MovingPart, TriMesh

# A Gaussian of another time joins the body where nothing is within this many links, if that many times agree.
_MIN_WITNESSES = 3


def moved_onto(seen: dict[int, Gaussians], onto: dict[int, np.ndarray]) -> dict[int, Gaussians]:
    """What was seen at the times of which the motion is known, where it is at the reference time."""
    return {
        time: transform_gaussians(seen[time], torch.from_numpy(matrix[:3, :3]), torch.from_numpy(matrix[:3, 3]))
        for time, matrix in sorted(onto.items())
    }


def body_of(moved: dict[int, Gaussians], reference: int, link: float) -> Gaussians:
    """The Gaussians of the reference time, and of others where it shows nothing and enough of them agree."""
    trees = {time: KDTree(gaussians.means.numpy()) for time, gaussians in moved.items()}
    kept = [moved[reference]]
    covered = moved[reference].means.numpy()
    for time in sorted(moved, key=lambda time: abs(time - reference)):
        if time == reference:
            continue
        points = moved[time].means.numpy()
        far = KDTree(covered).query(points)[0] > link
        if not far.any():
            continue
        witnesses = sum((tree.query(points)[0] <= link).astype(int) for tree in trees.values())
        new = np.flatnonzero(far & (witnesses >= _MIN_WITNESSES))
        if len(new):
            kept.append(moved[time][torch.from_numpy(new)])
            covered = np.concatenate([covered, points[new]])
    return Gaussians.joined(kept)


def part_of(
    name: str, body: Gaussians, hulls: tuple[TriMesh, ...], onto: dict[int, np.ndarray], num_times: int
) -> MovingPart:
    """A part of Gaussians and hulls that are where they are at the reference time, in a frame in their middle."""
    times = sorted(onto)
    centre = (body.means.amin(0) + body.means.amax(0)).double().numpy() / 2
    to_world = _at_every_time({time: np.linalg.inv(matrix) for time, matrix in onto.items()}, num_times, centre)
    present = np.zeros(num_times, np.bool_)
    present[times[0] : times[-1] + 1] = True
    gaussians = transform_gaussians(body, torch.eye(3), torch.from_numpy(-centre).float())
    own = tuple(replace(hull, vertices=(hull.vertices - centre).astype(np.float32)) for hull in hulls)
    return MovingPart(name, gaussians, to_world, present, own)


def _at_every_time(to_world: dict[int, np.ndarray], num_times: int, centre: np.ndarray) -> np.ndarray:
    """Matrices from the part's frame, whose origin is ``centre`` at the reference time, at every time.

    Between two times at which the part was seen it moves evenly; before and after it stays.
    """
    times = sorted(to_world)
    turns = Rotation.from_matrix(np.stack([to_world[time][:3, :3] for time in times]))
    origins = np.stack([to_world[time][:3, :3] @ centre + to_world[time][:3, 3] for time in times])
    every = np.clip(np.arange(num_times), times[0], times[-1])
    matrices = np.tile(np.eye(4), (num_times, 1, 1))
    matrices[:, :3, :3] = Slerp(times, turns)(every).as_matrix()
    matrices[:, :3, 3] = np.stack([np.interp(every, times, origins[:, axis]) for axis in range(3)], 1)
    return matrices


def points_of(gaussians: Gaussians) -> np.ndarray:
    return gaussians.means.numpy().astype(np.float64)
