"""What no picture of a room showed at eye level: holes in its walls, and how they go on above the pictures."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from omni_gen3d.geometry import intrinsics_from_focal, look_at, matrix_to_quat, pixel_rays, rgb_to_sh_dc
from omni_gen3d.render import render
from omni_gen3d.types import Cameras, Gaussians
from omni_gen3d.video.clearing import Clearing
from omni_gen3d.video.exploring import filled

# Pictures side by side, all around and level; tangents fall together at their borders.
_HEADINGS, _WIDTH, _HEIGHT = 12, 64, 96
# Pixels that the splats cover less than this are holes.
_MIN_ALPHA = 0.9
# Of a disc over the pixel that it closes: standard deviation, and that across it.
_SPREAD, _THICKNESS = 0.6, 0.02
_BLACK = (0.0, 0.0, 0.0)


def missing_walls(gaussians: Gaussians, clearing: Clearing) -> Gaussians:
    """Discs that close the view from the first camera all around, 22 degrees up and down.

    Each stands as far away in plan, and has the colour, that those around it have: walls go on upwards.

    Args:
        gaussians: All there are, in the first camera's frame.
        clearing: In the same frame; it stays free.
    """
    lens = intrinsics_from_focal(_WIDTH / 2 / math.tan(math.pi / _HEADINGS), _WIDTH, _HEIGHT)
    eye = clearing.translation  # The first camera, in the box's frame.
    angle = -2 * math.pi * torch.arange(_HEADINGS) / _HEADINGS
    ahead = torch.stack([angle.cos(), angle.sin(), torch.zeros(_HEADINGS)], -1)
    local_to_camera = look_at(eye.expand(_HEADINGS, 3), eye + ahead)
    to_local = torch.eye(4)
    to_local[:3, :3], to_local[:3, 3] = clearing.rotation, clearing.translation
    cameras = Cameras(local_to_camera @ to_local, lens.expand(_HEADINGS, 3, 3).contiguous(), _WIDTH, _HEIGHT)
    view = render(gaussians, cameras, background=_BLACK, backend="cpu")

    rays = pixel_rays(lens, _HEIGHT, _WIDTH) @ local_to_camera[:, None, :3, :3]
    in_plan = rays[..., :2].norm(dim=-1)
    distance = (view.median_depth * in_plan).clamp(min=1e-3).log()
    known = torch.cat([view.color / view.alpha.clamp(min=_MIN_ALPHA)[..., None], distance[..., None]], -1)
    seen = view.alpha >= _MIN_ALPHA
    around = filled(_side_by_side(known.movedim(-1, 1)), _side_by_side(seen[:, None].float()))
    colour, distance = _apart(around).movedim(1, -1).split([3, 1], -1)

    holes = ~seen
    depth = distance[holes].exp() / in_plan[holes][:, None]
    towards = rays[holes] * depth
    # The normal is level; x runs along the wall, y up it.
    normal = F.normalize(-towards * torch.tensor([1.0, 1.0, 0.0]), dim=-1)
    up = torch.tensor([0.0, 0.0, 1.0]).expand_as(normal)
    upright = torch.stack([torch.linalg.cross(up, normal), up, normal], -1)
    pixel = depth / lens[0, 0]
    walls = Gaussians(
        means=towards @ clearing.rotation,
        quats=matrix_to_quat(clearing.rotation.T @ upright),
        scales=pixel * torch.tensor([_SPREAD, _SPREAD, _THICKNESS]),
        opacities=torch.ones(len(depth)),
        sh=rgb_to_sh_dc(colour[holes].clamp(0, 1))[:, None],
    )
    above_floor = towards[:, 2] + eye[2] > 0
    return walls[above_floor & ~clearing.holds(walls.means, 0.0)]


def _side_by_side(pictures: torch.Tensor) -> torch.Tensor:
    """``(N, C, H, W)`` to ``(1, C, H, N W)``."""
    return torch.cat(list(pictures), -1)[None]


def _apart(panorama: torch.Tensor) -> torch.Tensor:
    """``(1, C, H, N W)`` to ``(N, C, H, W)``."""
    return torch.stack(panorama[0].split(_WIDTH, -1))
