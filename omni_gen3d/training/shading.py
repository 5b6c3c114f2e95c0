"""From hits to colours: paint, openings in the walls, one soft ceiling light, darkening in corners, a tone curve."""

from __future__ import annotations

from typing import NamedTuple

import torch

from omni_gen3d.training.raycast import (
    BALL,
    BOXES,
    CYLINDERS,
    FIRST_CYLINDER,
    FIRST_FACE,
    Solids,
    Vector,
    ball_distance,
    box_distances,
    box_interval,
    cylinder_distances,
    first_hit,
    per_world,
    ray_directions,
)
from omni_gen3d.training.textures import Channels, line, pattern, resolved, smoothstep, value_noise

OPENINGS = ("none", "door", "window", "picture", "gate")
_DOOR, _WINDOW, _PICTURE, _GATE = range(1, 5)

_EXPOSURE = 1.75
_SHADOW_SOFTNESS = 0.3  # length inside an occluder that makes the shadow full [m]
_CREASE = 0.16  # reach of the darkening beside a piece of furniture [m]
_CORNER = 0.28  # reach of the darkening in the room's corners [m]


class Paint(NamedTuple):
    """How the primitives of B worlds look, and their light.

    Attributes:
        color: Albedo, shape ``(B, 46, 3)``.
        material: Index into ``MATERIALS``, shape ``(B, 46)``.
        seed: Variation of the pattern, shape ``(B, 46)``.
        opening: Index into ``OPENINGS`` for the walls -x, +x, -y, +y, shape ``(B, 4)``.
        opening_rect: Centre along the wall, half width, bottom, top [m], shape ``(B, 4, 4)``.
        opening_repeat: Period [m] and number of copies to each side, shape ``(B, 4, 2)``.
        opening_color: Shape ``(B, 4, 3)``.
        floor_line: Distance of a yellow line from the walls [m], 0 for none, shape ``(B,)``.
        lamp: Position of the light [m], shape ``(B, 3)``.
        lamp_period: Spacing of the lit ceiling panels [m], shape ``(B,)``.
        ambient: Share of the light that comes from everywhere, shape ``(B,)``.
        light: Colour times intensity of the light, shape ``(B, 3)``.
    """

    color: torch.Tensor
    material: torch.Tensor
    seed: torch.Tensor
    opening: torch.Tensor
    opening_rect: torch.Tensor
    opening_repeat: torch.Tensor
    opening_color: torch.Tensor
    floor_line: torch.Tensor
    lamp: torch.Tensor
    lamp_period: torch.Tensor
    ambient: torch.Tensor
    light: torch.Tensor


class _Surface(NamedTuple):
    """What a ray met, each field ``(B, T, N)`` or three of them."""

    point: Vector
    normal: Vector
    u: torch.Tensor
    v: torch.Tensor
    face: torch.Tensor
    on_wall: torch.Tensor
    footprint: torch.Tensor


def paint_rays(
    solids: Solids, paint: Paint, camera_to_world: torch.Tensor, pixels: torch.Tensor, focal_px: torch.Tensor
) -> torch.Tensor:
    """Colours that rays see.

    Args:
        solids: Geometry of B worlds.
        paint: Looks of B worlds.
        camera_to_world: OpenCV, shape ``(B, T, 4, 4)`` [m].
        pixels: Offsets from the principal point [pixels], shape ``(N, 2)``.
        focal_px: Focal lengths [pixels], shape ``(B,)``.

    Returns:
        RGB in [0, 1], shape ``(B, T, N, 3)``.
    """
    origin = camera_to_world[:, :, :3, 3]
    direction = ray_directions(camera_to_world[:, :, :3, :3], pixels, focal_px)
    distance, primitive = first_hit(solids, origin, direction)
    surface = _surface(solids, origin, direction, distance, primitive, focal_px)

    world = per_world(torch.arange(len(origin), device=origin.device))
    factors = pattern(
        paint.material[world, primitive], surface.u, surface.v, paint.seed[world, primitive], surface.footprint
    )
    base = tuple(paint.color[world, primitive, i] * factors[i] for i in range(3))
    albedo, glow, glow_color = _wall_and_floor_details(solids, paint, surface, (base[0], base[1], base[2]))

    irradiance = _irradiance(solids, paint, surface, primitive)
    panel = _lit_panels(paint, surface)
    channels = []
    for i in range(3):
        light = albedo[i] * irradiance * per_world(paint.light[:, i])
        light = light * (1 - glow) + glow * glow_color[i]
        light = light * (1 - panel) + panel * 2.2
        channels.append(1 - torch.exp(-_EXPOSURE * light))
    return torch.stack(channels, -1).clamp(0, 1)


