"""A film as parts of a scene are measured in it: pictures, and the camera of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from omni_gen3d.motion.sightings import Sightings
from omni_gen3d.types import Cameras

# Nothing nearer than this is seen.
_NEAR_M = 0.05


@dataclass(frozen=True)
class Film:
    """What was filmed.

    Attributes:
        pictures: In [-1, 1], shape ``(T, H, W, 3)``, float32.
        cameras: The one that filmed each, T in all, in the world of the scene.
        shown: The number of the thing that moves at each pixel, 0 for none, shape ``(T, H, W)``; None where the camera
            moved.
        sightings: Of the bodies that move; None where nobody looked for them.
    """

    pictures: np.ndarray
    cameras: Cameras
    shown: np.ndarray | None = None
    sightings: Sightings | None = None

    @classmethod
    def of_frames(cls, frames: torch.Tensor, cameras: Cameras) -> Film:
        """A film of frames in [-1, 1], shape ``(3, T, H, W)``."""
        return cls(frames.permute(1, 2, 3, 0).cpu().numpy(), cameras)

    def __len__(self) -> int:
        return len(self.pictures)

    def seen(self, points: np.ndarray, time: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows and columns [pixels, middles at whole numbers] of points ``(..., 3)``, and whether they lie in the
        picture and at least 5 cm ahead, each ``(...,)``."""
        matrix = self.cameras.world_to_camera[time].double().numpy()
        lens = self.cameras.intrinsics[time].double().numpy()
        local = points @ matrix[:3, :3].T + matrix[:3, 3]
        depth = local[..., 2]
        ahead = np.maximum(depth, 1e-3)
        row = local[..., 1] / ahead * lens[1, 1] + lens[1, 2] - 0.5
        column = local[..., 0] / ahead * lens[0, 0] + lens[0, 2] - 0.5
        height, width = self.pictures.shape[1:3]
        inside = (row > -0.5) & (row < height - 0.5) & (column > -0.5) & (column < width - 0.5)
        return row, column, inside & (depth > _NEAR_M)


def join_films(windows: Sequence[Film]) -> Film:
    """Windows that follow each other, each of which begins with the last picture of the one before."""
    first, later = windows[0], windows[1:]
    cameras = Cameras(
        torch.cat([first.cameras.world_to_camera, *(window.cameras.world_to_camera[1:] for window in later)]),
        torch.cat([first.cameras.intrinsics, *(window.cameras.intrinsics[1:] for window in later)]),
        first.cameras.width,
        first.cameras.height,
    )
    outlines = [window.shown for window in windows if window.shown is not None]
    shown = _joined(outlines) if len(outlines) == len(windows) else None
    sightings = [window.sightings for window in windows if window.sightings is not None]
    sighted = None
    if len(sightings) == len(windows):
        sighted = Sightings(
            *(_joined([getattr(part, field.name) for part in sightings]) for field in fields(Sightings))
        )
    return Film(_joined([window.pictures for window in windows]), cameras, shown, sighted)


def _joined(windows: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([windows[0], *(window[1:] for window in windows[1:])])
