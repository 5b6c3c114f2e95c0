"""What a batch of generated scenes is worth: against its own RGB, and against the true world behind its picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from omni_gen3d.training.clips import Clips, Views, render_clips
from omni_gen3d.training.losses import psnr
from omni_gen3d.training.rasterize import draw_scenes
from omni_gen3d.training.scenes import FirstFrames, Scenes
from omni_gen3d.training.worlds import distance_to_nearest
from omni_gen3d.video.cache3d import warp
from omni_gen3d.video.trajectories import centre_facing

# The seventh trajectory ends this far right, up and ahead [scene units], within the reach of the six.
_NOVEL_END = (0.25, -0.12, 0.20)
# True worlds are rendered at every second frame.
_FRAME_STRIDE = 2
# A true camera nearer to anything than this sees nothing worth comparing with [m].
_TRUE_CLEARANCE_M = 0.1


def check(name: str, value: float, target: float, *, at_most: bool = False) -> dict[str, Any]:
    """A figure held to a target, as ``eval`` prints it."""
    ok = value <= target if at_most else value >= target
    return {"name": name, "value": value, "target": target, "ok": ok, "at_most": at_most}


def evaluation_report(
    place: torch.device,
    scenes: int,
    seed: int,
    figures: Mapping[str, Any],
    other: Mapping[str, Any],
    meanings: Mapping[str, str],
    checks: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """What an evaluation found, as ``eval`` prints it.

    Args:
        place: Where it ran.
        scenes: How many were measured.
        seed: Of the scenes.
        figures: Of the weights that were evaluated.
        other: Of those beside them; empty where there were none.
        meanings: A row's name and what it means, in their order.
        checks: Of :func:`check`.
    """
    return {
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu",
        "scenes": scenes,
        "seed": seed,
        **figures,
        "rows": [
            {"name": name, "value": figures.get(name), "against": other.get(name), "meaning": meaning}
            for name, meaning in meanings.items()
        ],
        "checks": list(checks),
    }


class Tally:
    """Weighted means of figures over batches. Figures in dB are pooled as the squared errors they stand for."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._weights: dict[str, float] = defaultdict(float)

    def add(self, figures: Mapping[str, float], weight: float = 1.0) -> None:
        """Count figures with the weight of what they were measured on; a weight of zero leaves them out."""
        if weight <= 0:
            return
        for name, value in figures.items():
            self._sums[name] += weight * (10 ** (-value / 10) if name.endswith("_db") else value)
            self._weights[name] += weight

    def means(self) -> dict[str, float]:
        """Every figure that was ever counted."""
        pooled = {name: total / self._weights[name] for name, total in self._sums.items()}
        decibels = torch.tensor([value for value in pooled.values()], dtype=torch.float64).log10() * -10
        return {
            name: float(level) if name.endswith("_db") else value
            for (name, value), level in zip(pooled.items(), decibels, strict=True)
        }


def seventh_trajectory(num_frames: int, device: torch.device | str) -> torch.Tensor:
    """A diagonal arc, right and up first and ahead later: camera to first camera [scene units], shape ``(L, 4, 4)``."""
    angle = torch.linspace(0, torch.pi / 2, num_frames, device=device)
    shares = torch.stack([angle.sin(), angle.sin(), 1 - angle.cos()], -1)
    return centre_facing(shares * torch.tensor(_NOVEL_END, device=device))


