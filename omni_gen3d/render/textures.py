"""Textures side by side in one array, each with smaller and smaller copies of itself, and the colour at a place of one.

A copy half as large stands for a picture whose pixels lie further apart than its own (Williams, "Pyramidal
Parametrics", 1983); the nearest copy is taken, and within it the four pixels around a place are mixed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numba
import numpy as np

# In the order of their numbers in the tables.
WRAPS = ("repeat", "clamp", "mirror", "black")
_FIRST, _WIDTH, _HEIGHT, _LEVELS, _WRAP_S, _WRAP_T = range(6)


class Picture(Protocol):
    """RGB, uint8, shape ``(H, W, 3)``, and what lies beyond the unit square along s and t, two of ``WRAPS``."""

    @property
    def pixels(self) -> np.ndarray: ...
    @property
    def wrap(self) -> tuple[str, str]: ...


@dataclass(frozen=True)
class TextureAtlas:
    """T textures.

    Attributes:
        table: Of each, its first texel, width, height, how many copies there are, and its wraps; int32, ``(T, 6)``.
        texels: RGB and a spare byte, uint8, shape ``(N, 4)``: all rows of a texture from the top, then its copies'.
    """

    table: np.ndarray
    texels: np.ndarray

    @staticmethod
    def of(pictures: Sequence[Picture]) -> TextureAtlas:
        """Lay out pictures with their copies."""
        rows, parts, first = [], [np.zeros((0, 4), np.uint8)], 0
        for picture in pictures:
            copies = _pyramid(picture.pixels)
            height, width = picture.pixels.shape[:2]
            rows.append((first, width, height, len(copies), *map(WRAPS.index, picture.wrap)))
            for copy in copies:
                parts.append(np.pad(copy.reshape(-1, 3), ((0, 0), (0, 1))))
                first += len(parts[-1])
        return TextureAtlas(np.array(rows, np.int32).reshape(-1, 6), np.concatenate(parts))


def _pyramid(pixels: np.ndarray) -> list[np.ndarray]:
    """The picture and its copies, each half as wide and high, down to one pixel."""
    copies = [np.ascontiguousarray(pixels)]
    while max(copies[-1].shape[:2]) > 1:
        fine = copies[-1].astype(np.float32)
        height, width = (max(1, side // 2) for side in fine.shape[:2])
        rows, columns = (np.arange(side) * 2 for side in (height, width))
        next_rows, next_columns = np.minimum(rows + 1, len(fine) - 1), np.minimum(columns + 1, fine.shape[1] - 1)
        corners = [fine[r][:, c] for r in (rows, next_rows) for c in (columns, next_columns)]
        copies.append(np.mean(corners, 0).round().astype(np.uint8))
    return copies


@numba.njit(cache=True, inline="always")
def _wrapped(at, side, wrap):
    """The texel at a place along one axis, -1 for none."""
    if wrap == 0:
        return at % side
    if wrap == 1:
        return min(max(at, 0), side - 1)
    if wrap == 2:
        turned = at % (2 * side)
        return turned if turned < side else 2 * side - 1 - turned
    return at if 0 <= at < side else -1


@numba.njit(cache=True)
def sample(table, texels, number, s, t, step, color):
    """The colour of a texture at a place, where the next pixel lies ``step`` texels away."""
    at, width, height = table[number, _FIRST], table[number, _WIDTH], table[number, _HEIGHT]
    level = min(int(math.log2(max(step, 1.0)) + 0.5), table[number, _LEVELS] - 1)
    for _ in range(level):
        at += width * height
        width, height = max(1, width // 2), max(1, height // 2)
    # Beyond that many turns single precision has no digits left for the place itself.
    x = min(max(s, -1e4), 1e4) * width - 0.5
    y = (1 - min(max(t, -1e4), 1e4)) * height - 0.5
    left, top = math.floor(x), math.floor(y)
    across, down = x - left, y - top
    color[:] = 0
    for row in range(2):
        line = _wrapped(top + row, height, table[number, _WRAP_T])
        for column in range(2):
            place = _wrapped(left + column, width, table[number, _WRAP_S])
            share = (down if row else 1 - down) * (across if column else 1 - across)
            if line >= 0 and place >= 0:
                for k in range(3):
                    color[k] += share * texels[at + line * width + place, k] / 255
