"""Rooms full of real objects, drawn from a generator: what stands at the walls and between, and what lies on top."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from omni_gen3d.training.furniture import STANCES, furniture_tables
from omni_gen3d.training.layout import Footprints, arrange
from omni_gen3d.training.object_caster import ObjectCaster, Placed
from omni_gen3d.training.object_set import PLACES
from omni_gen3d.training.object_shapes import SHAPES

_STANDING = 12  # places for what stands on the floor
_RACKS = 2  # open racks of boards and posts
_RACK_PARTS = 8
RACK_PLACES = range(_STANDING, _STANDING + _RACKS * _RACK_PARTS)  # of ``Placed``: boards and posts
_BOARDS = (0.08, 0.36, 0.66, 0.97)  # heights of a rack's boards over its own
_LOOSE = 30  # places for what is dropped from above
_DROPS = 3  # rounds in which it is dropped
_FLYING = 6  # places for what hangs in the air, in wild rooms
_FAR = 1e4


@dataclass(frozen=True)
class Rooms:
    """B empty rooms and their light; the room is centred on the origin, its floor is z = 0.

    Attributes:
        half_extents: Half length and half width [m], shape ``(B, 2)``.
        height: [m], shape ``(B,)``; without end outdoors.
        outdoors: True where sky is seen over the walls, shape ``(B,)``.
        wall_height: Height of the walls [m], shape ``(B,)``.
        texture: Of the walls -x, +x, -y, +y, the floor and the ceiling, -1 for none, shape ``(B, 6)``.
        texture_size: Length that a texture spans [m], shape ``(B, 6)``.
        color: Albedo factor, shape ``(B, 6, 3)``.
        sky: Index of the panorama, shape ``(B,)``.
        lamps: Positions [m], shape ``(B, 2, 3)``.
        lamp_light: Colour times intensity, shape ``(B, 2, 3)``.
        ambient: Light from everywhere, shape ``(B, 3)``.
        shine: Strength of reflections, shape ``(B,)``.
        softness: Radius of the lamps [m], shape ``(B,)``.
    """

    half_extents: torch.Tensor
    height: torch.Tensor
    outdoors: torch.Tensor
    wall_height: torch.Tensor
    texture: torch.Tensor
    texture_size: torch.Tensor
    color: torch.Tensor
    sky: torch.Tensor
    lamps: torch.Tensor
    lamp_light: torch.Tensor
    ambient: torch.Tensor
    shine: torch.Tensor
    softness: torch.Tensor

    def __len__(self) -> int:
        return len(self.height)


class _Draws:
    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count, self.generator, self.device = count, generator, generator.device

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(self.count, *shape, generator=self.generator, device=self.device)

    def log_uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.exp(self.uniform(math.log(low), math.log(high), *shape))

    def chance(self, share: float, *shape: int) -> torch.Tensor:
        return self.uniform(0, 1, *shape) < share

    def integer(self, n: int, *shape: int) -> torch.Tensor:
        return torch.randint(n, (self.count, *shape), generator=self.generator, device=self.device)


def sample_rooms(count: int, caster: ObjectCaster, generator: torch.Generator) -> Rooms:
    """Empty rooms from cupboards to yards."""
    d = _Draws(count, generator)
    objects = caster.objects
    outdoors = d.chance(0.2)
    half = d.log_uniform(1.3, 4.5, 2)
    half = torch.where(outdoors[:, None], half * d.uniform(1.5, 4, 1), half)
    height = d.uniform(2.2, 3.6)
    wall_height = torch.where(outdoors, height * d.uniform(0, 1.3), height)
    height = torch.where(outdoors, _FAR, height)
    surfaces = torch.tensor([*range(objects.first_surface, len(objects.textures))] or [-1], device=d.device)
    texture = surfaces[d.integer(len(surfaces), 6)]
    texture[:, 1:4] = torch.where(d.chance(0.8, 1), texture[:, :1], texture[:, 1:4])
    plain = d.chance(0.45, 6)
    plain[:, 4] = d.chance(0.15)
    plain[:, 5] = d.chance(0.8)
    hue = d.uniform(0.5, 1, 6, 3)
    grey = d.uniform(0.25, 1.0, 6, 1)
    color = grey * torch.lerp(torch.ones_like(hue), hue, d.uniform(0, 1, 6, 1))
    color[:, 1:4] = torch.where(d.chance(0.8, 1, 1), color[:, :1], color[:, 1:4])
    inside = torch.cat([half * 0.9, torch.ones_like(half[:, :1])], -1)
    lamp_z = torch.where(outdoors, d.uniform(6, 20), wall_height - d.uniform(0.05, 0.6))
    lamps = d.uniform(-1, 1, 2, 3) * inside[:, None] * torch.where(outdoors, 4.0, 1.0)[:, None, None]
    lamps[..., 2] = lamp_z[:, None]
    tone = torch.tensor([1.0, 0.94, 0.82], device=d.device) ** d.uniform(-0.5, 1.8, 2, 1)
    return Rooms(
        half_extents=half,
        height=height,
        outdoors=outdoors,
        wall_height=wall_height,
        texture=torch.where(plain, -1, texture),
        texture_size=d.log_uniform(0.5, 3, 6),
        color=color,
        sky=d.integer(len(objects.skies)),
        lamps=lamps,
        lamp_light=tone * d.log_uniform(0.15, 1.2, 2, 1),
        ambient=(torch.tensor([1.0, 0.97, 0.92], device=d.device) ** d.uniform(-1, 2, 1)) * d.log_uniform(0.15, 0.7, 1),
        shine=d.uniform(0, 1),
        softness=d.uniform(0.02, 0.15),
    )


def furnish(rooms: Rooms, caster: ObjectCaster, generator: torch.Generator) -> Placed:
    """Fill rooms: pieces at the walls and between, racks, things dropped onto all of it, in some things in the air."""
    count = len(rooms)
    d = _Draws(count, generator)
    device = d.device
    floor = torch.nonzero(caster.places == PLACES.index("floor"))[:, 0]
    small = torch.nonzero(caster.places == PLACES.index("top"))[:, 0]
    cube = SHAPES.index("box")

    number = d.uniform(4, _STANDING + 1, 1)
    present = torch.arange(_STANDING, device=device) < number
    stance = torch.where(d.chance(0.55, _STANDING), STANCES.index("wall"), STANCES.index("free"))
    model = floor[d.integer(len(floor), _STANDING)]
    stretch = d.uniform(0.85, 1.2, _STANDING, 1) * d.uniform(0.93, 1.07, _STANDING, 3)
    is_shape = model < len(SHAPES)
    shape_size = d.log_uniform(0.06, 1.6, _STANDING, 3)
    size = torch.where(is_shape[..., None], shape_size, caster.sizes[model] * stretch)

    # Racks are arranged as pieces and made of boards and posts.
    rack_size = torch.stack([d.uniform(0.7, 2.2, _RACKS), d.uniform(0.3, 0.7, _RACKS), d.uniform(1.0, 2.2, _RACKS)], -1)
    has_rack = d.chance(0.6, _RACKS)
    tables = furniture_tables(device)
    tables = tables._replace(
        stance=torch.arange(len(STANCES), device=device),
        hosted_by=torch.zeros(len(STANCES), len(STANCES), dtype=torch.bool, device=device),
    )
    kinds = torch.cat([torch.full((count, _RACKS), STANCES.index("wall"), device=device), stance], 1)
    wanted = torch.cat([has_rack, present], 1)
    nothing = Footprints(
        torch.zeros(count, 1, 2, device=device),
        torch.zeros(count, 1, 2, device=device),
        torch.zeros(count, 1, device=device),
        torch.zeros(count, 1, dtype=torch.bool, device=device),
    )
    sizes = torch.cat([rack_size, size], 1)
    reach = torch.where(rooms.outdoors[:, None], rooms.half_extents.clamp(max=4.5), rooms.half_extents)
    places = arrange(tables, torch.where(wanted, kinds, -1), sizes, reach, nothing, generator)

    standing = _upright(
        places.center[:, _RACKS:], torch.zeros_like(size[..., 0]), places.yaw[:, _RACKS:], size / caster.sizes[model]
    )
    model = torch.where(places.present[:, _RACKS:], model, -1)
    boards, board_model = _rack_parts(rack_size, places.center[:, :_RACKS], places.yaw[:, :_RACKS], cube, caster, d)
    board_model = torch.where(places.present[:, :_RACKS, None], board_model, -1).flatten(1)
    rack_tint = d.uniform(0.1, 1, _RACKS, 1).expand(-1, -1, _RACK_PARTS).flatten(1)[..., None].expand(-1, -1, 3)
    placed = Placed(
        torch.cat([model, board_model], 1),
        torch.cat([standing, boards.flatten(1, 2)], 1),
        torch.cat([_tint(d, _STANDING), rack_tint], 1),
        torch.cat([_texture(d, caster, model), torch.full_like(board_model, -1)], 1),
    )
    for _ in range(_DROPS):
        placed = _drop(placed, rooms, places, rack_size[..., 2], small, _LOOSE // _DROPS, caster, d)
    return _fly(placed, rooms, caster, d)


def layout_key(rooms: Rooms, placed: Placed) -> list[bytes]:
    """What tells layouts apart, one a room: its size to 10 cm, and which objects stand where, to 1 cm and 1 degree.

    Continuous sizes, places and turns make the space of layouts practically endless: a piece alone has about 3 x 10^7
    places in a room of 4 x 4 m; with two of a hundred objects there are over 10^18 layouts.
    """
    there = placed.model >= 0
    turned = torch.atan2(placed.to_world[..., 1, 0], placed.to_world[..., 0, 0]).rad2deg()
    rows = torch.cat([placed.to_world[..., 3] * 100, turned[..., None], placed.model[..., None].float()], -1)
    rows = torch.where(there[..., None], rows, -1.0).round().long().flatten(1)
    size = (rooms.half_extents * 20).round().long()
    return [row.cpu().numpy().tobytes() for row in torch.cat([size, rows], 1)]


def _tint(d: _Draws, places: int) -> torch.Tensor:
    return d.uniform(0.55, 1.15, places, 1) * d.uniform(0.75, 1.1, places, 3)


def _texture(d: _Draws, caster: ObjectCaster, model: torch.Tensor) -> torch.Tensor:
    """Shapes are covered with some texture of the set; what has a look of its own mostly keeps it."""
    count = len(caster.objects.textures)
    covered = d.uniform(0, 1, model.shape[1]) < torch.where(model < len(SHAPES), 0.7, 0.06)
    return torch.where(covered, d.integer(count, model.shape[1]), -1)


def _upright(center: torch.Tensor, bottom: torch.Tensor, yaw: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Affine maps ``(B, N, 3, 4)`` of objects that stand: scaled, turned about +Z and moved."""
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    turn = torch.stack(
        [
            torch.stack([yaw.cos(), -yaw.sin(), zero], -1),
            torch.stack([yaw.sin(), yaw.cos(), zero], -1),
            torch.stack([zero, zero, one], -1),
        ],
        -2,
    )
    return torch.cat([turn * scale[..., None, :], torch.cat([center, bottom[..., None]], -1)[..., None]], -1)


