"""How good moving parts are where the truth is known, and how still what stands still looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from omni_gen3d.mesh.bvh import FaceTree
from omni_gen3d.mesh.ground_truth import is_inside
from omni_gen3d.types import MovingPart, TriMesh

_VOXEL_M = 0.025
# So that a warehouse door does not fill the memory.
_MAX_VOXELS = 400_000


@dataclass(frozen=True)
class TrueMover:
    """A solid that moves.

    Attributes:
        mesh: Its surface in its own frame [m], with a lid on every solid, faces outwards.
        to_world: Where it is at each time, rigid, shape ``(T, 4, 4)``.
    """

    mesh: TriMesh
    to_world: np.ndarray


@dataclass(frozen=True)
class PartScores:
    """How parts compare with what truly moved.

    Attributes:
        iou: Mean over the movers and times of the shared volume of proxy and truth over that of both; a mover that no
            part stands for counts as 0.
        position_error_m: Mean distance of the middles of the bounding boxes of proxy and truth, over matched pairs;
            None without one.
        found: Movers with a part that shares volume with them.
        movers: All of them.
        strays: Parts that share volume with no mover.
    """

    iou: float
    position_error_m: float | None
    found: int
    movers: int
    strays: int


def score_parts(parts: Sequence[MovingPart], truth: Sequence[TrueMover]) -> PartScores:
    """Compare the colliders of parts with the truth, one part for each mover, at the times at which the part is there.

    Args:
        parts: In the world of the truth.
        truth: At the same times.
    """
    proxies, solids = [_Proxy(part) for part in parts], [_Solid(mover) for mover in truth]
    overlaps = np.array([[_overlap(proxy, solid) for solid in solids] for proxy in proxies]).reshape(
        len(parts), len(truth), 2
    )
    rows, columns = linear_sum_assignment(-overlaps[..., 0]) if overlaps.size else ((), ())
    pairs = [(i, j) for i, j in zip(rows, columns, strict=True) if overlaps[i, j, 0] > 0]
    errors = [overlaps[i, j, 1] for i, j in pairs]
    return PartScores(
        iou=float(sum(overlaps[i, j, 0] for i, j in pairs) / len(truth)) if truth else 1.0,
        position_error_m=float(np.mean(errors)) if errors else None,
        found=len(pairs),
        movers=len(truth),
        strays=int((overlaps[..., 0].max(1, initial=0) == 0).sum()) if parts else 0,
    )


def static_flicker(film: np.ndarray, moving: np.ndarray) -> float:
    """Mean over the pixels where nothing ever moves of the deviation of their value over time [grey levels of 255].

    Args:
        film: Pictures at T times, shape ``(T, H, W, 3)``, uint8 or of 0 to 255.
        moving: Where something moves at each time, shape ``(T, H, W)``, bool.
    """
    still = ~moving.any(0)
    if not still.any():
        return 0.0
    return float(film.astype(np.float64).mean(-1)[:, still].std(0).mean())


class _Proxy:
    """The hulls of a part, and their common volume [m^3]."""

    def __init__(self, part: MovingPart) -> None:
        self.to_world, self.present, self.hulls = part.to_world, np.flatnonzero(part.present), part.hulls
        self.volume = 0.0
        if part.hulls:
            self.corners = np.concatenate([hull.vertices for hull in part.hulls]).astype(np.float64)
            points, cell = _grid(self.corners.min(0), self.corners.max(0))
            self.volume = cell * float(self.holds(points).sum())

    def holds(self, points: np.ndarray) -> np.ndarray:
        """Whether points in the part's frame lie in any of the hulls, ``(M,)``."""
        return np.any([_in_hull(hull, points) for hull in self.hulls], axis=0)


class _Solid:
    """Points that fill a mover, and the volume of each [m^3]."""

    def __init__(self, mover: TrueMover) -> None:
        self.to_world, self.corners = mover.to_world, mover.mesh.vertices.astype(np.float64)
        points, self.cell = _grid(self.corners.min(0), self.corners.max(0))
        self.points = points[is_inside(FaceTree.of(mover.mesh), points)]


def _overlap(proxy: _Proxy, solid: _Solid) -> tuple[float, float]:
    """Mean shared share of volume and mean distance of the middles [m] over the times of the part."""
    if not proxy.hulls:
        return 0.0, 0.0
    shares, errors = [], []
    for time in proxy.present:
        ours, true = (_moved(thing.corners, thing.to_world[time]) for thing in (proxy, solid))
        errors.append(np.linalg.norm((ours.min(0) + ours.max(0) - true.min(0) - true.max(0)) / 2))
        to_part = np.linalg.inv(proxy.to_world[time]) @ solid.to_world[time]
        shared = solid.cell * float(proxy.holds(_moved(solid.points, to_part)).sum())
        shares.append(shared / max(proxy.volume + solid.cell * len(solid.points) - shared, 1e-12))
    return float(np.mean(shares)), float(np.mean(errors))


def _moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _grid(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, float]:
    """Middles of voxels that fill a box, ``(M, 3)``, and the volume of one."""
    edge = max(_VOXEL_M, float(np.prod(np.maximum(high - low, _VOXEL_M)) / _MAX_VOXELS) ** (1 / 3))
    counts = np.maximum(np.ceil((high - low) / edge), 1).astype(int)
    axes = [np.linspace(a, b, n, endpoint=False) + (b - a) / n / 2 for a, b, n in zip(low, high, counts, strict=True)]
    cell = float(np.prod(np.maximum(high - low, 1e-9) / counts))
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3), cell


def _in_hull(hull: TriMesh, points: np.ndarray) -> np.ndarray:
    """Whether points lie behind every face of a convex mesh, ``(M,)``."""
    a, b, c = (hull.vertices[hull.faces[:, corner]].astype(np.float64) for corner in range(3))
    normals = np.cross(b - a, c - a)
    return (points @ normals.T <= (normals * a).sum(1) + 1e-9).all(1)
