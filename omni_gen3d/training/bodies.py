"""Training of the body network on films of moving worlds, which know every body that moves."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F

from omni_gen3d.checkpoints import load_network
from omni_gen3d.geometry import pixel_rays
from omni_gen3d.motion.body_network import (
    Answer,
    BodyNetwork,
    at_cells,
    heading_frames,
    mirrored_answer,
    mirrored_view,
    seen_by,
)
from omni_gen3d.motion.sightings import DIRECTIONS
from omni_gen3d.training.clips import Clips, Pool, to_bytes
from omni_gen3d.training.loop import Host, TrainingConfig, fit
from omni_gen3d.training.movers import LINKS, MOVER_PARTS, mover_tables
from omni_gen3d.training.moving import FIRST_MOVING_BOX, MovingClips, MovingViews, render_times, sample_moving_views
from omni_gen3d.training.raycast import BALL
from omni_gen3d.training.worlds import compile_renderer, world_generator
from omni_gen3d.video.depth import DepthNetwork, estimate_film_log_depth, steady_depth

DEFAULTS = TrainingConfig(
    minutes=8, batch_size=96, learning_rate=3e-3, ema_decay=0.995, log_every_s=60, pool_size=12_000
)
_VIEWS_PER_CHUNK, _VALIDATION_VIEWS = 24, 48
_FILL_SHARE = 0.12
_REFRESH_STEPS = 4
# Every film is seen at so many times, apart by one of these numbers of frames.
_TIMES, _STEPS, _NUM_FRAMES = 4, (3, 4), 17
# How far the floor that is found is from level [rad], and its height from that of its pixels, as a share.
_TILT, _HEIGHT_ERROR = 0.015, 0.03
# True floor is no higher than this [m].
_FLOOR_M = 0.02
# What is much smaller than this share of its distance counts no more for it.
_SMALL = 0.03


class Bodies(NamedTuple):
    """The bodies of films as the camera sees them; G = 13 numbers of bodies, after their first box; the last is a ball.

    Attributes:
        number: Of the body at each cell, -1 for none, shape ``(B, T, h, w)``.
        center: Middle of each body in the camera's frame [m], shape ``(B, T, G, 3)``.
        supports: How far it reaches along each direction [m], shape ``(B, T, G, 50)``.
    """

    number: torch.Tensor
    center: torch.Tensor
    supports: torch.Tensor


def bodies_in(moving: MovingViews, filmed: MovingClips, times: torch.Tensor, directions: torch.Tensor) -> Bodies:
    """The truth about films at frame indices ``times (B, T)``, for directions ``(B, 50, 3)`` in the world."""
    first = _first_boxes(moving)
    center, supports = _boxes_together(moving, first, times, directions)
    num_times, row = times.shape[1], torch.arange(len(times), device=times.device)[:, None]
    center = torch.cat([center, moving.ball_center[row, times][:, :, None]], 2)
    radius = moving.views.worlds.solids.ball_radius[:, None, None, None].expand(-1, num_times, -1, len(DIRECTIONS))
    world_to_camera = torch.linalg.inv(moving.views.camera_to_world)[:, None, None]
    center = (world_to_camera[..., :3, :3] @ center[..., None])[..., 0] + world_to_camera[..., :3, 3]

    primitive = at_cells(filmed.primitive).long()
    part = torch.where(primitive == BALL, MOVER_PARTS, primitive - FIRST_MOVING_BOX).clamp(0, MOVER_PARTS)
    to_body = F.pad(first, (0, 1), value=MOVER_PARTS)[:, None].expand(-1, num_times, -1)
    number = torch.where(at_cells(filmed.moving), to_body.gather(2, part.flatten(2)).view_as(part), -1)
    return Bodies(number.to(torch.int8), center, torch.cat([supports, radius], 2))


def _first_boxes(moving: MovingViews) -> torch.Tensor:
    """Of each moving box the first one of its body, ``(B, P)``: the boxes of a link are one, but those on a belt."""
    link = mover_tables(moving.mover.device).link[moving.mover.clamp(min=0)]
    alone = link == LINKS.index("belt")
    first = ((link[:, :, None] == link[:, None, :]) & ~alone[:, None, :]).float().argmax(-1)
    return torch.where(alone, torch.arange(MOVER_PARTS, device=link.device), first)


def _boxes_together(
    moving: MovingViews, first: torch.Tensor, times: torch.Tensor, directions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Middles ``(B, T, P, 3)`` and supports ``(B, T, P, 50)`` of the bodies, in the world, under their first boxes'
    numbers; zero elsewhere."""
    count, num_times = times.shape
    pose = moving.pose[torch.arange(count, device=times.device)[:, None], times]
    half = moving.part_half[:, None].expand(-1, num_times, -1, -1)
    cos, sin, zero = pose[..., 0].cos(), pose[..., 0].sin(), torch.zeros_like(pose[..., 0])
    axes = torch.stack([cos, sin, zero, -sin, cos, zero, zero, zero, zero + 1], -1).unflatten(-1, (3, 3))
    numbers = torch.arange(MOVER_PARTS, device=times.device)
    member = (first[:, :, None] == numbers) & moving.part_moves[:, :MOVER_PARTS, None]

    def farthest(values: torch.Tensor) -> torch.Tensor:
        """The largest of values ``(B, T, P, n)`` over each body's boxes, ``(B, T, P, n)``."""
        return torch.where(member[:, None, ..., None], values[:, :, :, None], -torch.inf).amax(2)

    # All boxes of a body are parallel: the axes of its first one are its own.
    along = (axes @ pose[..., 1:, None])[..., 0]
    middle = (farthest(along + half) - farthest(half - along)) / 2
    center = (axes.transpose(-1, -2) @ middle[..., None])[..., 0]
    to_box = torch.einsum("bkj,btpij->btpki", directions, axes)
    reach = (to_box.abs() * half[..., None, :]).sum(-1) + torch.einsum("bkj,btpj->btpk", directions, pose[..., 1:])
    supports = farthest(reach) - torch.einsum("bkj,btpj->btpk", directions, center)
    return center.nan_to_num(0, 0, 0), supports.nan_to_num(0, 0, 0)


