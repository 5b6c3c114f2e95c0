"""The cpu backend: prepares arrays for the numba kernels, one camera after the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import torch

from omni_gen3d.geometry import eval_sh
from omni_gen3d.render import kernels
from omni_gen3d.types import Cameras, Gaussians

# A splat is listed once for every tile it touches; a picture whose lists outgrow this is composited in parts.
MAX_LISTED = 1 << 26

# numba's fallback threading layer aborts the process when two threads enter a parallel kernel at once.
_one_at_a_time = threading.Lock()


def render_views(
    gaussians: Gaussians, cameras: Cameras, background: tuple[float, float, float], near: float, far: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Color ``(C, H, W, 3)``, expected depth, alpha and median depth ``(C, H, W)``; arguments as for ``render``."""
    device = gaussians.means.device
    gaussians, cameras = gaussians.to("cpu"), cameras.to("cpu")
    shape = (len(cameras), cameras.height, cameras.width)
    color = np.empty((*shape, 3), np.float32)
    depth, alpha, median_depth = (np.empty(shape, np.float32) for _ in range(3))
    with _one_at_a_time:
        for index, position in enumerate(cameras.positions):
            splats, visible = _visible_splats(gaussians, cameras, index, near, far)
            directions = gaussians.means[visible] - position.to(gaussians.means)
            paint = np.empty((len(visible), 4), np.float32)
            paint[:, :3] = eval_sh(gaussians.sh[visible], directions).clamp_min(0)
            paint[:, 3] = gaussians.opacities[visible]
            for first, starts, lists in _tile_lists(splats, cameras.width, cameras.height):
                kernels.composite(
                    splats,
                    paint,
                    -(-cameras.width // kernels.TILE),
                    first,
                    starts,
                    lists,
                    np.asarray(background, np.float32),
                    color[index],
                    depth[index],
                    alpha[index],
                    median_depth[index],
                )
    return (
        torch.from_numpy(color).to(device),
        torch.from_numpy(depth).to(device),
        torch.from_numpy(alpha).to(device),
        torch.from_numpy(median_depth).to(device),
    )


def _visible_splats(
    gaussians: Gaussians, cameras: Cameras, index: int, near: float, far: float
) -> tuple[np.ndarray, torch.Tensor]:
    """Projections of the Gaussians that camera ``index`` can see, nearest first, and which Gaussians they are."""
    splats = kernels.project(
        _float32(gaussians.means),
        _float32(gaussians.quats),
        _float32(gaussians.scales),
        _float32(gaussians.opacities),
        cameras.world_to_camera[index].contiguous().double().numpy(),
        cameras.intrinsics[index].contiguous().double().numpy(),
        cameras.width,
        cameras.height,
        near,
        far,
    )
    visible = np.flatnonzero(splats[:, kernels.DEPTH] > 0)
    visible = visible[np.argsort(splats[visible, kernels.DEPTH], kind="stable")]
    return splats[visible], torch.from_numpy(visible)


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


def _float32(tensor: torch.Tensor) -> np.ndarray:
    return tensor.float().contiguous().numpy()
