"""Did the camera stand still? Asked of the background: most of a picture stays in place, whatever moves before it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from skimage.registration import phase_cross_correlation

from omni_gen3d.video.cache3d import warp

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
# Poses are tried over one time and over so many; a block tells something where so much of it was seen before. Depth is
# an estimate, so that what it moves may be off by more.
_FAR_BACK, _COVERED_SHARE, _OFF_PX = 6, 0.8, 2.0


# Scales that are tried for depth, pairs of frames looked at, and the share of the error that a better one leaves.
_SCALES = np.geomspace(0.2, 5.0, 57)
_SCALE_PAIRS, _CLEARLY_BETTER = 4, 0.97


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
    blocks = _textured(grey[0])
    worst = Steadiness(0.0, 0.0, len(blocks))
    if not worst.is_known:
        return worst
    background = np.median(grey, axis=0)
    for frame in grey:
        found = _compared(background, frame, blocks)
        if found.moved_share >= worst.moved_share:
            worst = found
    return worst


def find_agreement(
    frames: np.ndarray, depth: torch.Tensor, intrinsics: torch.Tensor, camera_to_first: torch.Tensor
) -> Steadiness:
    """Whether poses explain how a film changes: each frame against earlier ones as its camera would see them.

    Args:
        frames: uint8, shape ``(N, H, W, 3)``.
        depth: Along z [unit of the poses], shape ``(N, H, W)``.
        intrinsics: Shape ``(3, 3)``.
        camera_to_first: Shape ``(N, 4, 4)``.

    Returns:
        As of a camera that stands still, where poses and depth are right.
    """
    grey = frames.astype(np.float32).mean(-1) / 255
    worst = Steadiness(0.0, 0.0, 0)
    for later in np.unique(np.linspace(1, len(frames) - 1, min(len(frames) - 1, _MAX_FRAMES)).astype(int)).tolist():
        for earlier in sorted({later - 1, max(0, later - _FAR_BACK)}):
            shown, covered = _seen_later(grey, depth, intrinsics, camera_to_first, earlier, later)
            # What the earlier frame does not show is no evidence.
            expected = np.where(covered, shown, grey[later])
            blocks = [
                (y, x)
                for y, x in _textured(grey[later])
                if covered[y : y + _BLOCK, x : x + _BLOCK].mean() >= _COVERED_SHARE
            ]
            found = _compared(expected, grey[later], blocks, _OFF_PX)
            if found.is_known and (found.moved_share, found.shift_px) >= (worst.moved_share, worst.shift_px):
                worst = found
    return worst


def fitting_scale(
    frames: np.ndarray, depth: torch.Tensor, intrinsics: torch.Tensor, camera_to_first: torch.Tensor
) -> float:
    """What a depth of unsure scale is to be multiplied with so that poses in metres explain the film best.

    Arguments as of ``find_agreement``. 1 where no scale explains it clearly better, as when the camera only turned.
    """
    # At half the size: the best of some scales is sought, not a pixel.
    grey = frames.astype(np.float32).mean(-1) / 255
    grey = (grey[:, ::2, ::2] + grey[:, 1::2, ::2] + grey[:, ::2, 1::2] + grey[:, 1::2, 1::2]) / 4
    depth, intrinsics = depth[:, 1::2, 1::2], intrinsics * intrinsics.new_tensor([[0.5], [0.5], [1.0]])
    pairs = [
        (max(0, later - _FAR_BACK), later)
        for later in np.linspace(1, len(frames) - 1, _SCALE_PAIRS).astype(int).tolist()
    ]

    def error(scale: float) -> float:
        errors = []
        for earlier, later in pairs:
            shown, covered = _seen_later(grey, scale * depth, intrinsics, camera_to_first, earlier, later)
            errors.append(np.abs(shown - grey[later])[covered].mean() if covered.any() else 1.0)
        return float(np.mean(errors))

    errors = [error(scale) for scale in _SCALES]
    best = int(np.argmin(errors))
    return float(_SCALES[best]) if errors[best] < _CLEARLY_BETTER * error(1.0) else 1.0


def _seen_later(
    grey: np.ndarray,
    depth: torch.Tensor,
    intrinsics: torch.Tensor,
    camera_to_first: torch.Tensor,
    earlier: int,
    later: int,
) -> tuple[np.ndarray, np.ndarray]:
    """What one frame shows as a later one's camera would see it, and where it shows anything, ``(H, W)``."""
    pose = torch.linalg.inv(camera_to_first[earlier]) @ camera_to_first[later]
    picture = torch.from_numpy(grey[earlier]).expand(1, 3, -1, -1)
    seen = warp(picture, depth[earlier, None].cpu(), intrinsics[None].cpu(), pose[None, None].cpu())
    return seen.rgb[0, 0, 0].numpy(), seen.mask[0, 0, 0].numpy() > 0.5


def _textured(grey: np.ndarray) -> list[tuple[int, int]]:
    """Corners of blocks that show something."""
    height, width = grey.shape
    corners = [(y, x) for y in range(0, height - _BLOCK + 1, _BLOCK) for x in range(0, width - _BLOCK + 1, _BLOCK)]
    return [(y, x) for y, x in corners if grey[y : y + _BLOCK, x : x + _BLOCK].std() >= _MIN_CONTRAST]


def _compared(
    expected: np.ndarray, grey: np.ndarray, blocks: list[tuple[int, int]], limit_px: float = _MOVED_PX
) -> Steadiness:
    if not blocks:
        return Steadiness(0.0, 0.0, 0)
    window = np.hanning(_BLOCK)[:, None] * np.hanning(_BLOCK)[None]
    shifts = np.array([_shift(expected, grey, y, x, window) for y, x in blocks])
    return Steadiness(float((shifts > limit_px).mean()), float(np.median(shifts)), len(blocks))


def _shift(first: np.ndarray, other: np.ndarray, y: int, x: int, window: np.ndarray) -> float:
    """How far one block moved [pixels]."""
    a, b = (image[y : y + _BLOCK, x : x + _BLOCK] for image in (first, other))
    with warnings.catch_warnings():
        # It cannot say how alike two blocks are where one is bare; only their shift is asked for.
        warnings.simplefilter("ignore", UserWarning)
        shift, _, _ = phase_cross_correlation((a - a.mean()) * window, (b - b.mean()) * window, upsample_factor=4)
    return float(np.linalg.norm(shift))
