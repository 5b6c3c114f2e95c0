"""A camera that stood still is told from one that moved, whatever moves before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from omni_gen3d.video.steadiness import find_steadiness

HEIGHT, WIDTH = 176, 320


def backdrop(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 255 * np.clip(0.5 + 4 * ndimage.gaussian_filter(rng.normal(0, 1, (HEIGHT + 80, WIDTH + 80)), 4), 0, 1)


def film(picture_at, noise: float = 3.0, count: int = 5) -> np.ndarray:
    rng = np.random.default_rng(1)
    frames = [picture_at(i)[..., None] + rng.normal(0, noise, (HEIGHT, WIDTH, 3)) for i in range(count)]
    return np.clip(frames, 0, 255).astype(np.uint8)


def shifted(dx: float, dy: float = 0.0) -> np.ndarray:
    return ndimage.shift(backdrop(), (dy, dx), order=3, mode="nearest")[40 : 40 + HEIGHT, 40 : 40 + WIDTH]


def zoomed(factor: float) -> np.ndarray:
    whole = backdrop()
    middle = np.array(whole.shape) / 2
    offset: Any = middle - middle / factor
    return ndimage.affine_transform(whole, np.eye(2) / factor, offset)[40:-40, 40:-40]


def crossed(i: int) -> np.ndarray:
    """A fifth of the picture is covered by something that moves."""
    picture = shifted(0).copy()
    picture[40:140, 20 + 30 * i : 130 + 30 * i] = backdrop(2)[40:140, 20:130]
    return picture


@pytest.mark.parametrize("picture_at", [lambda i: shifted(0), crossed, lambda i: shifted(0) * (1 - 0.04 * i)])
def test_still(picture_at):
    """Noise, a large thing that passes and light that fades are no camera that moves."""
    steadiness = find_steadiness(film(picture_at))
    assert steadiness.is_known and steadiness.is_still


@pytest.mark.parametrize(
    "picture_at", [lambda i: shifted(1.5 * i), lambda i: shifted(0, 12 * i), lambda i: zoomed(1 + 0.03 * i)]
)
def test_moved(picture_at):
    """A slow pan, a fast tilt and a zoom are."""
    assert not find_steadiness(film(picture_at)).is_still


def test_nothing_to_go_by():
    """Before a bare wall nothing can be told."""
    assert not find_steadiness(film(lambda i: np.full((HEIGHT, WIDTH), 128.0), noise=1.0)).is_known