@dataclass(frozen=True)
class _Shoot:
    """Films at a few times, with what the network is shown of them, and the truth."""

    depth: DepthNetwork
    height: int
    width: int

    @torch.no_grad()
    def __call__(self, count: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        device = generator.device
        size = self.height, self.width

        def uniform(*shape: int) -> torch.Tensor:
            return torch.rand(count, *shape, generator=generator, device=device)

        steps = torch.tensor(_STEPS, device=device)[(uniform() * len(_STEPS)).long()]
        begin = (uniform() * (_NUM_FRAMES - (_TIMES - 1) * steps)).long()
        times = begin[:, None] + steps[:, None] * torch.arange(_TIMES, device=device)
        views = sample_moving_views(count, self.width, self.height, _NUM_FRAMES, generator)
        filmed = render_times(views, torch.eye(4, device=device).repeat(count, _TIMES, 1, 1), times, *size)
        clips = filmed.clips
        frames = clips.rgb * 2 - 1
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            log_depth = estimate_film_log_depth(self.depth, frames, clips.intrinsics)
        estimate = steady_depth(frames, log_depth.float())

        level = _nearly_level(views.views.camera_to_world, generator)
        to_level = level @ views.views.camera_to_world[:, :3, :3]
        still = ~filmed.moving.any(1)
        ratio = torch.where(still, estimate[:, 0] / clips.depth[:, 0], torch.nan).flatten(1).nanmedian(-1).values
        scale = ratio.nan_to_num(1.0)
        height = _height_seen(views, clips, estimate[:, 0], still, to_level[:, 2], scale)
        directions = torch.tensor(DIRECTIONS, dtype=torch.float32, device=device) @ level
        bodies = bodies_in(views, filmed, times, directions)
        return {
            "rgb": to_bytes(clips.rgb.transpose(1, 2)),
            "log_depth": estimate.log().half(),
            "number": bodies.number,
            "center": bodies.center * scale[:, None, None, None],
            "supports": (bodies.supports * scale[:, None, None, None]).half(),
            "to_level": to_level,
            "intrinsics": clips.intrinsics,
            "camera_height": height * (1 + _HEIGHT_ERROR * torch.randn(count, generator=generator, device=device)),
        }


def _nearly_level(camera_to_world: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Frames ahead, left and up in the world, in rows ``(B, 3, 3)``, as level as a floor is found."""
    tilt = _TILT * torch.randn(2, len(camera_to_world), generator=generator, device=camera_to_world.device)
    roll, pitch = tilt.unbind()
    zero = torch.zeros_like(roll)
    skew = torch.stack([zero, zero, roll, zero, zero, pitch, -roll, -pitch, zero], -1)
    return torch.linalg.matrix_exp(skew.unflatten(-1, (3, 3))) @ heading_frames(camera_to_world)


def _height_seen(
    views: MovingViews, clips: Clips, estimate: torch.Tensor, still: torch.Tensor, up: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Of the camera over the floor as the estimated depth shows it, ``(B,)``; the true one in that scale where no floor
    is seen."""
    rays, pose = pixel_rays(clips.intrinsics, *still.shape[1:]), views.views.camera_to_world
    true_height = pose[:, 2, 3, None, None] + torch.einsum("bhwj,bj->bhw", rays, pose[:, 2, :3]) * clips.depth[:, 0]
    below = -torch.einsum("bhwj,bj->bhw", rays, up) * estimate
    floor = (true_height < _FLOOR_M) & still
    height = torch.where(floor, below, torch.nan).flatten(1).nanmedian(-1).values
    return torch.where(height.isnan(), scale * pose[:, 2, 3], height)


class _Batch(NamedTuple):
    """What the network is shown, and what it should say, ``B`` pictures."""

    seen: torch.Tensor
    moves: torch.Tensor
    offset: torch.Tensor
    supports: torch.Tensor
    weight: torch.Tensor


def _batch(rows: dict[str, torch.Tensor], time_index: torch.Tensor, disturbed: bool) -> _Batch:
    """Each film at one of its times, ``time_index (B,)``."""
    count = len(time_index)
    item = torch.arange(count, device=time_index.device)
    around = torch.stack([time_index, time_index - 1, time_index + 1], 1).clamp(0, _TIMES - 1)
    pictures = rows["rgb"][item[:, None], around].float() / 255
    if disturbed:
        pictures = _as_filmed(pictures)
    log_depth = rows["log_depth"][item, time_index].float()
    own = pixel_rays(rows["intrinsics"], *log_depth.shape[1:])
    rays = torch.einsum("bij,bhwj->bihw", rows["to_level"], own)
    seen = seen_by(pictures * 2 - 1, log_depth, rays, rows["camera_height"])

    number = rows["number"][item, time_index].long()
    moves = number >= 0
    chosen = number.clamp(min=0)
    center = rows["center"][item, time_index][item[:, None, None], chosen]
    supports = rows["supports"][item, time_index][item[:, None, None], chosen].float()
    z = at_cells(log_depth).exp()
    tangent = center[..., :2] / center[..., 2:].clamp(min=0.1) - at_cells(own.permute(0, 3, 1, 2))[:, :2].movedim(1, -1)
    offset = torch.cat([tangent, (center[..., 2:].clamp(min=0.1) / z[..., None]).log()], -1)
    supports = supports / z[..., None]
    cells = F.one_hot(torch.where(moves, chosen, 13), 14).flatten(1, 2).sum(1)
    weight = moves / cells.gather(1, chosen.flatten(1)).view_as(chosen).clamp(min=4).float().sqrt()
    weight = weight / (supports.mean(-1) + _SMALL)
    weight = weight / weight.sum().clamp(min=1e-6)
    return _Batch(seen, moves, offset.movedim(-1, 1), supports.movedim(-1, 1), weight)


def _mirrored(batch: _Batch, which: torch.Tensor) -> _Batch:
    """A batch of which some, ``which (B,)``, are seen in a mirror."""
    true = mirrored_answer(Answer(batch.moves, batch.offset, batch.supports, batch.weight))
    other = _Batch(mirrored_view(batch.seen), true.moves, true.offset, true.supports, true.doubt)
    return _Batch(*(torch.where(which.view(-1, *[1] * (a.ndim - 1)), b, a) for a, b in zip(batch, other, strict=True)))


def _as_filmed(pictures: torch.Tensor) -> torch.Tensor:
    """Exposure, contrast, tint, blur and noise of a lens and a compression, alike for the pictures of one film,
    ``(B, 3, 3, H, W)`` in [0, 1]."""
    count, device = len(pictures), pictures.device

    def uniform(low: float, high: float, channels: int = 1) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, 1, channels, 1, 1, device=device)

    pictures = pictures.clamp(1e-4, 1) ** uniform(0.7, 1.4) * uniform(0.8, 1.2) * uniform(0.9, 1.1, 3)
    blurred = F.avg_pool2d(F.pad(pictures.flatten(1, 2), (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    pictures = torch.lerp(pictures, blurred.view_as(pictures), uniform(-0.3, 1.0))
    return (pictures + uniform(0, 0.03) * torch.randn_like(pictures)).clamp(0, 1)


def _errors(answer: Answer, batch: _Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the middle and of the supports, shares of the distance, each ``(B, h, w)``."""
    return (answer.offset - batch.offset).abs().sum(1), (answer.supports - batch.supports).abs().mean(1)


def train_bodies(config: TrainingConfig, host: Host, out: Path, resume: Path | None, depth: Path) -> None:
    """Train the body network: L1 of the middle and of the supports, for its size; cross entropy of what moves; L1 of
    how wrong it is.

    Args:
        depth: Trained depth network, whose depth it will be shown.
    """
    started_at = time.time()
    torch.manual_seed(config.seed)
    network = BodyNetwork() if resume is None else load_network(BodyNetwork, resume).train().requires_grad_(True)
    network.to(host.device)  # pyright: ignore[reportArgumentType]
    answer_of = torch.compile(network, dynamic=False) if host.compiles else network
    if host.compiles:
        compile_renderer()
    torch.manual_seed(config.seed + host.rank)
    shoot = _Shoot(load_network(DepthNetwork, depth, host.device), config.height, config.width)
    generator = world_generator(config.seed * 1000 + 700 + host.rank, "train", host.device)
    pool = Pool(config.pool_size)
    pool.add(**shoot(_VIEWS_PER_CHUNK, generator))
    filling_began = time.time()
    while pool.size < config.pool_size and time.time() - filling_began < _FILL_SHARE * config.minutes * 60:
        pool.add(**shoot(_VIEWS_PER_CHUNK, generator))
    heldout = world_generator(config.seed, "heldout", host.device)
    validation = shoot(_VALIDATION_VIEWS, heldout)
    steps = 0

    def step_loss(progress: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        nonlocal steps
        steps += 1
        if steps % _REFRESH_STEPS == 0:
            pool.add(**shoot(_VIEWS_PER_CHUNK, generator))
        which = torch.randint(_TIMES, (config.batch_size,), device=host.device)
        batch = _batch(pool.draw(config.batch_size), which, disturbed=True)
        batch = _mirrored(batch, torch.rand(config.batch_size, device=host.device) < 0.5)
        with torch.autocast(host.device.type, torch.bfloat16):
            answer = answer_of(batch.seen)
        center, supports = _errors(answer, batch)
        wrong = center + supports
        doubt = (answer.doubt - wrong.detach()).abs()
        loss = ((center + 2 * supports + 0.2 * doubt) * batch.weight).sum()
        entropy = F.binary_cross_entropy_with_logits(answer.moves, batch.moves.float())
        return loss + entropy, {"loss": loss.detach(), "entropy": entropy.detach()}

    def evaluate() -> dict[str, float]:
        figures: dict[str, list[torch.Tensor]] = {}
        for time_index in range(_TIMES):
            rows = torch.full((_VALIDATION_VIEWS,), time_index, device=host.device)
            batch = _batch(validation, rows, disturbed=False)
            with torch.autocast(host.device.type, torch.bfloat16):
                answer = network(batch.seen)
            center, supports = _errors(answer, batch)
            size = batch.supports.mean(1)
            shown, found = batch.moves, answer.moves > 0
            told = {
                "center_at_3m": 3 * center[shown].mean(),
                "supports_share": (supports[shown] / size[shown]).mean(),
                "moves_iou": (shown & found).sum() / (shown | found).sum(),
            }
            for name, value in told.items():
                figures.setdefault(name, []).append(value)
        return {name: float(torch.stack(values).mean()) for name, values in figures.items()}

    fit(
        network,
        step_loss,
        evaluate,
        config,
        host,
        out,
        started_at=started_at,
        adam_names=("stem", "head"),
    )
