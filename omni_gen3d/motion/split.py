"""Which Gaussians of a sequence stand still, and which are somewhere only for a while.

A decoder draws every time anew, so that even a wall differs a little from time to time, while a thing that moves is
often drawn by Gaussians that fade in and out where it passes. How much a Gaussian changes therefore does not tell. What
tells is the scene itself: a place is left when cameras see through it, to something farther away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from omni_gen3d.mesh.sampling import spread_cameras
from omni_gen3d.motion.film import Film
from omni_gen3d.motion.painting import as_filmed
from omni_gen3d.motion.placing import believed_things
from omni_gen3d.motion.sighted import bodies_shown, pixels_shown
from omni_gen3d.motion.sightings import Sightings
from omni_gen3d.motion.silhouettes import OTHER_COLOR, silhouettes
from omni_gen3d.render import render
from omni_gen3d.render.threads import side_by_side
from omni_gen3d.types import Cameras, Gaussians, GaussianSequence

# Cameras that vote on what is seen through.
_NUM_VIEWS = 5
# A place is seen through when what is seen lies farther away by this, or by this share of its depth.
_MARGIN_M, _MARGIN_SHARE = 0.08, 0.04
# Below this opacity a Gaussian is not there; below this share of its own largest it has faded.
_MIN_OPACITY, _FADED_SHARE = 0.1, 0.5
# Times at which a place must be seen through, as a share of all, before it counts as left.
_LEFT_SHARE = 0.12
# A Gaussian has a place where it stands still at this share of the times at which it is there, and of all times.
_AT_REST_SHARE, _LASTING_SHARE = 0.5, 0.3


@dataclass(frozen=True)
class Split:
    """A sequence apart.

    Attributes:
        static: What stands still, each attribute the median over the times at which it does.
        moving: What is somewhere only for a while, one set a time; a set may be empty. Straight from the film where
            its depth is known.
        things: Of each of those the number of the thing that the film shows there, 0 where it shows none, each
            ``(N,)``; None where the camera moved, or nothing was filmed.
        film: What was filmed; None where nothing was.
        witnessed: At which times the film shows each Gaussian of ``static`` standing where it stands, ``(T, N)``, bool;
            None where ``things`` is.
    """

    static: Gaussians
    moving: tuple[Gaussians, ...]
    things: tuple[np.ndarray, ...] | None = None
    film: Film | None = None
    witnessed: np.ndarray | None = None


@torch.no_grad()
def split_sequence(
    sequence: GaussianSequence,
    cameras: Cameras,
    film: torch.Tensor | None = None,
    filmed_by: Cameras | None = None,
    sightings: Sightings | None = None,
) -> Split:
    """Take a sequence apart.

    Args:
        sequence: Metric, the same Gaussians in the same order at every time; what is not there is transparent.
        cameras: Cameras that stand in the scene at every time; the first is always asked.
        film: What was filmed at each time, in [-1, 1], shape ``(3, T, H, W)``. Where its picture stays, a depth that
            wavers moves nothing.
        filmed_by: The camera that filmed, one for each time; None where the first of ``cameras`` filmed all along.
        sightings: Of bodies in that film, in the world of the sequence; then these are things of their own.
    """
    frames = sequence.frames
    means = torch.stack([frame.means for frame in frames])
    opacities = torch.stack([frame.opacities for frame in frames])
    alive = (opacities >= _MIN_OPACITY) & (opacities >= _FADED_SHARE * opacities.amax(0))
    varies = _varies(means, opacities, alive, cameras)
    chosen = torch.nonzero(varies).ravel()
    moving = torch.zeros_like(alive)
    views = spread_cameras(cameras, _NUM_VIEWS)
    filmed = None
    if film is not None:
        filmed = Film.of_frames(film, views[[0] * len(frames)] if filmed_by is None else filmed_by)
    still = filmed is not None and filmed_by is None
    depths = np.zeros(0)
    if len(chosen) or still:
        depths = np.stack(side_by_side([partial(_depth_maps, frame, views) for frame in frames]))
    if len(chosen):
        moving[:, chosen] = _moving(means[:, chosen], alive[:, chosen], depths, views, filmed)
    things = shown = None
    if filmed is not None and still:
        shown = silhouettes(filmed.pictures, depths[:, 0])
        if sightings is not None:
            shown = pixels_shown(shown, bodies_shown(sightings))
        filmed = replace(filmed, shown=shown, sightings=sightings)
        things = _things(frames, alive, filmed, depths[:, 0], believed_things(shown, depths[:, 0], filmed))
        moving |= things > 0

    at_rest = alive & ~moving
    has_place = at_rest.sum(0) >= (_AT_REST_SHARE * alive.sum(0)).clamp(min=_LASTING_SHARE * len(frames))
    # What is there for a short time only and nowhere at rest belongs to what moves beside it.
    moving |= alive & ~has_place
    static = _median(frames, at_rest, torch.nonzero(has_place).ravel())
    if filmed is not None and shown is not None and filmed.sightings is not None:
        believed = believed_things(shown, filmed.sightings.depth, filmed)
        left, numbers = zip(*(as_filmed(filmed, believed, time) for time in range(len(filmed))), strict=True)
    else:
        left = tuple(frame[torch.nonzero(which).ravel()] for frame, which in zip(frames, moving, strict=True))
        numbers = None
        if things is not None:
            numbers = tuple(one[which].numpy() for one, which in zip(things, moving, strict=True))
    return Split(
        static,
        left,
        numbers,
        filmed,
        None if filmed is None or shown is None else _witnessed(static.means, filmed, depths[:, 0], shown),
    )


def _things(
    frames: tuple[Gaussians, ...], alive: torch.Tensor, film: Film, depth: np.ndarray, believed: np.ndarray
) -> torch.Tensor:
    """The number of each Gaussian's thing, 0 for none, ``(T, N)``."""
    numbers = torch.from_numpy(believed)
    found = torch.zeros(alive.shape, dtype=torch.int16)
    for time, frame in enumerate(frames):
        z, row, column, inside = (part[0, 0] for part in _seen(frame.means[None], film.cameras[[time]]))
        seen = torch.from_numpy(depth[time])[row, column]
        there = inside & alive[time] & (z < seen + _margin(z)) & (numbers[time][row, column] > 0)
        found[time] = torch.where(there, numbers[time][row, column], found[time])
    return found


