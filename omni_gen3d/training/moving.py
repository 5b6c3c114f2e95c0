"""Moving worlds: procedural rooms in which one thing moves, with the truth about it at every time.

The room and the camera come from ``worlds``; of many places the mover takes one where it fits all the way, in view of
the camera. Renders are exact at any time and from any camera.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from omni_gen3d.geometry import intrinsics_from_focal
from omni_gen3d.training.captions import describe
from omni_gen3d.training.clips import (
    FOCAL_RANGE,
    Clips,
    Views,
    along_trajectories,
    views_of,
)
from omni_gen3d.training.looks import FINISHES, MATERIALS
from omni_gen3d.training.motion import Amounts, link_poses, pose_matrix, rolling_turns
from omni_gen3d.training.movers import BALL_MOVER, DOOR_MOVER, MOVER_PARTS, MOVER_SLOTS, MOVERS, mover_tables
from omni_gen3d.training.raycast import BALL, BOXES, PARTS_PER_OBJECT, first_hit
from omni_gen3d.training.sampling import Worlds, sample_worlds
from omni_gen3d.training.shading import OPENINGS
from omni_gen3d.training.worlds import distance_to_nearest, render_shots

FIRST_MOVING_BOX = MOVER_SLOTS[0] * PARTS_PER_OBJECT
_CANDIDATES = 64
_CHECKED_PHASES = 4  # of the motion, at which a place is tried
_GAP = 0.03  # between a mover and anything else [m]
_WALL_GAP = 0.09  # from a hinge to its wall [m]
_TO_CAMERA = 0.9  # least distance from the camera [m]
_DISTANCES = (1.3, 4.5)  # of a mover from the camera [m]
_DOORWAY = (0.04, 0.035, 0.03)
# Less motion than this does not count [m, rad].
_STILL = 1e-3
# A mover is named where it covers this share of a frame.
_VISIBLE_SHARE = 0.003


@dataclass(frozen=True)
class MovingViews:
    """Worlds in which something moves, and the still camera that films them.

    Attributes:
        views: Worlds (the mover where it is at first), cameras, focal lengths, median depth of the room behind.
        mover: Index into ``MOVERS``, -1 where none found a place, shape ``(B,)``.
        pose: Of every moving box at every time, ``(yaw, x, y, z)``, shape ``(B, L, 12, 4)``.
        ball_center: [m], shape ``(B, L, 3)``.
        ball_turn: Shape ``(B, L, 3, 3)``.
    """

    views: Views
    mover: torch.Tensor
    pose: torch.Tensor
    ball_center: torch.Tensor
    ball_turn: torch.Tensor

    def __len__(self) -> int:
        return len(self.mover)

    def __getitem__(self, index: slice) -> MovingViews:
        """A part of the batch."""
        return MovingViews(
            self.views[index], self.mover[index], self.pose[index], self.ball_center[index], self.ball_turn[index]
        )

    @property
    def num_frames(self) -> int:
        """L."""
        return self.pose.shape[1]

    @property
    def part_half(self) -> torch.Tensor:
        """Half sizes of the moving boxes [m], zero where unused, shape ``(B, 12, 3)``."""
        return self.views.worlds.solids.box_half[:, FIRST_MOVING_BOX:BOXES]

    @property
    def part_to_world(self) -> torch.Tensor:
        """Rigid transforms of the 12 boxes and, last, the ball, shape ``(B, L, 13, 4, 4)``."""
        ball = torch.eye(4, device=self.pose.device).repeat(*self.pose.shape[:2], 1, 1, 1)
        ball[..., 0, :3, :3], ball[..., 0, :3, 3] = self.ball_turn, self.ball_center
        return torch.cat([pose_matrix(self.pose), ball], 2)

    @property
    def part_moves(self) -> torch.Tensor:
        """Which of the 12 boxes and, last, the ball move, shape ``(B, 13)``, bool."""
        boxes = (self.pose - self.pose[:, :1]).abs().amax((1, 3)) > _STILL
        ball = (self.mover == BALL_MOVER)[:, None]
        return torch.cat([boxes & (self.part_half[..., 0] > 0), ball], 1)

    @property
    def moves(self) -> torch.Tensor:
        """Which primitives move, shape ``(B, 46)``, bool."""
        boxes, ball = self.part_moves.split([MOVER_PARTS, 1], 1)
        return torch.cat([F.pad(boxes, (FIRST_MOVING_BOX, BALL - BOXES)), ball], 1)

    def worlds_at(self, world: torch.Tensor, time: torch.Tensor) -> Worlds:
        """The world of index ``world (S,)`` at the frame of index ``time (S,)``, for S pairs."""
        worlds = self.views.worlds[world]
        pose = self.pose[world, time]
        solids = worlds.solids
        center, axis = solids.box_center.clone(), solids.box_axis.clone()
        center[:, FIRST_MOVING_BOX:BOXES] = pose[..., 1:]
        axis[:, FIRST_MOVING_BOX:BOXES] = torch.stack([pose[..., 0].cos(), pose[..., 0].sin()], -1)
        solids = solids._replace(
            box_center=center,
            box_axis=axis,
            ball_center=self.ball_center[world, time],
            ball_turn=self.ball_turn[world, time],
        )
        return replace(worlds, solids=solids)


@dataclass(frozen=True)
class MovingClips:
    """Rendered clips of moving worlds.

    Attributes:
        clips: Frame t shows time t.
        moving: True where a moving part is seen, shape ``(B, L, H, W)``.
        primitive: Index of the primitive at each pixel (raycast.py), shape ``(B, L, H, W)``, int16.
    """

    clips: Clips
    moving: torch.Tensor
    primitive: torch.Tensor


def sample_moving_views(
    count: int,
    width: int,
    height: int,
    num_frames: int,
    generator: torch.Generator,
    focal_range: tuple[float, float] = FOCAL_RANGE,
) -> MovingViews:
    """Draw rooms, cameras and movers from the generator's device."""
    worlds = _without_last_pieces(sample_worlds(count, generator, generator.device))
    return _add_movers(views_of(worlds, width, height, generator, focal_range), width, height, num_frames, generator)