def _rack_parts(
    size: torch.Tensor, center: torch.Tensor, yaw: torch.Tensor, cube: int, caster: ObjectCaster, d: _Draws
) -> tuple[torch.Tensor, torch.Tensor]:
    """Four boards and four posts of each rack: maps ``(B, R, 8, 3, 4)`` and models ``(B, R, 8)``."""
    width, depth, height = size[..., None].unbind(-2)
    level = torch.tensor(_BOARDS, device=size.device) * height
    board = torch.stack([width.expand_as(level), depth.expand_as(level), torch.full_like(level, 0.03)], -1)
    post = torch.stack([torch.full_like(level, 0.05), torch.full_like(level, 0.05), height.expand_as(level)], -1)
    sx = torch.tensor([-1.0, 1, -1, 1], device=size.device) * (width / 2 - 0.025)
    sy = torch.tensor([-1.0, -1, 1, 1], device=size.device) * (depth / 2 - 0.025)
    local = torch.cat([torch.zeros(*level.shape, 2, device=size.device), torch.stack([sx, sy], -1)], -2)
    bottom = torch.cat([level - 0.03, torch.zeros_like(level)], -1)
    cos, sin = yaw.cos()[..., None], yaw.sin()[..., None]
    x = center[..., 0:1] + local[..., 0] * cos - local[..., 1] * sin
    y = center[..., 1:2] + local[..., 0] * sin + local[..., 1] * cos
    shape = torch.cat([board, post], -2) / caster.sizes[cube]
    return _upright(torch.stack([x, y], -1), bottom, yaw[..., None].expand_as(x), shape), torch.full_like(
        x, cube, dtype=torch.long
    )


