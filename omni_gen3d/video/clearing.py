"""The clearing: a square of floor around the first camera that whatever is imagined keeps free.

A generator that completes a room view by view puts furniture into every view, and a robot has nowhere to go. So one
part of the plan is settled before anything is imagined: the floor goes on over a square that reaches as far into the
first picture as nothing stands there, and behind the camera for the rest. Later views see it as known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from omni_gen3d.geometry import pixel_rays, placement_on
from omni_gen3d.types import Ground

# Air up to this height above the camera is kept free, too: what hangs higher stays.
_ABOVE_CAMERA_M = 0.4
# What rises this far over the floor stands in the way; a cell of the plan holds it from so many pixels on.
_OBSTACLE_M, _MIN_PIXELS = 0.1, 3
_CELL_M = 0.1
# The camera stands in the square, at least this far from its border.
_MARGIN_M = 0.6


@dataclass(frozen=True)
class Clearing:
    """A box of air on the floor; its axes point ahead, to the left and up, its origin lies below the first camera.

    Attributes:
        rotation: From the first camera's frame to the box's, shape ``(3, 3)``.
        translation: [scene units], shape ``(3,)``.
        low, high: Corners in the box's frame [scene units], shape ``(3,)``; the floor is at 0.
    """

    rotation: torch.Tensor
    translation: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    def local(self, points: torch.Tensor) -> torch.Tensor:
        """Points in the first camera's frame ``(..., 3)`` in the box's frame."""
        return points @ self.rotation.T + self.translation

    def holds(self, points: torch.Tensor, off_floor: float, off_border: float = 0.0) -> torch.Tensor:
        """Which points in the first camera's frame are in the box or below it, that far off its floor and border.

        Shape ``(..., 3)`` to ``(...)``, bool; distances in scene units.
        """
        local = self.local(points)
        within = ((local[..., :2] > self.low[:2] + off_border) & (local[..., :2] < self.high[:2] - off_border)).all(-1)
        return within & (local[..., 2] < self.high[2]) & (local[..., 2].abs() > off_floor)

    def seen_by(
        self, camera_to_first: torch.Tensor, intrinsics: torch.Tensor, height: int, width: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the rays of a camera inside leave the box, and which do so through its floor.

        Args:
            camera_to_first: Scene units, shape ``(4, 4)``.
            intrinsics: Shape ``(3, 3)``.
            height, width: Of the picture.

        Returns:
            Depth along z [scene units], shape ``(H, W)``, and a mask of that shape.
        """
        pose = camera_to_first.cpu()
        rays = pixel_rays(intrinsics.cpu(), height, width) @ (self.rotation @ pose[:3, :3]).T
        eye = self.local(pose[:3, 3])
        ways = torch.where(rays > 0, self.high - eye, self.low - eye) / rays
        depth, face = ways.min(-1)
        return depth.to(intrinsics), ((face == 2) & (rays[..., 2] < 0)).to(intrinsics.device)


def find_clearing(
    depth: torch.Tensor, ground: Ground, intrinsics: torch.Tensor, metres_per_unit: float, side_m: float
) -> Clearing:
    """The square around the first camera, parallel to its view, with the fewest obstacles and the most seen floor.

    Args:
        depth: Of the first picture [scene units], shape ``(H, W)``.
        ground: The floor in it.
        intrinsics: Shape ``(3, 3)``.
        metres_per_unit: Metres in a scene unit.
        side_m: Of the square [m].
    """
    rotation, translation = placement_on(ground, 1.0)
    points = (pixel_rays(intrinsics.cpu(), *depth.shape) * depth.cpu()[..., None]) @ rotation.T + translation
    top = ground.camera_height * metres_per_unit + _ABOVE_CAMERA_M
    rises = points[..., 2] * metres_per_unit
    standing = points[~ground.pixels & (rises > _OBSTACLE_M) & (rises < top)][:, :2] * metres_per_unit
    size = math.ceil(side_m / _CELL_M)
    # A plan that holds every square the camera may stand in: the camera is in its middle.
    cells = torch.floor(standing / _CELL_M).long() + size
    cells = cells[((cells >= 0) & (cells < 2 * size)).all(1)]
    plan = torch.zeros(2 * size, 2 * size).index_put_(tuple(cells.T), torch.ones(len(cells)), accumulate=True)
    taken = F.pad((plan >= _MIN_PIXELS).float().cumsum(0).cumsum(1), (1, 0, 1, 0))
    squares = taken[size:, size:] - taken[:-size, size:] - taken[size:, :-size] + taken[:-size, :-size]
    margin = round(_MARGIN_M / _CELL_M)
    starts = torch.arange(margin, size - margin + 1)
    squares = squares[starts][:, starts]
    # Fewest obstacles; then as far ahead as can be, but not for the price of standing at the side.
    sideways = (starts - size / 2).abs()
    best = int((squares * 1e3 - starts[:, None] + 2 * sideways).argmin())
    first = torch.stack([starts[best // len(starts)], starts[best % len(starts)]])
    corner = (first - size) * _CELL_M
    low = torch.tensor([*corner.tolist(), 0.0]) / metres_per_unit
    high = torch.tensor([*(corner + size * _CELL_M).tolist(), top]) / metres_per_unit
    return Clearing(rotation, translation, low, high)
