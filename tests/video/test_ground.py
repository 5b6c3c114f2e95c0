"""The floor in a depth map."""

from __future__ import annotations

import math

import numpy as np
import torch

from omni_gen3d.geometry import intrinsics_from_fov, pixel_rays
from omni_gen3d.video.ground import find_ground

HEIGHT, WIDTH = 88, 160
LENS = intrinsics_from_fov(math.radians(67), WIDTH, HEIGHT)


def room(pitch: float, camera_height: float, box: bool) -> tuple[torch.Tensor, np.ndarray, torch.Tensor]:
    """Depth of a floor, a back wall at 6 and a box 0.5 high at 3, the true up, and where the floor is."""
    up = np.array([0.0, -math.cos(pitch), -math.sin(pitch)])
    forward = np.array([0.0, -math.sin(pitch), math.cos(pitch)])
    rays = pixel_rays(LENS.double(), HEIGHT, WIDTH).numpy()
    descent, ahead = -(rays @ up), rays @ forward
    floor = np.where(descent > 1e-6, camera_height / np.maximum(descent, 1e-6), np.inf)
    depth, is_floor = np.where(floor < 6 / ahead, floor, 6 / ahead), floor < 6 / ahead
    if box:
        front = 3 / ahead
        at = rays * front[..., None]
        hit = (np.abs(at[..., 0]) < 0.5) & (at @ up + camera_height < 0.5) & (front < depth)
        depth, is_floor = np.where(hit, front, depth), is_floor & ~hit
    return torch.from_numpy(depth).float(), up, torch.from_numpy(is_floor)


def test_plane_and_pixels_are_found():
    """Under a camera pitched down, up and height come out within 1 %, and the floor's pixels with hardly any others."""
    depth, up, is_floor = room(pitch=0.2, camera_height=1.2, box=True)
    ground = find_ground(depth, LENS, np.random.default_rng(0))
    assert ground is not None
    assert float(ground.up @ torch.from_numpy(up).float()) > math.cos(0.01)
    assert abs(ground.camera_height - 1.2) < 0.012
    overlap = float((ground.pixels & is_floor).sum()) / float(is_floor.sum())
    assert overlap > 0.85
    assert float((ground.pixels & ~is_floor).sum()) < 0.04 * float(is_floor.sum())


def test_a_bent_floor_is_one_floor():
    """A floor that rises by 5 % of its distance far away is still found as a whole."""
    depth, _, is_floor = room(pitch=0.15, camera_height=1.0, box=False)
    bent = depth * (1 - 0.05 * (depth / 6) * is_floor)
    ground = find_ground(bent, LENS, np.random.default_rng(0))
    assert ground is not None
    assert float((ground.pixels & is_floor).sum()) > 0.8 * float(is_floor.sum())


def test_a_wall_is_no_floor():
    """A wall that fills the picture gives None."""
    assert find_ground(torch.full((HEIGHT, WIDTH), 2.0), LENS, np.random.default_rng(0)) is None


def test_the_rng_decides():
    """The same generator state gives the same plane to the bit."""
    depth, _, _ = room(pitch=0.2, camera_height=1.2, box=True)
    one, two = (find_ground(depth, LENS, np.random.default_rng(3)) for _ in range(2))
    assert one is not None and two is not None
    assert one.camera_height == two.camera_height
    assert torch.equal(one.up, two.up)
