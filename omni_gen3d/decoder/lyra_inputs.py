"""What the official decoder takes beside the latents: rays, and Plücker coordinates that went through the tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch

CELL = 8
RayType = Literal["bfloat16", "float32"]


def rays(
    camera_to_world: torch.Tensor, intrinsics: torch.Tensor, height: int, width: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Origin and unit direction of the ray through every cell.

    The release computes them in bfloat16, where the centre of a column above 128 is off by half a column; a checkpoint
    that was trained so wants it so.

    Args:
        camera_to_world: Shape ``(L, 4, 4)``.
        intrinsics: At the size of the grid, shape ``(3, 3)``.
        height: Rows of the grid.
        width: Columns of the grid.
        dtype: Of every step of the computation.

    Returns:
        Two of shape ``(L, 3, height, width)``.
    """
    lens, pose = intrinsics.to(dtype), camera_to_world.to(dtype)
    row = torch.arange(height, device=pose.device, dtype=dtype)[:, None] + 0.5
    column = torch.arange(width, device=pose.device, dtype=dtype)[None] + 0.5
    x, y = (column - lens[0, 2]) / lens[0, 0], (row - lens[1, 2]) / lens[1, 1]
    local = torch.stack(torch.broadcast_tensors(x, y, x.new_ones(())), dim=-1)
    local = local / local.norm(dim=-1, keepdim=True)
    directions = (local.flatten(0, 1) @ pose[:, :3, :3].mT).unflatten(1, (height, width))
    origins = pose[:, None, None, :3, 3].expand_as(directions)
    return origins.permute(0, 3, 1, 2), directions.permute(0, 3, 1, 2)


def decoder_inputs(
    encode: Callable[[torch.Tensor], torch.Tensor],
    latents: Sequence[torch.Tensor],
    camera_to_first: torch.Tensor,
    intrinsics: torch.Tensor,
    *,
    ray_type: RayType = "bfloat16",
) -> dict[str, Any]:
    """Keywords of ``LatentGaussianDecoder`` for one static scene, the views in the order given.

    Args:
        encode: A video ``(1, 3, L, H, W)`` to its raw latents ``(1, 16, T, h, w)``. It gets moments and directions as
            if they were pictures, without rescaling, as the release does.
        latents: Of each view, raw domain, shape ``(16, T, h, w)``.
        camera_to_first: The reference camera is frame 0 of the first view, shape ``(V, L, 4, 4)``.
        intrinsics: Of the full picture, shape ``(3, 3)``.
        ray_type: In which rays are computed.
    """
    dtype = torch.bfloat16 if ray_type == "bfloat16" else torch.float32
    views, (_, _, rows, columns) = len(latents), latents[0].shape
    relative = torch.linalg.inv(camera_to_first[0, 0]) @ camera_to_first
    coarse = intrinsics.clone()
    coarse[:2] /= CELL
    plucker, origins, directions = [], [], []
    for cameras in relative:
        origin, direction = rays(cameras, intrinsics, CELL * rows, CELL * columns, dtype)
        halves = (torch.linalg.cross(origin, direction, dim=1), direction)
        plucker.append(torch.cat([encode(half.transpose(0, 1)[None])[0] for half in halves]).transpose(0, 1))
        origin, direction = rays(cameras, coarse, rows, columns, dtype)
        origins.append(origin.float())
        directions.append(direction.float())
    return {
        "latents": torch.cat([view.transpose(0, 1) for view in latents])[None],
        "plucker_latents": torch.cat(plucker)[None],
        "ray_origins": torch.cat(origins)[None],
        "ray_directions": torch.cat(directions)[None],
        "num_views": views,
    }
