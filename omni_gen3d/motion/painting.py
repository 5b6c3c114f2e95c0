"""What moves, straight from the film: its pixels, as far away as it is.

A decoder spends few Gaussians on a thing that is in a place only for a while, and a network's depth bends what is thin
towards what lies behind it. Where the body is known, every pixel of it has its place; where it is not, a pixel near the
edge is as far away as the nearest one whose depth can be believed.
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
    pixels, step = _chosen(outlines[time])
    eye, rays = _rays(film, time)
    rays = rays[pixels]
    inside, beside = _within(body, time, eye, rays, film.sightings.depth[time][pixels])
    good = beside < _BESIDE_M
    rows, columns = pixels
    depth = inside[good]
    return _drawn(film, time, (rows[good], columns[good]), eye + rays[good] * depth[:, None], depth, step)


def as_filmed(film: Film, believed: np.ndarray, time: int) -> tuple[Gaussians, np.ndarray]:
    """All that moves at a time, in the world, and the number of each Gaussian's thing, ``(N,)``.

    Args:
        film: With numbers of things, and sightings.
        believed: Those numbers where the depth can be believed, else 0, shape ``(T, H, W)``; a thing that has none is
            left out.
        time: Index.
    """
    assert film.shown is not None and film.sightings is not None, "things and their depth are known"
    eye, rays = _rays(film, time)
    nothing = np.zeros(0, np.int16)
    drawn, numbers = [_drawn(film, time, (nothing, nothing), np.zeros((0, 3)), nothing, 1)], [nothing]
    for number in np.unique(believed[time][believed[time] > 0]):
        pixels, step = _chosen(film.shown[time] == number)
        nearest = np.asarray(
            ndimage.distance_transform_edt(believed[time] != number, return_distances=False, return_indices=True)
        )
        row, column = (index[pixels] for index in nearest)
        depth = film.sightings.depth[time][row, column]
        drawn.append(_drawn(film, time, pixels, eye + rays[pixels] * depth[:, None], depth, step))
        numbers.append(np.full(len(drawn[-1]), number, np.int16))
    return Gaussians.joined(drawn), np.concatenate(numbers)


def _chosen(outline: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], int]:
    """Rows and columns of pixels in an outline ``(H, W)`` that are drawn, and their distance from each other."""
    inner = ndimage.binary_erosion(outline)
    # The rim mixes with what lies behind; what is thin is nothing but rim.
    shown = inner if inner.sum() > outline.sum() / 2 else outline
    step = max(1, int(np.ceil(np.sqrt(shown.sum() / _MAX_GAUSSIANS))))
    rows, columns = np.nonzero(shown[step // 2 :: step, step // 2 :: step])
    return (step // 2 + step * rows, step // 2 + step * columns), step


def _rays(film: Film, time: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the camera was, and the rays of all pixels from there for a depth of one, ``(H, W, 3)``, in the world."""
    cameras = film.cameras[[time]]
    turn = cameras.world_to_camera[0, :3, :3].double().numpy()
    rays = pixel_rays(cameras.intrinsics[0].double(), *film.pictures.shape[1:3]).numpy()
    return cameras.positions[0].double().numpy(), rays @ turn


def _drawn(
    film: Film, time: int, pixels: tuple[np.ndarray, np.ndarray], places: np.ndarray, depth: np.ndarray, step: int
) -> Gaussians:
    """Gaussians of N pixels that are ``step`` apart, at places ``(N, 3)`` in the world and depths ``(N,)``."""
    count = len(depth)
    colors = film.pictures[time][pixels] / 2 + 0.5
    radius = torch.from_numpy(_RADIUS * step * depth / float(film.cameras.intrinsics[time, 0, 0])).float()
    quats = torch.zeros(count, 4)
    quats[:, 0] = 1.0
    return Gaussians(
        means=torch.from_numpy(places).float(),
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
