"""``omni-gen3d eval mini --dynamic``: what the mini model makes of films of held-out moving worlds."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from omni_gen3d.checkpoints import load_network
from omni_gen3d.decoder.mini import MiniDecoder, one_scene
from omni_gen3d.errors import InputError
from omni_gen3d.geometry import placement_on, transform_cameras, transform_gaussians
from omni_gen3d.motion.body_network import BodyNetwork, see_bodies
from omni_gen3d.motion.film import Film
from omni_gen3d.motion.scene import dynamic_scene, gaussians_at
from omni_gen3d.motion.scoring import TrueMover, score_parts, static_flicker
from omni_gen3d.render import render
from omni_gen3d.training.decoder import (
    MAX_GAUSSIANS,
    draw_moments,
    fused_maps,
    keep_most_opaque,
    kept_moments,
    load_video_model,
)
from omni_gen3d.training.losses import psnr
from omni_gen3d.training.moving import (
    FIRST_MOVING_BOX,
    MovingClips,
    MovingViews,
    caption_moving,
    render_moving,
    render_times,
    sample_moving_views,
)
from omni_gen3d.training.preview import write_contact_sheet
from omni_gen3d.training.rasterize import FAR, NEAR, draw_scenes
from omni_gen3d.training.raycast import BALL
from omni_gen3d.training.scenes import Films, Scenes, films_of, imagine_along, imagine_films, six_paths
from omni_gen3d.training.scoring import Tally, check, evaluation_report, seventh_trajectory
from omni_gen3d.training.worlds import compile_renderer, world_generator
from omni_gen3d.types import Cameras, DynamicScene, GaussianSequence, TriMesh
from omni_gen3d.video.cache3d import warp
from omni_gen3d.video.cache4d import warp_video
from omni_gen3d.video.ground import find_ground
from omni_gen3d.video.imagine import draw_noise

MAX_SCENES = 256
MIN_NOVEL_DB, MIN_MOVING_DB, MIN_GAIN_DB, MAX_FLICKER = 28.0, 22.0, 4.0, 0.5
MIN_PART_IOU, MAX_PART_ERROR_M = 0.6, 0.1
# How many films are made at once; on a CPU four took more than 23 GB.
_FILMS_AT_ONCE = {"cuda": 4, "cpu": 1}
_FRAMES_PER_SECOND = 8.0
# Around anything that changes in a film nothing counts as still.
_STILL_MARGIN_PX = 3
# Boxes move as one where they stay like this to each other, and touch up to this gap [m]: to a robot that drives into
# them, masts two centimetres off a body are of it, and boxes on a belt are not of each other.
_RIGID_M, _TOUCH_M = 1e-4, 0.05
# A film shows a solid when it shows so many pixels of it so often.
_SHOWN_PX, _SHOWN_TIMES = 48, 3
_BOX_CORNERS = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
_BOX_FACES = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4],
     [1, 5, 7], [1, 7, 3]],
    dtype=np.int32,
)  # fmt: skip
_MEANINGS = {
    "fidelity_psnr_db": "renders at each time along six trajectories against the RGB decoder, far half",
    "baseline_psnr_db": "the film's first frame repeated, same frames",
    "novel_psnr_db": "a seventh trajectory at the odd times, where the 4D cache covers it",
    "moving_psnr_db": "of it, what moves and what it uncovered",
    "moving_frozen_psnr_db": "the same pixels with the first frame frozen: the static model",
    "film_psnr_db": "renders at the film's own camera against the film, all times",
    "film_moving_psnr_db": "of it, what truly moves and what it uncovered",
    "film_frozen_psnr_db": "the same pixels of the film's first frame",
    "true_psnr_db": "the seventh trajectory against the true world at those times, true scale",
    "true_moving_psnr_db": "of it, what truly moves",
    "flicker_grey": "deviation over time where nothing changes, the end of the seventh trajectory [grey levels]",
    "flicker_shared_grey": "the same once what stands still is stored once",
    "shared_psnr_db": "renders of the scene taken apart against the RGB decoder, odd times of the seventh trajectory",
    "part_iou": "colliders of moving parts against the convex hulls of the true movers that are seen, all times",
    "part_solid_iou": "against the true solids themselves, which are not convex",
    "part_position_error_m": "of their middles",
    "part_position_error_at_3m": "the same times 3 m over the distance from the camera",
    "parts_found_share": "of the movers have a part",
    "depth_absrel_moving": "of the film's depth where something moves",
    "opacity_median": "of the kept Gaussians",
    "seconds_imagine": "a scene: depth, 4D cache, six trajectories",
    "seconds_decode": "a scene: all times",
}


class _Filmed:
    """A batch of held-out films, what was made of it, and the truth."""

    def __init__(self, views: MovingViews, filmed: MovingClips, films: Films, scenes: Scenes) -> None:
        self.views, self.filmed, self.films, self.scenes = views, filmed, films, scenes

    @property
    def changing(self) -> torch.Tensor:
        """True where something moves at a time or did at first, at the film's camera, ``(B, L, H, W)``."""
        return self.filmed.moving | self.filmed.moving[:, :1]

    @property
    def still(self) -> torch.Tensor:
        """True well away from anything that changes in the film, shadows too, ``(B, H, W)``."""
        return _stays(self.filmed.clips.rgb)

    def changing_along(self, camera_to_first: torch.Tensor) -> torch.Tensor:
        """``changing`` as cameras ``(B, L, 4, 4)`` see it: the film's masks warped, ``(B, L, H, W)``."""
        films = self.films
        now = self.filmed.moving[:, None].float().expand(-1, 3, -1, -1, -1)
        then = warp(now[:, :, 0], films.depth[:, 0], films.intrinsics, camera_to_first)
        seen = warp_video(now, films.depth, films.intrinsics, camera_to_first)
        return torch.maximum(seen.rgb[:, 0] * seen.mask[:, 0], then.rgb[:, 0] * then.mask[:, 0]) > 0.5


