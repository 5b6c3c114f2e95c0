"""The 4D cache: one 3D cache for each frame of a video.

Frame t of a trajectory is warped from input frame t alone (GEN3C, Lyra), so what moves is seen where it is at time t.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from omni_gen3d.types import MovingCache
from omni_gen3d.video.cache3d import Warp, nearest_in_cells, warp
from omni_gen3d.video.tokenizer import TEMPORAL_COMPRESSION


def warp_video(
    frames: torch.Tensor,
    depth: torch.Tensor,
    intrinsics: torch.Tensor,
    camera_to_first: torch.Tensor,
    source_to_first: torch.Tensor | None = None,
) -> Warp:
    """Show every frame of a video from one other camera of its own.

    Args:
        frames: Shape ``(B, 3, L, H, W)``.
        depth: Along z, shape ``(B, L, H, W)``.
        intrinsics: Of every camera, shape ``(B, 3, 3)``.
        camera_to_first: Where frame t is seen from, in the first input camera's frame, same unit as ``depth``, shape
            ``(B, L, 4, 4)``.
        source_to_first: Where frame t was filmed from; None for a camera that stood still.

    Returns:
        Shapes ``(B, ..., L, H, W)``.
    """
    batch, length = depth.shape[:2]
    camera = camera_to_first if source_to_first is None else _seen_from(source_to_first, camera_to_first)
    seen = warp(
        frames.transpose(1, 2).flatten(0, 1),
        depth.flatten(0, 1),
        intrinsics.repeat_interleave(length, 0),
        camera.reshape(batch * length, 1, 4, 4),
    )

    def as_video(part: torch.Tensor) -> torch.Tensor:
        return part[:, :, 0].unflatten(0, (batch, length)).transpose(1, 2).contiguous()

    return Warp(as_video(seen.rgb), as_video(seen.mask), as_video(seen.depth))


def cache_at(
    frame: torch.Tensor, depth: torch.Tensor, intrinsics: torch.Tensor, cameras: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the decoder's cameras see of one input frame.

    Args:
        frame: In [-1, 1], shape ``(B, 3, H, W)``.
        depth: Along z [scene units], shape ``(B, H, W)``.
        intrinsics: Shape ``(B, 3, 3)``.
        cameras: Relative to the frame's camera, shape ``(B, M, 4, 4)``.

    Returns:
        Depth ``(B, M, H/2, W/2)`` and colours in [0, 1] ``(B, M, 3, H/2, W/2)``, zeros where nothing is known.
    """
    seen = warp(frame, depth, intrinsics, cameras)
    share = F.avg_pool3d(seen.mask, (1, 2, 2))
    rgb = F.avg_pool3d((seen.rgb / 2 + 0.5) * seen.mask, (1, 2, 2)) / share.clamp(min=0.25)
    return nearest_in_cells(seen.depth[:, 0]), rgb.transpose(1, 2)


@torch.no_grad()
def cache_at_times(
    frames: torch.Tensor,
    depth: torch.Tensor,
    intrinsics: torch.Tensor,
    camera_to_first: torch.Tensor,
    times: Sequence[int],
    source_to_first: torch.Tensor | None = None,
) -> MovingCache:
    """What the decoder's cameras see of a video at some of its times.

    Args:
        frames: In [-1, 1], shape ``(3, L, H, W)``.
        depth: Along z [scene units], shape ``(L, H, W)``.
        intrinsics: Shape ``(3, 3)``.
        camera_to_first: Of all frames of V trajectories [scene units], shape ``(V, L, 4, 4)``.
        times: Indices of input frames.
        source_to_first: Where the frames were filmed from, shape ``(L, 4, 4)``; None for a camera that stood still.
    """
    views, length = camera_to_first.shape[:2]
    cameras = camera_to_first[:, ::TEMPORAL_COMPRESSION]
    depths, colours = [], []
    for time in times:
        here = cameras if source_to_first is None else _seen_from(source_to_first[time], cameras)
        seen_depth, rgb = cache_at(frames[None, :, time], depth[None, time], intrinsics[None], here.flatten(0, 1)[None])
        depths.append(seen_depth[0].unflatten(0, (views, -1)))
        colours.append(rgb[0].unflatten(0, (views, -1)))
    shares = torch.tensor([time / (length - 1) for time in times], device=depth.device)
    return MovingCache(shares, torch.stack(depths), torch.stack(colours))


def _seen_from(source_to_first: torch.Tensor, camera_to_first: torch.Tensor) -> torch.Tensor:
    with torch.autocast(camera_to_first.device.type, enabled=False):  # bfloat16 poses would smear the cache
        return torch.linalg.inv(source_to_first) @ camera_to_first
