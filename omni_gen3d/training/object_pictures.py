"""Pictures of furnished rooms: rays, textures, two lamps with soft shadows, light from everywhere, reflections, sky."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from omni_gen3d.geometry import intrinsics_from_focal
from omni_gen3d.training.object_caster import Hits, ObjectCaster, Placed
from omni_gen3d.training.object_layout import Rooms, furnish, sample_rooms
from omni_gen3d.training.worlds import _pixel_offsets, _upright_cameras

# Focal lengths over the image width: 90 to 33 degrees, what phones and cameras have.
FOCAL_RANGE = (0.5, 1.7)
_CANDIDATES = 24
_NEAREST_M = 0.45
_FAR_M = 1e4
_SKY_M = 60.0
_OPENNESS_M = 0.8


@dataclass(frozen=True)
class ObjectPictures:
    """B pictures.

    Attributes:
        rgb: In [0, 1], shape ``(B, 3, H, W)``.
        depth: Along z [m], shape ``(B, H, W)``; the sky lies at 60 m.
        intrinsics: Shape ``(B, 3, 3)``.
        camera_to_world: Shape ``(B, 4, 4)``.
        place: Which place of ``placed`` each pixel shows, -1 for none, shape ``(B, H, W)``.
        rooms: The rooms.
        placed: What stands in them.
    """

    rgb: torch.Tensor
    depth: torch.Tensor
    intrinsics: torch.Tensor
    camera_to_world: torch.Tensor
    place: torch.Tensor
    rooms: Rooms
    placed: Placed


@torch.no_grad()
def sample_object_pictures(
    count: int, height: int, width: int, caster: ObjectCaster, generator: torch.Generator, supersample: int = 2
) -> ObjectPictures:
    """Fresh pictures of fresh rooms, by cameras of many lenses, heights and tilts."""
    rooms = sample_rooms(count, caster, generator)
    placed = furnish(rooms, caster, generator)
    low, high = FOCAL_RANGE
    focal = width * torch.exp(
        math.log(low) + math.log(high / low) * torch.rand(count, generator=generator, device=generator.device)
    )
    cameras = _cameras(rooms, placed, caster, focal / width, generator)
    centers = _pixel_offsets(height, width, 1, generator.device)
    samples = _pixel_offsets(height, width, supersample, generator.device)
    light, _, _ = _see(rooms, placed, caster, cameras, samples, focal, generator)
    light = light.reshape(count, height, supersample, width, supersample, 3).mean((2, 4)).permute(0, 3, 1, 2)
    origin, direction = _rays(cameras, centers, focal)
    distance, hits, _, _, _, _ = _first(rooms, placed, caster, origin, direction)
    intrinsics = torch.stack([intrinsics_from_focal(float(f), width, height) for f in focal]).to(focal)
    shape = (count, height, width)
    return ObjectPictures(
        _developed(light, generator),
        distance.reshape(shape).clamp(max=_SKY_M),
        intrinsics,
        cameras,
        hits.place.reshape(shape),
        rooms,
        placed,
    )


def _developed(light: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Exposed by the median, with a shoulder."""

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(len(light), 1, 1, 1, generator=generator, device=light.device)

    usual = light.mean(1).flatten(1).quantile(0.6, dim=1)[:, None, None, None].clamp(min=1e-3)
    exposed = light / usual * uniform(0.12, 0.6)
    curve = 1 - torch.exp(-1.3 * exposed)
    return torch.lerp(exposed.clamp(0, 1), curve, uniform(0, 1)).clamp(1e-5, 1) ** (1 / uniform(1.6, 2.4))


