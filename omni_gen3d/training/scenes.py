"""Self-distillation material: scenes that the trained diffusion model imagined, with its own RGB as the teacher."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from omni_gen3d.geometry import intrinsics_from_focal
from omni_gen3d.training.clips import TEXT_FOCAL
from omni_gen3d.types import VideoLatents
from omni_gen3d.video.depth import MAX_DEPTH_M, MIN_DEPTH_M, estimate_film_log_depth, estimate_log_depth, steady_depth
from omni_gen3d.video.imagine import (
    Imagined,
    VideoModel,
    draw_noise,
    imagine,
    imagine_video,
    latent_of_picture,
    picture_from_text,
)
from omni_gen3d.video.text import encode_text
from omni_gen3d.video.tokenizer import decode_raw
from omni_gen3d.video.trajectories import (
    centre_facing,
    sample_distances,
    trajectory_cameras,
    trajectory_positions,
)

PICTURE_STEPS = 24
PICTURE_GUIDANCE = 3.0
VIDEO_STEPS = 4


@dataclass(frozen=True)
class Scenes:
    """B imagined scenes; lengths in scene units (the first frame's median depth is 1).

    Attributes:
        latents: Raw domain, shape ``(B, V, 16, T, h, w)``.
        cache_depth: Shape ``(B, V, T, 4h, 4w)``.
        warped_depth: 3D cache at half resolution, every frame, shape ``(B, V, L, 4h, 4w)``.
        teacher: The RGB decoder's frames, in [0, 1], shape ``(B, V, 3, L, H, W)``.
        camera_to_first: Shape ``(B, V, L, 4, 4)``.
        intrinsics: Shape ``(B, 3, 3)``.
        metres_per_unit: Median estimated depth, shape ``(B,)``.
        prompts: One a scene.
    """

    latents: torch.Tensor
    cache_depth: torch.Tensor
    warped_depth: torch.Tensor
    teacher: torch.Tensor
    camera_to_first: torch.Tensor
    intrinsics: torch.Tensor
    metres_per_unit: torch.Tensor
    prompts: list[str]


@dataclass(frozen=True)
class FirstFrames:
    """What B scenes grow from.

    Attributes:
        picture: In [-1, 1], shape ``(B, 3, H, W)``.
        latents: Diffusion domain, shape ``(B, 16, 1, h, w)``.
        depth: Estimated, along z [scene units], shape ``(B, H, W)``.
        metres_per_unit: Median estimated depth, shape ``(B,)``.
        intrinsics: Shape ``(B, 3, 3)``.
        text: Token vectors, shape ``(B, S, 384)``.
        prompts: One a scene.
    """

    picture: torch.Tensor
    latents: torch.Tensor
    depth: torch.Tensor
    metres_per_unit: torch.Tensor
    intrinsics: torch.Tensor
    text: torch.Tensor
    prompts: list[str]

    def __getitem__(self, index: slice) -> FirstFrames:
        """A part of the batch."""
        return FirstFrames(
            self.picture[index], self.latents[index], self.depth[index], self.metres_per_unit[index],
            self.intrinsics[index], self.text[index], self.prompts[index],
        )  # fmt: skip


@dataclass(frozen=True)
class Films:
    """What B scenes that move grow from: films by still cameras.

    Attributes:
        frames: In [-1, 1], shape ``(B, 3, L, H, W)``.
        depth: Estimated, along z [scene units], shape ``(B, L, H, W)``.
        metres_per_unit: Median estimated depth of the first frame, shape ``(B,)``.
        intrinsics: Shape ``(B, 3, 3)``.
        text: Token vectors, shape ``(B, S, 384)``.
        prompts: One a scene.
    """

    frames: torch.Tensor
    depth: torch.Tensor
    metres_per_unit: torch.Tensor
    intrinsics: torch.Tensor
    text: torch.Tensor
    prompts: list[str]

    def reversed(self) -> Films:
        """The films run backwards, in the same scene units."""
        return replace(self, frames=self.frames.flip(2), depth=self.depth.flip(1))

    def first_frames(self, model: VideoModel) -> FirstFrames:
        """The films stopped at their beginning."""
        picture = self.frames[:, :, 0]
        return FirstFrames(
            picture, latent_of_picture(model, picture), self.depth[:, 0], self.metres_per_unit, self.intrinsics,
            self.text, self.prompts,
        )  # fmt: skip


def _with_depth(
    model: VideoModel,
    picture: torch.Tensor,
    latents: torch.Tensor,
    intrinsics: torch.Tensor,
    text: torch.Tensor,
    prompts: list[str],
) -> FirstFrames:
    depth = estimate_log_depth(model.depth, picture, intrinsics).exp().clamp(MIN_DEPTH_M, MAX_DEPTH_M)
    metres_per_unit = depth.flatten(1).median(1).values
    return FirstFrames(
        picture, latents, depth / metres_per_unit[:, None, None], metres_per_unit, intrinsics, text, prompts
    )


@torch.no_grad()
def first_frames_from_prompts(
    model: VideoModel, prompts: list[str], height: int, width: int, generator: torch.Generator
) -> FirstFrames:
    """First frames from text alone, as ``generate`` makes them."""
    device = generator.device
    text = encode_text(prompts, device).float()
    noise = draw_noise(len(prompts), 1, height, width, generator)
    picture, latents = picture_from_text(model, text, noise, steps=PICTURE_STEPS, guidance=PICTURE_GUIDANCE)
    intrinsics = intrinsics_from_focal(TEXT_FOCAL * width, width, height).to(device).expand(len(prompts), 3, 3)
    return _with_depth(model, picture, latents, intrinsics, text, prompts)


@torch.no_grad()
def first_frames_from_pictures(
    model: VideoModel, pictures: torch.Tensor, intrinsics: torch.Tensor, prompts: list[str]
) -> FirstFrames:
    """First frames of given pictures in [0, 1], shape ``(B, 3, H, W)``; an empty prompt is none."""
    picture = pictures * 2 - 1
    text = encode_text(prompts, pictures.device).float()
    return _with_depth(model, picture, latent_of_picture(model, picture), intrinsics, text, prompts)


@torch.no_grad()
def imagine_along(
    model: VideoModel, first: FirstFrames, camera_to_first: torch.Tensor, generator: torch.Generator
) -> Scenes:
    """Imagine the trajectories ``camera_to_first (B, V, L, 4, 4)`` [scene units] around first frames."""
    return _taught(model, _imagined(model, first, camera_to_first, generator), camera_to_first, first)


@torch.no_grad()
def imagine_latents(model: VideoModel, first: FirstFrames, num_frames: int, generator: torch.Generator) -> VideoLatents:
    """Imagine the six trajectories around one first frame, as the decoder of ``generate`` reads them: without RGB."""
    paths = six_paths(1, num_frames, generator)
    imagined = _imagined(model, first, paths, generator)
    height, width = first.picture.shape[-2:]
    cameras = trajectory_cameras(paths[0], first.intrinsics[0], width, height)
    return VideoLatents(imagined.latents[0], imagined.cache_depth[0], cameras, num_frames)


def _imagined(
    model: VideoModel, first: FirstFrames, camera_to_first: torch.Tensor, generator: torch.Generator
) -> Imagined:
    count, views, num_frames = camera_to_first.shape[:3]
    height, width = first.picture.shape[-2:]
    noise = draw_noise(count * views, (num_frames - 1) // 8 + 1, height, width, generator)
    return imagine(
        model,
        first.picture,
        first.latents,
        first.depth,
        first.intrinsics,
        camera_to_first,
        first.text,
        noise,
        steps=VIDEO_STEPS,
    )


def _taught(
    model: VideoModel, imagined: Imagined, camera_to_first: torch.Tensor, origin: FirstFrames | Films
) -> Scenes:
    """Scenes with the RGB decoder's frames as their teacher."""
    views = imagined.latents.shape[1]
    teacher = torch.stack([decode_raw(model.tokenizer, imagined.latents[:, v]) for v in range(views)], 1)
    return Scenes(
        latents=imagined.latents,
        cache_depth=imagined.cache_depth,
        warped_depth=imagined.warped_depth,
        teacher=(teacher / 2 + 0.5).clamp(0, 1),
        camera_to_first=camera_to_first,
        intrinsics=origin.intrinsics,
        metres_per_unit=origin.metres_per_unit,
        prompts=origin.prompts,
    )


@torch.no_grad()
def films_of(model: VideoModel, frames: torch.Tensor, intrinsics: torch.Tensor, prompts: list[str]) -> Films:
    """Films in [0, 1], shape ``(B, 3, L, H, W)``, with estimated depth; an empty prompt is none."""
    frames = frames * 2 - 1
    log_depth = estimate_film_log_depth(model.depth, frames, intrinsics)
    depth = steady_depth(frames, log_depth).clamp(MIN_DEPTH_M, MAX_DEPTH_M)
    metres_per_unit = depth[:, 0].flatten(1).median(1).values
    text = encode_text(prompts, frames.device).float()
    return Films(frames, depth / metres_per_unit[:, None, None, None], metres_per_unit, intrinsics, text, prompts)


@torch.no_grad()
def imagine_films(model: VideoModel, films: Films, camera_to_first: torch.Tensor, noise: torch.Tensor) -> Scenes:
    """Imagine the trajectories ``camera_to_first (B, V, L, 4, 4)`` [scene units] through films.

    Args:
        noise: Standard normal, shape ``(B V, 16, T, h, w)``.
    """
    first = latent_of_picture(model, films.frames[:, :, 0])
    imagined = imagine_video(
        model, films.frames, first, films.depth, films.intrinsics, camera_to_first, films.text, noise, steps=VIDEO_STEPS
    )
    return _taught(model, imagined, camera_to_first, films)


@torch.no_grad()
def imagine_scenes(model: VideoModel, first: FirstFrames, num_frames: int, generator: torch.Generator) -> Scenes:
    """Imagine the six trajectories around first frames."""
    return imagine_along(model, first, six_paths(len(first.prompts), num_frames, generator), generator)


def six_paths(count: int, num_frames: int, generator: torch.Generator) -> torch.Tensor:
    """Six trajectories for each of ``count`` scenes, shape ``(count, 6, L, 4, 4)`` [scene units]."""
    return centre_facing(trajectory_positions(sample_distances(count, generator, generator.device), num_frames))
