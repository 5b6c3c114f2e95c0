"""What rays see in furnished rooms: textures, two lamps with soft shadows, light from everywhere, reflections, sky."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

from omni_gen3d.training.object_caster import Hits, ObjectCaster, Placed
from omni_gen3d.training.object_layout import Rooms

FLOOR_FACE, CEILING_FACE = 4, 5
_FAR_M = 1e4
_OPENNESS_M = 0.8  # reach of the darkening under and beside things
_CORNER_M = 0.25  # reach of the darkening in the room's corners
_GLOSS = 24  # exponent of Phong's highlight
_MONITOR_GAMMA = 2.2
_TINY = 1e-6
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))  # [rad]


class Seen(NamedTuple):
    """Where N rays of each of B rooms end.

    Attributes:
        distance: Ray parameter, shape ``(B, N)``.
        hits: What object was hit.
        face: Of the room behind: walls -x, +x, -y, +y, floor, ceiling, shape ``(B, N)``.
        sky: True where nothing was hit, shape ``(B, N)``.
    """

    distance: torch.Tensor
    hits: Hits
    face: torch.Tensor
    sky: torch.Tensor

    @property
    def on_object(self) -> torch.Tensor:
        return self.hits.place >= 0


class Strata(NamedTuple):
    """Where the rays of a pixel look for light: each its own way, the same in every pixel and frame, so without grain.

    Attributes:
        lamp: Point of each lamp, in its radii, shape ``(B, 2, S, 3)``.
        around: Unit direction to which the surface's normal is added, shape ``(B, S, 3)``.
    """

    lamp: torch.Tensor
    around: torch.Tensor

    @staticmethod
    def draw(rooms: Rooms, rays: int, generator: torch.Generator) -> Strata:
        """For S rays a pixel: random points of the lamps, and a spiral over the sphere that is turned at random."""
        count, device = len(rooms), generator.device
        lamp = torch.randn(count, rooms.lamps.shape[1], rays, 3, generator=generator, device=device)
        step = torch.arange(rays, device=device) + 0.5
        z = 1 - 2 * step / rays
        turn = 2 * math.pi * torch.rand(count, 1, generator=generator, device=device) + step * _GOLDEN_ANGLE
        radius = (1 - z * z).sqrt()
        return Strata(lamp, torch.stack([radius * turn.cos(), radius * turn.sin(), z.expand_as(turn)], -1))


def camera_rays(
    camera_to_world: torch.Tensor, pixels: torch.Tensor, focal_px: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Origins and directions ``(B, N, 3)`` of rays whose camera z is 1, so that a distance along them is a z-depth.

    Args:
        camera_to_world: OpenCV, shape ``(B, 4, 4)``.
        pixels: Offsets from the principal point [pixels], shape ``(N, 2)``.
        focal_px: Shape ``(B,)``.
    """
    x, y = (pixels[:, i] / focal_px[:, None] for i in range(2))
    direction = _steady(torch.stack([x, y, torch.ones_like(x)], -1) @ camera_to_world[:, :3, :3].transpose(1, 2))
    return camera_to_world[:, None, :3, 3].expand_as(direction), direction


def see(rooms: Rooms, placed: Placed, caster: ObjectCaster, origin: torch.Tensor, direction: torch.Tensor) -> Seen:
    """Follow rays ``(B, N, 3)`` to the first object, to the room, or to the sky."""
    half, positive = rooms.half_extents[:, None], direction > 0
    wall = (torch.where(positive[..., :2], half, -half) - origin[..., :2]) / direction[..., :2]
    level = torch.where(positive[..., 2], rooms.height[:, None], 0.0)
    level = (level - origin[..., 2]) / direction[..., 2]
    distance, axis = torch.cat([wall, level[..., None]], -1).clamp(min=1e-3).min(-1)
    toward = positive.gather(-1, axis[..., None])[..., 0].long()
    face = 2 * axis + toward
    above = origin[..., 2] + distance * direction[..., 2] > rooms.wall_height[:, None]
    sky = rooms.outdoors[:, None] & (above & (axis < 2) | (face == CEILING_FACE))
    hits = caster.cast(placed, origin, direction, torch.where(sky, _FAR_M, distance))
    return Seen(hits.distance, hits, face, sky & (hits.place < 0))