def _rays(cameras: torch.Tensor, offsets: torch.Tensor, focal: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = (offsets[:, i] / focal[:, None] for i in range(2))
    direction = torch.stack([x, y, torch.ones_like(x)], -1) @ cameras[:, :3, :3].transpose(1, 2)
    direction = torch.where(direction.abs() < 1e-6, 1e-6, direction)
    return cameras[:, None, :3, 3].expand_as(direction), direction


def _room_hit(
    rooms: Rooms, origin: torch.Tensor, direction: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ray parameter, face (-x, +x, -y, +y, floor, ceiling) and whether it is sky."""
    half = rooms.half_extents[:, None]
    positive = direction > 0
    bound = torch.where(positive[..., :2], half, -half)
    wall = (bound - origin[..., :2]) / direction[..., :2]
    z_bound = torch.where(positive[..., 2], rooms.height[:, None], torch.zeros_like(direction[..., 2]))
    level = (z_bound - origin[..., 2]) / direction[..., 2]
    t, axis = torch.cat([wall, level[..., None]], -1).clamp(min=1e-3).min(-1)
    face = (
        2 * axis
        + torch.where(axis == 2, ~positive[..., 2], positive.gather(-1, axis.clamp(max=2)[..., None])[..., 0]).long()
    )
    face = (
        torch.where(axis == 2, 9 - face, face)
        if False
        else torch.where(axis == 2, torch.where(positive[..., 2], 5, 4), face)
    )
    z = origin[..., 2] + t * direction[..., 2]
    over = rooms.outdoors[:, None] & (z > rooms.wall_height[:, None]) & (axis < 2)
    sky = over | (rooms.outdoors[:, None] & (face == 5))
    return torch.where(sky, _FAR_M, t), face, sky


def _first(rooms: Rooms, placed: Placed, caster: ObjectCaster, origin: torch.Tensor, direction: torch.Tensor):
    room_t, face, sky = _room_hit(rooms, origin, direction)
    hits = caster.cast(placed, origin, direction, room_t)
    on_object = hits.place >= 0
    return hits.distance, hits, on_object, face, sky & ~on_object, room_t


def _see(rooms, placed, caster: ObjectCaster, cameras, offsets, focal, generator):
    origin, direction = _rays(cameras, offsets, focal)
    t, hits, on_object, face, sky, _ = _first(rooms, placed, caster, origin, direction)
    point = origin + t[..., None].clamp(max=100) * direction
    unit = torch.nn.functional.normalize(direction, dim=-1)
    room_albedo, room_normal = _room_look(rooms, caster, point, face)
    albedo, normal = _object_look(placed, caster, hits)
    albedo = torch.where(on_object[..., None], albedo, room_albedo)
    normal = torch.where(on_object[..., None], normal, room_normal)
    normal = torch.where((normal * unit).sum(-1, keepdim=True) > 0, -normal, normal)
    lifted = point + 4e-3 * normal - 2e-3 * unit
    light = (
        rooms.ambient[:, None]
        * _openness(rooms, placed, caster, lifted, normal, sky, generator)[..., None]
        * (0.85 + 0.15 * normal[..., 2:])
    )
    gloss = torch.zeros_like(light)
    mirrored = unit - 2 * (unit * normal).sum(-1, keepdim=True) * normal
    for i in range(2):
        jitter = rooms.softness[:, None, None] * torch.randn(point.shape, generator=generator, device=point.device)
        toward = rooms.lamps[:, None, i] + jitter - lifted
        squared = (toward * toward).sum(-1)
        away = squared.sqrt()
        lambert = (normal * toward).sum(-1).clamp(min=0) / away
        limit = torch.where(sky | (lambert <= 0), 0.0, 0.98)
        lit = (caster.cast(placed, lifted, toward, limit, any_hit=True).place < 0).float()
        reach = (rooms.lamps[:, i] ** 2).sum(-1)[:, None] + 1.0
        strength = rooms.lamp_light[:, None, i] * (lit * 1.8 / (0.3 + squared / reach))[..., None]
        light = light + strength * lambert[..., None]
        gloss = gloss + strength * ((mirrored * toward).sum(-1) / away).clamp(min=0)[..., None] ** 24
    shiny = rooms.shine[:, None, None] * torch.where(on_object, 1.0, 0.25)[..., None]
    fresnel = 0.04 + 0.5 * (1 - (unit * normal).sum(-1).abs())[..., None] ** 4
    around = _panorama(caster, rooms.sky, mirrored) * rooms.ambient[:, None]
    radiance = albedo * light + shiny * (0.35 * gloss + fresnel * around)
    radiance = torch.where(sky[..., None], _panorama(caster, rooms.sky, unit) * 2.0, radiance)
    return radiance, t, hits


def _openness(rooms, placed, caster, point, normal, sky, generator) -> torch.Tensor:
    """Share of the light from everywhere that arrives: one ray a sample towards a random direction, and corners."""
    toward = (
        torch.nn.functional.normalize(torch.randn(point.shape, generator=generator, device=point.device), dim=-1)
        + normal
    )
    toward = torch.where(toward.abs() < 1e-6, 1e-6, toward)
    limit = torch.where(sky, 0.0, _OPENNESS_M)
    hits = caster.cast(placed, point, toward, limit)
    free = (hits.distance / _OPENNESS_M).clamp(0, 1)
    gap = torch.minimum(
        (rooms.half_extents[:, None] - point[..., :2].abs()).amin(-1),
        torch.where(normal[..., 2] > 0.9, 9.0, point[..., 2]),
    )
    return (0.25 + 0.75 * free) * (1 - 0.3 * torch.exp(-gap.clamp(min=0) / 0.25))


def _bilinear(textures: torch.Tensor, index: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Linear colours of repeating sRGB textures; ``index`` >= 0."""
    size = textures.shape[1]
    x, y = (u * size - 0.5), ((1 - v) * size - 0.5)
    x0, y0 = x.floor(), y.floor()
    a, b = (x - x0)[..., None], (y - y0)[..., None]
    x0, y0 = x0.long() % size, y0.long() % size
    x1, y1 = (x0 + 1) % size, (y0 + 1) % size
    flat = textures.reshape(-1, 3)
    base = index * size * size
    c00, c01, c10, c11 = (flat[base + yy * size + xx].float() for yy, xx in ((y0, x0), (y0, x1), (y1, x0), (y1, x1)))
    mixed = torch.lerp(torch.lerp(c00, c01, a), torch.lerp(c10, c11, a), b) / 255
    return mixed**2.2


def _object_look(placed: Placed, caster: ObjectCaster, hits: Hits):
    world = torch.arange(len(hits.face), device=hits.face.device)[:, None]
    face, place = hits.face.clamp(min=0), hits.place.clamp(min=0)
    w = torch.cat([1 - hits.weights.sum(-1, keepdim=True), hits.weights], -1)
    normal = (w[..., None] * caster.normals[face]).sum(-2)
    linear = torch.linalg.inv(placed.to_world[..., :3].double()).float()
    normal = (normal[..., None, :] @ linear[world, place])[..., 0, :]
    normal = torch.nn.functional.normalize(normal, dim=-1)
    uv = (w[..., None] * caster.texture_coordinates[face]).sum(-2)
    material = caster.face_material[face]
    own = caster.material_texture[material]
    given = placed.texture[world, place]
    texture = torch.where(given >= 0, given, own)
    texel = _bilinear(caster.textures, texture.clamp(min=0), uv[..., 0], uv[..., 1])
    color = caster.material_color[material] ** 2.2
    color = torch.where((texture >= 0)[..., None], texel * torch.where((given >= 0)[..., None], 1.0, color), color)
    return (color * placed.tint[world, place]).clamp(0.01, 0.95), normal


def _room_look(rooms: Rooms, caster: ObjectCaster, point, face):
    world = torch.arange(len(face), device=face.device)[:, None]
    u = torch.where(face < 2, point[..., 1], point[..., 0]) / rooms.texture_size[world, face]
    v = torch.where(face < 4, point[..., 2], point[..., 1]) / rooms.texture_size[world, face]
    texture = rooms.texture[world, face]
    texel = _bilinear(caster.textures, texture.clamp(min=0), u, v)
    color = rooms.color[world, face] ** 2.2
    albedo = torch.where((texture >= 0)[..., None], texel * (0.4 + 0.8 * color), color)
    axis = torch.div(face, 2, rounding_mode="floor")
    normal = torch.nn.functional.one_hot(axis, 3).to(point)
    return albedo.clamp(0.01, 0.95), normal


def _panorama(caster: ObjectCaster, index, direction):
    skies = caster.skies
    rows, columns = skies.shape[1:3]
    polar = torch.acos(direction[..., 2].clamp(-1, 1)) / math.pi * rows - 0.5
    around = (torch.atan2(direction[..., 1], direction[..., 0]) / (2 * math.pi) + 0.5) * columns - 0.5
    y0, x0 = polar.floor(), around.floor()
    b, a = (polar - y0)[..., None], (around - x0)[..., None]
    y0, y1 = (y0.long().clamp(0, rows - 1), (y0.long() + 1).clamp(0, rows - 1))
    x0, x1 = x0.long() % columns, (x0.long() + 1) % columns
    i = index[:, None].expand_as(y0)
    return torch.lerp(
        torch.lerp(skies[i, y0, x0], skies[i, y0, x1], a), torch.lerp(skies[i, y1, x0], skies[i, y1, x1], a), b
    )


def _cameras(rooms: Rooms, placed: Placed, caster: ObjectCaster, focal, generator: torch.Generator) -> torch.Tensor:
    """A camera before some object of each room: of many candidates one with room around it and much to see."""
    count, device = len(rooms), generator.device

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, _CANDIDATES, generator=generator, device=device)

    weight = (placed.model >= 0).float() + 1e-6
    target = torch.multinomial(weight, _CANDIDATES, replacement=True, generator=generator)
    world = torch.arange(count, device=device)[:, None]
    middle = placed.to_world[world, target][..., :3, 3]
    away = torch.exp(uniform(math.log(1.0), math.log(5.5)))
    angle = uniform(-math.pi, math.pi)
    xy = middle[..., :2] + away[..., None] * torch.stack([angle.cos(), angle.sin()], -1)
    reach = rooms.half_extents[:, None] - 0.3
    xy = torch.minimum(torch.maximum(xy, -reach), reach)
    top = torch.where(rooms.outdoors, 2.2, rooms.height - 0.2)[:, None]
    z = torch.minimum(uniform(0.35, 2.0), top)
    position = torch.cat([xy, z[..., None]], -1)
    to = middle - position
    yaw = torch.atan2(to[..., 1], to[..., 0]) + uniform(-0.5, 0.5)
    aimed = torch.atan2(to[..., 2] + 0.4, to[..., :2].norm(dim=-1).clamp(min=0.3))
    pitch = torch.where(uniform(0, 1) < 0.6, aimed.clamp(-0.7, 0.2), uniform(-0.45, 0.1)) + uniform(-0.15, 0.15)
    cameras = _upright_cameras(position, yaw, pitch)
    v, u = torch.linspace(-0.28, 0.28, 6, device=device), torch.linspace(-0.5, 0.5, 10, device=device)
    offsets = torch.stack([u.expand(6, -1), v[:, None].expand(-1, 10)], -1).reshape(-1, 2)
    flat = cameras.flatten(0, 1)
    origin, direction = _rays(flat, offsets, focal.repeat_interleave(_CANDIDATES))
    origin, direction = origin.reshape(count, -1, 3), direction.reshape(count, -1, 3)
    distance, _, on_object, face, _, _ = _first(rooms, placed, caster, origin, direction)
    distance = distance.unflatten(1, (_CANDIDATES, -1))
    seen = on_object.unflatten(1, (_CANDIDATES, -1)).float().mean(-1)
    floor = ((face == 4) & ~on_object).unflatten(1, (_CANDIDATES, -1)).float().mean(-1)
    near = distance.quantile(0.03, dim=-1)
    sorted_ = distance.clamp(max=12).log().quantile(torch.tensor([0.1, 0.9], device=device), dim=-1)
    score = 1.5 * seen.clamp(max=0.7) + (sorted_[1] - sorted_[0]).clamp(max=1.2) + 1.5 * floor.clamp(max=0.2)
    score = (
        score - 8 * (_NEAREST_M - near).clamp(min=0) / _NEAREST_M - 2 * (1.0 - distance.median(-1).values).clamp(min=0)
    )
    gumbel = -torch.log(-torch.log(uniform(1e-6, 1 - 1e-6)))
    best = (score + 0.35 * gumbel).argmax(1)
    cameras = cameras[torch.arange(count, device=device), best]
    roll = 0.05 * torch.randn(count, generator=generator, device=device)
    turn = torch.eye(4, device=device).repeat(count, 1, 1)
    turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1] = roll.cos(), -roll.sin(), roll.sin(), roll.cos()
    return cameras @ turn