def _surface(
    solids: Solids,
    origin: torch.Tensor,
    direction: Vector,
    distance: torch.Tensor,
    primitive: torch.Tensor,
    focal_px: torch.Tensor,
) -> _Surface:
    """Point, normal and surface coordinates of each hit."""
    x, y, z = (origin[:, :, i : i + 1] + distance * direction[i] for i in range(3))
    world = per_world(torch.arange(len(origin), device=origin.device))
    is_box = primitive < BOXES
    is_ball = primitive == BALL
    is_face = (primitive >= FIRST_FACE) & ~is_ball
    is_cylinder = ~is_box & ~is_face & ~is_ball
    zero = torch.zeros_like(distance)

    box = torch.where(is_box, primitive, 0)
    cos, sin = (solids.box_axis[world, box, i] for i in range(2))
    px, py, lz = (p - solids.box_center[world, box, i] for i, p in enumerate((x, y, z)))
    lx, ly = px * cos + py * sin, py * cos - px * sin
    gap_x, gap_y, gap_z = (p.abs() - solids.box_half[world, box, i] for i, p in enumerate((lx, ly, lz)))
    side_x = (gap_x >= gap_y) & (gap_x >= gap_z)
    side_y = ~side_x & (gap_y >= gap_z)
    side_z = ~side_x & ~side_y
    box_normal = (
        torch.where(side_x, torch.sign(lx) * cos, torch.where(side_y, -torch.sign(ly) * sin, zero)),
        torch.where(side_x, torch.sign(lx) * sin, torch.where(side_y, torch.sign(ly) * cos, zero)),
        torch.where(side_z, torch.sign(lz), zero),
    )
    box_u, box_v = torch.where(side_x, ly, lx), torch.where(side_z, ly, lz)

    cylinder = torch.where(is_cylinder, primitive - FIRST_CYLINDER, 0)
    radius = solids.cylinder_radius[world, cylinder]
    ax, ay = ((p - solids.cylinder_center[world, cylinder, i]) / radius for i, p in enumerate((x, y)))
    on_lid = z > solids.cylinder_top[world, cylinder] - 1e-3
    cylinder_normal = (torch.where(on_lid, zero, ax), torch.where(on_lid, zero, ay), torch.where(on_lid, 1.0, zero))
    cylinder_u = torch.where(on_lid, ax * radius, torch.atan2(ay, ax) * radius)
    cylinder_v = torch.where(on_lid, ay * radius, z)

    face = torch.where(is_face, primitive - FIRST_FACE, 0)
    across_x, across_y = is_face & (face < 2), is_face & ((face == 2) | (face == 3))
    level = is_face & (face >= 4)
    inward = torch.where((face == 1) | (face == 3) | (face == 5), -1.0, 1.0)
    face_normal = tuple(torch.where(mask, inward, zero) for mask in (across_x, across_y, level))
    face_u, face_v = torch.where(across_x, y, x), torch.where(level, y, z)

    ball_radius = per_world(solids.ball_radius).clamp(min=1e-3)
    ball_normal = [(p - per_world(solids.ball_center[:, i])) / ball_radius for i, p in enumerate((x, y, z))]
    turned = [[per_world(solids.ball_turn[:, i, j]) * ball_normal[i] for i in range(3)] for j in range(3)]
    own_x, own_y, own_z = (a + b + c for a, b, c in turned)
    ball_u, ball_v = torch.atan2(own_y, own_x) * ball_radius, own_z * ball_radius

    nx, ny, nz = (
        torch.where(
            is_box,
            box_normal[i],
            torch.where(is_cylinder, cylinder_normal[i], torch.where(is_ball, ball_normal[i], face_normal[i])),
        )
        for i in range(3)
    )
    round_u, round_v = torch.where(is_ball, ball_u, cylinder_u), torch.where(is_ball, ball_v, cylinder_v)
    dx, dy, dz = direction
    facing = (nx * dx + ny * dy + nz * dz).abs() * torch.rsqrt(dx * dx + dy * dy + dz * dz)
    return _Surface(
        point=(x, y, z),
        normal=(nx, ny, nz),
        u=torch.where(is_box, box_u, torch.where(is_face, face_u, round_u)),
        v=torch.where(is_box, box_v, torch.where(is_face, face_v, round_v)),
        face=torch.where(is_face, face, -1),
        on_wall=across_x | across_y,
        # Between the two extents of a slanted pixel: their geometric mean.
        footprint=distance / per_world(focal_px) * torch.rsqrt(facing.clamp(min=0.05)),
    )