def moving_trajectories(moving: MovingViews, trajectory: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """``along_trajectories`` that keep clear of the mover wherever it goes: ``(B, L, 4, 4)``."""
    views, solids = moving.views, moving.views.worlds.solids
    times = range(0, moving.num_frames, 4)
    centers = torch.cat([moving.pose[:, t, :, 1:] for t in times], 1)
    yaws = torch.cat([moving.pose[:, t, :, 0] for t in times], 1)
    swept = solids._replace(
        box_center=torch.cat([solids.box_center, centers], 1),
        box_half=torch.cat([solids.box_half, moving.part_half.repeat(1, len(times), 1)], 1),
        box_axis=torch.cat([solids.box_axis, torch.stack([yaws.cos(), yaws.sin()], -1)], 1),
    )
    views = replace(views, worlds=replace(views.worlds, solids=swept))
    return along_trajectories(views, trajectory, moving.num_frames, generator)


def render_moving(moving: MovingViews, camera_to_first: torch.Tensor, height: int, width: int) -> MovingClips:
    """Film the worlds: frame t of ``camera_to_first (B, L, 4, 4)`` [m] sees time t."""
    count, frames = camera_to_first.shape[:2]
    times = torch.arange(frames, device=camera_to_first.device).expand(count, -1)
    return render_times(moving, camera_to_first, times, height, width)


def render_times(
    moving: MovingViews, camera_to_first: torch.Tensor, times: torch.Tensor, height: int, width: int
) -> MovingClips:
    """See the worlds from cameras ``(B, C, 4, 4)`` at frame indices ``(B, C)``."""
    count, cameras = times.shape
    device = times.device
    views = moving.views
    world = torch.arange(count, device=device).repeat_interleave(cameras)
    camera_to_world = (views.camera_to_world[:, None] @ camera_to_first).flatten(0, 1)
    shots = render_shots(
        moving.worlds_at(world, times.flatten()), camera_to_world, views.focal_px[world], height, width
    )
    intrinsics = torch.stack([intrinsics_from_focal(float(f), width, height) for f in views.focal_px]).to(device)

    def by_world(maps: torch.Tensor) -> torch.Tensor:
        return maps.unflatten(0, (count, cameras))

    primitive = by_world(shots.primitive[:, 0])
    clips = Clips(
        by_world(shots.rgb[:, :, 0]).transpose(1, 2).contiguous(),
        by_world(shots.depth[:, 0]),
        by_world(shots.surface[:, 0]),
        camera_to_first,
        intrinsics,
    )
    index = torch.arange(count, device=device)[:, None, None, None]
    return MovingClips(clips, moving.moves[index, primitive.long()], primitive)


def caption_moving(moving: MovingViews, filmed: MovingClips, rng: np.random.Generator) -> list[str]:
    """One caption for each clip of the still camera; the mover is named where some frame shows it move."""
    captions = describe(moving.views.worlds, filmed.clips.surface[:, 0], rng)
    seen = filmed.moving.float().mean((2, 3)).amax(1) > _VISIBLE_SHARE
    for b, (mover, visible) in enumerate(zip(moving.mover.tolist(), seen.tolist(), strict=True)):
        if visible:
            says = MOVERS[mover].says
            joint = " and " if " with " in captions[b] else " with "
            captions[b] += joint + says[int(rng.integers(len(says)))]
    return captions


def _without_last_pieces(worlds: Worlds) -> Worlds:
    """Clear the slots that a mover takes."""
    object_type = worlds.object_type.clone()
    object_type[:, list(MOVER_SLOTS)] = -1
    half, center = worlds.solids.box_half.clone(), worlds.solids.box_center.clone()
    half[:, FIRST_MOVING_BOX:BOXES] = 0
    center[:, FIRST_MOVING_BOX:BOXES] = center.new_tensor([0.0, 0.0, -50.0])
    return replace(worlds, object_type=object_type, solids=worlds.solids._replace(box_half=half, box_center=center))


def _add_movers(views: Views, width: int, height: int, num_frames: int, generator: torch.Generator) -> MovingViews:
    worlds, device = views.worlds, generator.device
    count = len(worlds)
    tables = mover_tables(device)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(count, *shape, generator=generator, device=device)

    # Every candidate is a mover of its own at a place of its own; one type a world is preferred.
    weight = tables.room_weight[worlds.kind]
    preferred = torch.multinomial(weight, 1, generator=generator)
    kind = torch.multinomial(weight, _CANDIDATES, replacement=True, generator=generator)
    kind[:, : _CANDIDATES // 2] = preferred
    drawn = tables.low[kind] + (tables.high - tables.low)[kind] * uniform(_CANDIDATES, 7)
    scale, travel, turn, shoulder, elbow, lift, belt = drawn.unbind(-1)

    def side() -> torch.Tensor:
        return torch.where(uniform(_CANDIDATES) < 0.5, 1.0, -1.0)

    turn, shoulder, elbow = torch.deg2rad(turn) * side(), torch.deg2rad(shoulder), torch.deg2rad(elbow) * side()
    at_wall = tables.at_wall[kind]
    shoulder = torch.where(at_wall, shoulder, shoulder * side())
    amounts = Amounts(
        scale=scale, travel=travel, turn=turn, shoulder=shoulder, elbow=elbow,
        shoulder_from=torch.where(at_wall, 0.03, -shoulder / 2),
        elbow_from=torch.where(elbow == 0, 0.0, (uniform(_CANDIDATES) - 0.5) * 2 - elbow / 2),
        lift=lift * scale, belt=belt * scale,
    )  # fmt: skip
    standing = _standing_places(views, width, uniform)
    hinged, wall, along = _hinges(views, scale, uniform)
    middle = torch.where(at_wall[..., None], hinged, standing)
    radius = torch.where(kind == BALL_MOVER, scale, 0.0)
    middle[..., 3] = radius

    checked = torch.linspace(0, 1, _CHECKED_PHASES, device=device).expand(count, _CANDIDATES, -1)
    links = link_poses(amounts, middle, tables.elbow_at[kind], checked)
    score = _scores(views, kind, links, scale, radius, width, height)
    score = score + 3.0 * (kind == preferred) - 0.5 * torch.log(-torch.log(uniform(_CANDIDATES).clamp(1e-6, 1 - 1e-6)))
    best = score.argmax(1)
    row = torch.arange(count, device=device)
    fits = score[row, best] > -100
    kind, scale, radius = kind[row, best], scale[row, best], radius[row, best]
    amounts, middle = Amounts(*(amount[row, best] for amount in amounts)), middle[row, best]
    wall, along = wall[row, best], along[row, best]

    share = torch.linspace(0, 1, num_frames, device=device)
    eased = torch.lerp(share.expand(count, -1), (share * share * (3 - 2 * share)).expand(count, -1), uniform(1))
    phase = torch.where(uniform(1) < 0.5, eased, 1 - eased)
    links = link_poses(amounts, middle, tables.elbow_at[kind], phase)
    pose = _part_poses(links, kind, scale)
    used = tables.used[kind] & fits[:, None]
    away = pose.new_tensor([0.0, 0.0, 0.0, -50.0])
    pose = torch.where(used[:, None, :, None], pose, away)
    ball_center = torch.where((fits & (kind == BALL_MOVER))[:, None, None], links[:, :, 0, 1:], away[1:])
    radius = torch.where(fits, radius, 0.0)
    worlds = _painted(worlds, kind, fits, used, scale, radius, wall, along, generator)
    mover = torch.where(fits, kind, -1)
    moving = MovingViews(replace(views, worlds=worlds), mover, pose, ball_center, rolling_turns(ball_center, radius))
    first = torch.zeros(count, dtype=torch.long, device=device)
    return replace(moving, views=replace(views, worlds=moving.worlds_at(row, first)))


def _standing_places(views: Views, width: int, uniform) -> torch.Tensor:
    """Poses ``(B, K, 4)`` on the floor before the camera."""
    low, high = _DISTANCES
    forward = views.camera_to_world[:, :2, 2]
    heading = torch.atan2(forward[:, 1], forward[:, 0])[:, None]
    distance = low + (high - low) * uniform(_CANDIDATES)
    spread = 0.8 * torch.atan(width / 2 / views.focal_px)[:, None]
    bearing = heading + spread * (2 * uniform(_CANDIDATES) - 1)
    x = views.camera_to_world[:, 0, 3, None] + distance * bearing.cos()
    y = views.camera_to_world[:, 1, 3, None] + distance * bearing.sin()
    return torch.stack([uniform(_CANDIDATES) * 2 * torch.pi, x, y, torch.zeros_like(x)], -1)


def _hinges(views: Views, scale: torch.Tensor, uniform) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Poses ``(B, K, 4)`` at the walls, the walls' indices, and the place of the doorway's middle along them [m]."""
    half = views.worlds.half_extents
    wall = (uniform(_CANDIDATES) * 4).long().clamp(max=3)
    normal = half.new_tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])[wall]
    tangent = torch.stack([normal[..., 1], -normal[..., 0]], -1)
    reach, length = torch.where((wall < 2)[..., None], half[:, None], half[:, None].flip(-1)).unbind(-1)
    place = (2 * uniform(_CANDIDATES) - 1) * (length - 0.2)
    across = tangent.abs()
    hinge = -normal * (reach - _WALL_GAP)[..., None] + across * place[..., None]
    yaw = torch.atan2(tangent[..., 1], tangent[..., 0])
    middle = hinge + tangent * (0.43 * scale)[..., None]
    return torch.stack([yaw, *hinge.unbind(-1), torch.zeros_like(yaw)], -1), wall, (middle * across).sum(-1)


def _part_poses(links: torch.Tensor, kind: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Poses of the boxes: links ``(..., T, 5, 4)``, kind and scale ``(...)`` to ``(..., T, 12, 4)``."""
    tables = mover_tables(links.device)
    link = tables.link[kind][..., None, :, None].expand(*links.shape[:-2], MOVER_PARTS, 4)
    on = links.gather(-2, link)
    x, y, z = (tables.center[kind] * scale[..., None, None])[..., None, :, :].unbind(-1)
    cos, sin = on[..., 0].cos(), on[..., 0].sin()
    return torch.stack([on[..., 0], on[..., 1] + x * cos - y * sin, on[..., 2] + x * sin + y * cos, on[..., 3] + z], -1)


def _scores(
    views: Views,
    kind: torch.Tensor,
    links: torch.Tensor,
    scale: torch.Tensor,
    radius: torch.Tensor,
    width: int,
    height: int,
) -> torch.Tensor:
    """How good each candidate ``(B, K)`` is; below -100 where it does not fit."""
    tables = mover_tables(links.device)
    pose = _part_poses(links, kind, scale)
    half = (tables.half[kind] * scale[..., None, None])[:, :, None]
    signs = torch.cartesian_prod(*[half.new_tensor([-1.0, 0.0, 1.0])] * 2)
    used = tables.used[kind][:, :, None, :, None].expand(-1, -1, pose.shape[2], -1, len(signs))
    cos, sin = pose[..., 0, None].cos(), pose[..., 0, None].sin()
    x, y = half[..., 0, None] * signs[:, 0], half[..., 1, None] * signs[:, 1]
    corners = torch.stack(
        [
            pose[..., 1, None] + x * cos - y * sin,
            pose[..., 2, None] + x * sin + y * cos,
            # Feet touch the floor: look at it from where the floor is not in the way.
            pose[..., 3, None].clamp(min=2 * _GAP).expand(*used.shape),
        ],
        -1,
    )
    count = len(kind)
    clear = distance_to_nearest(views.worlds, corners.reshape(count, -1, 3)).reshape(used.shape)
    eye = views.camera_to_world[:, None, None, None, None, :3, 3]
    to_camera = (corners - eye)[..., :2].norm(dim=-1)
    ball = links[:, :, :, 0, 1:]
    is_ball = (kind == BALL_MOVER)[..., None]
    ball_clear = distance_to_nearest(views.worlds, ball.reshape(count, -1, 3)).reshape(ball.shape[:-1])
    # The ball touches the floor, whose distance is its radius.
    ball_clear = ball_clear - 0.999 * radius[..., None]
    clearance = torch.where(used, clear, 1e3).amin((-1, -2))
    clearance = torch.where(is_ball, torch.where(ball_clear >= 0, 1.0, ball_clear), clearance)
    nearest = torch.where(used, to_camera, 1e3).amin((-1, -2))
    nearest = torch.where(is_ball, (ball - eye[:, :, :, 0, 0])[..., :2].norm(dim=-1), nearest)
    wanted = torch.where(kind == DOOR_MOVER, 0.0, _GAP)[..., None]
    misfit = (clearance < wanted).any(-1) | (nearest < _TO_CAMERA).any(-1)

    # In view: the middles of the parts project into the picture, and nothing hides them.
    heart = torch.where(is_ball[..., None, None], ball[..., None, :], pose[..., 1:])
    local = (heart - eye[..., 0, :]) @ views.camera_to_world[:, None, None, :3, :3]
    z = local[..., 2].clamp(min=0.1)
    u, v = (local[..., i] / z * views.focal_px[:, None, None, None] for i in range(2))
    inside = (local[..., 2] > 0.5) & (u.abs() < 0.47 * width) & (v.abs() < 0.47 * height)
    direction = (heart - eye[..., 0, :]).reshape(count, 1, -1, 3)
    direction = torch.where(direction.abs() < 1e-4, 1e-4, direction)
    x, y, z = direction.unbind(-1)
    reached, _ = first_hit(views.worlds.solids, views.camera_to_world[:, None, :3, 3], (x, y, z))
    shown = (inside & (reached.reshape(inside.shape) > 0.98)).float()
    counted = torch.where(is_ball[..., None], 1.0, used[..., 0].float())
    share = (shown * counted).sum((-1, -2)) / counted.sum((-1, -2))
    distance = (heart - eye[..., 0, :]).norm(dim=-1).amin((-1, -2))
    fit = 8.0 * share - 0.5 * (distance - 2.2).abs()
    return torch.where(misfit | (share < 0.25), -1e4, fit)


def _painted(
    worlds: Worlds,
    kind: torch.Tensor,
    fits: torch.Tensor,
    used: torch.Tensor,
    scale: torch.Tensor,
    radius: torch.Tensor,
    wall: torch.Tensor,
    along: torch.Tensor,
    generator: torch.Generator,
) -> Worlds:
    """Give the movers their sizes and looks, and doors their doorway."""
    tables, device = mover_tables(kind.device), kind.device
    finish = torch.multinomial(tables.finish_weight[kind], 1, generator=generator)[:, 0]
    rgb = torch.tensor([look.rgb for look in FINISHES], device=device)[finish]
    material = torch.tensor([look.material_index for look in FINISHES], device=device)[finish]
    shade = tables.shade[kind]
    own = shade == 0
    paint = worlds.paint
    color, materials, seed = paint.color.clone(), paint.material.clone(), paint.seed.clone()
    boxes = slice(FIRST_MOVING_BOX, BOXES)
    color[:, boxes] = torch.where(own[..., None], tables.paint[kind], rgb[:, None] * shade[..., None]).clamp(0.02, 0.97)
    materials[:, boxes] = torch.where(own, tables.paint_material[kind], material[:, None])
    seed[:, boxes] = 1 + 17 * torch.rand(len(kind), 1, generator=generator, device=device)
    # Tiles in two tones show that a ball turns.
    color[:, BALL], materials[:, BALL] = rgb, MATERIALS.index("tile")
    seed[:, BALL] = 1 + 17 * torch.rand(len(kind), generator=generator, device=device)

    row = torch.arange(len(kind), device=device)
    door = fits & (kind == DOOR_MOVER)
    opening, rect, repeat = paint.opening.clone(), paint.opening_rect.clone(), paint.opening_repeat.clone()
    opening_color = paint.opening_color.clone()
    doorway = torch.stack([along, 0.44 * scale, torch.zeros_like(scale), 2.02 * scale], -1)
    opening[row, wall] = torch.where(door, OPENINGS.index("door"), opening[row, wall])
    rect[row, wall] = torch.where(door[:, None], doorway, rect[row, wall])
    repeat[row, wall, 1] = torch.where(door, 0.0, repeat[row, wall, 1])
    opening_color[row, wall] = torch.where(door[:, None], color.new_tensor(_DOORWAY), opening_color[row, wall])

    half = worlds.solids.box_half.clone()
    half[:, boxes] = torch.where(used[..., None], tables.half[kind] * scale[:, None, None], 0.0)
    return replace(
        worlds,
        solids=worlds.solids._replace(box_half=half, ball_radius=radius),
        paint=paint._replace(
            color=color, material=materials, seed=seed, opening=opening, opening_rect=rect, opening_repeat=repeat,
            opening_color=opening_color,
        ),
    )  # fmt: skip
