"""Conservative masking of what thin foreground hides: a mesh over depth edges, its nearest surface at every pixel.

Splatted pixels drift apart where the camera approaches, and background shows through the gaps. The pixels at depth
edges, joined into triangles at a quarter of the resolution, close them (GEN3C).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

_STRIDE = 4
# Pixels tested at a time; bounds the memory.
_PIXELS_AT_ONCE = 2**22


@dataclass(frozen=True)
class EdgeMesh:
    """Triangles over depth edges.

    Attributes:
        vertices: In the first camera's frame, shape ``(N, 3)``.
        faces: Indices, shape ``(F, 3)``.
    """

    vertices: torch.Tensor
    faces: torch.Tensor


def mesh_edges(points: torch.Tensor, boundary: torch.Tensor) -> EdgeMesh:
    """Two triangles for each cell of the coarse grid that has a corner on a depth edge.

    Args:
        points: Of every pixel, shape ``(H, W, 3)``.
        boundary: True at depth edges, shape ``(H, W)``, bool.
    """
    size = points.shape[0] // _STRIDE, points.shape[1] // _STRIDE
    coarse = F.interpolate(points.permute(2, 0, 1)[None], size, mode="bilinear", align_corners=False)[0]
    edge = F.interpolate(boundary[None, None].float(), size, mode="nearest")[0, 0].bool()
    cells = edge[:-1, :-1] | edge[:-1, 1:] | edge[1:, :-1] | edge[1:, 1:]
    row, column = cells.nonzero(as_tuple=True)
    corner = row * size[1] + column
    upper = torch.stack([corner, corner + 1, corner + size[1]], dim=-1)
    lower = torch.stack([corner + 1, corner + size[1] + 1, corner + size[1]], dim=-1)
    return EdgeMesh(coarse.flatten(1).T.contiguous(), torch.cat([upper, lower]))


def mesh_depth(
    mesh: EdgeMesh, camera_to_first: torch.Tensor, intrinsics: torch.Tensor, height: int, width: int
) -> torch.Tensor:
    """Depth along z of the nearest triangle at every pixel, infinite where there is none, shape ``(H, W)``.

    Triangles that reach behind the camera are left out.

    Args:
        mesh: The triangles.
        camera_to_first: Of the camera that looks, shape ``(4, 4)``.
        intrinsics: Its lens; the centre of pixel i lies at i, shape ``(3, 3)``.
        height: Of the picture [pixels].
        width: Of the picture [pixels].
    """
    local = (mesh.vertices - camera_to_first[:3, 3]) @ camera_to_first[:3, :3]
    z = local[:, 2]
    faces = mesh.faces[(z[mesh.faces] > 0).all(1)]
    at = torch.stack(
        [local[:, 0] / z * intrinsics[0, 0] + intrinsics[0, 2], local[:, 1] / z * intrinsics[1, 1] + intrinsics[1, 2]],
        dim=-1,
    )[faces]
    limit = at.new_tensor([width - 1, height - 1])
    first = torch.minimum(at.amin(1).ceil().clamp(min=0), limit + 1).long()
    sides = (torch.minimum(at.amax(1).floor(), limit).clamp(min=-1).long() - first + 1).clamp(min=0)
    counts = sides.prod(1)
    nearest = at.new_full((height * width,), torch.inf)
    drawn = counts > 0
    at, inverse, first, sides, counts = at[drawn], 1 / z[faces[drawn]], first[drawn], sides[drawn], counts[drawn]
    ends = counts.cumsum(0)
    start = 0
    while start < len(counts):
        before = int(ends[start - 1]) if start else 0
        stop = max(int(torch.searchsorted(ends, before + _PIXELS_AT_ONCE, right=True)), start + 1)
        part = slice(start, stop)
        _draw(nearest, width, at[part], inverse[part], first[part], sides[part], counts[part])
        start = stop
    return nearest.unflatten(0, (height, width))


def _draw(
    nearest: torch.Tensor,
    width: int,
    at: torch.Tensor,
    inverse: torch.Tensor,
    first: torch.Tensor,
    sides: torch.Tensor,
    counts: torch.Tensor,
) -> None:
    """Lower ``nearest (H W,)`` to the depth of some triangles, each tested at every pixel of its bounding box.

    Args:
        nearest: Depth so far.
        width: Of the picture.
        at: Corners [pixels], shape ``(F, 3, 2)``.
        inverse: Of the corners' depth, shape ``(F, 3)``; it is linear over the picture.
        first: Upper left pixel of each box, shape ``(F, 2)``.
        sides: Columns and rows of each box, shape ``(F, 2)``.
        counts: Pixels of each box, shape ``(F,)``.
    """
    which = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    place = torch.arange(len(which), device=counts.device) - (counts.cumsum(0) - counts)[which]
    column = first[which, 0] + place % sides[which, 0]
    row = first[which, 1] + place // sides[which, 0]
    pixel = torch.stack([column, row], dim=-1).to(at.dtype)
    corner = at[which]
    following = corner.roll(-1, 1)
    edge, towards = following - corner, pixel[:, None] - corner
    areas = edge[..., 0] * towards[..., 1] - edge[..., 1] * towards[..., 0]  # twice, opposite to corners 2, 0, 1
    weights = areas.roll(-1, 1) / areas.sum(1, keepdim=True)
    inside = (weights >= 0).all(1)
    depth = 1 / (weights * inverse[which]).sum(1)
    nearest.scatter_reduce_(0, (row * width + column)[inside], depth[inside], "amin")
