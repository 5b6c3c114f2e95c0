"""Procedural robot worlds: furnished rooms of six kinds, drawn from a generator, seen by pinhole cameras.

A world is analytic: pictures, depths and distances are exact and cost no data. World frame: metres, Z up, the floor at
z = 0, the room centred on the origin; cameras are OpenCV.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from omni_gen3d.errors import InputError
from omni_gen3d.training import raycast, shading
from omni_gen3d.training.raycast import FIRST_WALL, FLOOR_SURFACE
from omni_gen3d.training.rooms import WORLD_KINDS
from omni_gen3d.training.sampling import Split, Worlds, sample_worlds, world_generator

__all__ = [
    "WORLD_KINDS",
    "Split",
    "WorldFrames",
    "Worlds",
    "compile_renderer",
    "distance_to_nearest",
    "render_shots",
    "render_worlds",
    "sample_worlds",
    "start_cameras",
    "world_generator",
]

_CLEARANCE = 0.5  # between a first camera and anything solid [m]
_CANDIDATES = 64
_WORLDS_AT_ONCE = 64  # whose candidates are looked through together; bounds the memory
_GLANCE = (7, 11)  # rays of a quick look, rows and columns
_GLANCE_TANGENT = (0.36, 0.66)  # their spread to each side: a 16:9 picture of 67 degrees

# Shots drawn at once, and rays of each. On a GPU one number for pictures and clips (four of 17 frames), so that a
# compiler meets one shape; a processor's cache holds a part of one.
_SHOTS_AT_ONCE, _RAYS_AT_ONCE = {"cuda": 68, "cpu": 1}, {"cuda": 1 << 30, "cpu": 1 << 14}

_paint_rays = shading.paint_rays
_locate_rays = raycast.first_hit


@dataclass(frozen=True)
class WorldFrames:
    """What cameras saw.

    Attributes:
        rgb: In [0, 1], shape ``(B, 3, T, H, W)``, float32.
        depth: z-depth at the pixel centres [m], shape ``(B, T, H, W)``.
        surface: Index at the pixel centres, shape ``(B, T, H, W)``, int16: 0-5 objects, 6-8 cylinders (the columns of
            ``Worlds.object_type``), 9-12 the walls -x, +x, -y, +y, 13 floor, 14 ceiling, 15 ball.
        primitive: Index of the primitive (raycast.py), shape ``(B, T, H, W)``, int16.
    """

    rgb: torch.Tensor
    depth: torch.Tensor
    surface: torch.Tensor
    primitive: torch.Tensor


def compile_renderer() -> None:
    """Compile the two ray kernels for the rest of the process; each new picture size compiles once."""
    global _paint_rays, _locate_rays
    if _paint_rays is shading.paint_rays:
        _paint_rays = torch.compile(shading.paint_rays, dynamic=False)
        _locate_rays = torch.compile(raycast.first_hit, dynamic=False)


def render_worlds(
    worlds: Worlds,
    camera_to_world: torch.Tensor,
    focal_px: torch.Tensor,
    height: int,
    width: int,
    supersample: int = 2,
) -> WorldFrames:
    """Render every camera of every world.

    Args:
        worlds: B worlds.
        camera_to_world: OpenCV cameras [m], shape ``(B, T, 4, 4)``; the principal point is the picture's centre.
        focal_px: Focal length of each world's cameras [pixels], shape ``(B,)``.
        height: Of the pictures [pixels].
        width: Of the pictures [pixels].
        supersample: Rays along each side of a pixel.

    Raises:
        InputError: The shapes do not fit the worlds.
    """
    count = len(worlds)
    if camera_to_world.ndim != 4 or camera_to_world.shape[0] != count or focal_px.shape != (count,):
        raise InputError(
            f"{count} worlds need cameras (B, T, 4, 4) and focal lengths (B,) with B = {count}; got "
            f"{tuple(camera_to_world.shape)} and {tuple(focal_px.shape)}."
        )
    frames = camera_to_world.shape[1]
    world = torch.arange(count, device=camera_to_world.device).repeat_interleave(frames)
    shots = render_shots(worlds[world], camera_to_world.flatten(0, 1), focal_px[world], height, width, supersample)
    return WorldFrames(
        shots.rgb[:, :, 0].unflatten(0, (count, frames)).transpose(1, 2).contiguous(),
        *(maps.unflatten(0, (count, frames))[:, :, 0] for maps in (shots.depth, shots.surface, shots.primitive)),
    )


@torch.no_grad()
def render_shots(
    worlds: Worlds,
    camera_to_world: torch.Tensor,
    focal_px: torch.Tensor,
    height: int,
    width: int,
    supersample: int = 2,
) -> WorldFrames:
    """Render one camera of each of S worlds; see ``render_worlds``.

    Args:
        camera_to_world: Shape ``(S, 4, 4)``.
        focal_px: Shape ``(S,)``.

    Returns:
        Frames of shape ``(S, ..., 1, H, W)``.
    """
    count, device = len(worlds), camera_to_world.device
    centers = pixel_offsets(height, width, 1, device)
    samples = pixel_offsets(height, width, supersample, device)
    compiled = _paint_rays is not shading.paint_rays
    rgb, depth, found = [], [], []
    at_once, rays = _SHOTS_AT_ONCE[device.type], _RAYS_AT_ONCE[device.type]
    for begin in range(0, count, at_once):
        end = begin + at_once
        # A compiled kernel knows one batch: the last one is filled up with its last shot.
        index = torch.arange(begin, end if compiled else min(end, count), device=device).clamp(max=count - 1)
        part, cameras, focal = worlds[index], camera_to_world[index, None], focal_px[index]
        color = torch.cat(
            [_paint_rays(part.solids, part.paint, cameras, some, focal) for some in samples.split(rays)], 2
        )
        color = color.reshape(-1, 1, height, supersample, width, supersample, 3).mean((3, 5))
        rgb.append(color.permute(0, 4, 1, 2, 3))
        directions = raycast.ray_directions(cameras[:, :, :3, :3], centers, focal)
        distance, primitive = _locate_rays(part.solids, cameras[:, :, :3, 3].contiguous(), directions)
        depth.append(distance.reshape(-1, 1, height, width))
        found.append(primitive.reshape(-1, 1, height, width))
    primitive = torch.cat(found)[:count]
    surface = raycast.surface_of(primitive)
    return WorldFrames(
        torch.cat(rgb)[:count], torch.cat(depth)[:count], surface.to(torch.int16), primitive.to(torch.int16)
    )


def distance_to_nearest(worlds: Worlds, points: torch.Tensor) -> torch.Tensor:
    """Distance to the nearest object, ball, wall, floor or ceiling.

    Args:
        worlds: B worlds.
        points: [m], shape ``(B, P, 3)``.

    Returns:
        [m], shape ``(B, P)``; negative inside a solid or outside the room.
    """
    x, y, z = (coordinate[:, None] for coordinate in points.unbind(-1))
    boxes = raycast.box_distances(worlds.solids, (x, y, z)).amin(-1)
    cylinders = raycast.cylinder_distances(worlds.solids, (x, y, z)).amin(-1)
    ball = raycast.ball_distance(worlds.solids, (x, y, z))
    room = raycast.room_distance(worlds.solids, (x, y, z))
    return torch.minimum(torch.minimum(boxes, cylinders), torch.minimum(ball, room))[:, 0]


@torch.no_grad()
def start_cameras(worlds: Worlds, generator: torch.Generator) -> torch.Tensor:
    """A first camera for every world: upright, 0.6-1.7 m high, looking slightly down at the furniture.

    Of many random candidates the one with the best view is taken, with some chance: several pieces in view, the
    nearest thing 1.5-5 m away, and at least 0.5 m of clearance around the camera.

    Returns:
        OpenCV camera-to-world matrices [m], shape ``(B, 4, 4)``.
    """
    device = worlds.kind.device
    count = len(worlds)

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, _CANDIDATES, generator=generator, device=device)

    reach = worlds.half_extents[:, None] - 1.1 * _CLEARANCE
    x, y = uniform(-1, 1) * reach[..., 0], uniform(-1, 1) * reach[..., 1]
    position = torch.stack([x, y, uniform(0.6, 1.7)], -1)
    to_center = torch.atan2(-y, -x)
    yaw = torch.where(uniform(0, 1) < 0.5, to_center + uniform(-0.6, 0.6), uniform(-torch.pi, torch.pi))
    candidates = upright_cameras(position, yaw, uniform(-0.3, -0.05))

    clearance = distance_to_nearest(worlds, position)
    parts = [slice(begin, begin + _WORLDS_AT_ONCE) for begin in range(0, count, _WORLDS_AT_ONCE)]
    score = torch.cat([_view_score(worlds[part], candidates[part]) for part in parts]) - 1e3 * (
        1.05 * _CLEARANCE - clearance
    ).clamp(min=0)
    gumbel = -torch.log(-torch.log(uniform(1e-6, 1 - 1e-6)))
    best = (score + 0.5 * gumbel).argmax(1)
    return candidates[torch.arange(count, device=device), best]


def _view_score(worlds: Worlds, camera_to_world: torch.Tensor) -> torch.Tensor:
    """How well each candidate ``(B, C, 4, 4)`` sees its world, shape ``(B, C)``."""
    device = camera_to_world.device
    (rows, columns), (tall, wide) = _GLANCE, _GLANCE_TANGENT
    v, u = torch.linspace(-tall, tall, rows, device=device), torch.linspace(-wide, wide, columns, device=device)
    rays = torch.stack([u.expand(rows, -1), v[:, None].expand(-1, columns)], -1).reshape(-1, 2)
    directions = raycast.ray_directions(camera_to_world[..., :3, :3], rays, torch.ones(len(worlds), device=device))
    depth, primitive = raycast.first_hit(worlds.solids, camera_to_world[..., :3, 3], directions)
    surface = raycast.surface_of(primitive)
    slots = torch.arange(FIRST_WALL, device=device)
    share = (surface[..., None] == slots).float().mean(-2)
    seen = (share / 0.03).clamp(max=1)
    # The first slot holds the piece that tells the kind of the room: it counts more.
    in_view = seen.sum(-1) + 2.5 * seen[..., 0]
    nearest = torch.where(surface < FLOOR_SURFACE, depth, 1e4).amin(-1)
    ahead = depth[..., (rows // 2) * columns + columns // 2]
    too_near = (1.5 - nearest).clamp(min=0) + (2.0 - ahead).clamp(min=0)
    too_far = (nearest - 5.0).clamp(min=0, max=5)
    boxed_in = (2.2 - depth.median(-1).values).clamp(min=0)
    floorless = (0.12 - (surface == FLOOR_SURFACE).float().mean(-1)).clamp(min=0)
    crowded = (share.amax(-1) - 0.4).clamp(min=0)
    return 1.2 * in_view - 8.0 * too_near - 1.5 * too_far - 4.0 * crowded - 5.0 * boxed_in - 40.0 * floorless


def upright_cameras(position: torch.Tensor, yaw: torch.Tensor, pitch: torch.Tensor) -> torch.Tensor:
    """OpenCV camera-to-world matrices ``(..., 4, 4)`` without roll; yaw 0 looks along +X, pitch > 0 looks up [rad]."""
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    right = torch.stack([yaw.sin(), -yaw.cos(), zero], -1)
    forward = torch.stack([yaw.cos() * pitch.cos(), yaw.sin() * pitch.cos(), pitch.sin()], -1)
    down = torch.linalg.cross(forward, right)
    top = torch.stack([right, down, forward, position], -1)
    bottom = torch.stack([zero, zero, zero, one], -1)[..., None, :]
    return torch.cat([top, bottom], -2)


def pixel_offsets(height: int, width: int, supersample: int, device: torch.device) -> torch.Tensor:
    """Offsets of the samples from the picture's centre [pixels], row by row, shape ``(H * W * s * s, 2)``."""
    v = (torch.arange(height * supersample, device=device) + 0.5) / supersample - height / 2
    u = (torch.arange(width * supersample, device=device) + 0.5) / supersample - width / 2
    return torch.stack([u.expand(len(v), -1), v[:, None].expand(-1, len(u))], -1).reshape(-1, 2)
