"""A first frame from a prompt, by any text-to-image pipeline of diffusers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from omni_gen3d.errors import InputError


def stream_pipeline(pipeline: Any, device: torch.device) -> None:
    """Move a pipeline to the CPU, or have its layers travel to the card as they are needed: most are larger than it."""
    if device.type == "cuda":
        pipeline.enable_group_offload(device, offload_type="leaf_level", use_stream=True)
    else:
        pipeline.to(device)


@torch.no_grad()
def picture_from_pipeline(
    folder: Path,
    prompt: str,
    *,
    width: int,
    height: int,
    steps: int,
    guidance: float,
    seed: int,
    device: torch.device,
    report: Callable[[float], None],
) -> torch.Tensor:
    """A picture in [0, 1], shape ``(3, height, width)``, on the CPU.

    Args:
        folder: The pipeline, in diffusers' format. On CUDA it runs in bfloat16.
        prompt: What the picture shows.
        width: Of the picture [pixels].
        height: Of the picture [pixels].
        steps: Denoising steps.
        guidance: Classifier-free guidance.
        seed: Of the noise.
        device: Where it runs.
        report: Called with the share that is done; may raise to stop.

    Raises:
        InputError: The folder holds no such pipeline, or the picture has another size.
    """
    from diffusers import AutoPipelineForText2Image

    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    try:
        pipeline = AutoPipelineForText2Image.from_pretrained(folder, dtype=dtype, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{folder} holds no text-to-image pipeline of diffusers: {first}") from error
    pipeline.set_progress_bar_config(disable=True)

    def stepped(_pipeline: Any, step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        report((step + 1) / steps)
        return tensors

    stream_pipeline(pipeline, device)
    made = pipeline(
        prompt,
        width=width,
        height=height,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(seed),
        callback_on_step_end=stepped,
        output_type="np",
    )
    pixels = torch.from_numpy(np.asarray(made.images[0], dtype=np.float32)).permute(2, 0, 1)
    if pixels.shape != (3, height, width):
        raise InputError(
            f"the pipeline in {folder} made a picture of {pixels.shape[2]}x{pixels.shape[1]} where {width}x{height} "
            "was asked for; choose another picture_model in the preset."
        )
    return pixels.clamp(0, 1)
