"""Lay the floor's Gaussians flat on the floor's plane, so that wheels roll on what cameras see."""

from __future__ import annotations

from dataclasses import replace

import torch

from omni_gen3d.geometry import matrix_to_quat, quat_to_matrix
from omni_gen3d.types import Gaussians, Ground

# A Gaussian seen against the floor belongs to it unless it is this much nearer or farther than the plane, in natural
# logarithms of its depth; what is nearer stands on the floor.
_MAX_LOG_DISTANCE = 0.2
# Standard deviation across the floor over the camera's height: thin, but not so thin as to vanish in float16.
_THICKNESS = 1e-3


def settle_on_ground(gaussians: Gaussians, ground: Ground, intrinsics: torch.Tensor) -> Gaussians:
    """Project the floor's Gaussians along the first camera's rays onto the plane.

    A projection along the ray changes neither the place nor, to first order, the footprint of a Gaussian in the first
    camera's picture: with ray ``d`` and normal ``n`` the covariance becomes ``A S A^T`` with
    ``A = t (I - d n^T / (n d))`` and ``t`` the ratio of the distances.

    Args:
        gaussians: In the first camera's frame; degree 0 or higher, the coefficients stay.
        ground: In the same frame and unit.
        intrinsics: Of the first camera, shape ``(3, 3)``.
    """
    height, width = ground.pixels.shape
    x, y, z = gaussians.means.unbind(-1)
    column = (x / z * intrinsics[0, 0] + intrinsics[0, 2]).floor().long()
    row = (y / z * intrinsics[1, 1] + intrinsics[1, 2]).floor().long()
    inside = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    on_floor = inside & ground.pixels[row.clamp(0, height - 1), column.clamp(0, width - 1)]
    ratio = -ground.camera_height / (gaussians.means @ ground.up)
    on_floor &= (ratio > 0) & (ratio.clamp(min=1e-6).log().abs() < _MAX_LOG_DISTANCE)
    index = on_floor.nonzero()[:, 0]

    means = gaussians.means[index]
    t = ratio[index, None, None]
    along = means[:, :, None] * ground.up / (means @ ground.up)[:, None, None]
    project = t * (torch.eye(3) - along)
    spread = project @ quat_to_matrix(gaussians.quats[index]) * gaussians.scales[index, None]
    first = torch.linalg.cross(ground.up, _least_aligned_axis(ground.up))
    first = first / first.norm()
    plane = torch.stack([first, torch.linalg.cross(ground.up, first)], dim=-1)
    in_plane = plane.mT @ spread
    variances, axes = torch.linalg.eigh(in_plane @ in_plane.mT)
    major = (plane @ axes[:, :, 1:])[..., 0]
    up = ground.up.expand_as(major)
    rotation = torch.stack([major, torch.linalg.cross(up, major), up], dim=-1)
    thickness = torch.full((len(index),), _THICKNESS * ground.camera_height)
    deviations = variances.clamp(min=1e-12).sqrt()

    scales = torch.stack([deviations[:, 1], deviations[:, 0], thickness], dim=-1)
    return replace(
        gaussians,
        means=gaussians.means.index_copy(0, index, means * ratio[index, None]),
        quats=gaussians.quats.index_copy(0, index, matrix_to_quat(rotation)),
        scales=gaussians.scales.index_copy(0, index, scales),
    )


def _least_aligned_axis(direction: torch.Tensor) -> torch.Tensor:
    """The coordinate axis that is farthest from parallel to ``direction``."""
    return torch.eye(3)[int(direction.abs().argmin())]
