"""Rendered views as 8-bit pictures that a person can look at."""

from __future__ import annotations

import numpy as np
import torch

from omni_gen3d.errors import InputError

# From far to near: violet, blue, teal, green, yellow, of evenly rising lightness.
_FAR_TO_NEAR = np.array(
    [(52, 20, 92), (62, 60, 148), (42, 108, 158), (24, 152, 142), (84, 194, 104), (180, 226, 72), (252, 248, 170)],
    np.float64,
)


def color_to_image(color: torch.Tensor) -> np.ndarray:
    """RGB in [0, 1], ``(H, W, 3)``, as uint8 of the same shape; values outside are clipped."""
    return _to_bytes(color)


def alpha_to_image(alpha: torch.Tensor) -> np.ndarray:
    """Coverage in [0, 1], ``(H, W)``, as uint8 of the same shape; white is opaque."""
    return _to_bytes(alpha)


def depth_to_image(
    depth: torch.Tensor, alpha: torch.Tensor, depth_range: tuple[float, float] | None = None
) -> np.ndarray:
    """Depth in colours whose lightness falls with distance; black where less than half of a pixel is covered.

    Colours follow the inverse of the depth, so that near things keep their relief beside far walls.

    Args:
        depth: Distance along the optical axis [m], shape ``(H, W)``.
        alpha: Coverage, shape ``(H, W)``.
        depth_range: Depths of the brightest and the darkest colour [m]; by default the nearest and the farthest seen.

    Returns:
        uint8, shape ``(H, W, 3)``.

    Raises:
        InputError: ``depth_range`` is not 0 < nearest < farthest, or the shapes differ.
    """
    if depth.shape != alpha.shape:
        raise InputError(f"depth has shape {tuple(depth.shape)} and alpha {tuple(alpha.shape)}; they must be equal.")
    if depth_range is not None and not 0 < depth_range[0] < depth_range[1]:
        raise InputError(f"depth_range is {depth_range}; it must satisfy 0 < nearest < farthest [m].")
    metres = depth.detach().cpu().double().numpy()
    image = np.zeros((*metres.shape, 3), np.uint8)
    seen = (alpha.detach().cpu().numpy() >= 0.5) & (metres > 0)
    if not seen.any():
        return image
    nearest, farthest = depth_range or (metres[seen].min(), metres[seen].max())
    spread = max(1 / nearest - 1 / farthest, 1e-12)
    nearness = np.clip((1 / metres[seen] - 1 / farthest) / spread, 0, 1)
    stops = np.linspace(0, 1, len(_FAR_TO_NEAR))
    channels = [np.interp(nearness, stops, channel) for channel in _FAR_TO_NEAR.T]
    image[seen] = np.rint(np.stack(channels, -1)).astype(np.uint8)
    return image


def normal_to_image(normal: np.ndarray) -> np.ndarray:
    """Unit normals ``(H, W, 3)`` as uint8 RGB: an axis from -1 to 1 is a channel from 0 to 255; zero vectors black."""
    image = np.rint((np.clip(normal, -1, 1) + 1) * 127.5).astype(np.uint8)
    image[(normal == 0).all(-1)] = 0
    return image


def ids_to_image(ids: np.ndarray) -> np.ndarray:
    """Integers ``(H, W)`` as uint8 RGB, a colour each; -1 and below black."""
    # Multiples of the golden ratio spread hues evenly, however many there are.
    hue = 6 * ((np.maximum(ids, 0) * 0.6180339887498949) % 1)
    channels = np.abs((hue[..., None] + [0, 4, 2]) % 6 - 3) - 1
    image = np.rint(255 * (0.25 + 0.7 * np.clip(channels, 0, 1))).astype(np.uint8)
    image[ids < 0] = 0
    return image


def _to_bytes(values: torch.Tensor) -> np.ndarray:
    return values.detach().clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()


def motion_to_image(motion: np.ndarray) -> np.ndarray:
    """Motion ``(H, W, 2)`` [pixels] as uint8 RGB: to the right red, down green, none grey; the fastest is brightest."""
    most = max(float(np.abs(motion).max()), 1e-6)
    both = 0.5 + 0.5 * motion / most
    return np.rint(255 * np.dstack([both, np.full(motion.shape[:2], 0.5)])).astype(np.uint8)