def _witnessed(points: torch.Tensor, film: Film, depth: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """At which times points ``(N, 3)`` are what the film shows, and nothing that moves is, ``(T, N)``."""
    times = []
    for time in range(len(film)):
        z, row, column, inside = (part[0, 0] for part in _seen(points[None], film.cameras[[time]]))
        off = (torch.from_numpy(depth[time])[row, column] - z).abs()
        times.append(inside & (off < _margin(z)) & (torch.from_numpy(shown[time])[row, column] == 0))
    return torch.stack(times).numpy()


def _margin(depth: torch.Tensor) -> torch.Tensor:
    return (_MARGIN_SHARE * depth).clamp(min=_MARGIN_M)


def _varies(means: torch.Tensor, opacities: torch.Tensor, alive: torch.Tensor, cameras: Cameras) -> torch.Tensor:
    """Whether a Gaussian fades, or strays by more than half a margin, shape ``(N,)``."""
    hidden = torch.where(alive[..., None], means, torch.nan)
    middle = hidden.nanmedian(0).values
    strays = torch.nan_to_num((hidden - middle).norm(dim=-1)).amax(0)
    distance = torch.nan_to_num((middle - cameras.positions[0]).norm(dim=-1))
    fades = alive.any(0) & ~alive.all(0)
    return fades | (strays > 0.5 * _margin(distance)) & (opacities.amax(0) >= _MIN_OPACITY)


def _depth_maps(frame: Gaussians, views: Cameras) -> np.ndarray:
    """The depth of each pixel [m], 0 where little is, shape ``(C, H, W)``."""
    seen = render(frame, views, backend="cpu")
    assert seen.median_depth is not None, "the cpu backend computes median depth"
    return np.where(seen.alpha.numpy() >= 0.5, seen.median_depth.numpy(), 0.0).astype(np.float32)


def _moving(
    means: torch.Tensor,
    alive: torch.Tensor,
    depths: np.ndarray,
    views: Cameras,
    film: Film | None,
) -> torch.Tensor:
    """At which times each Gaussian is where it does not stay, ``(T, N)``.

    It is so at time t when at enough other times it is gone from its place at t, that place is seen through, and the
    film, where it shows the place, shows something else there.
    """
    num_times = len(means)
    # At an edge a place would be seen through by a pixel's breadth: the nearest depth around each pixel counts.
    maps = torch.from_numpy(ndimage.minimum_filter(depths, size=(1, 1, 3, 3)))
    needed = max(1.0, _LEFT_SHARE * num_times)
    z, row, column, inside = _seen(means, views)
    camera = torch.arange(len(views))[None, :, None].expand_as(z)
    left = torch.zeros_like(alive, dtype=torch.long)
    pictures = None if film is None else _Pictures(film, means)
    for other in range(num_times):
        seen = maps[other][camera, row, column]
        through = inside & (seen > z + _margin(z))
        blocked = inside & (seen > 0) & ~through
        votes = through.sum(1) > blocked.sum(1)
        reach = _margin((means[other] - views.positions[0]).norm(dim=-1))
        gone = ~alive[other] | ((means - means[other]).norm(dim=-1) > reach)
        if pictures is not None:
            gone &= pictures.differ(other)
        left += votes & gone
    return alive & (left >= needed)


class _Pictures:
    """What the film shows where each Gaussian is at each time, and at any other time in the same place."""

    def __init__(self, film: Film, means: torch.Tensor) -> None:
        self._smooth = F.avg_pool2d(torch.from_numpy(film.pictures).permute(0, 3, 1, 2), 3, 1, 1).permute(0, 2, 3, 1)
        self._means, self._filmed_by = means, film.cameras
        shown = [self._at(time, means[time : time + 1]) for time in range(len(means))]
        self._shown, self._inside = (torch.cat(parts) for parts in zip(*shown, strict=True))

    def differ(self, other: int) -> torch.Tensor:
        """Where the film of another time shows something else, or either time nothing, ``(T, N)``."""
        there, inside = self._at(other, self._means)
        return ~(self._inside & inside) | ((there - self._shown).abs().amax(-1) > OTHER_COLOR)

    def _at(self, time: int, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Colours of points ``(S, N, 3)`` in the picture of one time, and whether they lie in it."""
        _, row, column, inside = _seen(points, self._filmed_by[[time]])
        return self._smooth[time][row[:, 0], column[:, 0]], inside[:, 0]


def _seen(points: torch.Tensor, views: Cameras) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Depths, rows, columns of points ``(T, N, 3)``, and whether they lie in the picture, each ``(T, C, N)``."""
    rotation, shift = views.world_to_camera[:, :3, :3], views.world_to_camera[:, :3, 3]
    local = torch.einsum("cij,tnj->tcni", rotation, points) + shift[:, None]
    z = local[..., 2]
    pixels = torch.einsum("cij,tcnj->tcni", views.intrinsics, local / z.clamp(min=1e-6)[..., None])[..., :2]
    inside = (z > 0.05) & (pixels >= 0).all(-1) & (pixels[..., 0] < views.width) & (pixels[..., 1] < views.height)
    column, row = (
        pixels[..., k].nan_to_num().clamp(0, size - 1).long() for k, size in ((0, views.width), (1, views.height))
    )
    return z, row, column, inside


def _median(frames: tuple[Gaussians, ...], counts: torch.Tensor, chosen: torch.Tensor) -> Gaussians:
    """Medians of the chosen Gaussians over the times that count, ``(T, N)``; quaternions are averaged."""
    mask = counts[:, chosen]

    def median(name: str) -> torch.Tensor:
        values = torch.stack([getattr(frame, name)[chosen] for frame in frames])
        shaped = mask.reshape(*mask.shape, *[1] * (values.ndim - 2))
        return torch.where(shaped, values, torch.nan).nanmedian(0).values

    quats = torch.stack([frame.quats[chosen] for frame in frames])
    first = mask.float().argmax(0)
    reference = quats[first, torch.arange(len(chosen))]
    sign = torch.sign((quats * reference).sum(-1, keepdim=True))
    mean = (quats * sign * mask[..., None]).sum(0)
    # Opposite turns may cancel out; then the first one is as good as any.
    mean = torch.where(mean.norm(dim=-1, keepdim=True) > 1e-3, mean, reference)
    return Gaussians(
        means=median("means"),
        quats=F.normalize(mean, dim=-1),
        scales=median("scales"),
        opacities=median("opacities"),
        sh=median("sh"),
    )
