"""Drawing worlds: a room, its furniture, its paint and its light, all from one generator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

from omni_gen3d.errors import InputError
from omni_gen3d.training.furniture import COLUMN, OBJECT_TYPES, FurnitureTables, furniture_tables
from omni_gen3d.training.layout import Footprints, arrange
from omni_gen3d.training.looks import (
    CEILINGS,
    FINISHES,
    FLOORS,
    LIGHT_LEVELS,
    LIGHT_TONES,
    MATERIALS,
    RGB,
    WALLS,
    Look,
)
from omni_gen3d.training.raycast import BOXES, CYLINDERS, OBJECT_SLOTS, Solids
from omni_gen3d.training.rooms import ROOMS, Range
from omni_gen3d.training.shading import OPENINGS, Paint

Split = Literal["train", "heldout"]

_DOOR, _WINDOW, _PICTURE, _GATE = (OPENINGS.index(name) for name in ("door", "window", "picture", "gate"))
_SKIES: tuple[RGB, ...] = ((0.62, 0.80, 0.98), (0.86, 0.92, 0.98), (0.98, 0.93, 0.80))
_DOOR_COLORS: tuple[RGB, ...] = ((0.80, 0.79, 0.75), (0.42, 0.26, 0.14), (0.20, 0.30, 0.42), (0.30, 0.32, 0.34))
_GATE_COLORS: tuple[RGB, ...] = ((0.62, 0.64, 0.66), (0.80, 0.80, 0.78), (0.20, 0.34, 0.52), (0.72, 0.36, 0.10))
_PICTURE_COLORS: tuple[RGB, ...] = ((0.55, 0.35, 0.20), (0.20, 0.40, 0.50), (0.50, 0.55, 0.30), (0.70, 0.60, 0.45))


@dataclass(frozen=True)
class Worlds:
    """B worlds.

    Attributes:
        kind: Index into ``WORLD_KINDS``, shape ``(B,)``.
        floor: Index into ``FLOOR_NAMES``, shape ``(B,)``.
        wall: Index into ``WALL_NAMES``, shape ``(B,)``.
        light_tone: Index into ``LIGHT_TONES``, shape ``(B,)``.
        light_level: Index into ``LIGHT_LEVELS``, shape ``(B,)``.
        object_type: Index into ``OBJECT_TYPES``, -1 for an empty slot, shape ``(B, 9)``: six slots, three cylinders.
        object_finish: Index into ``FINISHES``, shape ``(B, 9)``.
        solids: The geometry.
        paint: The looks.
    """

    kind: torch.Tensor
    floor: torch.Tensor
    wall: torch.Tensor
    light_tone: torch.Tensor
    light_level: torch.Tensor
    object_type: torch.Tensor
    object_finish: torch.Tensor
    solids: Solids
    paint: Paint

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, index: slice | torch.Tensor) -> Worlds:
        """A part of the batch."""
        return Worlds(
            self.kind[index], self.floor[index], self.wall[index], self.light_tone[index], self.light_level[index],
            self.object_type[index], self.object_finish[index],
            Solids(*(tensor[index] for tensor in self.solids)), Paint(*(tensor[index] for tensor in self.paint)),
        )  # fmt: skip

    @property
    def half_extents(self) -> torch.Tensor:
        """Half length and half width of the rooms [m], shape ``(B, 2)``."""
        return self.solids.half_extents

    @property
    def height(self) -> torch.Tensor:
        """Height of the rooms [m], shape ``(B,)``."""
        return self.solids.height


def world_generator(seed: int, split: Split, device: torch.device | str) -> torch.Generator:
    """A generator for the worlds of a split.

    Even states belong to training and odd ones to evaluation, so no seed of one can repeat a stream of the other.

    Raises:
        InputError: ``seed`` is negative or too large, or ``split`` is unknown.
    """
    if split not in ("train", "heldout"):
        raise InputError(f"split is {split!r}; allowed are 'train' and 'heldout'.")
    if not 0 <= seed < 2**62:
        raise InputError(f"seed is {seed}; it must lie in [0, 2**62).")
    return torch.Generator(device).manual_seed(2 * seed + (split == "heldout"))


class _Draws:
    """Random numbers for ``count`` worlds from one generator."""

    def __init__(self, count: int, generator: torch.Generator, device: torch.device | str) -> None:
        self.count, self.generator, self.device = count, generator, device

    def uniform(self, *shape: int) -> torch.Tensor:
        """Numbers in [0, 1), shape ``(count, *shape)``."""
        return torch.rand(self.count, *shape, generator=self.generator, device=self.device)

    def between(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Numbers between two tensors of one shape that starts with ``count``."""
        return low + (high - low) * self.uniform(*low.shape[1:])

    def integer(self, n: int, *shape: int) -> torch.Tensor:
        """Numbers from 0 to n - 1, shape ``(count, *shape)``."""
        return (self.uniform(*shape) * n).long().clamp(max=n - 1)

    def weighted(self, weights: torch.Tensor) -> torch.Tensor:
        """One index per row of ``weights (..., n)``, shape ``(...)``."""
        flat = torch.multinomial(weights.reshape(-1, weights.shape[-1]), 1, generator=self.generator)
        return flat.reshape(weights.shape[:-1])