def evaluate_moving(
    weights: Path,
    scenes: int,
    device: torch.device | str,
    seed: int = 0,
    *,
    against: Path | None = None,
    out: Path | None = None,
    apart: int = 4,
    height: int = 176,
    width: int = 320,
    num_frames: int = 17,
    max_gaussians: int = MAX_GAUSSIANS,
) -> dict[str, Any]:
    """Measure a trained mini model on films; no ground truth enters any network but the film.

    Args:
        weights: Folder with tokenizer, depth, diffusion and decoder.
        scenes: How many films.
        device: Where everything runs.
        seed: Of the held-out worlds and the noise.
        against: Folder of other weights, measured on the same films.
        out: Folder for moving.png, a row a scene: film, RGB decoder and render of the seventh trajectory at the first,
            middle and last time.
        apart: How many of them are also taken apart into static scene and moving parts.
        height: Of the films, divisible by 16.
        width: Of the films, divisible by 16.
        num_frames: Of the films, 8 (T - 1) + 1.
        max_gaussians: Kept of a scene.

    Returns:
        device, scenes, seed, every figure by its name, rows (name, value, against, meaning) and checks (name, value,
        target, ok, at_most).

    Raises:
        InputError: Weights are missing, or a number is out of range.
    """
    if not 1 <= scenes <= MAX_SCENES:
        raise InputError(f"the number of films is {scenes}; it must lie between 1 and {MAX_SCENES}.")
    place = torch.device(device)
    if place.type == "cuda":
        compile_renderer()
    size = (height, width, num_frames)
    other = {} if against is None else _measure(against, scenes, place, seed, size, max_gaussians, apart, None)
    figures = _measure(weights, scenes, place, seed, size, max_gaussians, apart, out)
    gain = figures["moving_psnr_db"] - figures["moving_frozen_psnr_db"]
    flicker = figures.get("flicker_shared_grey", figures["flicker_grey"])
    checks = [
        check("fidelity at held-out times and cameras [dB]", figures["novel_psnr_db"], MIN_NOVEL_DB),
        check("moving pixels [dB]", figures["moving_psnr_db"], MIN_MOVING_DB),
        check("moving pixels above a frozen first frame [dB]", gain, MIN_GAIN_DB),
        check("flicker of what stands still [grey levels]", flicker, MAX_FLICKER, at_most=True),
    ]
    if "part_iou" in figures:
        checks.append(check("overlap of moving parts", figures["part_iou"], MIN_PART_IOU))
        off = figures.get("part_position_error_at_3m", math.inf)
        checks.append(check("position error of moving parts at 3 m [m]", off, MAX_PART_ERROR_M, at_most=True))
    return evaluation_report(place, scenes, seed, figures, other, _MEANINGS, checks)


