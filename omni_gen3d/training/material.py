"""What the diffusion network learns from, as latents made while it trains: pictures from text, views of which a part is
known, and videos along the 3D cache of a still room or the 4D cache of a film.

Caches are warped with the depth network's own depth, brought to the true scale by its median as a depth map brought to
a camera path would be; ground truth depth steers nothing.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from diffusers import AutoencoderKLCosmos

from omni_gen3d.training.clips import (
    TEXT_FOCAL,
    Clips,
    Pool,
    along_trajectories,
    caption_pictures,
    render_clips,
    sample_pictures,
    sample_views,
)
from omni_gen3d.training.loop import TrainingConfig, items_at_once
from omni_gen3d.training.moving import (
    MovingClips,
    caption_moving,
    moving_trajectories,
    render_moving,
    sample_moving_views,
)
from omni_gen3d.training.turning import turning_cameras
from omni_gen3d.video.cache3d import Warp, latent_coverage, nearest, warp
from omni_gen3d.video.cache4d import warp_video
from omni_gen3d.video.depth import DepthNetwork, estimate_film_log_depth, estimate_log_depth, steady_depth
from omni_gen3d.video.diffusion import warp_condition
from omni_gen3d.video.text import encode_text
from omni_gen3d.video.tokenizer import encode_raw, to_diffusion_domain
from omni_gen3d.video.trajectories import TRAJECTORY_NAMES

PICTURES_PER_STEP = 3  # pictures from text alone for each video and each completed picture of the batch
_PICTURE_POOL = 20  # pictures for each video of the pool
_COMPLETION_POOL = 5  # completions for each video of the pool
_PICTURES_PER_CHUNK = 64
_CLIPS_PER_CHUNK = 16
# Steps between additions to one of the pools.
_REFRESH_STEPS = 4


class Material:
    """Makes latents of pictures and clips with the frozen tokenizer, depth network and text encoder."""

    def __init__(
        self, config: TrainingConfig, tokenizer: AutoencoderKLCosmos, depth: DepthNetwork, device: torch.device
    ) -> None:
        self.config, self.tokenizer, self.depth, self.device = config, tokenizer, depth, device
        self.clips_per_chunk = items_at_once(_CLIPS_PER_CHUNK, config)
        self.pictures_per_chunk = items_at_once(_PICTURES_PER_CHUNK, config)
        self.autocast = torch.autocast(device.type, torch.bfloat16)

    @torch.no_grad()
    def encode(self, video: torch.Tensor) -> torch.Tensor:
        with self.autocast:
            raw = torch.cat([encode_raw(self.tokenizer, part) for part in video.split(self.clips_per_chunk)])
        return to_diffusion_domain(self.tokenizer, raw)

    @torch.no_grad()
    def text(self, captions: list[str]) -> torch.Tensor:
        with self.autocast:
            return encode_text(captions, self.device).half()

    @torch.no_grad()
    def warp_first_frame(self, clips: Clips, camera_to_first: torch.Tensor) -> Warp:
        """The first frame's cache, its depth estimated and of true median scale, seen from ``(B, L, 4, 4)`` [m]."""
        picture = clips.rgb[:, :, 0] * 2 - 1
        with self.autocast:
            estimate = estimate_log_depth(self.depth, picture, clips.intrinsics).exp()
        scale = (clips.depth[:, 0] / estimate).flatten(1).median(1).values
        return warp(picture, estimate * scale[:, None, None], clips.intrinsics, camera_to_first)

    @torch.no_grad()
    def warp_film(self, film: Clips, camera_to_first: torch.Tensor) -> Warp:
        """The 4D cache of a film with estimated depth of true median scale, seen along a trajectory."""
        frames = film.rgb * 2 - 1
        with self.autocast:
            log_depth = estimate_film_log_depth(self.depth, frames, film.intrinsics)
        estimate = steady_depth(frames, log_depth)
        scale = (film.depth[:, 0] / estimate[:, 0]).flatten(1).median(1).values
        return warp_video(frames, estimate * scale[:, None, None, None], film.intrinsics, camera_to_first)

    def rows(self, clips: Clips, seen: Warp, captions: list[str]) -> dict[str, torch.Tensor]:
        """What the loss of a video, or of a picture partly known, needs."""
        return {
            "latents": self.encode(clips.rgb * 2 - 1).half(),
            "condition": warp_condition(self.encode(seen.rgb), latent_coverage(seen.mask)).half(),
            "text": self.text(captions),
        }

    @torch.no_grad()
    def pictures(self, generator: torch.Generator, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        focal = (TEXT_FOCAL, TEXT_FOCAL)
        size = (self.config.height, self.config.width)
        views, clips = sample_pictures(self.pictures_per_chunk, *size, generator, focal)
        captions = caption_pictures(views, clips, rng)
        return {"latents": self.encode(clips.rgb * 2 - 1).half(), "text": self.text(captions)}

    @torch.no_grad()
    def completions(
        self, generator: torch.Generator, rng: np.random.Generator
    ) -> tuple[dict[str, torch.Tensor], Clips, Warp]:
        """Pictures of which one or two others know a part; the caption tells the first of those.

        Returns:
            The rows, the pictures as clips of one frame, and what is known of them.
        """
        config = self.config
        views = sample_views(self.pictures_per_chunk, config.width, config.height, generator)
        cameras, second_known = turning_cameras(views, generator)
        view, first, second = (
            render_clips(views, camera, config.height, config.width) for camera in cameras.split(1, dim=1)
        )
        known = [
            self.warp_first_frame(clips, torch.linalg.inv(clips.camera_to_first) @ view.camera_to_first)
            for clips in (first, second)
        ]
        kept = second_known[:, None, None, None, None]
        known[1] = Warp(known[1].rgb * kept, known[1].mask * kept, known[1].depth * kept)
        seen = nearest(known)
        return self.rows(view, seen, caption_pictures(views, first, rng)), view, seen

    @torch.no_grad()
    def clips(
        self, generator: torch.Generator, rng: np.random.Generator
    ) -> tuple[dict[str, torch.Tensor], Clips, Warp]:
        config = self.config
        views = sample_views(self.clips_per_chunk, config.width, config.height, generator)
        trajectory = torch.randint(
            len(TRAJECTORY_NAMES), (self.clips_per_chunk,), generator=generator, device=generator.device
        )
        cameras = along_trajectories(views, trajectory, config.num_frames, generator)
        clips = render_clips(views, cameras, config.height, config.width)
        seen = self.warp_first_frame(clips, clips.camera_to_first)
        return self.rows(clips, seen, caption_pictures(views, clips, rng)), clips, seen

    @torch.no_grad()
    def moving_clips(
        self, generator: torch.Generator, rng: np.random.Generator
    ) -> tuple[dict[str, torch.Tensor], MovingClips, Warp]:
        config = self.config
        size = (config.height, config.width)
        views = sample_moving_views(self.clips_per_chunk, config.width, config.height, config.num_frames, generator)
        trajectory = torch.randint(
            len(TRAJECTORY_NAMES), (self.clips_per_chunk,), generator=generator, device=generator.device
        )
        cameras = moving_trajectories(views, trajectory, generator)
        here = torch.eye(4, device=cameras.device).expand_as(cameras)
        film, clips = render_moving(views, here, *size), render_moving(views, cameras, *size)
        seen = self.warp_film(film.clips, cameras)
        return self.rows(clips.clips, seen, caption_moving(views, film, rng)), clips, seen


class Stock:
    """Pools of one size, which grow and are renewed while the network trains.

    Args:
        material: Makes what they hold.
        generator: Of worlds and cameras.
        rng: Of captions.
    """

    def __init__(self, material: Material, generator: torch.Generator, rng: np.random.Generator) -> None:
        self._material, self._generator, self._rng = material, generator, rng
        config = material.config
        self.batch_size = config.batch_size
        self.videos, self.pictures = Pool(config.pool_size), Pool(config.pool_size * _PICTURE_POOL)
        self._completions = Pool(config.pool_size * _COMPLETION_POOL)
        self._films, self._turns = 0, 0

    def fill(self, seconds: float) -> None:
        """Add to every pool once, which compiles what makes them, and then until they are full or the time is over."""
        for add in (self._add_clips, self._add_pictures, self._add_completions):
            add()
        began = time.time()
        chunk = self._material.clips_per_chunk
        while time.time() - began < seconds:
            if self.videos.size < self.videos.capacity:
                self._add_clips()
            for _ in range(-(-chunk * _PICTURE_POOL // self._material.pictures_per_chunk)):
                self._add_pictures()
            if self.videos.size // chunk % 4 == 0:
                for _ in range(_COMPLETION_POOL):
                    self._add_completions()
            if self.videos.size == self.videos.capacity and self.pictures.size == self.pictures.capacity:
                break

    def renew(self) -> None:
        """To be called at every step of this size: every fourth time something is added to one of the pools."""
        self._turns += 1
        if self._turns % _REFRESH_STEPS == 0:
            adds = (self._add_clips, self._add_pictures, self._add_completions, self._add_pictures)
            adds[self._turns // _REFRESH_STEPS % len(adds)]()

    def draw_videos(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Latents, texts and conditions, float32."""
        drawn = self.videos.draw(self.batch_size)
        return drawn["latents"].float(), drawn["text"].float(), drawn["condition"].float()

    def draw_pictures(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Latents, texts and conditions: a picture from text completes a view of which nothing is known."""
        free = self.pictures.draw(self.batch_size * PICTURES_PER_STEP)
        partly_known = self._completions.draw(self.batch_size)
        latents, text = (torch.cat([free[name], partly_known[name]]).float() for name in ("latents", "text"))
        condition = partly_known["condition"].float()
        nothing = condition.new_zeros(len(free["latents"]), *condition.shape[1:])
        return latents, text, torch.cat([nothing, condition])

    def _add_clips(self) -> None:
        """Clips of moving and of still worlds in turn."""
        self._films += 1
        make = self._material.moving_clips if self._films % 2 else self._material.clips
        self.videos.add(**make(self._generator, self._rng)[0])

    def _add_pictures(self) -> None:
        self.pictures.add(**self._material.pictures(self._generator, self._rng))

    def _add_completions(self) -> None:
        self._completions.add(**self._material.completions(self._generator, self._rng)[0])