def radiance(
    rooms: Rooms,
    placed: Placed,
    caster: ObjectCaster,
    origin: torch.Tensor,
    direction: torch.Tensor,
    strata: Strata,
    stratum: torch.Tensor,
) -> torch.Tensor:
    """Linear light ``(B, N, 3)`` along rays ``(B, N, 3)``, each of a ``stratum (N,)``.

    A ray casts one shadow ray to a point of each lamp and one in some direction for the light from everywhere: several
    rays a pixel make soft shadows out of it.
    """
    seen = see(rooms, placed, caster, origin, direction)
    unit = F.normalize(direction, dim=-1)
    point = origin + seen.distance[..., None].clamp(max=100) * direction
    albedo, normal = _room_look(rooms, caster, point, seen.face)
    of_object = _object_look(placed, caster, seen.hits)
    on_object = seen.on_object[..., None]
    albedo, normal = torch.where(on_object, of_object[0], albedo), torch.where(on_object, of_object[1], normal)
    normal = torch.where((normal * unit).sum(-1, keepdim=True) > 0, -normal, normal)
    lifted = point + 4e-3 * normal - 2e-3 * unit
    mirrored = unit - 2 * (unit * normal).sum(-1, keepdim=True) * normal

    around = strata.around[:, stratum]
    open_share = _openness(rooms, placed, caster, lifted, normal, seen.sky, around)
    light = rooms.ambient[:, None] * (open_share * (0.85 + 0.15 * normal[..., 2]))[..., None]
    gloss = torch.zeros_like(light)
    for lamp in range(rooms.lamps.shape[1]):
        spread = rooms.softness[:, None, None] * strata.lamp[:, lamp, stratum]
        toward = rooms.lamps[:, None, lamp] + spread - lifted
        squared = (toward * toward).sum(-1)
        away = squared.sqrt()
        lambert = (normal * toward).sum(-1).clamp(min=0) / away
        limit = torch.where(seen.sky | (lambert <= 0), 0.0, 0.98)
        lit = caster.cast(placed, lifted, toward, limit, any_hit=True).place < 0
        # A lamp far away is as strong as one close by: halls are not darker than cupboards.
        reach = (rooms.lamps[:, lamp] ** 2).sum(-1)[:, None] + 1
        strength = rooms.lamp_light[:, None, lamp] * (lit * 1.8 / (0.3 + squared / reach))[..., None]
        light = light + strength * lambert[..., None]
        gloss = gloss + strength * ((mirrored * toward).sum(-1) / away).clamp(min=0)[..., None] ** _GLOSS
    shine = rooms.shine[:, None, None] * torch.where(on_object, 1.0, 0.25)
    # Schlick's approximation, bounded: nothing here is a mirror.
    fresnel = 0.04 + 0.5 * (1 - (unit * normal).sum(-1).abs())[..., None] ** 4
    surroundings = _panorama(caster, rooms.sky, mirrored) * rooms.ambient[:, None]
    reflected = shine * (0.35 * gloss + fresnel * surroundings)
    return torch.where(seen.sky[..., None], 2 * _panorama(caster, rooms.sky, unit), albedo * light + reflected)


def _steady(direction: torch.Tensor) -> torch.Tensor:
    return torch.where(direction.abs() < _TINY, _TINY, direction)


def _openness(
    rooms: Rooms,
    placed: Placed,
    caster: ObjectCaster,
    point: torch.Tensor,
    normal: torch.Tensor,
    sky: torch.Tensor,
    around: torch.Tensor,
) -> torch.Tensor:
    """Share ``(B, N)`` of the light from everywhere that arrives: a ray of cosine-weighted direction, and corners."""
    toward = _steady(around + normal)
    hits = caster.cast(placed, point, toward, torch.where(sky, 0.0, _OPENNESS_M))
    free = (hits.distance / _OPENNESS_M).clamp(0, 1)
    from_walls = (rooms.half_extents[:, None] - point[..., :2].abs()).amin(-1)
    from_floor = torch.where(normal[..., 2] > 0.9, _FAR_M, point[..., 2])
    corner = torch.exp(-torch.minimum(from_walls, from_floor).clamp(min=0) / _CORNER_M)
    return (0.25 + 0.75 * free) * (1 - 0.3 * corner)


