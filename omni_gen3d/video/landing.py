"""Where the pixels of a warped frame land: what each adds to the four pixels around the place, on a CPU and on a GPU.

Both add corner by corner and pixel by pixel; what is written for a GPU comes to the same bytes on a CPU.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numba
import numpy as np
import torch

# Sums of a pixel: weighted colour 3 and depth 1, weight 1, bilinear coverage alone 1.
SUMS = 6


@dataclass(frozen=True)
class Landing:
    """Every pixel of B frames as F cameras each see it.

    Attributes:
        rgb: Shape ``(B, 3, H, W)``, float32.
        column, row: Of the place, in pixels from the centre of the first, shape ``(B, F, H W)``, float32.
        depth: Along z of the camera, likewise.
        nearness: How much it counts, likewise.
        shown: Which count at all, likewise, bool.
    """

    rgb: torch.Tensor
    column: torch.Tensor
    row: torch.Tensor
    depth: torch.Tensor
    nearness: torch.Tensor
    shown: torch.Tensor

    def sums(self) -> torch.Tensor:
        """``SUMS`` over what falls on each pixel, shape ``(B, F, H, W, 6)``, float32."""
        return (self._sums_on_gpu if self.rgb.is_cuda else self._sums_on_cpu)()

    def _sums_on_gpu(self) -> torch.Tensor:
        batch, _, height, width = self.rgb.shape
        pixels = height * width
        reaching = (self.column > -1) & (self.column < width) & (self.row > -1) & (self.row < height) & self.shown
        # A GPU that is to be deterministic adds one after the other what falls on the same pixel: what falls on none
        # must not be heaped on one with a weight of zero.
        at = reaching.reshape(-1).nonzero()[:, 0]
        u, v, z, nearness = (x.reshape(-1)[at] for x in (self.column, self.row, self.depth, self.nearness))
        image = at // pixels
        colour = self.rgb.reshape(batch, 3, pixels).transpose(1, 2).reshape(-1, 3)
        source = torch.cat([colour[image // self.depth.shape[1] * pixels + at % pixels], z[:, None]], dim=-1)
        sums = self.rgb.new_zeros(self.depth.numel(), SUMS)
        left, top = u.floor(), v.floor()
        for corner_x in (left, left + 1):
            for corner_y in (top, top + 1):
                inside = (corner_x >= 0) & (corner_x < width) & (corner_y >= 0) & (corner_y < height)
                coverage = torch.where(inside, (1 - (u - corner_x).abs()) * (1 - (v - corner_y).abs()), 0.0)
                weight = (coverage * nearness)[:, None]
                values = torch.cat([source * weight, weight, coverage[:, None]], dim=-1)
                column, row = corner_x.clamp(0, width - 1).long(), corner_y.clamp(0, height - 1).long()
                sums.index_add_(0, image * pixels + row * width + column, values)
        return sums.reshape(batch, -1, height, width, SUMS)

    def _sums_on_cpu(self) -> torch.Tensor:
        batch, _, height, width = self.rgb.shape
        frames = self.depth.shape[1]
        sums = torch.zeros(batch * frames, height * width, SUMS)
        fields = (self.column, self.row, self.depth, self.nearness, self.shown)
        arrays = [x.expand_as(self.depth).flatten(0, 1).contiguous().numpy() for x in fields]
        colours = self.rgb.flatten(2).contiguous().numpy()
        land = partial(_land, colours, *arrays, width, frames, sums.numpy())
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(land, range(len(sums))))
        return sums.reshape(batch, frames, height, width, SUMS)


@numba.njit(nogil=True, cache=True)
def _land(
    rgb: np.ndarray,
    column: np.ndarray,
    row: np.ndarray,
    depth: np.ndarray,
    nearness: np.ndarray,
    shown: np.ndarray,
    width: int,
    frames: int,
    sums: np.ndarray,
    image: int,
) -> None:
    """The sums of one image."""
    one, frame = np.float32(1.0), image // frames
    pixels = len(sums[image])
    for corner in range(4):
        for p in range(pixels):
            if not shown[image, p]:
                continue
            u, v = column[image, p], row[image, p]
            x, y = np.floor(u) + np.float32(corner // 2), np.floor(v) + np.float32(corner % 2)
            if not (x >= 0 and x < width and y >= 0 and y * width + x < pixels):
                continue
            coverage = (one - abs(u - x)) * (one - abs(v - y))
            weight = coverage * nearness[image, p]
            total = sums[image, int(y) * width + int(x)]
            total[0] += rgb[frame, 0, p] * weight
            total[1] += rgb[frame, 1, p] * weight
            total[2] += rgb[frame, 2, p] * weight
            total[3] += depth[image, p] * weight
            total[4] += weight
            total[5] += coverage
