"""One set of Gaussians, no stage: what ``render.render`` does on CUDA."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from omni_gen3d.render.aovs import Tags
from omni_gen3d.render.detail import group_splats
from omni_gen3d.render.gpu.batch import draw_batch
from omni_gen3d.render.gpu.library import Library
from omni_gen3d.render.gpu.scene import ResidentSplats, Scene, SceneWorld, SplatsAt
from omni_gen3d.render.meshes import HEADLIGHT
from omni_gen3d.render.view import camera_rows
from omni_gen3d.types import Cameras, Gaussians

_STILL = np.eye(4)


def draw_gaussians(
    library: Library,
    gaussians: Gaussians,
    cameras: Cameras,
    wanted: Sequence[str],
    *,
    background: Sequence[float],
    near: float,
    far: float,
    detail: float = 0.0,
) -> dict[str, torch.Tensor]:
    """Pictures of ``batch.draw_batch`` on the device of the Gaussians; ``detail`` in pixels, 0 draws every one.

    ``splat_index`` is in the order of the Gaussians; what is merged has none, so that it goes with ``detail`` 0 alone.
    """
    device = gaussians.means.device
    grouped = group_splats(gaussians, merge=detail > 0)
    resident = ResidentSplats.of(grouped)
    placed = SplatsAt(resident, _STILL, _STILL, (1.0, 1.0, 1.0), Tags(0, 0, 1))
    scene = Scene([SceneWorld([placed], None, None, HEADLIGHT)], device)
    rows = camera_rows(cameras.world_to_camera.to(device), cameras.intrinsics.to(device), near, far)
    worlds = torch.zeros(len(rows), dtype=torch.int32, device=device)
    size = (cameras.width, cameras.height)
    pictures = draw_batch(library, scene, rows, worlds, size, wanted, background=background, pixels=detail)
    if "splat_index" in pictures:
        along_curve = pictures["splat_index"].long()
        pictures["splat_index"] = torch.where(along_curve >= 0, grouped.order[along_curve.clamp(min=0)], -1)
    return pictures
