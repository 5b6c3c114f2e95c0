"""Lyra's six camera trajectories around the input camera.

Ranges and shapes are those of the Lyra release (arXiv 2509.19296): lengths are multiples of the scene's centre depth,
which is 1 in the scene units used here. Every camera keeps looking at the point one unit before the first camera.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from omni_gen3d.types import Cameras

TRAJECTORY_NAMES = ("left", "right", "up", "zoom_out", "zoom_in", "clockwise")
_DISTANCE_RANGES = ((0.2, 0.3), (0.2, 0.3), (0.1, 0.2), (0.3, 0.4), (0.3, 0.4), (0.4, 0.6))
_SPIRAL_TURNS = 2
_SPIRAL_WIDTH, _SPIRAL_HEIGHT = 0.15, 0.10


def sample_distances(count: int, generator: torch.Generator, device: torch.device | str) -> torch.Tensor:
    """How far each of the six trajectories goes [scene units], uniform in its range, shape ``(count, 6)``."""
    low, high = torch.tensor(_DISTANCE_RANGES, device=device).unbind(-1)
    return low + (high - low) * torch.rand(count, len(TRAJECTORY_NAMES), generator=generator, device=device)


def trajectory_positions(distances: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Camera centres in the first camera's frame [scene units], ``(..., 6)`` distances to ``(..., 6, L, 3)``."""
    progress = torch.linspace(0, 1, num_frames, device=distances.device)
    x, y, z = torch.eye(3, device=distances.device)
    directions = torch.stack([-x, x, -y, -z, z])
    linear = distances[..., :5, None, None] * progress[:, None] * directions[:, None]
    angle = 2 * math.pi * _SPIRAL_TURNS * progress
    ellipse = torch.stack(
        [_SPIRAL_WIDTH * (angle.cos() - 1), _SPIRAL_HEIGHT * angle.sin(), torch.zeros_like(angle)], dim=-1
    )
    spiral = distances[..., 5:, None, None] * ellipse
    return torch.cat([linear, spiral], dim=-3)


def centre_facing(positions: torch.Tensor) -> torch.Tensor:
    """Cameras at ``positions (..., 3)`` that look at (0, 0, 1): camera to first camera, shape ``(..., 4, 4)``."""
    centre = positions.new_tensor([0.0, 0.0, 1.0])
    forward = F.normalize(centre - positions, dim=-1)
    down = positions.new_tensor([0.0, 1.0, 0.0]).expand_as(forward)
    right = F.normalize(torch.linalg.cross(down, forward, dim=-1), dim=-1)
    down = torch.linalg.cross(forward, right, dim=-1)
    camera_to_first = torch.eye(4, device=positions.device).repeat(*positions.shape[:-1], 1, 1)
    camera_to_first[..., :3, :3] = torch.stack([right, down, forward], dim=-1)
    camera_to_first[..., :3, 3] = positions
    return camera_to_first


def six_trajectories(num_frames: int, generator: torch.Generator, device: torch.device | str) -> torch.Tensor:
    """Six trajectories that start at the input camera: camera to first camera, shape ``(6, L, 4, 4)``."""
    return centre_facing(trajectory_positions(sample_distances(1, generator, device)[0], num_frames))


def trajectory_cameras(camera_to_first: torch.Tensor, intrinsics: torch.Tensor, width: int, height: int) -> Cameras:
    """Trajectories ``(V, L, 4, 4)`` of one lens ``(3, 3)`` as ``V * L`` cameras, one trajectory after the other."""
    count = camera_to_first[..., 0, 0].numel()
    lens = intrinsics.expand(count, 3, 3).contiguous()
    return Cameras(torch.linalg.inv(camera_to_first.flatten(0, 1)), lens, width, height)