def sample_worlds(count: int, generator: torch.Generator, device: torch.device | str) -> Worlds:
    """Draw ``count`` worlds, the six kinds equally often; ``generator`` must live on ``device``."""
    draws = _Draws(count, generator, device)
    tables = furniture_tables(device)
    kind = draws.integer(len(ROOMS))

    def ranged(name: str) -> torch.Tensor:
        ranges: list[Range] = [getattr(room, name) for room in ROOMS]
        low, high = torch.tensor(ranges, device=device)[kind].unbind(-1)
        return draws.between(low, high)

    def look(field: str, looks: Sequence[Look]) -> torch.Tensor:
        return draws.weighted(_weights(field, [entry.name for entry in looks], device)[kind])

    half_extents = torch.stack([ranged("half_length"), ranged("half_width")], -1)
    height = ranged("height")
    floor, wall, ceiling = look("floors", FLOORS), look("walls", WALLS), look("ceilings", CEILINGS)

    opening = draws.weighted(_weights("openings", OPENINGS, device)[kind][:, None].expand(-1, 4, -1))
    rect, repeat, opening_color = _openings(opening, half_extents, height, draws)
    object_type, size = _furniture(kind, height, tables, draws)
    places = arrange(tables, object_type, size, half_extents, _door_zones(opening, rect, half_extents), generator)
    object_type = torch.where(places.present, object_type, -1)
    finish = draws.weighted(tables.finish_weight[object_type.clamp(min=0)])

    tone, level = draws.integer(len(LIGHT_TONES)), draws.integer(len(LIGHT_LEVELS))
    light = torch.tensor([rgb for _, rgb in LIGHT_TONES], device=device)[tone]
    light = light * torch.tensor([strength for _, strength in LIGHT_LEVELS], device=device)[level][:, None]
    color, material, seed = _surfaces(object_type, finish, floor, wall, ceiling, tables, draws)
    line_chance = torch.tensor([room.floor_line_chance for room in ROOMS], device=device)[kind]
    lamp_xy = (draws.uniform(2) - 0.5) * half_extents
    paint = Paint(
        color=color, material=material, seed=seed,
        opening=opening, opening_rect=rect, opening_repeat=repeat, opening_color=opening_color,
        floor_line=torch.where(draws.uniform() < line_chance, 1.1 + 0.5 * draws.uniform(), 0.0),
        lamp=torch.cat([lamp_xy, height[:, None] - 0.1], -1),
        lamp_period=torch.tensor([room.lamp_period for room in ROOMS], device=device)[kind],
        ambient=0.46 + 0.16 * draws.uniform(),
        light=light,
    )  # fmt: skip
    solids = _solids(object_type, size, places, half_extents, height, tables)
    return Worlds(kind, floor, wall, tone, level, object_type, finish, solids, paint)


def _weights(field: str, names: Sequence[str], device: torch.device | str) -> torch.Tensor:
    """A weight per room and name, shape ``(rooms, names)``."""
    mappings: list[dict[str, float]] = [getattr(room, field) for room in ROOMS]
    return torch.tensor([[mapping.get(name, 0.0) for name in names] for mapping in mappings], device=device)


