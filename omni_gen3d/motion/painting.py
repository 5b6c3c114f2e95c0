"""What a body looks like, straight from the film: its pixels, as far away as the body is.

A decoder spends few Gaussians on a thing that is in a place only for a while, and a network's depth bends what is thin
towards what lies behind it. Where the body is known, every pixel of it has its place.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial import ConvexHull

from omni_gen3d.geometry import pixel_rays, rgb_to_sh_dc
from omni_gen3d.motion.embodied import Body
from omni_gen3d.motion.film import Film
from omni_gen3d.types import Gaussians

# So many Gaussians at a time, at most about; their radius over the distance between pixels, and their opacity.
_MAX_GAUSSIANS, _RADIUS, _OPACITY = 1500, 0.55, 0.97
# A pixel whose ray passes the body this close is of it [m].
_BESIDE_M = 0.03


def painted(body: Body, outlines: np.ndarray, film: Film, time: int) -> Gaussians:
    """The side of a body that the film shows at a time, in the world; empty where it shows nothing of it.

    Every pixel lies where its depth says, but within the body.

    Args:
        body: In the film's world.
        outlines: Of it, shape ``(T, H, W)``, bool.
        film: With sightings.
        time: Index.
    """
    assert film.sightings is not None, "a body was sighted"
    inner = ndimage.binary_erosion(outlines[time])
    # The rim mixes with what lies behind; what is thin is nothing but rim.
    shown = inner if inner.sum() > outlines[time].sum() / 2 else outlines[time]
    step = max(1, int(np.ceil(np.sqrt(shown.sum() / _MAX_GAUSSIANS))))
    rows, columns = np.nonzero(shown[step // 2 :: step, step // 2 :: step])
    rows, columns = (step // 2 + step * index for index in (rows, columns))

    cameras = film.cameras[[time]]
    lens = cameras.intrinsics[0].double()
    turn = cameras.world_to_camera[0, :3, :3].double().numpy()
    eye = cameras.positions[0].double().numpy()
    rays = pixel_rays(lens, *outlines.shape[1:]).numpy()[rows, columns] @ turn
    depth = film.sightings.depth[time][rows, columns]
    inside, beside = _within(body, time, eye, rays, depth)
    good = beside < _BESIDE_M
    depth, rays = inside[good], rays[good]
    colors = film.pictures[time][rows[good], columns[good]] / 2 + 0.5
    count = len(depth)
    radius = torch.from_numpy(_RADIUS * step * depth / float(lens[0, 0])).float()
    quats = torch.zeros(count, 4)
    quats[:, 0] = 1.0
    return Gaussians(
        means=torch.from_numpy(eye + rays * depth[:, None]).float(),
        quats=quats,
        scales=radius[:, None].expand(-1, 3).contiguous(),
        opacities=torch.full((count,), _OPACITY),
        sh=rgb_to_sh_dc(torch.from_numpy(colors).float())[:, None],
    )


def _within(
    body: Body, time: int, eye: np.ndarray, rays: np.ndarray, depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Depths along rays ``(N, 3)`` brought into a body, and how far outside of it what is there still lies [m], each
    ``(N,)``."""
    sides = ConvexHull(body.corners).equations
    to_body = np.linalg.inv(body.to_world[time])
    origin = to_body[:3, :3] @ eye + to_body[:3, 3]
    slope, room = rays @ to_body[:3, :3].T @ sides[:, :3].T, -(sides[:, :3] @ origin + sides[:, 3])
    reach = room / np.where(np.abs(slope) < 1e-9, 1e-9, slope)
    enter = np.where(slope < 0, reach, -np.inf).max(1)
    leave = np.where(slope > 0, reach, np.inf).min(1)
    # A ray that just misses it goes to where it is nearest.
    inside = np.where(enter > leave, (enter + leave) / 2, np.clip(depth, enter, leave))
    return inside, np.where(inside > 0, (inside[:, None] * slope - room).max(1), np.inf)