def _wall_and_floor_details(
    solids: Solids, paint: Paint, surface: _Surface, base: Channels
) -> tuple[Channels, torch.Tensor, Channels]:
    """Paint doors, windows, pictures, gates, skirting and floor lines over ``base``.

    Returns:
        The albedo, the share of each pixel that shines by itself, and the colour it shines with.
    """
    x, y, z = surface.point
    soft = surface.footprint
    world = per_world(torch.arange(len(paint.opening), device=z.device))
    wall = torch.where(surface.on_wall, surface.face, 0)
    kind = torch.where(surface.on_wall, paint.opening[world, wall], 0)
    center, half_width, bottom, top = (paint.opening_rect[world, wall, i] for i in range(4))
    period, copies = (paint.opening_repeat[world, wall, i] for i in range(2))
    color = tuple(paint.opening_color[world, wall, i] for i in range(3))

    along = surface.u - center
    along = along - torch.round(along / period).clamp(-copies, copies) * period
    outside = torch.maximum(along.abs() - half_width, torch.maximum(bottom - z, z - top))
    exists = kind > 0
    pane = torch.where(exists, smoothstep(0.5 - outside / (1.5 * soft + 0.004)), 0.0)
    frame = torch.where(exists, smoothstep(0.5 - (outside - 0.06) / (1.5 * soft + 0.004)), 0.0) - pane

    middle = (bottom + top) / 2
    mullion = torch.where(kind == _WINDOW, line(torch.minimum(along.abs(), (z - middle).abs()), 0.025, soft), 0.0)
    inset = line((outside + 0.14).abs(), 0.015, soft)
    handle = line((along - half_width + 0.09).abs(), 0.02, soft) * line((z - 1.0).abs(), 0.06, soft)
    slats = 0.5 - 0.5 * torch.cos(z * (6.2832 / 0.3)) * resolved(0.3, soft)
    motif = value_noise(along * 3.5, z * 3.5, center + 11)
    shade = torch.where(
        kind == _DOOR,
        (1 - 0.3 * inset) * (1 - 0.8 * handle),
        torch.where(kind == _PICTURE, 1 + 1.1 * motif, torch.where(kind == _GATE, 0.82 + 0.3 * slats, 1.0)),
    )
    skirting = torch.where(surface.on_wall & (pane + frame < 0.5), smoothstep((0.10 - z) / (soft + 0.006)), 0.0)
    half_x, half_y = (per_world(half) for half in solids.half_extents.unbind(-1))
    from_wall = torch.minimum(half_x - x.abs(), half_y - y.abs())
    marked = (surface.face == 4) & (per_world(paint.floor_line) > 0)
    marking = torch.where(marked, line((from_wall - per_world(paint.floor_line)).abs(), 0.05, soft), 0.0)

    frame_tone = torch.where(kind == _PICTURE, 0.10, torch.where(kind == _GATE, 0.25, 0.80))
    yellow = (0.85, 0.62, 0.05)
    albedo = []
    for i in range(3):
        value = base[i] * (1 - skirting) + (0.15 + 0.55 * base[i]) * skirting
        value = value * (1 - pane - frame) + color[i] * shade * pane + frame_tone * frame
        value = value * (1 - mullion * pane) + 0.8 * mullion * pane
        albedo.append(value * (1 - marking) + yellow[i] * marking)
    glow = torch.where(kind == _WINDOW, 0.85 * pane * (1 - mullion), 0.0)
    sky = 0.92 + 0.18 * (z - middle)
    return (albedo[0], albedo[1], albedo[2]), glow, (color[0] * sky, color[1] * sky, color[2] * sky)


