"""Where a film by a still camera shows things that move, as wholes.

A pixel of a moving thing shows, at some other time, what lies behind: farther away and of another colour. So both ends
of a thing are found at once halfway through its way; what lies between is filled. A thing without any pattern that goes
by less than its own breadth falls apart in the middle. Things are told apart by where they are in space and time.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# A pixel, averaged with its neighbours, shows something else when a channel differs by this [of 2].
OTHER_COLOR = 0.06
# It shows something nearer when it is nearer by this, or by this share of the depth.
_MARGIN_M, _MARGIN_SHARE = 0.05, 0.03
# A shadow darkens all channels alike, within these factors and this error [of 1].
_SHADOW, _SHADOW_ERROR = (0.4, 1.05), 0.04
# Gaps of this breadth are closed [pixels].
_CLOSED_PX = 5
# Less than this at a time is not seen of a thing, and less than this over all times is none [pixels].
_MIN_PIXELS, _MIN_TOTAL_PIXELS = 20, 150


def silhouettes(pictures: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Number of the thing that each pixel shows, 0 for what stands still, the largest first, ``(T, H, W)``, int16.

    Args:
        pictures: In [-1, 1], shape ``(T, H, W, 3)``.
        depth: Of what each shows [m], 0 where unknown, shape ``(T, H, W)``.
    """
    shown, behind = _shown_and_behind(pictures, depth)
    # Things touch the next time where they were, unless they are small and fast.
    near = ndimage.binary_dilation(ndimage.binary_closing(shown, np.ones((1, 5, 5))), np.ones((1, 3, 3)))
    blobs = np.zeros(shown.shape, np.int32)
    ndimage.label(near, np.ones((3, 3, 3)), output=blobs)
    sizes = np.bincount(blobs[shown], minlength=2)[1:]
    numbers = np.zeros(shown.shape, np.int16)
    largest = np.argsort(-sizes, kind="stable")
    for number, blob in enumerate(largest[sizes[largest] >= _MIN_TOTAL_PIXELS] + 1, 1):
        for time, pixels in enumerate((blobs == blob) & shown):
            if pixels.sum() >= _MIN_PIXELS:
                numbers[time][_filled(pixels) & ~behind[time] & (numbers[time] == 0)] = number
    return numbers


def _shown_and_behind(pictures: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where something is shown that is elsewhere at another time, and where what is behind it, each ``(T, H, W)``."""
    depth = np.where(depth > 0, depth, depth.max(initial=1.0))
    smooth = ndimage.uniform_filter(pictures, 3, axes=(1, 2), mode="nearest")
    changes = np.ptp(smooth, axis=0).max(-1) > OTHER_COLOR
    rows, columns = np.nonzero(changes)
    smooth, depth = smooth[:, rows, columns], depth[:, rows, columns]
    # The second farthest: one time alone may be wrong.
    far = np.sort(depth, axis=0)[-min(2, len(depth))]
    margin = np.maximum(_MARGIN_M, _MARGIN_SHARE * far)
    at_back = depth >= far - margin
    back = np.nanmedian(np.where(at_back[..., None], smooth, np.nan), axis=0)
    differs = np.abs(smooth - back).max(-1)
    nearer = (differs > OTHER_COLOR) & ~at_back
    # Where a thing stands on the floor it is not nearer; then it must differ by more than a shadow does.
    plain = (differs > 2 * OTHER_COLOR) & ~_is_shadow(smooth / 2 + 0.5, back / 2 + 0.5)
    shown, behind = np.zeros((2, *pictures.shape[:3]), bool)
    shown[:, rows, columns] = nearer | plain
    behind[:, rows, columns] = at_back & (differs < OTHER_COLOR)
    return ndimage.binary_opening(shown, np.ones((1, 2, 2))), behind


def _is_shadow(shown: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Whether colours in [0, 1] are those behind, darkened, ``(T, N)``."""
    factor = (shown * back).sum(-1) / np.maximum((back * back).sum(-1), 1e-6)
    error = np.abs(shown - factor[..., None] * back).max(-1)
    return (error < _SHADOW_ERROR) & (factor > _SHADOW[0]) & (factor < _SHADOW[1])


def _filled(pixels: np.ndarray) -> np.ndarray:
    closed = ndimage.binary_closing(np.pad(pixels, _CLOSED_PX), np.ones((_CLOSED_PX, _CLOSED_PX)))
    return np.asarray(ndimage.binary_fill_holes(closed))[_CLOSED_PX:-_CLOSED_PX, _CLOSED_PX:-_CLOSED_PX]
