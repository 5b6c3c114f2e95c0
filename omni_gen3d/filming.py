"""The whole line for a film: a video becomes an environment that moves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from omni_gen3d.checkpoints import digest_folder, load_network
from omni_gen3d.config import PACKAGED_WEIGHTS, Preset, load_preset
from omni_gen3d.decoder.bullet_time import decode_times
from omni_gen3d.decoder.ground import settle_on_ground
from omni_gen3d.decoder.mini import MiniDecoder
from omni_gen3d.errors import InputError
from omni_gen3d.finishing import GeneratedEnvironment, Progress, Stages, finish_environment, plan_collider
from omni_gen3d.geometry import intrinsics_from_fov, placement_on, transform_cameras, transform_gaussians
from omni_gen3d.mesh.levelling import level_scene
from omni_gen3d.motion.body_network import BodyNetwork, see_bodies
from omni_gen3d.motion.film import Film
from omni_gen3d.motion.scene import assemble_scene
from omni_gen3d.motion.split import Split, split_sequence
from omni_gen3d.pipeline import cores_beside, deterministic_kernels, load_model
from omni_gen3d.request import DEFAULT_TIMES, Collision, check_request, pick_device
from omni_gen3d.types import Cameras, DynamicScene, GaussianSequence, Ground, Provenance, VideoLatents
from omni_gen3d.usd import check_target
from omni_gen3d.video.cache4d import cache_at_times
from omni_gen3d.video.camera_path import read_camera_path
from omni_gen3d.video.clip import Clip, load_clip
from omni_gen3d.video.depth import estimate_fov, estimate_video_depth
from omni_gen3d.video.ground import find_ground, ground_seen
from omni_gen3d.video.imagine import VideoModel, draw_noise, imagine_video, latent_of_picture
from omni_gen3d.video.survey import survey_film
from omni_gen3d.video.text import encode_text
from omni_gen3d.video.tokenizer import TEMPORAL_COMPRESSION
from omni_gen3d.video.trajectories import TRAJECTORY_NAMES, six_trajectories, trajectory_cameras

# Where two windows meet, a pixel whose colour differs by less than this shows the same thing [of 2].
_SAME_COLOR = 0.06


def generate_from_video(
    video: Path | str,
    prompt: str | None = None,
    *,
    fov_deg: float | None = None,
    frames_per_second: float | None = None,
    times: int = DEFAULT_TIMES,
    poses: Path | str | None = None,
    out: Path | str,
    seed: int = 0,
    preset: str = "mini",
    device: str = "auto",
    steps: int | None = None,
    collision: Collision = "mesh",
    robot_radius: float | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> GeneratedEnvironment:
    """Generate an environment that moves as a film does, and write it to a folder.

    The film is taken in windows of the model's length that share a frame. Where the camera stood still, what stands
    still is that of the first window; where it moved, later ones add what the earlier ones did not see.

    Args:
        video: A video file, or a folder of pictures.
        prompt: What the environment is; may be None.
        fov_deg: Horizontal field of view of the film; estimated where None.
        frames_per_second: See ``video.clip.load_clip``.
        times: How many times the scene has at most; 17 take one window, each 16 more another one.
        poses: Where the camera was (``video.camera_path.read_camera_path``). None for a camera that stood still, or one
            whose way shall be found out of the film.
        out, seed, preset, device, steps, collision, robot_radius, progress, cancelled: As ``pipeline.generate``.

    Raises:
        InputError: A value or file cannot be used, or the camera moved in a way that cannot be told.
        MissingDependencyError: The camera moved, no poses are given, and open3d is not installed.
        CancelledError: ``cancelled`` returned True; nothing was written.
    """
    check_request(prompt, image=video, fov_deg=fov_deg, seed=seed, steps=steps)
    settings = load_preset(preset)
    if settings.family != "mini":
        raise InputError(f"the preset {preset!r} is of the family {settings.family!r}; films need 'mini'.")
    collider = plan_collider(settings, collision, robot_radius)
    target = check_target(Path(out))
    torch_device = pick_device(device)
    clip = load_clip(
        video, settings.width, settings.height, times=times, frames_per_second=frames_per_second, fov_deg=fov_deg
    )
    path = None if poses is None else read_camera_path(poses).camera_to_first(clip.seconds)
    stages = Stages(progress, cancelled)
    with deterministic_kernels(), cores_beside(torch_device):
        scene, cameras, estimates = _make_scene(clip, path, prompt or "", settings, torch_device, seed, steps, stages)
        provenance = Provenance(
            kind="dynamic",
            prompt=prompt or None,
            input_sha256=clip.sha256,
            seed=seed,
            model=settings.family,
            model_sha256=digest_folder(PACKAGED_WEIGHTS),
            notes=(*clip.notes, *estimates),
        )
        return finish_environment(scene, cameras, target, provenance, stages, collider)


@dataclass(frozen=True)
class _Studio:
    """What all windows of a film are made with."""

    model: VideoModel
    decoder: MiniDecoder
    bodies: BodyNetwork
    text: torch.Tensor
    intrinsics: torch.Tensor
    settings: Preset
    steps: int
    generator: torch.Generator
    stages: Stages


@dataclass(frozen=True)
class _Anchor:
    """What the first window fixes for all: the floor, its ``camera_height`` in metres, and the way into the world."""

    ground: Ground | None
    rotation: torch.Tensor
    translation: torch.Tensor


def _make_scene(
    clip: Clip,
    path: np.ndarray | None,
    prompt: str,
    settings: Preset,
    device: torch.device,
    seed: int,
    steps: int | None,
    stages: Stages,
) -> tuple[DynamicScene, Cameras, tuple[str, ...]]:
    """The levelled, metric scene, the cameras that imagined its first window, and the estimates made on the way."""
    notes: list[str] = []
    with stages.stage("load model"):
        model, decoder = load_model(PACKAGED_WEIGHTS, device)
        bodies = load_network(BodyNetwork, PACKAGED_WEIGHTS / "bodies", device)
        text = encode_text([prompt], device)
        fov = clip.fov_x_rad
        if fov is None:
            fov = estimate_fov(model.depth, clip.window(0, 1)[:, 0].to(device))
            notes.append(
                f"the field of view was estimated from the first frame: {math.degrees(fov):.0f} degrees across after "
                "cropping; sizes and distances depend on it. Give --fov if it is known."
            )
    intrinsics = intrinsics_from_fov(fov, settings.width, settings.height).to(device, torch.float32)
    with stages.stage("camera"):
        survey, told = survey_film(model.depth, clip, fov, intrinsics, path)
        notes += told
    generator = torch.Generator(device).manual_seed(seed)
    studio = _Studio(
        model, decoder, bodies, text, intrinsics, settings, steps or settings.video_steps, generator, stages
    )
    splits: list[Split] = []
    first_cameras: Cameras | None = None
    anchor: _Anchor | None = None
    shared: tuple[torch.Tensor, torch.Tensor] | None = None
    size = settings.width, settings.height
    starts = range(0, max(len(clip) - 1, 1), settings.num_frames - 1)
    for number, start in enumerate(starts):
        label = f" {number + 1} of {len(starts)}" if len(starts) > 1 else ""
        frames = clip.window(start, settings.num_frames).to(device)
        count = min(settings.num_frames, len(clip) - start)
        with stages.stage(f"depth{label}"):
            if survey is None:
                source, pose = None, torch.eye(4)
                depth = estimate_video_depth(model.depth, frames, fov)
                if shared is not None:
                    depth = depth * _scale_between(*shared, frames[:, 0], depth[0])
                shared = frames[:, -1], depth[-1]
            else:
                depth, source, pose = survey.window(start, settings.num_frames)
        unit = float(depth[0].median())
        if source is not None:
            source = source.clone()
            source[:, :3, 3] /= unit
        sequence, cameras = _imagined(studio, frames, depth / unit, source, count, clip.frames_per_second, label)
        filmed_by = None if source is None else trajectory_cameras(source[None, :count].cpu(), intrinsics.cpu(), *size)
        with stages.stage(f"levelling{label}"):
            turn, shift = pose[:3, :3].cpu(), pose[:3, 3].cpu() / unit
            sequence = _moved(sequence, turn, shift)
            cameras = transform_cameras(cameras, turn, shift)
            if anchor is None:
                anchor, note = _find_anchor(sequence, cameras, depth[0].cpu(), intrinsics.cpu(), unit, seed)
                notes += [] if note is None else [note]
            sequence = _placed(sequence, anchor, intrinsics.cpu(), unit, depth.cpu() if survey is None else None)
            cameras = transform_cameras(cameras, anchor.rotation, anchor.translation, unit)
            if filmed_by is not None:
                filmed_by = transform_cameras(filmed_by, turn, shift)
                filmed_by = transform_cameras(filmed_by, anchor.rotation, anchor.translation, unit)
        with stages.stage(f"motion{label}"):
            film, sightings = frames[:, :count].cpu(), None
            if survey is None:
                shot = Film.of_frames(film, cameras[[0] * count])
                sightings = see_bodies(studio.bodies, shot, depth[:count].cpu().numpy())
            splits.append(split_sequence(sequence, cameras, film, filmed_by, sightings))
        first_cameras = first_cameras or cameras
    assert first_cameras is not None
    with stages.stage("parts"):
        scene = assemble_scene(splits, clip.frames_per_second, camera_moves=survey is not None)
        return scene, first_cameras, tuple(notes)


def _scale_between(
    frame: torch.Tensor, depth: torch.Tensor, same_frame: torch.Tensor, other_depth: torch.Tensor
) -> float:
    """Factor that brings the depth of one window to that of the one before, by the frame that they share."""
    same = (frame - same_frame).abs().amax(0) < _SAME_COLOR
    return float((depth / other_depth)[same].median()) if same.any() else 1.0


def _imagined(
    studio: _Studio,
    frames: torch.Tensor,
    depth: torch.Tensor,
    source_to_first: torch.Tensor | None,
    count: int,
    frames_per_second: float,
    label: str,
) -> tuple[GaussianSequence, Cameras]:
    """The first ``count`` times of a window and the cameras that imagined it, in its unit and first camera's frame."""
    settings, stages = studio.settings, studio.stages
    with stages.stage(f"trajectories{label}"):
        first = latent_of_picture(studio.model, frames[None, :, 0])
        camera_to_first = six_trajectories(settings.num_frames, studio.generator, frames.device)
        if source_to_first is not None:
            camera_to_first = source_to_first @ camera_to_first
        latent_frames = (settings.num_frames - 1) // TEMPORAL_COMPRESSION + 1
        noise = draw_noise(len(TRAJECTORY_NAMES), latent_frames, settings.height, settings.width, studio.generator)
        imagined = imagine_video(
            studio.model,
            frames[None],
            first,
            depth[None],
            studio.intrinsics[None],
            camera_to_first[None],
            studio.text,
            noise,
            steps=studio.steps,
            source_to_first=None if source_to_first is None else source_to_first[None],
            on_step=lambda i: stages.report((i + 1) / (studio.steps + 1)),
        )
        cameras = trajectory_cameras(camera_to_first, studio.intrinsics, settings.width, settings.height)
        video = VideoLatents(imagined.latents[0], imagined.cache_depth[0], cameras, settings.num_frames)
    with stages.stage(f"splats{label}"):
        cache = cache_at_times(frames, depth, studio.intrinsics, camera_to_first, range(count), source_to_first)
        sequence = decode_times(studio.decoder, video, cache, settings.max_gaussians, frames_per_second)
        return replace(sequence, frames=tuple(gaussians.to("cpu") for gaussians in sequence.frames)), cameras.to("cpu")


