"""The cpu backend: prepares arrays for the numba kernels, one camera after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from omni_gen3d.render import kernels, threads
from omni_gen3d.render.detail import SMALLEST_HALF, GroupedSplats
from omni_gen3d.render.halves import FLOATS
from omni_gen3d.render.harmonics import paint_splats
from omni_gen3d.types import Cameras, Gaussians

# A splat is listed once for every tile it touches; a picture whose lists outgrow this is composited in parts.
MAX_LISTED = 1 << 26


@dataclass(frozen=True)
class View:
    """One camera.

    Attributes:
        world_to_camera: OpenCV, shape ``(4, 4)``, float64.
        intrinsics: [pixels], shape ``(3, 3)``, float64.
        width: [pixels].
        height: [pixels].
        near: Depth from which on things are seen [m].
        far: Depth up to which [m].
    """

    world_to_camera: np.ndarray
    intrinsics: np.ndarray
    width: int
    height: int
    near: float
    far: float


@dataclass(frozen=True)
class Groups:
    """Groups of a set and their levels, see ``detail.GroupedSplats``."""

    centres: np.ndarray
    radii: np.ndarray
    reaches: np.ndarray
    first: np.ndarray
    count: np.ndarray
    size: np.ndarray


@dataclass(frozen=True)
class SplatArrays:
    """Gaussians as the kernels want them: contiguous, as in ``types.Gaussians``.

    Attributes:
        means: float32.
        quats: float32, or the bits of halves as uint16; so are ``scales``, ``opacities`` and ``sh``.
        groups: Where they are and at which levels of detail; None draws every one.
    """

    means: np.ndarray
    quats: np.ndarray
    scales: np.ndarray
    opacities: np.ndarray
    sh: np.ndarray
    groups: Groups | None = None

    @staticmethod
    def of(gaussians: Gaussians) -> SplatArrays:
        """Arrays of a set; they share its memory where it is float32 on a CPU."""
        fields = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.sh)
        means, quats, scales, opacities, sh = (_array(tensor.detach().cpu().float()) for tensor in fields)
        return SplatArrays(means, quats, scales, opacities, sh)

    @staticmethod
    def grouped(grouped: GroupedSplats) -> SplatArrays:
        """A set with its levels of detail; all but where the centres are is halved."""
        splats = grouped.gaussians
        halves = (splats.quats, splats.scales.clamp(SMALLEST_HALF, 60_000), splats.opacities, splats.sh)
        quats, scales, opacities, sh = (_array(tensor.half()).view(np.uint16) for tensor in halves)
        groups = Groups(
            _array(grouped.centres),
            _array(grouped.radii),
            # Halves may stray from where the bounds were taken by their last digit.
            _array(1.001 * grouped.reaches),
            _array(grouped.first),
            _array(grouped.count),
            _array(grouped.size),
        )
        return SplatArrays(_array(splats.means.float()), quats, scales, opacities, sh, groups)

    @property
    def nbytes(self) -> int:
        arrays = [self.means, self.quats, self.scales, self.opacities, self.sh]
        return sum(array.nbytes for array in [*arrays, *(vars(self.groups).values() if self.groups else ())])


@dataclass(frozen=True)
class PlacedSplats:
    """A set of Gaussians in a world.

    Attributes:
        splats: The set, in a frame of its own.
        to_world: From that frame, any invertible affine map; colours turn with it, shape ``(4, 4)``, float64.
        gain: Factors on red, green and blue.
    """

    splats: SplatArrays
    to_world: np.ndarray
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class SplatPicture:
    """What one camera sees of the splats.

    Attributes:
        color: RGB over what is behind, shape ``(H, W, 3)``, float32.
        depth: Expected depth [m], 0 where no splat is, shape ``(H, W)``, float32.
        alpha: Coverage by splats, shape ``(H, W)``, float32.
        median_depth: Depth of the splat that takes a ray past half its coverage, 0 where none does, ``(H, W)``.
        owner: Which placed set that splat belongs to, -1 where there is none, shape ``(H, W)``, int32.
        index: Which Gaussian of the set it is, -1 where there is none, shape ``(H, W)``, int32.
    """

    color: np.ndarray
    depth: np.ndarray
    alpha: np.ndarray
    median_depth: np.ndarray
    owner: np.ndarray
    index: np.ndarray


def render_views(
    gaussians: Gaussians, cameras: Cameras, background: tuple[float, float, float], near: float, far: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Color ``(C, H, W, 3)``, expected depth, alpha and median depth ``(C, H, W)``; arguments as for ``render``."""
    pictures = _draw_alone(gaussians, cameras, background, near, far)
    color, depth, alpha, median_depth = (
        torch.from_numpy(np.stack([getattr(picture, channel) for picture in pictures])).to(gaussians.means.device)
        for channel in ("color", "depth", "alpha", "median_depth")
    )
    return color, depth, alpha, median_depth