def _furniture(
    kind: torch.Tensor, height: torch.Tensor, tables: FurnitureTables, draws: _Draws
) -> tuple[torch.Tensor, torch.Tensor]:
    """Type of every slot ``(B, 9)``, -1 for none, and its size ``(B, 9, 3)`` [m]."""
    device = draws.device
    first = draws.weighted(_weights("signature", OBJECT_TYPES, device)[kind][:, None])
    rest_weights = _weights("furniture", OBJECT_TYPES, device)[kind][:, None].expand(-1, OBJECT_SLOTS - 1, -1)
    boxes = torch.cat([first, draws.weighted(rest_weights)], 1)
    least, greatest = torch.tensor([room.pieces for room in ROOMS], device=device, dtype=torch.float)[kind].unbind(-1)
    number = torch.floor(draws.between(least, greatest + 1))
    wanted = torch.arange(OBJECT_SLOTS, device=device) < number[:, None]
    earlier = (boxes[:, :, None] == boxes[:, None]).tril(-1).any(-1)
    boxes = torch.where(wanted & ~(earlier & tables.unique[boxes]), boxes, -1)

    round_weights = _weights("round_pieces", OBJECT_TYPES, device)[kind][:, None].expand(-1, CYLINDERS, -1)
    chance = torch.tensor([room.round_chance for room in ROOMS], device=device)[kind][:, None]
    cylinders = torch.where(draws.uniform(CYLINDERS) < chance, draws.weighted(round_weights), -1)

    object_type = torch.cat([boxes, cylinders], 1)
    known = object_type.clamp(min=0)
    size = draws.between(tables.smallest[known], tables.largest[known])
    is_round = torch.arange(object_type.shape[1], device=device) >= OBJECT_SLOTS
    width, depth, top = size.unbind(-1)
    depth = torch.where(is_round, width, depth)
    top = torch.where(object_type == COLUMN, height[:, None], top)
    return object_type, torch.stack([width, depth, top], -1)