def add_novel(tally: Tally, kept: dict[str, torch.Tensor], first: FirstFrames, novel: Scenes) -> None:
    """Renders along a trajectory that the decoder never saw, against its RGB, over its far half.

    Only pixels that the first frame's 3D cache covers count: all six trajectories have seen them.

    Args:
        tally: Where novel_psnr_db and novel_seen_share are counted.
        kept: The Gaussians made from the six.
        first: What they grew from.
        novel: The seventh trajectory, imagined around the same first frames.
    """
    far = slice(novel.teacher.shape[3] // 2, None)
    cameras = novel.camera_to_first[:, 0, far]
    target = novel.teacher[:, 0, :, far]
    drawn = draw_scenes(kept, cameras, novel.intrinsics, *target.shape[-2:]).color.permute(0, 4, 1, 2, 3)
    seen = warp(first.picture, first.depth, first.intrinsics, cameras).mask > 0.5
    if seen.any():
        tally.add({"novel_psnr_db": psnr(drawn, target, seen)}, float(seen.sum()))
    tally.add({"novel_seen_share": float(seen.float().mean())}, seen.numel())


def add_depth(tally: Tally, kept: dict[str, torch.Tensor], first: FirstFrames, truth: Clips) -> None:
    """Depth in metres at the first camera, of the Gaussians and of the depth network, against the true world's.

    Args:
        tally: Where depth_absrel (all pixels, empty ones included) and network_depth_absrel are counted.
        kept: The Gaussians.
        first: What they grew from.
        truth: The pictures that were given.
    """
    true = truth.depth[:, 0]
    metres = first.metres_per_unit[:, None, None]
    here = torch.eye(4, device=true.device).expand(len(true), 1, 4, 4)
    splats = draw_scenes(kept, here, first.intrinsics, *true.shape[-2:]).depth[:, 0] * metres

    def absrel(depth: torch.Tensor) -> float:
        return float(((depth - true).abs() / true).mean())

    figures = {"depth_absrel": absrel(splats), "network_depth_absrel": absrel(first.depth * metres)}
    tally.add(figures, true.numel())


def add_truth(
    tally: Tally, drawn: torch.Tensor, first: FirstFrames, scenes: Scenes, views: Views, truth: Clips
) -> torch.Tensor:
    """Renders against the true worlds along the trajectories, at every second frame.

    The true camera moves by the scene's own metres; ``_aligned`` figures scale its path by the true median depth
    instead, which forgives a wrong scale and nothing else. Frames whose true camera would be within 10 cm of anything,
    or behind a wall, are left out.

    Args:
        tally: Where image_psnr_db, hole_psnr_db (where the first frame's 3D cache is empty), repeated_psnr_db (of the
            first frame repeated), their ``_aligned`` twins and image_frames_share are counted.
        drawn: Renders along the trajectories, shape ``(B, V, L, H, W, 3)``.
        first: What the scenes grew from.
        scenes: The six trajectories.
        views: The true worlds and their cameras.
        truth: The pictures that were given.

    Returns:
        The true frames (aligned) at the end of every trajectory, shape ``(B, V, 3, H, W)``.
    """
    height, width = drawn.shape[3:5]
    true_median = truth.depth[:, 0].flatten(1).median(1).values
    ends = []
    for trajectory in range(drawn.shape[1]):
        cameras = scenes.camera_to_first[:, trajectory, ::_FRAME_STRIDE]
        shown = drawn[:, trajectory, ::_FRAME_STRIDE].permute(0, 4, 1, 2, 3)
        hole = warp(first.picture, first.depth, first.intrinsics, cameras).mask < 0.5
        for suffix, metres in (("", scenes.metres_per_unit), ("_aligned", true_median)):
            path = cameras.clone()
            path[..., :3, 3] *= metres[:, None, None]
            centres = (views.camera_to_world[:, None] @ path)[..., :3, 3]
            clear = distance_to_nearest(views.worlds, centres) > _TRUE_CLEARANCE_M
            clear = clear[:, None, :, None, None].expand_as(hole)
            true = render_clips(views, path, height, width).rgb
            repeated = (first.picture / 2 + 0.5)[:, :, None].expand_as(true)
            for name, frames, mask in (
                ("image", shown, clear),
                ("hole", shown, clear & hole),
                ("repeated", repeated, clear),
            ):
                if mask.any():
                    tally.add({f"{name}_psnr{suffix}_db": psnr(frames, true, mask)}, float(mask.sum()))
            tally.add({f"image_frames_share{suffix}": float(clear.float().mean())})
        ends.append(true[:, :, -1])
    return torch.stack(ends, 1)
