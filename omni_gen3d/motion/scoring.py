"""How good moving parts are where the truth is known, and how still what stands still looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from omni_gen3d.mesh.bvh import FaceTree
from omni_gen3d.mesh.convex import convex_hull, in_hull
from omni_gen3d.mesh.ground_truth import is_inside
from omni_gen3d.types import MovingPart, TriMesh

_VOXEL_M = 0.025
# So that a warehouse door does not fill the memory.
_MAX_VOXELS = 400_000
# Errors of position are told at this distance from the camera [m].
_TOLD_AT_M = 3.0


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
        iou: Mean over the movers and times of the shared volume of proxy and the convex hull of the truth over that of
            both: a proxy is convex, so this hull is the best there is. A mover that no part stands for counts as 0.
        solid_iou: The same against the true solid itself, of the same pairs.
        position_error_m: Mean distance of the middles of the bounding boxes of proxy and truth, over matched pairs;
            None without one.
        position_error_at_3m: The same, each times 3 m over the true distance from the camera.
        found: Movers with a part that shares volume with them.
        movers: All of them.
        strays: Parts that share volume with no mover.
    """

    iou: float
    solid_iou: float
    position_error_m: float | None
    position_error_at_3m: float | None
    found: int
    movers: int
    strays: int


def score_parts(parts: Sequence[MovingPart], truth: Sequence[TrueMover], eye: np.ndarray) -> PartScores:
    """Compare the colliders of parts with the truth, one part for each mover, at the times at which the part is there.

    Args:
        parts: In the world of the truth.
        truth: At the same times.
        eye: Where the camera stood [m], shape ``(3,)``.
    """
    proxies, solids = [_Proxy(part) for part in parts], [_Solid(mover) for mover in truth]
    overlaps = np.array([[_overlap(proxy, solid, eye) for solid in solids] for proxy in proxies]).reshape(
        len(parts), len(truth), 4
    )
    rows, columns = linear_sum_assignment(-overlaps[..., 0]) if overlaps.size else ((), ())
    found = [overlaps[i, j] for i, j in zip(rows, columns, strict=True) if overlaps[i, j, 0] > 0]
    shares = np.sum(found, axis=0) / len(truth) if found else np.zeros(4) if truth else np.ones(4)
    errors = np.mean(found, axis=0) if found else None
    return PartScores(
        iou=float(shares[0]),
        solid_iou=float(shares[1]),
        position_error_m=None if errors is None else float(errors[2]),
        position_error_at_3m=None if errors is None else float(errors[3]),
        found=len(found),
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
        return np.any([in_hull(hull, points) for hull in self.hulls], axis=0)


class _Solid:
    """Points that fill the convex hull of a mover, which of them lie in the mover, and the volume of each [m^3]."""

    def __init__(self, mover: TrueMover) -> None:
        self.to_world, self.corners = mover.to_world, mover.mesh.vertices.astype(np.float64)
        points, self.cell = _grid(self.corners.min(0), self.corners.max(0))
        hull = convex_hull(self.corners)
        self.points = points if hull is None else points[in_hull(hull, points)]
        self.solid = is_inside(FaceTree.of(mover.mesh), self.points)


def _overlap(proxy: _Proxy, mover: _Solid, eye: np.ndarray) -> tuple[float, float, float, float]:
    """Means over the times of the part: shared share of volume with the hull and with the solid, distance of the
    middles [m], and that at 3 m."""
    if not proxy.hulls:
        return 0.0, 0.0, 0.0, 0.0
    rows = []
    for time in proxy.present:
        ours, true = (_moved(thing.corners, thing.to_world[time]) for thing in (proxy, mover))
        middle, ours_middle = ((corners.min(0) + corners.max(0)) / 2 for corners in (true, ours))
        error = float(np.linalg.norm(ours_middle - middle))
        to_part = np.linalg.inv(proxy.to_world[time]) @ mover.to_world[time]
        held = proxy.holds(_moved(mover.points, to_part))
        shares = []
        for which in (np.ones_like(mover.solid), mover.solid):
            shared = mover.cell * float((held & which).sum())
            shares.append(shared / max(proxy.volume + mover.cell * float(which.sum()) - shared, 1e-12))
        rows.append((*shares, error, error * _TOLD_AT_M / float(np.linalg.norm(middle - eye))))
    shared, solid, error, told = np.mean(rows, axis=0)
    return float(shared), float(solid), float(error), float(told)


def _moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _grid(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, float]:
    """Middles of voxels that fill a box, ``(M, 3)``, and the volume of one."""
    edge = max(_VOXEL_M, float(np.prod(np.maximum(high - low, _VOXEL_M)) / _MAX_VOXELS) ** (1 / 3))
    counts = np.maximum(np.ceil((high - low) / edge), 1).astype(int)
    axes = [np.linspace(a, b, n, endpoint=False) + (b - a) / n / 2 for a, b, n in zip(low, high, counts, strict=True)]
    cell = float(np.prod(np.maximum(high - low, 1e-9) / counts))
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3), cell
