"""Did the camera stand still? Asked of the background: most of a picture stays in place, whatever moves before it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from skimage.registration import phase_cross_correlation

_BLOCK = 32
# A block with less contrast than this shows nothing that could be followed [share of white].
_MIN_CONTRAST = 0.03
_MIN_BLOCKS = 6
# Evenly chosen frames of a longer film.
_MAX_FRAMES = 48
# A block that moved farther than this has moved [pixels]; noise and codecs shift blocks by less.
_MOVED_PX = 1.0
# Above this share of moved blocks the camera moved.
_MOVED_SHARE = 0.6


@dataclass(frozen=True)
class Steadiness:
    """What the background says about the camera.

    Attributes:
        moved_share: The largest share of a frame's textured blocks that are elsewhere than in the background.
        shift_px: Their median shift at that time [pixels of the film as loaded].
        blocks: How many textured blocks there are; with fewer than 6 nothing can be told.
    """

    moved_share: float
    shift_px: float
    blocks: int

    @property
    def is_known(self) -> bool:
        return self.blocks >= _MIN_BLOCKS

    @property
    def is_still(self) -> bool:
        return self.moved_share <= _MOVED_SHARE


def find_steadiness(frames: np.ndarray) -> Steadiness:
    """Compare every frame with their median, block by block, by phase correlation (Guizar-Sicairos et al. 2008).

    Seen by a still camera the median is the background, so that a thing that passes counts only where it is.

    Args:
        frames: uint8, shape ``(N, H, W, 3)``.
    """
    grey = frames[:: max(1, len(frames) // _MAX_FRAMES)].astype(np.float32).mean(-1) / 255
    height, width = grey.shape[1:]
    corners = [(y, x) for y in range(0, height - _BLOCK + 1, _BLOCK) for x in range(0, width - _BLOCK + 1, _BLOCK)]
    window = np.hanning(_BLOCK)[:, None] * np.hanning(_BLOCK)[None]
    blocks = [(y, x) for y, x in corners if grey[0, y : y + _BLOCK, x : x + _BLOCK].std() >= _MIN_CONTRAST]
    worst = Steadiness(0.0, 0.0, len(blocks))
    if len(blocks) < _MIN_BLOCKS:
        return worst
    background = np.median(grey, axis=0)
    for frame in grey:
        shifts = np.array([_shift(background, frame, y, x, window) for y, x in blocks])
        share = float((shifts > _MOVED_PX).mean())
        if share >= worst.moved_share:
            worst = Steadiness(share, float(np.median(shifts)), len(blocks))
    return worst


def _shift(first: np.ndarray, other: np.ndarray, y: int, x: int, window: np.ndarray) -> float:
    """How far one block moved [pixels]."""
    a, b = (image[y : y + _BLOCK, x : x + _BLOCK] for image in (first, other))
    with warnings.catch_warnings():
        # It cannot say how alike two blocks are where one is bare; only their shift is asked for.
        warnings.simplefilter("ignore", UserWarning)
        shift, _, _ = phase_cross_correlation((a - a.mean()) * window, (b - b.mean()) * window, upsample_factor=4)
    return float(np.linalg.norm(shift))
