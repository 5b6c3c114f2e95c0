"""Pictures and clips of furnished rooms, by cameras of many lenses, heights and tilts, with depth and captions."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch

from omni_gen3d.geometry import intrinsics_from_focal
from omni_gen3d.training.clips import Clips
from omni_gen3d.training.object_caster import ObjectCaster, Placed
from omni_gen3d.training.object_layout import RACK_PLACES, Rooms, furnish, sample_rooms
from omni_gen3d.training.object_shading import FLOOR_FACE, Seen, Strata, camera_rays, radiance, see
from omni_gen3d.training.worlds import pixel_offsets, upright_cameras
from omni_gen3d.video.trajectories import TRAJECTORY_NAMES, centre_facing, sample_distances, trajectory_positions

# Focal lengths over the image width: 90 to 33 degrees, what telephones and cameras have.
FOCAL_RANGE = (0.5, 1.7)
_CANDIDATES = 24
_GLANCE = (6, 10)  # rays of a quick look, rows and columns
_GLANCE_TANGENT = (0.28, 0.5)
_NEAREST_M = 0.7
_SKY_M = 60.0
_USUAL_M = 8.0  # median depth that lengthens a trajectory at most
_VISIBLE_SHARE = 0.008  # of the pixels
_COLORS = {
    "white": (0.85, 0.85, 0.85), "grey": (0.45, 0.45, 0.45), "black": (0.08, 0.08, 0.08), "red": (0.6, 0.15, 0.12),
    "green": (0.2, 0.45, 0.2), "blue": (0.2, 0.3, 0.6), "yellow": (0.75, 0.65, 0.2), "brown": (0.4, 0.27, 0.16),
    "beige": (0.75, 0.66, 0.52), "pink": (0.8, 0.5, 0.55), "turquoise": (0.3, 0.6, 0.6),
}  # fmt: skip
_SHAPE_WORDS = {"box": "box", "ball": "ball", "cylinder": "drum", "ring": "ring", "cone": "cone"}


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
    """Fresh pictures of fresh rooms; ``supersample`` rays along each side of a pixel."""
    scene = _Scene.sample(count, width, caster, generator)
    strata = Strata.draw(scene.rooms, supersample**2, generator)
    light = scene.light(scene.cameras, height, width, supersample, strata)
    seen = scene.seen(scene.cameras, height, width)
    return scene.pictures(_developed(light, generator), seen)


@torch.no_grad()
def sample_object_clips(
    count: int,
    height: int,
    width: int,
    num_frames: int,
    caster: ObjectCaster,
    generator: torch.Generator,
    supersample: int = 2,
) -> tuple[Clips, ObjectPictures]:
    """Fresh clips of fresh rooms, along a random trajectory each, and their first frames, for captions.

    Lengths are Lyra's times the median depth, and at most half the way to the nearest thing in view. ``surface`` of the
    clips is the place of the object, -1 for none.
    """
    device = generator.device
    scene = _Scene.sample(count, width, caster, generator)
    strata = Strata.draw(scene.rooms, supersample**2, generator)
    depth = scene.seen(scene.cameras, height, width).distance
    usual, nearest = depth.median(1).values.clamp(max=_USUAL_M), depth.quantile(0.02, dim=1)
    trajectory = torch.randint(len(TRAJECTORY_NAMES), (count,), generator=generator, device=device)
    positions = trajectory_positions(sample_distances(count, generator, device), num_frames)
    positions = positions[torch.arange(count, device=device), trajectory]
    reach = (positions.norm(dim=-1).amax(1) * usual).clamp(min=1e-6)
    path = centre_facing(positions)
    path[..., :3, 3] *= (usual * (0.5 * nearest / reach).clamp(max=1))[:, None, None]
    cameras = scene.cameras[:, None] @ path
    light = torch.stack([scene.light(c, height, width, supersample, strata) for c in cameras.unbind(1)], 2)
    frames = [scene.seen(c, height, width) for c in cameras.unbind(1)]
    rgb = _developed(light, generator)
    shape = (count, num_frames, height, width)
    return Clips(
        rgb=rgb,
        depth=torch.stack([frame.distance for frame in frames], 1).reshape(shape).clamp(max=_SKY_M),
        surface=torch.stack([frame.hits.place for frame in frames], 1).reshape(shape).to(torch.int16),
        camera_to_first=path,
        intrinsics=scene.intrinsics(height, width),
    ), scene.pictures(rgb[:, :, 0], frames[0])


@dataclass(frozen=True)
class _Scene:
    """Furnished rooms and a camera ``(B, 4, 4)`` of a focal length ``(B,)`` [pixels] in each."""

    caster: ObjectCaster
    rooms: Rooms
    placed: Placed
    cameras: torch.Tensor
    focal_px: torch.Tensor

    @staticmethod
    def sample(count: int, width: int, caster: ObjectCaster, generator: torch.Generator) -> _Scene:
        rooms = sample_rooms(count, caster, generator)
        placed = furnish(rooms, caster, generator)
        low, high = (math.log(limit) for limit in FOCAL_RANGE)
        focal = torch.exp(low + (high - low) * torch.rand(count, generator=generator, device=generator.device))
        return _Scene(caster, rooms, placed, _cameras(rooms, placed, caster, focal, generator), width * focal)

    def light(self, cameras: torch.Tensor, height: int, width: int, supersample: int, strata: Strata) -> torch.Tensor:
        """Linear light of the pixels, shape ``(B, 3, H, W)``."""
        device = cameras.device
        rows, columns = (torch.arange(side * supersample, device=device) % supersample for side in (height, width))
        stratum = (rows[:, None] * supersample + columns).flatten()
        rays = camera_rays(cameras, pixel_offsets(height, width, supersample, device), self.focal_px)
        light = radiance(self.rooms, self.placed, self.caster, *rays, strata, stratum)
        light = light.reshape(len(cameras), height, supersample, width, supersample, 3)
        return light.mean((2, 4)).permute(0, 3, 1, 2)

    def seen(self, cameras: torch.Tensor, height: int, width: int) -> Seen:
        """What lies at the pixel centres."""
        rays = camera_rays(cameras, pixel_offsets(height, width, 1, cameras.device), self.focal_px)
        return see(self.rooms, self.placed, self.caster, *rays)

    def intrinsics(self, height: int, width: int) -> torch.Tensor:
        lenses = [intrinsics_from_focal(float(focal), width, height) for focal in self.focal_px]
        return torch.stack(lenses).to(self.focal_px)

    def pictures(self, rgb: torch.Tensor, seen: Seen) -> ObjectPictures:
        height, width = rgb.shape[-2:]
        shape = (len(rgb), height, width)
        return ObjectPictures(
            rgb=rgb,
            depth=seen.distance.reshape(shape).clamp(max=_SKY_M),
            intrinsics=self.intrinsics(height, width),
            camera_to_world=self.cameras,
            place=seen.hits.place.reshape(shape),
            rooms=self.rooms,
            placed=self.placed,
        )


def describe_objects(pictures: ObjectPictures, caster: ObjectCaster, rng: np.random.Generator) -> list[str]:
    """One caption a picture: the room, its floor and walls, what is seen in it, the light.

    Args:
        pictures: B pictures.
        caster: Knows what the objects are called.
        rng: Source of the order of words.
    """
    rooms, captions = pictures.rooms, []
    surfaces, first_surface = caster.objects.surfaces, caster.objects.first_surface
    names = [_SHAPE_WORDS.get(name, name.lower()) for name in caster.objects.names]
    for b in range(len(rooms)):
        seen = torch.bincount(pictures.place[b].flatten().clamp(min=-1) + 1)[1:].float() / pictures.place[b].numel()
        visible = torch.nonzero(seen > _VISIBLE_SHARE)[:, 0].tolist()
        counts = Counter(names[int(pictures.placed.model[b, k])] for k in visible if k not in RACK_PLACES)
        things = [_article(name) if count == 1 else f"several {_plural(name)}" for name, count in counts.most_common()]
        if any(k in RACK_PLACES for k in visible):
            things.append("a rack")
        things = [things[i] for i in rng.permutation(len(things))][:5]

        def look(face: int, b: int = b) -> str:
            texture, rgb = int(rooms.texture[b, face]), rooms.color[b, face]
            return surfaces[texture - first_surface] if texture >= first_surface else _color_name(rgb)

        warm = float(rooms.lamp_light[b].sum(0)[2] / rooms.lamp_light[b].sum(0)[0])
        level = float(rooms.ambient[b].mean() + rooms.lamp_light[b].mean())
        tone = "warm" if warm < 0.85 else "cool" if warm > 1.0 else "neutral"
        strength = "dim " if level < 0.5 else "bright " if level > 1.1 else ""
        area = 4 * float(rooms.half_extents[b].prod())
        place = "yard" if bool(rooms.outdoors[b]) else "hall" if area > 35 else "room"
        size = "small " if area < 12 else "large " if area > 45 else ""
        around = f"{look(FLOOR_FACE)} floor and {look(0)} walls"
        inside = f", {', '.join(things)}" if things else ""
        captions.append(f"a {size}{place} with {around}{inside}, in {strength}{tone} light")
    return captions


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _plural(noun: str) -> str:
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def _color_name(rgb: torch.Tensor) -> str:
    distance = {name: float(((rgb.cpu() - torch.tensor(color)) ** 2).sum()) for name, color in _COLORS.items()}
    return min(distance, key=lambda name: distance[name])


def _developed(light: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Exposed by what is usual in the picture or clip ``(B, 3, ...)``, with a soft shoulder or none, and some gamma."""
    one = (len(light), *[1] * (light.ndim - 1))

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(one, generator=generator, device=light.device)

    usual = light.mean(1).flatten(1).quantile(0.6, dim=1).reshape(one).clamp(min=1e-3)
    exposed = light / usual * uniform(0.12, 0.6)
    shoulder = 1 - torch.exp(-1.3 * exposed)
    return torch.lerp(exposed.clamp(0, 1), shoulder, uniform(0, 1)).clamp(1e-5, 1) ** (1 / uniform(1.6, 2.4))


