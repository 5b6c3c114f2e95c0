"""How good a collision proxy is, measured against the splat's own depth, see ``meeting.met_discs``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omni_gen3d.mesh.depth_views import DepthViews
from omni_gen3d.mesh.raycast import mesh_depth
from omni_gen3d.mesh.tsdf import Tsdf
from omni_gen3d.types import ProxyPart, TriMesh

_NUM_VIEWS = 8
_PIXEL_STRIDE = 4
_CLOSE_M = 0.05
# Space this close to a surface is not held against the proxy.
_SURFACE_MARGIN_M = 0.1
# Points within this of the floor plane, above seen floor, tell how flat the splat's floor is.
_FLOOR_BAND_M = 0.1
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class DepthAgreement:
    """Rays from the cameras against the proxy.

    Attributes:
        mean_m: Mean absolute difference between the proxy's z depth and the splat's [m].
        within_5cm: Share of rays whose difference is below 5 cm.
        blocked_free_share: Share of the way from the cameras to 10 cm before the splat's surface that lies behind the
            proxy's first face.
    """

    mean_m: float
    within_5cm: float
    blocked_free_share: float


def depth_agreement(parts: tuple[ProxyPart, ...], views: DepthViews, tsdf: Tsdf) -> DepthAgreement | None:
    """Compare on every fourth pixel of up to eight views; surfaces outside the modelled region do not count.

    Returns:
        None when no ray ends inside the region.
    """
    every = max(1, len(views.depth) // _NUM_VIEWS)
    chosen = slice(0, every * _NUM_VIEWS, every)
    pixels = slice(_PIXEL_STRIDE // 2, None, _PIXEL_STRIDE)
    splat = views.depth[chosen, pixels, pixels].astype(np.float64)
    world_to_camera, intrinsics = views.world_to_camera[chosen], views.intrinsics[chosen].copy()
    # Pixel i of the coarse picture looks along the centre of pixel 4 i + 2 of the full one.
    intrinsics[:, :2, 2] -= _PIXEL_STRIDE // 2 + 0.5 - _PIXEL_STRIDE / 2
    intrinsics[:, :2] /= _PIXEL_STRIDE
    _, height, width = splat.shape
    proxy = mesh_depth(joined(parts), world_to_camera, intrinsics, height, width)

    coarse = DepthViews(splat.astype(np.float32), world_to_camera, intrinsics)
    points = coarse.lift()
    voxels = np.where(np.isfinite(points), (points - tsdf.origin) / tsdf.voxel_size, -1)
    counted = ((voxels >= 0) & (voxels < tsdf.distance.shape)).all(-1) & np.isfinite(proxy)
    if not counted.any():
        return None
    difference = np.abs(proxy - splat)[counted]
    distance = np.linalg.norm(points - coarse.positions[:, None, None], axis=-1)[counted]
    free_way = np.maximum(distance - _SURFACE_MARGIN_M, 0)
    open_way = np.minimum(free_way, distance * (proxy / np.where(splat > 0, splat, 1))[counted])
    return DepthAgreement(
        mean_m=float(difference.mean()),
        within_5cm=float((difference < _CLOSE_M).mean()),
        blocked_free_share=float(1 - open_way.sum() / max(free_way.sum(), 1e-9)),
    )


def floor_flatness(views: DepthViews, tsdf: Tsdf, standable: np.ndarray) -> float | None:
    """Robust standard deviation of the splat's own floor points about their median height [m], None without any.

    Args:
        views: Depth of the scene.
        tsdf: The grid that ``standable`` belongs to.
        standable: Open floor columns, shape ``(X, Y)``.
    """
    points = views.points
    points = points[np.abs(points[:, 2]) < _FLOOR_BAND_M]
    x, y, _ = tsdf.voxel_of(points).T
    inside = (x >= 0) & (y >= 0) & (x < standable.shape[0]) & (y < standable.shape[1])
    heights = points[inside][standable[x[inside], y[inside]], 2]
    if len(heights) == 0:
        return None
    return float(_MAD_TO_SIGMA * np.median(np.abs(heights - np.median(heights))))


def joined(parts: tuple[ProxyPart, ...]) -> TriMesh:
    """All parts as one mesh, their vertices not merged."""
    starts = np.cumsum([0, *(len(part.mesh.vertices) for part in parts[:-1])])
    return TriMesh(
        np.concatenate([part.mesh.vertices for part in parts]),
        np.concatenate([part.mesh.faces + start for part, start in zip(parts, starts, strict=True)]).astype(np.int32),
    )