def _join(a: Placed, *rows: torch.Tensor) -> Placed:
    return Placed(*(torch.cat([old, new.to(old.dtype)], 1) for old, new in zip(a, rows, strict=True)))


def _drop(
    placed: Placed,
    rooms: Rooms,
    places: Footprints,
    rack_height: torch.Tensor,
    small: torch.Tensor,
    number: int,
    caster: ObjectCaster,
    d: _Draws,
) -> Placed:
    """Lay small things where a ray from above ends, mostly over what stands there."""
    host = torch.where(d.chance(0.5, number), d.integer(_RACKS, number), d.integer(places.center.shape[1], number))
    world = torch.arange(d.count, device=d.device)[:, None]
    over = places.present[world, host] & d.chance(0.75, number)
    at = d.uniform(-0.45, 0.45, number, 2) * 2 * places.half[world, host]
    yaw = places.yaw[world, host]
    x = places.center[world, host][..., 0] + at[..., 0] * yaw.cos() - at[..., 1] * yaw.sin()
    y = places.center[world, host][..., 1] + at[..., 0] * yaw.sin() + at[..., 1] * yaw.cos()
    free = d.uniform(-0.9, 0.9, number, 2) * rooms.half_extents[:, None].clamp(max=4)
    center = torch.where(over[..., None], torch.stack([x, y], -1), free)
    is_shape = d.chance(0.45, number)
    model = torch.where(is_shape, d.integer(len(SHAPES), number), small[d.integer(len(small), number)])
    size = caster.sizes[model] * d.uniform(0.8, 1.4, number, 1)
    size = torch.where(is_shape[..., None], d.log_uniform(0.05, 0.5, number, 3), size)
    # From under the ceiling, or in a rack from under one of its boards.
    top = torch.where(rooms.outdoors, 2.5, rooms.height - 0.05)[:, None].expand(-1, number)
    levels = torch.tensor([*_BOARDS[1:], _BOARDS[-1]], device=d.device)[d.integer(len(_BOARDS), number)]
    in_rack = over & (host < _RACKS) & d.chance(0.85, number)
    top = torch.where(in_rack, levels * rack_height[world, host.clamp(max=_RACKS - 1)] - 0.04, top)
    origin = torch.cat([center, top[..., None]], -1)
    down = torch.tensor([1e-4, 1e-4, -1.0], device=d.device).expand_as(origin)
    bottom = top - caster.cast(placed, origin, down, top).distance
    size = torch.where((in_rack & is_shape)[..., None], size.minimum((top - bottom)[..., None].clamp(min=0.05)), size)
    fits = bottom + size[..., 2] <= top + 0.01
    model = torch.where(fits & d.chance(0.85, 1), model, -1)
    maps = _upright(center, bottom, d.uniform(-math.pi, math.pi, number), size / caster.sizes[model.clamp(min=0)])
    return _join(placed, model, maps, _tint(d, number), _texture(d, caster, model))