def _lit_panels(paint: Paint, surface: _Surface) -> torch.Tensor:
    """Share of each pixel that belongs to a lit ceiling panel."""
    period = per_world(paint.lamp_period)
    offsets = []
    for i in range(2):
        offset = surface.point[i] - per_world(paint.lamp[:, i])
        offsets.append((offset - torch.round(offset / period) * period).abs())
    outside = torch.maximum(offsets[0] - 0.45, offsets[1] - 0.16)
    return torch.where(surface.face == 5, smoothstep(0.5 - outside / (1.5 * surface.footprint + 0.01)), 0.0)


def _irradiance(solids: Solids, paint: Paint, surface: _Surface, primitive: torch.Tensor) -> torch.Tensor:
    """Ambient light darkened near other surfaces, plus the lamp with a soft shadow."""
    x, y, z = surface.point
    nx, ny, nz = surface.normal
    lx, ly, lz = (per_world(paint.lamp[:, i]) - p for i, p in enumerate((x, y, z)))
    lamp_squared = lx * lx + ly * ly + lz * lz + 0.05
    lamp_distance = lamp_squared.sqrt()
    lambert = (0.8 * (nx * lx + ny * ly + nz * lz) / lamp_distance + 0.2).clamp(min=0)

    lifted = (x + 0.02 * nx, y + 0.02 * ny, z + 0.02 * nz)
    others = primitive[..., None] != torch.arange(BOXES, device=x.device)
    steady_z = torch.where(lz.abs() < 1e-4, 1e-4, lz)
    enter, leave = box_interval(solids, lifted, (lx, ly, steady_z))
    inside = (leave.clamp(max=1) - enter.clamp(min=0)) * lamp_distance[..., None]
    shadow = torch.where(others, (inside / _SHADOW_SOFTNESS).clamp(0, 1), 0.0).amax(-1)

    near_box = torch.where(others, torch.exp(-box_distances(solids, lifted).clamp(min=0) / _CREASE), 0.0).amax(-1)
    other_cylinders = primitive[..., None] != FIRST_CYLINDER + torch.arange(CYLINDERS, device=x.device)
    to_cylinder = cylinder_distances(solids, lifted).clamp(min=0)
    near_cylinder = torch.where(other_cylinders, torch.exp(-to_cylinder / _CREASE), 0.0).amax(-1)
    to_ball = ball_distance(solids, lifted).clamp(min=0)
    near_ball = torch.where(primitive != BALL, torch.exp(-to_ball / _CREASE), 0.0)
    openness = (1 - 0.55 * near_box) * (1 - 0.5 * near_cylinder) * (1 - 0.5 * near_ball)

    half_x, half_y = (per_world(half) for half in solids.half_extents.unbind(-1))
    face = surface.face
    openness = openness * torch.where((face == 0) | (face == 1), 1.0, _corner(half_x - x.abs()))
    openness = openness * torch.where((face == 2) | (face == 3), 1.0, _corner(half_y - y.abs()))
    openness = openness * torch.where(face >= 4, 1.0, _corner(z) * _corner(per_world(solids.height) - z))

    # The lamp is as bright as the room is high: tall halls are not darker than kitchens.
    falloff = 1 / (1 + 0.22 * lamp_squared / per_world(solids.height) ** 2)
    ambient = per_world(paint.ambient)
    return openness * (ambient * (0.82 + 0.18 * nz) + (1.3 - ambient) * lambert * (1 - 0.75 * shadow) * falloff)


def _corner(distance: torch.Tensor) -> torch.Tensor:
    return 1 - 0.34 * torch.exp(-distance.clamp(min=0) / _CORNER)