def _object_look(placed: Placed, caster: ObjectCaster, hits: Hits) -> tuple[torch.Tensor, torch.Tensor]:
    """Linear albedo and unit normal, each ``(B, N, 3)``; anything where no object was hit."""
    world = torch.arange(len(hits.face), device=hits.face.device)[:, None]
    face, place = hits.face.clamp(min=0), hits.place.clamp(min=0)
    weights = torch.cat([1 - hits.weights.sum(-1, keepdim=True), hits.weights], -1)[..., None]
    normal = (weights * caster.normals[face]).sum(-2)
    # Normals turn with the inverse transpose.
    inverse = torch.linalg.inv(placed.to_world[..., :3].double()).float()
    normal = F.normalize((normal[..., None, :] @ inverse[world, place])[..., 0, :], dim=-1)
    coordinates = (weights * caster.texture_coordinates[face]).sum(-2)
    material, given = caster.face_material[face], placed.texture[world, place]
    texture = torch.where(given >= 0, given, caster.material_texture[material])
    own = torch.where((given >= 0)[..., None], 1.0, caster.material_color[material] ** _MONITOR_GAMMA)
    texel = _texel(caster.textures, texture.clamp(min=0), coordinates[..., 0], coordinates[..., 1])
    color = torch.where((texture >= 0)[..., None], texel * own, own)
    return (color * placed.tint[world, place]).clamp(0.01, 0.95), normal


def _room_look(
    rooms: Rooms, caster: ObjectCaster, point: torch.Tensor, face: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Linear albedo and unit normal of the room, each ``(B, N, 3)``."""
    world = torch.arange(len(face), device=face.device)[:, None]
    size, texture = rooms.texture_size[world, face], rooms.texture[world, face]
    u = torch.where(face < 2, point[..., 1], point[..., 0]) / size
    v = torch.where(face < FLOOR_FACE, point[..., 2], point[..., 1]) / size
    color = rooms.color[world, face] ** _MONITOR_GAMMA
    texel = _texel(caster.textures, texture.clamp(min=0), u, v) * (0.4 + 0.8 * color)
    normal = F.one_hot(torch.div(face, 2, rounding_mode="floor"), 3).to(point)
    return torch.where((texture >= 0)[..., None], texel, color).clamp(0.01, 0.95), normal


def _texel(textures: torch.Tensor, index: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Linear colours ``(B, N, 3)`` of repeating sRGB textures between their texels; v counts from below."""
    size = textures.shape[1]
    x, y = u * size - 0.5, (1 - v) * size - 0.5
    left, top = x.floor(), y.floor()
    a, b = (x - left)[..., None], (y - top)[..., None]
    columns = [(left.long() + i) % size for i in range(2)]
    rows = [index * size * size + ((top.long() + i) % size) * size for i in range(2)]
    flat = textures.reshape(-1, 3)
    upper, lower = (torch.lerp(flat[row + columns[0]].float(), flat[row + columns[1]].float(), a) for row in rows)
    return (torch.lerp(upper, lower, b) / 255) ** _MONITOR_GAMMA


def _panorama(caster: ObjectCaster, index: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """Light ``(B, N, 3)`` of each room's sky from unit directions."""
    rows, columns = caster.skies.shape[1:3]
    y = torch.acos(direction[..., 2].clamp(-1, 1)) / math.pi * rows - 0.5
    x = (torch.atan2(direction[..., 1], direction[..., 0]) / (2 * math.pi) + 0.5) * columns - 0.5
    top, left = y.floor(), x.floor()
    b, a = (y - top)[..., None], (x - left)[..., None]
    sky = index[:, None].expand_as(top)
    across = [(left.long() + i) % columns for i in range(2)]
    down = [(top.long() + i).clamp(0, rows - 1) for i in range(2)]
    upper, lower = (torch.lerp(caster.skies[sky, row, across[0]], caster.skies[sky, row, across[1]], a) for row in down)
    return torch.lerp(upper, lower, b)
