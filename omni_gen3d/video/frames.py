"""Backends whose models have tokenizers of their own: the frames they make are encoded again for the decoder."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLCosmos
from PIL import Image

from omni_gen3d.errors import InputError, MissingDependencyError
from omni_gen3d.video.backend import Shot
from omni_gen3d.video.first_frame import stream_pipeline
from omni_gen3d.video.gen3c.cache import warp
from omni_gen3d.video.tokenizer import encode_raw


@dataclass
class FrameBackend:
    """A pipeline of diffusers that makes frames, and the tokenizer that encodes them.

    Attributes:
        pipeline: On its device.
        tokenizer: On the device.
        device: Of both.
        dtype: In which the tokenizer runs.
        steps: Denoising steps.
        guidance: Classifier-free guidance in the pipeline's own terms.
    """

    pipeline: Any
    tokenizer: AutoencoderKLCosmos
    device: torch.device
    dtype: torch.dtype
    steps: int
    guidance: float = 5.0

    def _frames(self, shot: Shot, told: dict[str, Any]) -> torch.Tensor:
        """Frames in [0, 1], shape ``(L, 3, H, W)``, of a call with the arguments that all pipelines share."""
        raise NotImplementedError

    @torch.no_grad()
    def imagine(self, shot: Shot, on_step: Callable[[float], None]) -> torch.Tensor:
        """See ``VideoBackend``."""
        on_step(0.0)
        height, width = shot.depth.shape

        def stepped(_pipeline: Any, step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            on_step((step + 1) / self.steps)
            return tensors

        shared = {
            "prompt": shot.prompt,
            "height": height,
            "width": width,
            "num_frames": shot.num_frames,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            "generator": torch.Generator().manual_seed(shot.seed),
            "output_type": "pt",
            "callback_on_step_end": stepped,
        }
        frames = self._frames(shot, shared)
        video = frames.to(self.device, self.dtype).movedim(0, 1)[None] * 2 - 1
        if video.shape[2:] != (shot.num_frames, height, width):
            raise InputError(
                f"the video model made {video.shape[2]} frames of {video.shape[4]}x{video.shape[3]} where "
                f"{shot.num_frames} of {width}x{height} were asked for; choose a size in the preset that it can make."
            )
        return encode_raw(self.tokenizer, video)[0].cpu()


class WanVaceBackend(FrameBackend):
    """Wan 2.1 VACE: the warped cache is the video, what it does not cover the mask to be filled."""

    def _frames(self, shot: Shot, told: dict[str, Any]) -> torch.Tensor:
        seen = warp(
            *(value.to(self.device) for value in (shot.picture, shot.depth, shot.intrinsics, shot.camera_to_first))
        )
        # Holes are grey for VACE, and white in its mask.
        shown = torch.where(seen.mask > 0, seen.rgb, 0.0)[0].movedim(0, 1)
        video = [_image(frame / 2 + 0.5) for frame in shown]
        mask = [_image(hole.expand(3, -1, -1)) for hole in (1 - seen.mask)[0].movedim(0, 1)]
        return self.pipeline(video=video, mask=mask, **told).frames[0]


class SanaWmBackend(FrameBackend):
    """SANA-WM: it takes the cameras themselves, and no cache."""

    def _frames(self, shot: Shot, told: dict[str, Any]) -> torch.Tensor:
        return self.pipeline(
            image=_image(shot.picture / 2 + 0.5),
            c2w=shot.camera_to_first.cpu().numpy().astype(np.float32),
            intrinsics=shot.intrinsics.cpu().numpy().astype(np.float32),
            **told,
        ).frames


def _image(colours: torch.Tensor) -> Image.Image:
    """A picture in [0, 1], shape ``(3, H, W)``, as Pillow's."""
    return Image.fromarray((colours.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())


def load_pipeline(class_name: str, folder: Path, device: torch.device) -> Any:
    """A pipeline of diffusers from a folder, in bfloat16 on CUDA, and without its progress bar.

    Raises:
        InputError: The folder does not hold it.
        MissingDependencyError: It needs a package that is not installed.
    """
    import diffusers

    if any(importlib.util.find_spec(package) is None for package in ("accelerate", "ftfy")):
        raise MissingDependencyError("this backend needs two more packages; run: pip install accelerate ftfy")

    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    try:
        pipeline = getattr(diffusers, class_name).from_pretrained(folder, dtype=dtype, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{folder} does not hold a {class_name} of diffusers: {first}") from error
    pipeline.set_progress_bar_config(disable=True)
    stream_pipeline(pipeline, device)
    return pipeline
