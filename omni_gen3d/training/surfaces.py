"""A collision proxy against the exact surface of a procedural world, where the world's cameras have seen it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from omni_gen3d.mesh.bvh import FaceTree
from omni_gen3d.mesh.ground_truth import sample_surface
from omni_gen3d.mesh.scoring import joined
from omni_gen3d.training.clips import Clips
from omni_gen3d.training.worlds import Worlds, distance_to_nearest
from omni_gen3d.types import ProxyPart

# Close is what lies within this, or this share of the distance from the first camera.
_CLOSE_M, _CLOSE_SHARE = 0.05, 0.05
_NUM_SAMPLES = 40_000
# True points are thinned to one in a cell of this size, so that they lie evenly over the surfaces.
_CELL_M = 0.05
# What lies this far behind the true surface, or this share of its depth, was not observed.
_BEHIND_M, _BEHIND_SHARE = 0.3, 0.15
# At the border of a picture the proxy ends; nothing there is a surface.
_BORDER_SHARE = 0.04


@dataclass(frozen=True)
class TrueViews:
    """One world and what cameras see of it.

    Attributes:
        world: A single one.
        camera_to_world: The first camera first [m], shape ``(C, 4, 4)``, float64.
        intrinsics: Shape ``(3, 3)``, float64.
        depth: Along z [m], shape ``(C, H, W)``.
    """

    world: Worlds
    camera_to_world: np.ndarray
    intrinsics: np.ndarray
    depth: np.ndarray

    @staticmethod
    def of(world: Worlds, first_camera: torch.Tensor, clips: Clips) -> TrueViews:
        """The frames of a clip of one item, whose first frame is the camera ``first_camera (4, 4)``."""
        cameras = first_camera.cpu().double() @ clips.camera_to_first[0].cpu().double()
        return TrueViews(
            world,
            cameras.numpy(),
            clips.intrinsics[0].cpu().double().numpy(),
            clips.depth[0].cpu().numpy(),
        )

    def points(self) -> np.ndarray:
        """Points of the seen surfaces, one in each cell of 5 cm, shape ``(N, 3)``."""
        height, width = self.depth.shape[1:]
        row, column = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
        rays = np.stack([column, row, np.ones_like(row)], -1) @ np.linalg.inv(self.intrinsics).T
        local = rays * self.depth[..., None]
        rotation, position = self.camera_to_world[:, None, None, :3, :3], self.camera_to_world[:, None, None, :3, 3]
        points = ((rotation @ local[..., None])[..., 0] + position).reshape(-1, 3)
        _, kept = np.unique(np.floor(points / _CELL_M).astype(np.int64), axis=0, return_index=True)
        return points[kept]

    def observed(self, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """Whether a camera sees the point, or would if it did not lie a little behind the surface, ``(N,)``, bool.

        The point's side has to face that camera: nobody sees the underside of a slab.

        Args:
            points: Of a surface [m], shape ``(N, 3)``.
            normals: Out of it, shape ``(N, 3)``.
        """
        height, width = self.depth.shape[1:]
        seen = np.zeros(len(points), np.bool_)
        for pose, depth in zip(self.camera_to_world, self.depth, strict=True):
            away = points - pose[:3, 3]
            local = away @ pose[:3, :3]
            z = np.maximum(local[:, 2], 1e-6)
            at = (local / z[:, None]) @ self.intrinsics.T
            column, row = at[:, 0] / width, at[:, 1] / height
            inside = (local[:, 2] > 0) & (np.minimum(column, row) > _BORDER_SHARE)
            inside &= np.maximum(column, row) < 1 - _BORDER_SHARE
            surface = np.zeros(len(points))
            surface[inside] = depth[(row[inside] * height).astype(int), (column[inside] * width).astype(int)]
            inside &= (away * normals).sum(1) < 0
            seen |= inside & (z <= surface + np.maximum(_BEHIND_M, _BEHIND_SHARE * surface))
        return seen

    def distance(self, points: np.ndarray) -> np.ndarray:
        """From the nearest true surface [m], seen or not, shape ``(N,)``."""
        device = self.world.solids.height.device
        at = torch.from_numpy(points).to(device, torch.float32)
        return distance_to_nearest(self.world, at[None])[0].abs().cpu().double().numpy()


def score_proxy(parts: tuple[ProxyPart, ...], truth: TrueViews) -> dict[str, float]:
    """How well a proxy holds the surfaces that the cameras see.

    Args:
        parts: In the world's frame and metres; faces look into free space.
        truth: The world.

    Returns:
        ``proxy_precision``: share of the proxy's observed surface with the truth close by, within 5 cm or 5 % of the
        distance from the first camera; ``proxy_recall``: share of the seen true surface with the proxy close by;
        ``proxy_f``: their harmonic mean; ``proxy_f_5cm``: the same within 5 cm at any distance; ``floor_error_m``: mean
        height of the observed floor without sign, left out where there is none.
    """
    rng = np.random.default_rng(0)
    ours, normals = sample_surface(joined(parts), _NUM_SAMPLES, rng)
    ours, theirs = ours[truth.observed(ours, normals)], truth.points()
    to_truth, to_ours = truth.distance(ours), FaceTree.of(joined(parts)).distance(theirs)

    def shares(relative: float) -> tuple[float, float]:
        eye = truth.camera_to_world[0, :3, 3]
        return tuple(
            float((distance <= np.maximum(_CLOSE_M, relative * np.linalg.norm(points - eye, axis=1))).mean())
            if len(points)
            else 0.0
            for points, distance in ((ours, to_truth), (theirs, to_ours))
        )  # pyright: ignore[reportReturnType]

    precision, recall = shares(_CLOSE_SHARE)
    figures = {"proxy_precision": precision, "proxy_recall": recall, "proxy_f": _harmonic(precision, recall)}
    figures["proxy_f_5cm"] = _harmonic(*shares(0.0))
    for floor in (part.mesh for part in parts if part.label == "floor"):
        points, normals = sample_surface(floor, _NUM_SAMPLES, rng)
        points = points[(normals[:, 2] > 0.7) & truth.observed(points, normals)]
        if len(points):
            figures["floor_error_m"] = float(np.abs(points[:, 2]).mean())
    return figures


def _harmonic(precision: float, recall: float) -> float:
    return 2 * precision * recall / max(precision + recall, 1e-12)