def _openings(
    opening: torch.Tensor, half_extents: torch.Tensor, height: torch.Tensor, draws: _Draws
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rectangles ``(B, 4, 4)``, repetitions ``(B, 4, 2)`` and colours ``(B, 4, 3)`` of the wall openings."""
    device = draws.device
    half_wall = half_extents[:, [1, 1, 0, 0]]
    is_door, is_window, is_gate = opening == _DOOR, opening == _WINDOW, opening == _GATE
    half_width = torch.where(is_window, 0.45 + 0.40 * draws.uniform(4), 0.25 + 0.35 * draws.uniform(4))
    half_width = torch.where(is_door, 0.45, torch.where(is_gate, 1.3 + 0.4 * draws.uniform(4), half_width))
    half_width = torch.minimum(half_width, half_wall - 0.2)
    hall = (height > 4)[:, None]
    bottom = torch.where(is_window, torch.where(hall, 2.4, 0.95), 1.25)
    bottom = torch.where(is_door | is_gate, 0.0, bottom)
    top = torch.where(is_window, bottom + 0.9 + 0.3 * draws.uniform(4), 1.65 + 0.35 * draws.uniform(4))
    top = torch.where(is_door, 2.05, torch.where(is_gate, 2.9 + 0.6 * draws.uniform(4), top))
    top = torch.minimum(top, height[:, None] - 0.25)

    # Windows and the doors of long walls come in rows around the middle; the rest stand alone somewhere.
    in_row = is_window | (is_door & (half_wall > 4.2))
    period = torch.where(is_window, 2 * half_width + 0.8, 2.6)
    copies = torch.floor((half_wall - half_width - 0.25).clamp(min=0) / period).clamp(max=2)
    copies = torch.where(in_row, copies, 0.0)
    center = (2 * draws.uniform(4) - 1) * (half_wall - half_width - 0.25).clamp(min=0)
    center = torch.where(in_row, 0.0, center)

    def pick(colors: tuple[RGB, ...], *shape: int) -> torch.Tensor:
        return torch.tensor(colors, device=device)[draws.integer(len(colors), *shape)]

    sky = pick(_SKIES, 1).expand(-1, 4, -1)
    color = torch.where(is_window[..., None], sky, pick(_PICTURE_COLORS, 4))
    color = torch.where(is_door[..., None], pick(_DOOR_COLORS, 1).expand(-1, 4, -1), color)
    color = torch.where(is_gate[..., None], pick(_GATE_COLORS, 1).expand(-1, 4, -1), color)
    return torch.stack([center, half_width, bottom, top], -1), torch.stack([period, copies], -1), color


def _door_zones(opening: torch.Tensor, rect: torch.Tensor, half_extents: torch.Tensor) -> Footprints:
    """Floor before single doors and gates that must stay clear."""
    passable = (opening == _DOOR) | (opening == _GATE)
    half_width = rect[..., 1] + 0.1
    depth = torch.full_like(half_width, 0.45)
    x_inset, y_inset = half_extents[:, 0:1] - 0.45, half_extents[:, 1:2] - 0.45
    x = torch.cat([-x_inset, x_inset, rect[:, 2:, 0]], 1)
    y = torch.cat([rect[:, :2, 0], -y_inset, y_inset], 1)
    yaw = torch.tensor([math.pi / 2, math.pi / 2, 0.0, 0.0], device=rect.device).expand_as(x)
    return Footprints(torch.stack([x, y], -1), torch.stack([half_width, depth], -1), yaw, passable)


def _surfaces(
    object_type: torch.Tensor,
    finish: torch.Tensor,
    floor: torch.Tensor,
    wall: torch.Tensor,
    ceiling: torch.Tensor,
    tables: FurnitureTables,
    draws: _Draws,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Colour ``(B, 46, 3)``, material ``(B, 46)`` and pattern seed ``(B, 46)`` of every primitive."""
    device = draws.device

    def looks(entries: Sequence[Look], index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rgb = torch.tensor([entry.rgb for entry in entries], device=device)[index]
        return rgb, torch.tensor([entry.material_index for entry in entries], device=device)[index]

    known = object_type.clamp(min=0)
    finish_rgb, finish_material = looks(FINISHES, finish)
    finish_rgb = finish_rgb * (0.92 + 0.16 * draws.uniform(finish.shape[1], 1))
    finish_material = torch.where(finish_material == MATERIALS.index("plain"), tables.material[known], finish_material)

    boxes = known[:, :OBJECT_SLOTS]
    shade = tables.shade[boxes]
    own_paint = shade == 0
    part_rgb = finish_rgb[:, :OBJECT_SLOTS, None] * shade[..., None]
    load_tone = 0.88 + 0.24 * draws.uniform(*own_paint.shape[1:], 1)
    part_rgb = torch.where(own_paint[..., None], tables.paint[boxes] * load_tone, part_rgb)
    part_material = torch.where(
        own_paint, tables.paint_material[boxes], finish_material[:, :OBJECT_SLOTS, None].expand_as(own_paint)
    )

    floor_rgb, floor_material = looks(FLOORS, floor)
    wall_rgb, wall_material = looks(WALLS, wall)
    ceiling_rgb, ceiling_material = looks(CEILINGS, ceiling)
    room_rgb = torch.stack([wall_rgb] * 4 + [floor_rgb, ceiling_rgb], 1)
    room_material = torch.stack([wall_material] * 4 + [floor_material, ceiling_material], 1)

    color = torch.cat([part_rgb.flatten(1, 2), finish_rgb[:, OBJECT_SLOTS:], room_rgb], 1)
    material = torch.cat([part_material.flatten(1, 2), finish_material[:, OBJECT_SLOTS:], room_material], 1)
    # No room holds a ball of its own.
    color, material = F.pad(color, (0, 0, 0, 1)), F.pad(material, (0, 1))
    object_seed = draws.uniform(OBJECT_SLOTS).repeat_interleave(BOXES // OBJECT_SLOTS, 1)
    seed = 1 + 17 * F.pad(torch.cat([object_seed, draws.uniform(CYLINDERS + 6)], 1), (0, 1))
    return color.clamp(0.02, 0.97), material, seed


def _solids(
    object_type: torch.Tensor,
    size: torch.Tensor,
    places: Footprints,
    half_extents: torch.Tensor,
    height: torch.Tensor,
    tables: FurnitureTables,
) -> Solids:
    """Boxes and cylinders of the placed furniture."""
    boxes, piece = object_type[:, :OBJECT_SLOTS].clamp(min=0), size[:, :OBJECT_SLOTS, None]
    local, half = tables.center[boxes] * piece, tables.half[boxes] * piece
    cos, sin = places.yaw[:, :OBJECT_SLOTS, None].cos(), places.yaw[:, :OBJECT_SLOTS, None].sin()
    stand_x, stand_y = (places.center[:, :OBJECT_SLOTS, None, i] for i in range(2))
    center = torch.stack(
        [
            stand_x + local[..., 0] * cos - local[..., 1] * sin,
            stand_y + local[..., 0] * sin + local[..., 1] * cos,
            local[..., 2],
        ],
        -1,
    )
    present = (places.present[:, :OBJECT_SLOTS, None] & tables.used[boxes])[..., None]
    nowhere = torch.tensor([0.0, 0.0, -50.0], device=center.device)
    axis = torch.stack([cos, sin], -1).expand(*half.shape[:-1], 2)
    return Solids(
        box_center=torch.where(present, center, nowhere).flatten(1, 2),
        box_half=torch.where(present, half, 0.0).flatten(1, 2),
        box_axis=axis.flatten(1, 2).contiguous(),
        cylinder_center=places.center[:, OBJECT_SLOTS:],
        cylinder_radius=places.half[:, OBJECT_SLOTS:, 0],
        cylinder_top=torch.where(places.present[:, OBJECT_SLOTS:], size[:, OBJECT_SLOTS:, 2], -50.0),
        half_extents=half_extents,
        height=height,
        ball_center=height.new_zeros(len(height), 3),
        ball_radius=torch.zeros_like(height),
        ball_turn=torch.eye(3, device=height.device).repeat(len(height), 1, 1),
    )
