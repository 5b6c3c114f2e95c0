"""Where rays end: boxes, upright cylinders, a ball and a room, intersected analytically and in bulk.

Every function broadcasts rays against a trailing axis of primitives and reduces it at once, without data-dependent
control flow, so that a compiler can fuse a whole pass into a few kernels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from omni_gen3d.training.furniture import PARTS_PER_OBJECT

OBJECT_SLOTS = 6
CYLINDERS = 3
BOXES = OBJECT_SLOTS * PARTS_PER_OBJECT

# Primitives: boxes, cylinders, the room's faces -x, +x, -y, +y, floor, ceiling, then the ball.
FIRST_CYLINDER = BOXES
FIRST_FACE = BOXES + CYLINDERS
BALL = FIRST_FACE + 6
PRIMITIVES = BALL + 1

# Surfaces: objects (all boxes of a slot are one), cylinders, walls, floor, ceiling, ball.
FIRST_WALL = OBJECT_SLOTS + CYLINDERS
FLOOR_SURFACE = FIRST_WALL + 4
CEILING_SURFACE = FIRST_WALL + 5

_NEAR = 0.02  # [m]
_MISS = 1e4  # [m]
_TINY = 1e-5

Vector = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Solids(NamedTuple):
    """The geometry of B worlds; the room is centred on the origin, its floor is z = 0.

    Attributes:
        box_center: [m], shape ``(B, 36, 3)``; a box of zero size is absent.
        box_half: Half sizes along the box's own axes [m], shape ``(B, 36, 3)``.
        box_axis: Cosine and sine of the yaw, shape ``(B, 36, 2)``.
        cylinder_center: Axis position [m], shape ``(B, 3, 2)``.
        cylinder_radius: [m], shape ``(B, 3)``.
        cylinder_top: Height of the top [m], negative for an absent cylinder, shape ``(B, 3)``.
        half_extents: Half length and half width of the room [m], shape ``(B, 2)``.
        height: Of the room [m], shape ``(B,)``.
        ball_center: [m], shape ``(B, 3)``.
        ball_radius: [m], 0 for an absent ball, shape ``(B,)``.
        ball_turn: Rotation from the ball's own frame to the world, shape ``(B, 3, 3)``.
    """

    box_center: torch.Tensor
    box_half: torch.Tensor
    box_axis: torch.Tensor
    cylinder_center: torch.Tensor
    cylinder_radius: torch.Tensor
    cylinder_top: torch.Tensor
    half_extents: torch.Tensor
    height: torch.Tensor
    ball_center: torch.Tensor
    ball_radius: torch.Tensor
    ball_turn: torch.Tensor


def per_world(value: torch.Tensor) -> torch.Tensor:
    """``(B,)`` as ``(B, 1, 1)``, to broadcast over frames and rays."""
    return value[:, None, None]


def ray_directions(rotation: torch.Tensor, pixels: torch.Tensor, focal_px: torch.Tensor) -> Vector:
    """World directions of rays whose camera z is 1, so that a distance along them is a z-depth.

    Args:
        rotation: Camera-to-world rotations, OpenCV, shape ``(B, T, 3, 3)``.
        pixels: Offsets from the principal point [pixels], shape ``(N, 2)``.
        focal_px: Focal lengths [pixels], shape ``(B,)``.

    Returns:
        The three components, each ``(B, T, N)``, never exactly zero.
    """
    x, y = pixels[:, 0] / per_world(focal_px), pixels[:, 1] / per_world(focal_px)
    components = [rotation[:, :, i, 0:1] * x + rotation[:, :, i, 1:2] * y + rotation[:, :, i, 2:3] for i in range(3)]
    dx, dy, dz = (torch.where(d.abs() < _TINY, _TINY, d) for d in components)
    return dx, dy, dz


def box_interval(solids: Solids, origin: Vector, direction: Vector) -> tuple[torch.Tensor, torch.Tensor]:
    """Ray parameters where the ray enters and leaves each box (slab method): ``(B, T, N, 36)`` twice.

    ``origin`` and ``direction`` are ``(B, T, N)`` or ``(B, T, 1)``; a ray misses where it leaves before it enters.
    """
    lx, ly, lz = _in_box_frames(solids, origin)
    cos, sin = (axis[:, None, None] for axis in solids.box_axis.unbind(-1))
    dx, dy, dz = (component[..., None] for component in direction)
    qx, qy = dx * cos + dy * sin, dy * cos - dx * sin
    inv_x = 1 / torch.where(qx.abs() < _TINY, _TINY, qx)
    inv_y = 1 / torch.where(qy.abs() < _TINY, _TINY, qy)
    inv_z = 1 / dz
    hx, hy, hz = (half[:, None, None] for half in solids.box_half.unbind(-1))
    mid_x, mid_y, mid_z = -lx * inv_x, -ly * inv_y, -lz * inv_z
    reach_x, reach_y, reach_z = (hx * inv_x).abs(), (hy * inv_y).abs(), (hz * inv_z).abs()
    enter = torch.maximum(torch.maximum(mid_x - reach_x, mid_y - reach_y), mid_z - reach_z)
    leave = torch.minimum(torch.minimum(mid_x + reach_x, mid_y + reach_y), mid_z + reach_z)
    return enter, leave


def box_distances(solids: Solids, point: Vector) -> torch.Tensor:
    """Signed distance [m] of points ``(B, T, N)`` to every box: ``(B, T, N, 36)``."""
    local = _in_box_frames(solids, point)
    x, y, z = (
        coordinate.abs() - half[:, None, None]
        for coordinate, half in zip(local, solids.box_half.unbind(-1), strict=True)
    )
    outside = (x.clamp(min=0) ** 2 + y.clamp(min=0) ** 2 + z.clamp(min=0) ** 2).sqrt()
    return outside + torch.maximum(torch.maximum(x, y), z).clamp(max=0)


def cylinder_distances(solids: Solids, point: Vector) -> torch.Tensor:
    """Signed distance [m] of points ``(B, T, N)`` to every cylinder: ``(B, T, N, 3)``, large where absent."""
    x, y, z = (coordinate[..., None] for coordinate in point)
    cx, cy = (center[:, None, None] for center in solids.cylinder_center.unbind(-1))
    top = solids.cylinder_top[:, None, None]
    side = ((x - cx) ** 2 + (y - cy) ** 2).sqrt() - solids.cylinder_radius[:, None, None]
    above = z - top
    distance = (side.clamp(min=0) ** 2 + above.clamp(min=0) ** 2).sqrt() + torch.maximum(side, above).clamp(max=0)
    return torch.where(top > 0, distance, _MISS)


def ball_distance(solids: Solids, point: Vector) -> torch.Tensor:
    """Signed distance [m] of points ``(B, T, N)`` to the ball: ``(B, T, N)``, large where absent."""
    x, y, z = (p - per_world(c) for p, c in zip(point, solids.ball_center.unbind(-1), strict=True))
    radius = per_world(solids.ball_radius)
    return torch.where(radius > 0, (x * x + y * y + z * z).sqrt() - radius, _MISS)


def room_distance(solids: Solids, point: Vector) -> torch.Tensor:
    """Distance [m] to the nearest wall, floor or ceiling, negative outside the room: ``(B, T, N)``."""
    x, y, z = point
    half_x, half_y = (per_world(half) for half in solids.half_extents.unbind(-1))
    across = torch.minimum(half_x - x.abs(), half_y - y.abs())
    return torch.minimum(across, torch.minimum(z, per_world(solids.height) - z))


def first_hit(solids: Solids, origin: torch.Tensor, direction: Vector) -> tuple[torch.Tensor, torch.Tensor]:
    """The first primitive on each ray.

    Args:
        solids: B worlds.
        origin: Ray origins [m], shape ``(B, T, 3)``. Seen from outside, the room's near walls let the ray in; a ray
            that never meets the room ends at once, so the result is finite everywhere.
        direction: Components ``(B, T, N)``, none zero.

    Returns:
        Ray parameter of the hit and index of the primitive, each ``(B, T, N)``.
    """
    ox, oy, oz = start = (origin[:, :, 0:1], origin[:, :, 1:2], origin[:, :, 2:3])
    dx, dy, dz = direction
    enter, leave = box_interval(solids, start, direction)
    box_t, box = torch.where((enter < leave) & (enter > _NEAR), enter, _MISS).min(-1)

    cx, cy = (center[:, None, None] for center in solids.cylinder_center.unbind(-1))
    radius_squared = solids.cylinder_radius[:, None, None] ** 2
    top = solids.cylinder_top[:, None, None]
    px, py, pz = ox[..., None] - cx, oy[..., None] - cy, oz[..., None]
    vx, vy, vz = dx[..., None], dy[..., None], dz[..., None]
    a, b, c = vx * vx + vy * vy, px * vx + py * vy, px * px + py * py - radius_squared
    discriminant = b * b - a * c
    side_t = (-b - discriminant.clamp(min=0).sqrt()) / a
    side_z = pz + side_t * vz
    on_side = (discriminant > 0) & (side_t > _NEAR) & (side_z < top) & (side_z > 0)
    top_t = (top - pz) / vz
    on_top = (top_t > _NEAR) & (vz < 0) & (top > 0)
    on_top = on_top & ((px + top_t * vx) ** 2 + (py + top_t * vy) ** 2 < radius_squared)
    cylinder_t, cylinder = torch.minimum(torch.where(on_side, side_t, _MISS), torch.where(on_top, top_t, _MISS)).min(-1)

    bx, by, bz = (o - per_world(c) for o, c in zip(start, solids.ball_center.unbind(-1), strict=True))
    a, b = dx * dx + dy * dy + dz * dz, bx * dx + by * dy + bz * dz
    discriminant = b * b - a * (bx * bx + by * by + bz * bz - per_world(solids.ball_radius) ** 2)
    ball_t = (-b - discriminant.clamp(min=0).sqrt()) / a
    ball_t = torch.where((discriminant > 0) & (ball_t > _NEAR) & (per_world(solids.ball_radius) > 0), ball_t, _MISS)

    half_x, half_y = (per_world(half) for half in solids.half_extents.unbind(-1))
    wall_x = (torch.sign(dx) * half_x - ox) / dx
    wall_y = (torch.sign(dy) * half_y - oy) / dy
    level = torch.where(dz > 0, (per_world(solids.height) - oz) / dz, -oz / dz)
    nearest = torch.minimum(torch.minimum(wall_x, wall_y), level)
    face = torch.where(
        nearest == wall_x,
        torch.where(dx > 0, 1, 0),
        torch.where(nearest == wall_y, torch.where(dy > 0, 3, 2), torch.where(dz > 0, 5, 4)),
    )
    face_t = nearest.clamp(min=_NEAR)

    solid_t = torch.minimum(torch.minimum(box_t, cylinder_t), ball_t)
    solid = torch.where(box_t <= cylinder_t, box, FIRST_CYLINDER + cylinder)
    solid = torch.where(ball_t <= torch.minimum(box_t, cylinder_t), BALL, solid)
    primitive = torch.where(solid_t < face_t, solid, FIRST_FACE + face)
    return torch.minimum(solid_t, face_t), primitive


def surface_of(primitive: torch.Tensor) -> torch.Tensor:
    """Surface index of a primitive index: object slot, cylinder, wall, floor, ceiling or ball."""
    slot = torch.div(primitive, PARTS_PER_OBJECT, rounding_mode="floor")
    return torch.where(primitive < BOXES, slot, primitive - FIRST_CYLINDER + OBJECT_SLOTS)


def _in_box_frames(solids: Solids, point: Vector) -> Vector:
    """Points ``(B, T, N)`` in the frame of every box: components ``(B, T, N, 36)``."""
    cos, sin = (axis[:, None, None] for axis in solids.box_axis.unbind(-1))
    x, y, z = (
        coordinate[..., None] - center[:, None, None]
        for coordinate, center in zip(point, solids.box_center.unbind(-1), strict=True)
    )
    return x * cos + y * sin, y * cos - x * sin, z
