"""The floor of a film is what each time shows of it."""

from __future__ import annotations

import math

import numpy as np
import torch

from omni_gen3d.filming import _Anchor, _placed
from omni_gen3d.geometry import intrinsics_from_fov, pixel_rays, placement_on
from omni_gen3d.types import Gaussians, GaussianSequence, Ground
from omni_gen3d.video.ground import ground_seen

HEIGHT, WIDTH, EYE_M, UNIT = 120, 200, 1.2, 2.0


def test_what_comes_to_stand_on_the_floor_is_not_flattened():
    """The front of a box 4 m away, where the first time showed floor, keeps its heights; the floor lies at zero."""
    lens = intrinsics_from_fov(math.radians(67), WIDTH, HEIGHT)
    rays = pixel_rays(lens, HEIGHT, WIDTH).float()
    floor = torch.where(rays[..., 1] > 0.01, EYE_M / rays[..., 1].clamp(min=0.01), 20.0).clamp(max=20.0)
    heights = EYE_M - 4 * rays[..., 1]
    box = (heights > 0) & (heights < 0.22)
    box[:, : WIDTH // 3] = box[:, -WIDTH // 3 :] = False
    depth = torch.stack([floor, torch.where(box, 4.0, floor)])
    up = torch.tensor([0.0, -1.0, 0.0])
    ground = ground_seen(depth[0], lens, up, EYE_M)
    anchor = _Anchor(ground, *placement_on(Ground(up, EYE_M / UNIT, ground.pixels), UNIT))
    frames = tuple(_discs(rays * seen[..., None] / UNIT) for seen in depth)
    first, second = _placed(GaussianSequence(frames, 8.0), anchor, lens, UNIT, depth).frames
    found = second.means[:, 2].reshape(HEIGHT, WIDTH).numpy()
    upper = (box & (heights > 0.08)).numpy()
    np.testing.assert_allclose(found[upper], heights.numpy()[upper], atol=1e-3)
    flat = ground.pixels.flatten()
    assert first.means[flat, 2].abs().max() < 1e-3
    assert second.means[flat & ~box.flatten(), 2].abs().max() < 1e-2


def _discs(points: torch.Tensor) -> Gaussians:
    means = points.reshape(-1, 3)
    count = len(means)
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(count, 4).contiguous()
    return Gaussians(means, quats, torch.full((count, 3), 0.01), torch.ones(count), torch.zeros(count, 1, 3))
