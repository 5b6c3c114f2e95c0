"""The flat Gaussians of a splat as discs, and which side of them is free space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omni_gen3d.geometry import quat_to_matrix
from omni_gen3d.mesh.tsdf import Tsdf
from omni_gen3d.types import Gaussians

# A disc is at most this thick for its second axis, and at least this opaque.
MAX_FLATNESS = 0.5
_MIN_OPACITY = 0.3
# More discs than this say nothing new about a room; every so many-th is taken.
_MAX_DISCS = 300_000
# Free space must lie on one side of a disc and not on the other, this many voxels off.
_PROBE_VOXELS = 2.0


@dataclass(frozen=True)
class Discs:
    """Flat, opaque Gaussians.

    Attributes:
        centres: [m], shape ``(N, 3)``, float64.
        spans: The two long axes, as long as their standard deviations [m], shape ``(N, 2, 3)``, float64.
        normals: Unit, of either sign, shape ``(N, 3)``, float64.
        opacities: Shape ``(N,)``, float64.
    """

    centres: np.ndarray
    spans: np.ndarray
    normals: np.ndarray
    opacities: np.ndarray

    def outward(self, tsdf: Tsdf) -> np.ndarray:
        """Normals into free space, 0 where both sides of a disc are free or solid, shape ``(N, 3)``."""
        step = _PROBE_VOXELS * tsdf.voxel_size * self.normals
        before, behind = tsdf.value_at(self.centres + step), tsdf.value_at(self.centres - step)
        on_surface = (before > 0) != (behind > 0)
        return self.normals * np.where(on_surface, np.where(before > behind, 1.0, -1.0), 0.0)[:, None]


def flat_discs(gaussians: Gaussians, tsdf: Tsdf) -> Discs:
    """The discs of a scene whose centres lie in the grid."""
    scales = gaussians.scales.detach().cpu().double().numpy()
    opacities = gaussians.opacities.detach().cpu().double().numpy()
    means = gaussians.means.detach().cpu().double().numpy()
    order = np.argsort(scales, axis=1)
    thin, short, _ = np.take_along_axis(scales, order, axis=1).T
    voxels = tsdf.voxel_of(means)
    inside = ((voxels >= 0) & (voxels < tsdf.distance.shape)).all(1)
    flat = np.flatnonzero((thin < MAX_FLATNESS * short) & (opacities > _MIN_OPACITY) & inside)
    flat = flat[:: max(1, -(-len(flat) // _MAX_DISCS))]
    axes = quat_to_matrix(gaussians.quats.detach().cpu().double()[flat]).numpy() * scales[flat][:, None]
    axes = np.take_along_axis(axes, order[flat][:, None], axis=2).transpose(0, 2, 1)
    normals = axes[:, 0] / np.maximum(np.linalg.norm(axes[:, 0], axis=1, keepdims=True), 1e-30)
    return Discs(means[flat], axes[:, 1:], normals, opacities[flat])