def render_surface(
    gaussians: Gaussians, cameras: Cameras, near: float, far: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Coverage, and centre's depth and index of the Gaussian that takes each ray past half its coverage, on the CPU.

    Depth 0 and index -1 where none does, all of shape ``(C, H, W)``; arguments as for ``render``.
    """
    pictures = _draw_alone(gaussians, cameras, (0.0, 0.0, 0.0), near, far)
    alpha, depth, index = (
        torch.from_numpy(np.stack([getattr(picture, channel) for picture in pictures]))
        for channel in ("alpha", "median_depth", "index")
    )
    return alpha, depth, index.long()


def _draw_alone(
    gaussians: Gaussians, cameras: Cameras, background: tuple[float, float, float], near: float, far: float
) -> list[SplatPicture]:
    placed = [PlacedSplats(SplatArrays.of(gaussians), np.eye(4))]
    width, height = cameras.width, cameras.height
    behind = np.empty((height, width, 3), np.float32)
    behind[:] = background
    stop = np.full((height, width), np.inf, np.float32)
    poses, lenses = (tensor.double().cpu().numpy() for tensor in (cameras.world_to_camera, cameras.intrinsics))
    views = [View(pose, lens, width, height, near, far) for pose, lens in zip(poses, lenses, strict=True)]
    return threads.side_by_side([partial(draw_splats, placed, view, behind, stop) for view in views])


def draw_splats(
    placed: Sequence[PlacedSplats], view: View, behind: np.ndarray, stop: np.ndarray, detail: float = 0.0
) -> SplatPicture:
    """Composite all splats that one camera sees, front to back.

    Args:
        placed: The sets.
        view: The camera.
        behind: Colour of what is behind the splats, shape ``(H, W, 3)``, float32.
        stop: Depth of what is behind the splats and hides what is farther [m], shape ``(H, W)``, float32.
        detail: Splats of a set with groups that are closer together than this are drawn as one [pixels].
    """
    with threads.kernels():
        splats, paint, owners, which = _seen(placed, view, detail)
        shape = (view.height, view.width)
        color = np.empty((*shape, 3), np.float32)
        depth, alpha = np.empty(shape, np.float32), np.empty(shape, np.float32)
        surface = np.empty(shape, np.int32)
        tiles_x = -(-view.width // kernels.TILE)
        for first, starts, lists in _tile_lists(splats, view.width, view.height):
            kernels.composite(splats, paint, tiles_x, first, starts, lists, behind, stop, color, depth, alpha, surface)
    nothing = surface < 0
    # One row behind the last, which -1 picks.
    return SplatPicture(
        color=color,
        depth=depth,
        alpha=alpha,
        median_depth=np.where(nothing, 0, np.append(splats[:, kernels.DEPTH], 0).astype(np.float32)[surface]),
        owner=np.append(owners, np.int32(-1))[surface],
        index=np.append(which, np.int32(-1))[surface],
    )


def _seen(
    placed: Sequence[PlacedSplats], view: View, detail: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Projections of what the camera sees, nearest first; paint, set and number of each."""
    tables, paints, owners, numbers = [np.empty((0, kernels.COLUMNS))], [], [], []
    for owner, item in enumerate(placed):
        splats = item.splats
        to_camera = np.ascontiguousarray(view.world_to_camera @ item.to_world)
        intrinsics, size = np.ascontiguousarray(view.intrinsics), (view.width, view.height)
        at = splats.groups
        if at is None:
            chosen = np.arange(len(splats.means), dtype=np.int32)
        else:
            stretch, bounds = np.linalg.norm(item.to_world[:3, :3], 2), (at.centres, at.radii, at.reaches)
            levels, lens = (at.first, at.count, at.size), (intrinsics, *size, view.near, view.far)
            chosen = kernels.choose(*bounds, *levels, to_camera, stretch, *lens, float(detail))
        shapes = (splats.means, splats.quats, splats.scales, splats.opacities)
        table, which = kernels.project(*shapes, FLOATS, chosen, to_camera, intrinsics, *size, view.near, view.far)
        paint = np.empty((len(which), 4), np.float32)
        position = np.linalg.solve(to_camera[:3, :3], -to_camera[:3, 3])
        gain = np.array(item.gain, np.float64)
        paint_splats(splats.means, splats.sh, splats.opacities, FLOATS, which, position, gain, paint)
        tables.append(table)
        paints.append(paint)
        owners.append(np.full(len(which), owner, np.int32))
        numbers.append(which)
    rows = tables[1] if len(tables) == 2 else np.concatenate(tables)
    order = (np.sort(kernels.depth_keys(rows)) & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return (
        kernels.take_rows(rows, order),
        _joined(paints, np.empty((0, 4), np.float32))[order],
        _joined(owners, np.empty(0, np.int32))[order],
        _joined(numbers, np.empty(0, np.int32))[order],
    )


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.contiguous().numpy()


def _joined(parts: list[np.ndarray], empty: np.ndarray) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate([empty, *parts])


def _tile_lists(splats: np.ndarray, width: int, height: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Runs of tiles that together cover the picture: first tile, where each tile's list starts, and the lists."""
    tiles_x, tiles_y = -(-width // kernels.TILE), -(-height // kernels.TILE)
    counts = kernels.count_per_tile(splats, tiles_x, tiles_y)
    ends = np.cumsum(counts.sum(0))
    first = 0
    while first < len(ends):
        done = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + MAX_LISTED, side="right")))
        parts, tiles = counts[:, first:last].shape
        starts = np.zeros(parts * tiles + 1, np.int64)
        np.cumsum(counts[:, first:last].T.ravel(), out=starts[1:])
        starts_of_parts = np.ascontiguousarray(starts[:-1].reshape(tiles, parts).T)
        lists = kernels.list_per_tile(splats, tiles_x, tiles_y, first, starts_of_parts, starts[-1])
        yield first, starts[::parts].copy(), lists
        first = last