def _cameras(
    rooms: Rooms, placed: Placed, caster: ObjectCaster, focal: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """A camera ``(B, 4, 4)`` before some object of each room: of many candidates one with much to see and room around.

    ``focal`` counts in widths of the picture, shape ``(B,)``.
    """
    count, device = len(rooms), generator.device

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, _CANDIDATES, generator=generator, device=device)

    world = torch.arange(count, device=device)[:, None]
    there = (placed.model >= 0).float() + 1e-6
    target = torch.multinomial(there, _CANDIDATES, replacement=True, generator=generator)
    middle = placed.to_world[world, target][..., 3]
    away, angle = torch.exp(uniform(math.log(1.3), math.log(6.0))), uniform(-math.pi, math.pi)
    reach = rooms.half_extents[:, None] - 0.3
    xy = middle[..., :2] + away[..., None] * torch.stack([angle.cos(), angle.sin()], -1)
    xy = torch.minimum(torch.maximum(xy, -reach), reach)
    top = torch.where(rooms.outdoors, 2.2, rooms.height - 0.2)[:, None]
    position = torch.cat([xy, torch.minimum(uniform(0.35, 2.0), top)[..., None]], -1)
    to = middle - position
    yaw = torch.atan2(to[..., 1], to[..., 0]) + uniform(-0.5, 0.5)
    # Objects are some decimetres high: it looks at their middle, or ahead.
    aimed = torch.atan2(to[..., 2] + 0.4, to[..., :2].norm(dim=-1).clamp(min=0.3)).clamp(-0.7, 0.2)
    pitch = torch.where(uniform(0, 1) < 0.6, aimed, uniform(-0.45, 0.1)) + uniform(-0.15, 0.15)
    cameras = upright_cameras(position, yaw, pitch)

    (rows, columns), (tall, wide) = _GLANCE, _GLANCE_TANGENT
    v, u = torch.linspace(-tall, tall, rows, device=device), torch.linspace(-wide, wide, columns, device=device)
    offsets = torch.stack([u.expand(rows, -1), v[:, None].expand(-1, columns)], -1).reshape(-1, 2)
    rays = camera_rays(cameras.flatten(0, 1), offsets, focal.repeat_interleave(_CANDIDATES))
    seen = see(rooms, placed, caster, *(ray.reshape(count, -1, 3) for ray in rays))

    def share(mask: torch.Tensor) -> torch.Tensor:
        return mask.unflatten(1, (_CANDIDATES, -1)).float().mean(-1)

    depth = seen.distance.unflatten(1, (_CANDIDATES, -1))
    near, far = depth.clamp(max=12).log().quantile(torch.tensor([0.1, 0.9], device=device), dim=-1)
    floor = share((seen.face == FLOOR_FACE) & ~seen.on_object & ~seen.sky)
    score = 1.5 * share(seen.on_object).clamp(max=0.7) + (far - near).clamp(max=1.2) + 1.5 * floor.clamp(max=0.2)
    too_near = (1 - depth.quantile(0.03, dim=-1) / _NEAREST_M).clamp(min=0)
    score = score - 8 * too_near - 2 * (1 - depth.median(-1).values).clamp(min=0)
    gumbel = -torch.log(-torch.log(uniform(1e-6, 1 - 1e-6)))
    chosen = cameras[world[:, 0], (score + 0.35 * gumbel).argmax(1)]
    roll = 0.05 * torch.randn(count, generator=generator, device=device)
    turn = torch.eye(4, device=device).repeat(count, 1, 1)
    turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1] = roll.cos(), -roll.sin(), roll.sin(), roll.cos()
    return chosen @ turn
