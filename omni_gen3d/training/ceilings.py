"""What the parts of the mini model reach when the parts before them are perfect: tokenizer, warp, and seeds.

The tokenizer's round trip of true frames bounds every picture that the model makes. With the true depth in the 3D
cache, what remains between the two is the diffusion network's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from omni_gen3d.training.clips import Clips, Views, along_trajectories, render_clips
from omni_gen3d.training.losses import psnr
from omni_gen3d.training.scenes import FirstFrames, imagine_along
from omni_gen3d.training.scoring import Tally
from omni_gen3d.video.cache3d import warp
from omni_gen3d.video.imagine import VideoModel
from omni_gen3d.video.tokenizer import decode_raw, encode_raw
from omni_gen3d.video.trajectories import TRAJECTORY_NAMES


@torch.no_grad()
def add_ceilings(
    tally: Tally,
    model: VideoModel,
    first: FirstFrames,
    views: Views,
    truth: Clips,
    num_frames: int,
    generator: torch.Generator,
) -> None:
    """The RGB decoder's frames of one trajectory a scene, imagined with the true depth, against the true world.

    Args:
        tally: Where tokenizer_psnr_db (round trip of the true frames), its twin tokenizer_seen_psnr_db and
            rgb_seen_psnr_db (where the warp covers, behind the first frame), and rgb_hole_psnr_db (where it does not)
            are counted.
        model: Whose tokenizer and diffusion network are measured.
        first: Made from the true pictures; their estimated depth is not used.
        views: The true worlds and their cameras.
        truth: Their first frames.
        num_frames: Of a trajectory.
        generator: Of the trajectories' lengths and the noise.
    """
    count, (height, width) = len(truth.rgb), truth.rgb.shape[-2:]
    trajectory = torch.arange(count, device=truth.rgb.device) % len(TRAJECTORY_NAMES)
    metric = along_trajectories(views, trajectory, num_frames, generator)
    target = render_clips(views, metric, height, width).rgb
    again = (decode_raw(model.tokenizer, encode_raw(model.tokenizer, target * 2 - 1)) / 2 + 0.5).clamp(0, 1)
    tally.add({"tokenizer_psnr_db": psnr(again, target)}, target.numel())

    depth = truth.depth[:, 0]
    median = depth.flatten(1).median(1).values
    known = replace(first, depth=depth / median[:, None, None], metres_per_unit=median)
    cameras = metric.clone()
    cameras[..., :3, 3] /= median[:, None, None]
    made = imagine_along(model, known, cameras[:, None], generator).teacher[:, 0]
    later = slice(1, None)
    seen = warp(known.picture, known.depth, known.intrinsics, cameras[:, later]).mask > 0.5
    pairs = {
        "rgb_seen_psnr_db": (made, seen),
        "tokenizer_seen_psnr_db": (again, seen),
        "rgb_hole_psnr_db": (made, ~seen),
    }
    for name, (frames, mask) in pairs.items():
        if mask.any():
            tally.add({name: psnr(frames[:, :, later], target[:, :, later], mask)}, float(mask.sum()))


@torch.no_grad()
def seed_distances(
    pictures_of: Callable[[int], torch.Tensor], features_of: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, float]:
    """How far apart pictures of the same prompts are with different noise, and with the same.

    Args:
        pictures_of: Pictures ``(B, 3, H, W)`` of B prompts, at least two, from the noise of a seed.
        features_of: A vector of each, shape ``(B, C)``.

    Returns:
        diversity_distance and same_seed_distance: mean Euclidean distance of the features, in units of that between
        different prompts.
    """
    one, other, again = (features_of(pictures_of(seed)).double() for seed in (1, 2, 1))
    count = len(one)
    between = torch.cdist(one, one).sum() / (count * (count - 1))
    return {
        "diversity_distance": float((one - other).norm(dim=1).mean() / between),
        "same_seed_distance": float((one - again).norm(dim=1).mean() / between),
    }
