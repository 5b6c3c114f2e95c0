"""What the decoder learns from: scenes that stand still and scenes that move, imagined while it trains.

A scene that moves is imagined twice, through its film and through the film run backwards; the second is turned round
again, frames and cameras together, so that every time is seen near by one and from afar by the other (Lyra's
reversed-motion augmentation). Only the first enters the decoder.
"""

from __future__ import annotations

import numpy as np
import torch

from omni_gen3d.training.clips import caption_pictures, sample_pictures, to_bytes
from omni_gen3d.training.loop import TrainingConfig, items_at_once
from omni_gen3d.training.moving import caption_moving, render_moving, sample_moving_views
from omni_gen3d.training.scenes import (
    Films,
    FirstFrames,
    Scenes,
    films_of,
    first_frames_from_pictures,
    first_frames_from_prompts,
    imagine_films,
    imagine_scenes,
    six_paths,
)
from omni_gen3d.video.imagine import VideoModel, draw_noise

_SCENES_PER_CHUNK = 8
_PICTURES_PER_CHUNK = 64
# First frames from text are many short evaluations: they are made this many at a time.
_PROMPTS_AT_ONCE = 32


class SceneSource:
    """Imagines scenes of new worlds, eight at a time, or fewer larger ones."""

    def __init__(
        self, model: VideoModel, config: TrainingConfig, generator: torch.Generator, rng: np.random.Generator
    ) -> None:
        self._model, self._config, self._generator, self._rng = model, config, generator, rng
        self._size = (config.height, config.width)
        self._from_pictures: list[FirstFrames] = []
        self._from_text: list[FirstFrames] = []

    def still(self, from_text: bool) -> Scenes:
        """Scenes made from captions alone, or from pictures and their captions."""
        waiting = self._from_text if from_text else self._from_pictures
        if not waiting:
            count = items_at_once(_PROMPTS_AT_ONCE if from_text else _PICTURES_PER_CHUNK, self._config)
            views, clips = sample_pictures(count, *self._size, self._generator)
            captions = caption_pictures(views, clips, self._rng)
            with self._in_bfloat16():
                if from_text:
                    first = first_frames_from_prompts(self._model, captions, *self._size, self._generator)
                else:
                    first = first_frames_from_pictures(self._model, clips.rgb[:, :, 0], clips.intrinsics, captions)
            chunk = items_at_once(_SCENES_PER_CHUNK, self._config)
            waiting.extend(first[begin : begin + chunk] for begin in range(0, count, chunk))
        with self._in_bfloat16():
            return imagine_scenes(self._model, waiting.pop(), self._config.num_frames, self._generator)

    def moving(self) -> tuple[Films, Scenes, Scenes]:
        """Films of new worlds, and the scenes imagined through them and through them run backwards."""
        height, width = self._size
        length, generator = self._config.num_frames, self._generator
        count = items_at_once(_SCENES_PER_CHUNK, self._config)
        views = sample_moving_views(count, width, height, length, generator)
        here = torch.eye(4, device=generator.device).repeat(count, length, 1, 1)
        filmed = render_moving(views, here, height, width)
        captions = caption_moving(views, filmed, self._rng)
        paths = six_paths(count, length, generator)
        noise = draw_noise(count * paths.shape[1], (length - 1) // 8 + 1, height, width, generator)
        with self._in_bfloat16():
            films = films_of(self._model, filmed.clips.rgb, filmed.clips.intrinsics, captions)
            ahead = imagine_films(self._model, films, paths, noise)
            # The same noise: what neither film shows should come out alike.
            back = imagine_films(self._model, films.reversed(), paths, noise)
        return films, ahead, back

    def _in_bfloat16(self) -> torch.autocast:
        return torch.autocast(self._generator.device.type, torch.bfloat16)


def still_rows(scenes: Scenes) -> dict[str, torch.Tensor]:
    """Rows of a pool of scenes that stand still."""
    return {
        "latents": scenes.latents.half(),
        "cache_depth": scenes.cache_depth.half(),
        "warped_depth": scenes.warped_depth.half(),
        "teacher": to_bytes(scenes.teacher),
        "camera_to_first": scenes.camera_to_first,
        "intrinsics": scenes.intrinsics,
    }


def moving_rows(films: Films, ahead: Scenes, back: Scenes) -> dict[str, torch.Tensor]:
    """Rows of a pool of scenes that move: V trajectories to read, 2 V to learn from; frame t of all shows time t."""

    def both(name: str, frame_axis: int) -> torch.Tensor:
        return torch.cat([getattr(ahead, name), getattr(back, name).flip(frame_axis)], 1)

    return {
        "latents": ahead.latents.half(),
        "frames": to_bytes(films.frames / 2 + 0.5),
        "depth": films.depth.half(),
        "warped_depth": both("warped_depth", 2).half(),
        "teacher": to_bytes(both("teacher", 3)),
        "camera_to_first": both("camera_to_first", 2),
        "intrinsics": ahead.intrinsics,
    }