def _find_anchor(
    sequence: GaussianSequence, cameras: Cameras, depth: torch.Tensor, intrinsics: torch.Tensor, unit: float, seed: int
) -> tuple[_Anchor, str | None]:
    """The floor in the first frame, else one sought among the splats; and what had to be assumed for it."""
    ground = find_ground(depth / unit, intrinsics, np.random.default_rng(seed))
    if ground is not None:
        rotation, translation = placement_on(ground, unit)
        return _Anchor(replace(ground, camera_height=ground.camera_height * unit), rotation, translation), None
    keep, still = torch.eye(3), torch.zeros(3)
    levelling = level_scene(
        transform_gaussians(sequence.frames[0], keep, still, unit), transform_cameras(cameras, keep, still, unit), seed
    )
    return _Anchor(None, levelling.rotation, levelling.translation), levelling.note


def _moved(sequence: GaussianSequence, turn: torch.Tensor, shift: torch.Tensor, scale: float = 1.0) -> GaussianSequence:
    return replace(
        sequence, frames=tuple(transform_gaussians(gaussians, turn, shift, scale) for gaussians in sequence.frames)
    )


def _placed(
    sequence: GaussianSequence, anchor: _Anchor, intrinsics: torch.Tensor, unit: float, depth: torch.Tensor | None
) -> GaussianSequence:
    """A window in the world, its floor flat.

    The floor is where a still camera's depth ``(L, H, W)`` [m] shows it at each time: what drives over it later is not
    it. Without one it is where the first frame showed it.
    """
    ground = anchor.ground
    if ground is not None:
        if depth is None:
            grounds = [ground] * len(sequence.frames)
        else:
            shown = depth[: len(sequence.frames)]
            grounds = [ground_seen(seen, intrinsics, ground.up, ground.camera_height) for seen in shown]
        settled = tuple(
            settle_on_ground(gaussians, replace(floor, camera_height=ground.camera_height / unit), intrinsics)
            for gaussians, floor in zip(sequence.frames, grounds, strict=True)
        )
        sequence = replace(sequence, frames=settled)
    return _moved(sequence, anchor.rotation, anchor.translation, unit)
