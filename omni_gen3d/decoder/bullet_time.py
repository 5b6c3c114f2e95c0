"""Bullet time: the Gaussians of a filmed scene at several times, one pass of the decoder each over the same latents.

A slot, which is one pixel of one decoded map, keeps its place in every set: index i is the same slot at all times.
"""

from __future__ import annotations

import torch

from omni_gen3d.decoder.mini import MiniDecoder, decode_maps, one_scene
from omni_gen3d.types import GaussianSequence, MovingCache, VideoLatents


@torch.no_grad()
def decode_times(
    network: MiniDecoder, video: VideoLatents, cache: MovingCache, max_gaussians: int, frames_per_second: float
) -> GaussianSequence:
    """The sets of one scene at the times of ``cache``, in the first camera's frame and scene units.

    Args:
        network: The trained decoder.
        video: Latents of the trajectories through the film.
        cache: What the film shows at each time.
        max_gaussians: How many slots to keep: the most opaque ones, each by its greatest opacity over the times; ties
            go to the earlier one.
        frames_per_second: Of the sequence.

    Returns:
        One set a time, all of one size and order.
    """
    views = len(video.latents)
    camera_to_first = video.cameras.camera_to_world.unflatten(0, (views, video.num_frames))[None]
    lens = video.cameras.intrinsics[:1]
    sets = [
        decode_maps(network, video.latents[None], depth[None], camera_to_first, lens, rgb[None], time[None])
        for depth, rgb, time in zip(cache.depth, cache.rgb, cache.times, strict=True)
    ]
    keep = lasting_slots(torch.stack([maps["opacities"][0] for maps in sets]), max_gaussians)
    return GaussianSequence(tuple(one_scene(maps, 0)[keep] for maps in sets), frames_per_second)


def lasting_slots(opacities: torch.Tensor, count: int) -> torch.Tensor:
    """Indices of the ``count`` slots of greatest opacity over the times ``(S, N)``, in ascending order."""
    return torch.sort(opacities.amax(0), descending=True, stable=True).indices[:count].sort().values
