"""Metric depth of one picture by any of transformers' depth models."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from omni_gen3d.errors import InputError

_NEAREST_M = 1e-3


@torch.no_grad()
def estimate_metric_depth(
    folder: Path, picture: torch.Tensor, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, float | None]:
    """Depth along z [m] and, from the models that tell it, the horizontal field of view [degrees].

    Args:
        folder: A model in transformers' format: Depth Anything V2 Metric, ZoeDepth, Depth Pro, ...
        picture: In [0, 1], shape ``(3, H, W)``.
        device: Where it runs.

    Returns:
        Shape ``(H, W)``, float32, on the CPU; and degrees or None.

    Raises:
        InputError: The folder holds no depth model, one whose depth is relative, or the depth is not positive.
    """
    from transformers import AutoImageProcessor, AutoModelForDepthEstimation

    try:
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        model = AutoModelForDepthEstimation.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{folder} holds no depth model of transformers ({first}).") from error
    kind = getattr(model.config, "depth_estimation_type", "metric")
    if kind != "metric":
        raise InputError(f"the depth model in {folder} estimates {kind} depth; one of metric depth is needed.")
    pixels = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    inputs = processor(images=pixels, return_tensors="pt").to(device)
    output = model.to(device).eval()(**inputs)
    size = picture.shape[-2:]
    found = processor.post_process_depth_estimation(output, target_sizes=[tuple(size)])[0]
    depth = found["predicted_depth"].float().cpu()
    if depth.shape != size:
        depth = F.interpolate(depth[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    # Interpolated across an edge, depth overshoots: it ends behind the camera where the model never put it.
    depth = depth.clamp(min=max(float(output.predicted_depth.amin()), _NEAREST_M))
    if not torch.isfinite(depth).all() or float(depth.median()) <= _NEAREST_M:
        raise InputError(f"the depth model in {folder} gave no usable depth for this picture; try another one.")
    fov = found.get("field_of_view")
    return depth, None if fov is None else float(fov)
