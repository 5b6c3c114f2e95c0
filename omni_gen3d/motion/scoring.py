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
    overlaps = np.array([[_overlap(part, mover) for mover in truth] for part in parts]).reshape(
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


def _overlap(part: MovingPart, mover: TrueMover) -> tuple[float, float]:
    """Mean shared share of volume and mean distance of the middles [m] over the times of the part."""
    shares, errors = [], []
    for time in np.flatnonzero(part.present):
        hulls = [_moved(hull, part.to_world[time]) for hull in part.hulls]
        if not hulls:
            return 0.0, 0.0
        solid = _moved(mover.mesh, mover.to_world[time])
        corners = np.concatenate([hull.vertices for hull in hulls])
        low, high = corners.min(0), corners.max(0)
        errors.append(np.linalg.norm((low + high - solid.vertices.min(0) - solid.vertices.max(0)) / 2))
        if (low > solid.vertices.max(0)).any() or (high < solid.vertices.min(0)).any():
            shares.append(0.0)
            continue
        points = _grid(np.minimum(low, solid.vertices.min(0)), np.maximum(high, solid.vertices.max(0)))
        ours = np.any([_in_hull(hull, points) for hull in hulls], axis=0)
        true = is_inside(FaceTree.of(solid), points)
        shares.append(float((ours & true).sum() / max((ours | true).sum(), 1)))
    return float(np.mean(shares)), float(np.mean(errors))


def _moved(mesh: TriMesh, matrix: np.ndarray) -> TriMesh:
    return TriMesh((mesh.vertices @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32), mesh.faces)


def _grid(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Middles of voxels that fill a box, ``(M, 3)``."""
    edge = max(_VOXEL_M, float(np.prod(np.maximum(high - low, _VOXEL_M)) / _MAX_VOXELS) ** (1 / 3))
    axes = [np.arange(a + edge / 2, b, edge) for a, b in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def _in_hull(hull: TriMesh, points: np.ndarray) -> np.ndarray:
    """Whether points lie behind every face of a convex mesh, ``(M,)``."""
    a, b, c = (hull.vertices[hull.faces[:, corner]].astype(np.float64) for corner in range(3))
    normals = np.cross(b - a, c - a)
    return (points @ normals.T <= (normals * a).sum(1) + 1e-9).all(1)
