"""The floor of a room's clearing: what no picture showed of it, and cameras that look over it."""

from __future__ import annotations

import math

import torch

from omni_gen3d.geometry import intrinsics_from_focal, look_at, matrix_to_quat, rgb_to_sh_dc
from omni_gen3d.render import render
from omni_gen3d.types import Cameras, Gaussians
from omni_gen3d.video.clearing import Clearing
from omni_gen3d.video.exploring import filled

# The floor is laid in this many discs a side, as wide as this share of the distance between them.
_DISCS_A_SIDE, _SPREAD, _THICKNESS = 112, 0.6, 0.02
_MIN_ALPHA, _BLACK = 0.9, (0.0, 0.0, 0.0)
# From so many sides away the view straight down has hardly any perspective.
_DISTANCE_SIDES = 20
# Cameras that survey the clearing: their focal length over the width, how far they look down, and where they stand,
# in shares of the square.
_SURVEY_FOCAL, _SURVEY_DOWN_DEG, _SURVEY_HEADINGS = 0.3, 30.0, 4
_SURVEY_PLACES = ((0.5, 0.5), (0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75))


def missing_floor(gaussians: Gaussians, clearing: Clearing, thickness: float) -> Gaussians:
    """Discs that close the floor of the clearing, in the colours of the floor around them.

    Args:
        gaussians: All there are, in the first camera's frame.
        clearing: In the same frame.
        thickness: How far from the plane the floor's Gaussians lie at most [scene units].
    """
    floor = gaussians[clearing.local(gaussians.means)[:, 2].abs() < thickness]
    side = float((clearing.high - clearing.low)[0])
    size, spacing = _DISCS_A_SIDE, side / _DISCS_A_SIDE
    middle = (clearing.low + clearing.high)[:2] / 2
    # Straight down: x of the picture runs along the box's first axis, y against its second.
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    pose[:3, 3] = torch.tensor([*middle.tolist(), _DISTANCE_SIDES * side])
    from_local = torch.eye(4)
    from_local[:3, :3] = clearing.rotation.T
    from_local[:3, 3] = -clearing.rotation.T @ clearing.translation
    camera_to_first = from_local @ pose
    lens = intrinsics_from_focal(float(_DISTANCE_SIDES * size), size, size)
    camera = Cameras(torch.linalg.inv(camera_to_first)[None], lens[None], size, size)
    view = render(floor, camera, background=_BLACK, backend="cpu")
    seen = (view.alpha[0] >= _MIN_ALPHA)[None, None].float()
    colour = filled((view.color / view.alpha.clamp(min=_MIN_ALPHA)[..., None]).movedim(-1, 1), seen)[0].movedim(0, -1)
    rows, columns = (seen[0, 0] == 0).nonzero().unbind(-1)
    local = torch.stack(
        [
            clearing.low[0] + (columns + 0.5) * spacing,
            clearing.high[1] - (rows + 0.5) * spacing,
            torch.zeros(len(rows)),
        ],
        dim=-1,
    )
    count = len(rows)
    return Gaussians(
        means=(local - clearing.translation) @ clearing.rotation,
        quats=matrix_to_quat(clearing.rotation.T).expand(count, 4),
        scales=(spacing * torch.tensor([_SPREAD, _SPREAD, _THICKNESS])).expand(count, 3),
        opacities=torch.ones(count),
        sh=rgb_to_sh_dc(colour[rows, columns])[:, None],
    )


def survey(clearing: Clearing, camera_height: float, width: int, height: int) -> Cameras:
    """Wide cameras in the clearing that look all around and down, in the first camera's frame.

    Args:
        clearing: In the same frame.
        camera_height: Over the floor [scene units].
        width, height: Of their pictures.
    """
    size = clearing.high - clearing.low
    down = math.tan(math.radians(_SURVEY_DOWN_DEG))
    eyes, targets = [], []
    for along, across in _SURVEY_PLACES:
        eye = clearing.low + size * torch.tensor([along, across, 0.0]) + torch.tensor([0.0, 0.0, camera_height])
        for i in range(_SURVEY_HEADINGS):
            angle = 2 * math.pi * i / _SURVEY_HEADINGS
            eyes.append(eye)
            targets.append(eye + torch.tensor([math.cos(angle), math.sin(angle), -down]))
    to_local = torch.eye(4)
    to_local[:3, :3], to_local[:3, 3] = clearing.rotation, clearing.translation
    world_to_camera = look_at(torch.stack(eyes), torch.stack(targets)) @ to_local
    lens = intrinsics_from_focal(_SURVEY_FOCAL * width, width, height)
    return Cameras(world_to_camera, lens.expand(len(eyes), 3, 3).contiguous(), width, height)