def _measure(
    weights: Path,
    scenes: int,
    device: torch.device,
    seed: int,
    size: tuple[int, int, int],
    max_gaussians: int,
    apart: int,
    out: Path | None,
) -> dict[str, float]:
    height, width, length = size
    model = load_video_model(weights / "tokenizer", weights / "depth", weights / "diffusion", device)
    decoder: MiniDecoder = load_network(MiniDecoder, weights / "decoder", device)
    # Weights of before there was such a network take films apart without it.
    bodies = load_network(BodyNetwork, weights / "bodies", device) if (weights / "bodies").is_dir() else None
    generator = world_generator(seed, "heldout", device)
    rng = np.random.default_rng(seed)
    tally, sheet = Tally(), []

    def in_bfloat16() -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")

    @torch.no_grad()
    def student(*args: torch.Tensor) -> torch.Tensor:
        with in_bfloat16():
            return decoder(*args)

    def batches() -> Iterator[MovingViews]:
        left = scenes
        while left:
            count = min(left, _FILMS_AT_ONCE[device.type])
            yield sample_moving_views(count, width, height, length, generator)
            left -= count

    for views in batches():
        count = len(views)
        filmed = render_moving(views, torch.eye(4, device=device).repeat(count, length, 1, 1), height, width)
        captions = caption_moving(views, filmed, rng)
        paths = six_paths(count, length, generator)
        arc = seventh_trajectory(length, device).expand(count, 1, -1, 4, 4)
        noise = draw_noise(count * 6, (length - 1) // 8 + 1, height, width, generator)
        began = _now(device)
        with in_bfloat16():
            films = films_of(model, filmed.clips.rgb, filmed.clips.intrinsics, captions)
            made = imagine_films(model, films, paths, noise)
        imagined_at = _now(device)
        with torch.no_grad():
            moments = kept_moments(student, made, films, max_gaussians)
        tally.add(
            {"seconds_imagine": (imagined_at - began) / count, "seconds_decode": (_now(device) - imagined_at) / count}
        )
        with in_bfloat16():
            novel = imagine_films(model, films, arc, draw_noise(count, noise.shape[2], height, width, generator))
            frozen_scenes = imagine_along(model, films.first_frames(model), paths, generator)
        with torch.no_grad():
            # Kept by the rule of the moments, so that what moves makes the difference.
            frozen = keep_most_opaque(fused_maps(student, frozen_scenes), max_gaussians)
        batch = _Filmed(views, filmed, films, made)
        _add_trajectories(tally, moments, made)
        drawn = _add_novel(tally, moments, frozen, novel, batch)
        _add_film(tally, moments, batch)
        _add_truth(tally, drawn, novel, batch)
        still = _still_from(batch, novel.camera_to_first[:, 0, -1:])
        _add_flicker(tally, moments, novel, still)
        while apart and count:
            count, apart = count - 1, apart - 1
            _add_apart(tally, moments, novel, batch, still[count], count, bodies)
        sheet.append(_sheet_rows(filmed, novel, drawn))
    if out is not None:
        write_contact_sheet(torch.cat(sheet)[: 8 * 9], out / "moving.png", columns=9)
    return tally.means()


def _add_trajectories(tally: Tally, moments: list[dict[str, torch.Tensor]], made: Scenes) -> None:
    far = slice(made.teacher.shape[3] // 2, None)
    target = made.teacher.permute(0, 1, 3, 4, 5, 2)[:, :, far]
    shown = draw_moments(moments, made)[:, :, far]
    first = made.teacher.permute(0, 1, 3, 4, 5, 2)[:, :, :1].expand_as(target)
    opacity = torch.stack([gaussians["opacities"] for gaussians in moments]).median()
    figures = {"fidelity_psnr_db": psnr(shown, target), "baseline_psnr_db": psnr(first, target)}
    tally.add(figures | {"opacity_median": float(opacity)}, len(target))


def _add_novel(
    tally: Tally,
    moments: list[dict[str, torch.Tensor]],
    frozen: dict[str, torch.Tensor],
    novel: Scenes,
    batch: _Filmed,
) -> torch.Tensor:
    """Count the seventh trajectory at odd times; returns its renders at all times, ``(B, L, 3, H, W)``."""
    height, width = novel.teacher.shape[-2:]
    films, cameras = batch.films, novel.camera_to_first[:, 0]
    shown = draw_moments(moments, novel)[:, 0].permute(0, 1, 4, 2, 3)
    still = draw_scenes(frozen, cameras, novel.intrinsics, height, width).color.permute(0, 1, 4, 2, 3)
    target = novel.teacher[:, 0].transpose(1, 2)
    odd = slice(1, None, 2)
    covered = warp_video(films.frames, films.depth, films.intrinsics, cameras).mask[:, 0] > 0.5
    changing = batch.changing_along(cameras)
    for name, picture, mask in (
        ("novel_psnr_db", shown, covered),
        ("moving_psnr_db", shown, changing),
        ("moving_frozen_psnr_db", still, changing),
    ):
        _add_masked(tally, name, picture[:, odd], target[:, odd], mask[:, odd])
    return shown


def _add_film(tally: Tally, moments: list[dict[str, torch.Tensor]], batch: _Filmed) -> None:
    """At the film's own camera, against the film itself."""
    films, truth = batch.films, batch.filmed.clips
    height, width = films.frames.shape[-2:]
    here = torch.eye(4, device=films.depth.device).expand(len(films.depth), 1, 4, 4)
    own = [draw_scenes(gaussians, here, films.intrinsics, height, width).color[:, 0] for gaussians in moments]
    shown = torch.stack(own, 1).permute(0, 1, 4, 2, 3)
    target = truth.rgb.transpose(1, 2)
    tally.add({"film_psnr_db": psnr(shown, target)}, len(target))
    _add_masked(tally, "film_moving_psnr_db", shown, target, batch.changing)
    _add_masked(tally, "film_frozen_psnr_db", target[:, :1].expand_as(target), target, batch.changing)
    moving = batch.filmed.moving
    if moving.any():
        metres = films.depth * films.metres_per_unit[:, None, None, None]
        error = ((metres - truth.depth).abs() / truth.depth)[moving]
        tally.add({"depth_absrel_moving": float(error.mean())}, len(error))


def _add_truth(tally: Tally, shown: torch.Tensor, novel: Scenes, batch: _Filmed) -> None:
    """Against the true world along the seventh trajectory."""
    true = _true_clips(batch, novel.camera_to_first[:, 0])
    target = true.clips.rgb.transpose(1, 2)
    odd = slice(1, None, 2)
    tally.add({"true_psnr_db": psnr(shown[:, odd], target[:, odd])}, len(target))
    _add_masked(tally, "true_moving_psnr_db", shown[:, odd], target[:, odd], true.moving[:, odd])


def _add_flicker(tally: Tally, moments: list[dict[str, torch.Tensor]], novel: Scenes, still: torch.Tensor) -> None:
    """Of what stands still from the end of the seventh trajectory, see ``_still_from``."""
    camera = novel.camera_to_first[:, 0, -1:]
    height, width = still.shape[-2:]
    colors = [draw_scenes(gaussians, camera, novel.intrinsics, height, width).color[:, 0] for gaussians in moments]
    for pictures, quiet in zip(torch.stack(colors, 1), still, strict=True):
        _add_flickering(tally, "flicker_grey", pictures, quiet)


def _stays(rgb: torch.Tensor) -> torch.Tensor:
    """Where pictures ``(B, 3, L, H, W)`` stay as they are, well away from all that changes, ``(B, H, W)``."""
    changes = ((rgb - rgb[:, :, :1]).abs().amax((1, 2)) > 1 / 255).float()[:, None]
    return F.max_pool2d(changes, 2 * _STILL_MARGIN_PX + 1, stride=1, padding=_STILL_MARGIN_PX)[:, 0] < 0.5


def _still_from(batch: _Filmed, camera: torch.Tensor) -> torch.Tensor:
    """``still`` as one camera ``(B, 1, 4, 4)`` sees it, where in truth nothing passes before it, ``(B, H, W)``."""
    films = batch.films
    mask = batch.still[:, None].float().expand(-1, 3, -1, -1)
    seen = warp(mask, films.depth[:, 0], films.intrinsics, camera)
    still = (seen.rgb[:, 0, 0] > 0.999) & (seen.mask[:, 0, 0] > 0.5)
    return still & _stays(_true_clips(batch, camera.expand(-1, films.depth.shape[1], -1, -1)).clips.rgb)


def _true_clips(batch: _Filmed, path: torch.Tensor) -> MovingClips:
    """The true world at every time along cameras ``(B, L, 4, 4)``, their lengths scaled by the true median depth."""
    truth = batch.filmed.clips
    path = path.clone()
    path[..., :3, 3] *= truth.depth[:, 0].flatten(1).median(1).values[:, None, None]
    times = torch.arange(path.shape[1], device=path.device).expand(len(path), -1)
    return render_times(batch.views, path, times, *truth.rgb.shape[-2:])


def _add_apart(
    tally: Tally,
    moments: list[dict[str, torch.Tensor]],
    novel: Scenes,
    batch: _Filmed,
    still: torch.Tensor,
    item: int,
    bodies: BodyNetwork | None,
) -> None:
    """Take one scene apart where its own floor is, as ``generate --video`` does, and look at what came of it.

    ``still (H, W)`` is as for ``_add_flicker``. The truth is compared in the first camera's frame; a film without a
    floor takes the true camera's place.
    """
    views, films = batch.views, batch.films
    height, width = films.frames.shape[-2:]
    true_pose = views.views.camera_to_world[item].cpu()
    scale = float(films.metres_per_unit[item])
    pose = true_pose.clone()
    ground = find_ground(films.depth[item, 0].cpu(), films.intrinsics[item].cpu(), np.random.default_rng(0))
    if ground is not None:
        pose[:3, :3], pose[:3, 3] = placement_on(ground, scale)

    def cameras_of(camera_to_first: torch.Tensor) -> Cameras:
        lens = films.intrinsics[item].cpu().expand(len(camera_to_first), 3, 3)
        cameras = Cameras(torch.linalg.inv(camera_to_first.cpu()), lens, width, height)
        return transform_cameras(cameras, pose[:3, :3], pose[:3, 3], scale)

    frames = tuple(
        transform_gaussians(one_scene(gaussians, item).to("cpu"), pose[:3, :3], pose[:3, 3], scale)
        for gaussians in moments
    )
    cameras = cameras_of(batch.scenes.camera_to_first[item].flatten(0, 1))
    film, depth = films.frames[item].cpu(), films.depth[item].cpu().numpy() * scale
    sightings = None if bodies is None else see_bodies(bodies, Film.of_frames(film, cameras[[0] * len(frames)]), depth)
    scene = dynamic_scene(GaussianSequence(frames, _FRAMES_PER_SECOND), cameras, film, sightings)
    arc = cameras_of(novel.camera_to_first[item, 0])
    pictures = torch.stack([_picture(scene, time, arc[[len(arc) - 1]]) for time in range(len(moments))])
    _add_flickering(tally, "flicker_shared_grey", pictures, still)
    odd = range(1, len(moments), 2)
    shown = torch.stack([_picture(scene, time, arc[[time]]) for time in odd]).permute(0, 3, 1, 2)
    target = novel.teacher[item, 0].transpose(0, 1)[1::2].cpu()
    tally.add({"shared_psnr_db": psnr(shown, target)})
    moved = pose.double().numpy() @ np.linalg.inv(true_pose.double().numpy())
    truth = [
        TrueMover(mover.mesh, moved @ mover.to_world)
        for mover in true_movers(views, item, batch.filmed.primitive[item])
    ]
    scores = score_parts(scene.parts, truth, pose[:3, 3].double().numpy())
    if truth:
        found = scores.found / scores.movers
        tally.add({"part_iou": scores.iou, "part_solid_iou": scores.solid_iou, "parts_found_share": found})
    if scores.position_error_m is not None and scores.position_error_at_3m is not None:
        errors = scores.position_error_m, scores.position_error_at_3m
        tally.add(dict(zip(("part_position_error_m", "part_position_error_at_3m"), errors, strict=True)))


def _picture(scene: DynamicScene, time: int, camera: Cameras) -> torch.Tensor:
    return render(gaussians_at(scene, time), camera, near=NEAR, far=FAR).color[0].cpu()


def true_movers(views: MovingViews, item: int, primitive: torch.Tensor | None = None) -> list[TrueMover]:
    """The mover as solids: boxes that touch and keep their places to each other are one, such as not are each one.

    Args:
        primitive: Index of the primitive at each pixel, shape ``(L, H, W)``: then those solids that are never seen by
            more than some pixels at some times, boxes behind boxes, are left out.
    """
    transforms, half = views.part_to_world[item].cpu(), views.part_half[item].cpu()
    moves = views.part_moves[item].tolist()
    groups: list[list[int]] = []
    for p in [p for p in range(len(half)) if moves[p]]:
        joined = [group for group in groups if any(_belong(transforms, half, p, other) for other in group)]
        groups = [group for group in groups if group not in joined]
        groups.append([*(other for group in joined for other in group), p])
    movers = []
    if primitive is not None:
        groups = [group for group in groups if _is_shown(primitive, [FIRST_MOVING_BOX + p for p in group])]
    for group in groups:
        to_first = torch.linalg.inv(transforms[0, group[0]])
        corners = [
            (to_first @ transforms[0, p] @ F.pad(_BOX_CORNERS * half[p], (0, 1), value=1.0).T).T[:, :3] for p in group
        ]
        vertices = torch.cat(corners).numpy().astype(np.float32)
        faces = np.concatenate([_BOX_FACES + 8 * i for i in range(len(group))]).astype(np.int32)
        movers.append(TrueMover(TriMesh(vertices, faces), transforms[:, group[0]].numpy()))
    radius = float(views.views.worlds.solids.ball_radius[item])
    if radius > 0 and (primitive is None or _is_shown(primitive, [BALL])):
        movers.append(TrueMover(_sphere(radius), transforms[:, -1].numpy()))
    return movers


def _is_shown(primitive: torch.Tensor, members: list[int]) -> bool:
    own = torch.isin(primitive, torch.tensor(members, dtype=primitive.dtype, device=primitive.device))
    return int((own.sum((1, 2)) >= _SHOWN_PX).sum()) >= _SHOWN_TIMES


def _belong(transforms: torch.Tensor, half: torch.Tensor, p: int, other: int) -> bool:
    """Whether two boxes at ``transforms (T, P, 4, 4)`` move as one and touch; such boxes are parallel."""
    relative = torch.linalg.inv(transforms[:, other]) @ transforms[:, p]
    if float((relative - relative[:1]).abs().max()) > _RIGID_M:
        return False
    corners = (relative[0] @ F.pad(_BOX_CORNERS * half[p], (0, 1), value=1.0).T).T[:, :3]
    return bool(((corners.amin(0) <= half[other] + _TOUCH_M) & (corners.amax(0) >= -half[other] - _TOUCH_M)).all())


def _sphere(radius: float, rings: int = 12, sectors: int = 24) -> TriMesh:
    polar = np.linspace(0, np.pi, rings + 1)[1:-1]
    around = np.arange(sectors) * 2 * np.pi / sectors
    body = [[np.sin(p) * np.cos(a), np.sin(p) * np.sin(a), np.cos(p)] for p in polar for a in around]
    vertices = np.array([[0, 0, 1], *body, [0, 0, -1]], np.float32) * radius
    last, faces = len(vertices) - 1, []
    for i in range(sectors):
        j = (i + 1) % sectors
        faces.append([0, 1 + i, 1 + j])
        for ring in range(rings - 2):
            a, b = 1 + ring * sectors, 1 + (ring + 1) * sectors
            faces += [[a + i, b + i, b + j], [a + i, b + j, a + j]]
        faces.append([last, last - sectors + j, last - sectors + i])
    return TriMesh(vertices, np.array(faces, np.int32))


def _add_masked(tally: Tally, name: str, shown: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> None:
    """PSNR of pictures ``(B, L, 3, H, W)`` where ``mask (B, L, H, W)`` is true."""
    if mask.any():
        tally.add({name: psnr(shown, target, mask[:, :, None])}, float(mask.sum()))


def _add_flickering(tally: Tally, name: str, pictures: torch.Tensor, still: torch.Tensor) -> None:
    """Flicker of pictures ``(L, H, W, 3)`` in [0, 1] where ``still (H, W)``."""
    if still.any():
        moving = (~still).cpu().numpy()[None].repeat(len(pictures), 0)
        tally.add({name: static_flicker(pictures.clamp(0, 1).float().cpu().numpy() * 255, moving)}, float(still.sum()))


def _sheet_rows(filmed: MovingClips, novel: Scenes, drawn: torch.Tensor) -> torch.Tensor:
    """Nine pictures a scene."""
    middle = drawn.shape[1] // 2
    columns = []
    for t in (0, middle, -1):
        columns += [filmed.clips.rgb[:, :, t], novel.teacher[:, 0, :, t], drawn[:, t]]
    return torch.stack(columns, 1).flatten(0, 1).cpu()


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