def _fly(placed: Placed, rooms: Rooms, caster: ObjectCaster, d: _Draws) -> Placed:
    """In a quarter of the rooms anything hangs anywhere, turned and scaled at will."""
    quaternion = torch.nn.functional.normalize(
        torch.randn(d.count, _FLYING, 4, generator=d.generator, device=d.device), dim=-1
    )
    w, x, y, z = quaternion.unbind(-1)
    turn = torch.stack(
        [
            1 - 2 * (y * y + z * z),
            2 * (x * y - w * z),
            2 * (x * z + w * y),
            2 * (x * y + w * z),
            1 - 2 * (x * x + z * z),
            2 * (y * z - w * x),
            2 * (x * z - w * y),
            2 * (y * z + w * x),
            1 - 2 * (x * x + y * y),
        ],
        -1,
    ).unflatten(-1, (3, 3))
    model = d.integer(len(caster.objects), _FLYING)
    size = d.log_uniform(0.1, 1.2, _FLYING, 1) * caster.sizes[model] / caster.sizes[model].amax(-1, keepdim=True)
    size = torch.where((model < len(SHAPES))[..., None], d.log_uniform(0.03, 1.5, _FLYING, 3), size)
    at = d.uniform(-0.9, 0.9, _FLYING, 3)
    at = torch.stack(
        [at[..., 0] * rooms.half_extents[:, 0:1], at[..., 1] * rooms.half_extents[:, 1:2], 1.2 + at[..., 2]], -1
    )
    there = d.chance(0.25, 1) & d.chance(0.8, _FLYING)
    maps = torch.cat([turn * (size / caster.sizes[model])[..., None, :], at[..., None]], -1)
    model = torch.where(there, model, -1)
    return _join(placed, model, maps, _tint(d, _FLYING), _texture(d, caster, model))
