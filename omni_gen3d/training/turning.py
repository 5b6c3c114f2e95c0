"""Cameras for learning to look elsewhere: what two pictures of a room know, seen from where a third is taken.

A room is explored by turning on the spot and by stepping back from what was seen (video/exploring.py); the diffusion
network learns to complete what the 3D cache shows of such a view.
"""

from __future__ import annotations

import math

import torch

from omni_gen3d.training.clips import Views
from omni_gen3d.training.worlds import distance_to_nearest

# How far the view turns from each picture that the cache holds [degrees].
_TURN_DEG = (25.0, 65.0)
# How often the view steps back as well, and how far [m]; then it turns but little.
_RETREAT_CHANCE, _RETREAT_M, _RETREAT_TURN_DEG = 0.4, (0.4, 2.6), 25.0
# How often a second picture, on the other side of the view, is known.
_SECOND_CHANCE = 0.45
_CLEARANCE_M = 0.3


def turning_cameras(views: Views, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """The view to complete and the two pictures that know a part of it.

    Returns:
        Camera to first camera [m] of the view, of the first picture (the start camera) and of the second, shape
        ``(B, 3, 4, 4)``; and whether the second is known, shape ``(B,)``, bool.
    """
    start = views.camera_to_world
    count, device = len(start), start.device

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, generator=generator, device=device)

    side = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    first_turn, second_turn = (side * uniform(*_TURN_DEG) * math.pi / 180 for _ in range(2))
    retreats = uniform(0, 1) < _RETREAT_CHANCE
    turn = torch.where(retreats, side * uniform(0, _RETREAT_TURN_DEG) * math.pi / 180, first_turn)
    view, second = turn_about_vertical(start, turn), turn_about_vertical(start, first_turn + second_turn)
    back = -view[:, :3, 2] * view.new_tensor([1.0, 1.0, 0.0])
    step = torch.where(retreats, uniform(*_RETREAT_M), 0.0)
    for _ in range(3):
        moved = view[:, :3, 3] + step[:, None] * back
        clear = distance_to_nearest(views.worlds, moved[:, None])[:, 0] > _CLEARANCE_M
        step = torch.where(clear, step, 0.5 * step)
    view[:, :3, 3] += step[:, None] * back
    cameras = torch.stack([view, start, second], dim=1)
    return torch.linalg.inv(start)[:, None] @ cameras, uniform(0, 1) < _SECOND_CHANCE


def turn_about_vertical(camera_to_world: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Cameras ``(B, 4, 4)`` turned on the spot by ``angle (B,)`` [rad] about the world's Z, to the left where > 0."""
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    rotation = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], -1).unflatten(-1, (3, 3))
    turned = camera_to_world.clone()
    turned[:, :3, :3] = rotation @ camera_to_world[:, :3, :3]
    return turned
