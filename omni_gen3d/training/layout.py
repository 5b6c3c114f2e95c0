"""Where furniture stands: proposals for every piece, the first that fits wins, a piece that never fits is left out."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from omni_gen3d.training.furniture import STANCES, FurnitureTables

_PROPOSALS = 16
_GAP = 0.05  # between neighbours [m]
_WALL_GAP = 0.02  # [m]


class Footprints(NamedTuple):
    """Oriented rectangles on the floor.

    Attributes:
        center: [m], shape ``(B, N, 2)``.
        half: Half width and half depth [m], shape ``(B, N, 2)``.
        yaw: About +Z [rad], shape ``(B, N)``.
        present: False where nothing stands, shape ``(B, N)``.
    """

    center: torch.Tensor
    half: torch.Tensor
    yaw: torch.Tensor
    present: torch.Tensor

    def append(self, other: Footprints) -> Footprints:
        return Footprints(*(torch.cat(pair, 1) for pair in zip(self, other, strict=True)))


def overlaps(a: Footprints, b: Footprints, gap: float = 0.0) -> torch.Tensor:
    """Which rectangles of ``a`` come closer than ``gap`` [m] to which of ``b``: shape ``(B, Na, Nb)``, bool.

    Separating axes: two rectangles are apart exactly when one of their four edge directions separates them.
    """
    offset = b.center[:, None] - a.center[:, :, None]
    axes_a, axes_b = _axes(a.yaw)[:, :, None], _axes(b.yaw)[:, None]
    half_a, half_b = a.half[:, :, None], b.half[:, None]
    apart = torch.zeros_like(offset[..., 0], dtype=torch.bool)
    for axis in (*axes_a.unbind(-2), *axes_b.unbind(-2)):
        reach = sum(
            half[..., i] * (axes[..., i, :] * axis).sum(-1).abs()
            for half, axes in ((half_a, axes_a), (half_b, axes_b))
            for i in range(2)
        )
        apart = apart | ((offset * axis).sum(-1).abs() > reach + gap)
    return ~apart & a.present[:, :, None] & b.present[:, None]


def arrange(
    tables: FurnitureTables,
    object_type: torch.Tensor,
    size: torch.Tensor,
    half_extents: torch.Tensor,
    keep_free: Footprints,
    generator: torch.Generator,
) -> Footprints:
    """Find a place for every piece.

    Args:
        tables: The catalogue.
        object_type: Type of each piece, -1 for none, shape ``(B, N)``.
        size: Width, depth, height [m], shape ``(B, N, 3)``.
        half_extents: Half length and half width of the room [m], shape ``(B, 2)``.
        keep_free: Floor that must stay clear, such as the ground before a door.
        generator: Source of every draw.

    Returns:
        The footprints of the N pieces; ``present`` is False for a piece that found no place.
    """
    standing = keep_free
    first = keep_free.center.shape[1]
    for index in range(object_type.shape[1]):
        kind = object_type[:, index].clamp(min=0)
        half = size[:, index, None, :2].expand(-1, _PROPOSALS, 2) / 2
        center, yaw = _propose(tables, kind, half, half_extents, standing, object_type[:, :index], first, generator)
        cos, sin = yaw.cos().abs(), yaw.sin().abs()
        reach = torch.stack([half[..., 0] * cos + half[..., 1] * sin, half[..., 0] * sin + half[..., 1] * cos], -1)
        inside = (center.abs() + reach <= half_extents[:, None]).all(-1)
        proposals = Footprints(center, half, yaw, inside & (object_type[:, index, None] >= 0))
        fits = proposals.present & ~overlaps(proposals, standing, _GAP).any(-1)
        order = torch.arange(_PROPOSALS, 0, -1, device=fits.device)
        chosen = (fits * order).argmax(1, keepdim=True)
        batch = torch.arange(len(kind), device=kind.device)[:, None]
        standing = standing.append(
            Footprints(center[batch, chosen], half[batch, chosen], yaw[batch, chosen], fits.any(1, keepdim=True))
        )
    return Footprints(*(field[:, first:] for field in standing))


def _axes(yaw: torch.Tensor) -> torch.Tensor:
    """Unit vectors along width and depth, shape ``(..., 2, 2)``."""
    cos, sin = yaw.cos(), yaw.sin()
    return torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)


def _propose(
    tables: FurnitureTables,
    kind: torch.Tensor,
    half: torch.Tensor,
    half_extents: torch.Tensor,
    standing: Footprints,
    earlier_type: torch.Tensor,
    first: int,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Places for one piece per world: centres ``(B, K, 2)`` [m] and yaws ``(B, K)`` [rad]."""

    def uniform(low: float, high: float) -> torch.Tensor:
        draw = torch.rand(half.shape[:2], generator=generator, device=half.device)
        return low + (high - low) * draw

    room = half_extents[:, None].expand_as(half)
    # Against a wall: the piece looks along the wall's inward normal, long walls are taken more often.
    on_x_wall = uniform(0, 1) < (half_extents[:, 1] / half_extents.sum(-1))[:, None]
    far = uniform(0, 1) < 0.5
    sign = torch.where(far, 1.0, -1.0)
    depth = half[..., 1] + _WALL_GAP
    along = uniform(-1, 1) * (torch.where(on_x_wall, room[..., 1], room[..., 0]) - half[..., 0] - 0.05).clamp(min=0)
    wall_x = torch.where(on_x_wall, sign * (room[..., 0] - depth), along)
    wall_y = torch.where(on_x_wall, along, sign * (room[..., 1] - depth))
    wall_yaw = torch.where(on_x_wall, sign * (math.pi / 2), torch.where(far, math.pi, 0.0))

    radius = half.norm(dim=-1)
    free_x = uniform(-1, 1) * (room[..., 0] - radius - 0.1).clamp(min=0)
    free_y = uniform(-1, 1) * (room[..., 1] - radius - 0.1).clamp(min=0)
    free_yaw = torch.floor(uniform(0, 4)) * (math.pi / 2) + uniform(-0.25, 0.25)

    stance = tables.stance[kind][:, None]
    is_free = stance == STANCES.index("free")
    x, y = torch.where(is_free, free_x, wall_x), torch.where(is_free, free_y, wall_y)
    yaw = torch.where(is_free, free_yaw, wall_yaw)
    if earlier_type.shape[1] == 0:
        return torch.stack([x, y], -1), yaw

    # Beside a host: in front of it, looking back at it. The first suitable piece that stands is the host.
    suits = (
        tables.hosted_by[kind[:, None], earlier_type.clamp(min=0)] & (earlier_type >= 0) & standing.present[:, first:]
    )
    order = torch.arange(suits.shape[1], 0, -1, device=suits.device)
    host = (suits * order).argmax(1)[:, None] + first
    batch = torch.arange(len(kind), device=kind.device)[:, None]
    side = torch.where(uniform(0, 1) < 0.7, 1.0, -1.0)
    local_x = uniform(-0.5, 0.5) * standing.half[batch, host][..., 0]
    local_y = side * (standing.half[batch, host][..., 1] + half[..., 1] + uniform(0.08, 0.40))
    host_yaw = standing.yaw[batch, host]
    host_center = standing.center[batch, host]
    cos, sin = host_yaw.cos(), host_yaw.sin()
    beside = (stance == STANCES.index("beside")) & suits.any(1, keepdim=True)
    x = torch.where(beside, host_center[..., 0] + local_x * cos - local_y * sin, x)
    y = torch.where(beside, host_center[..., 1] + local_x * sin + local_y * cos, y)
    yaw = torch.where(beside, host_yaw + torch.where(side > 0, math.pi, 0.0) + uniform(-0.15, 0.15), yaw)
    return torch.stack([x, y], -1), yaw
