"""Rays and Plücker coordinates of the official decoder."""

from __future__ import annotations

import math

import pytest
import torch

from omni_gen3d.decoder.lyra_inputs import decoder_inputs, rays
from omni_gen3d.geometry import intrinsics_from_fov, pixel_rays
from omni_gen3d.video.gen3c.trajectories import DECODER_ORDER, release_trajectories

HEIGHT, WIDTH, FRAMES = 16, 32, 9


@pytest.fixture
def intrinsics() -> torch.Tensor:
    return intrinsics_from_fov(math.radians(65), WIDTH, HEIGHT).float()


def test_rays_pass_through_pixel_centres(intrinsics: torch.Tensor) -> None:
    """Unit length, from the camera's centre, through the point that projects onto the middle of the cell."""
    pose = release_trajectories(FRAMES, torch.Generator().manual_seed(0))[5]
    origins, directions = rays(pose, intrinsics, HEIGHT, WIDTH, torch.float32)
    assert origins.shape == directions.shape == (FRAMES, 3, HEIGHT, WIDTH)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(FRAMES, HEIGHT, WIDTH))
    torch.testing.assert_close(origins, pose[:, :3, 3, None, None].expand_as(origins))
    local = torch.einsum("lji,ljhw->lihw", pose[:, :3, :3], directions)
    wanted = pixel_rays(intrinsics, HEIGHT, WIDTH).permute(2, 0, 1)
    torch.testing.assert_close(local / local[:, 2:], wanted.expand_as(local), atol=1e-5, rtol=1e-5)


def test_bfloat16_rays_are_off_as_the_release_has_them() -> None:
    """Centres below 128 are exact; above, a half is lost: the ray of column 200 goes through 200 and not 200.5."""
    lens = torch.tensor([[64.0, 0, 0], [0, 64.0, 0], [0, 0, 1]])
    _, exact = rays(torch.eye(4)[None], lens, 1, 256, torch.float32)
    _, rounded = rays(torch.eye(4)[None], lens, 1, 256, torch.bfloat16)
    assert rounded.dtype == torch.bfloat16
    column = 64 * exact[0, 0, 0] / exact[0, 2, 0]
    torch.testing.assert_close(column, torch.arange(256) + 0.5, atol=1e-3, rtol=0)
    one_step = {"bfloat16": torch.tensor(200.5).bfloat16().item()}
    assert one_step["bfloat16"] == 200
    assert float((rounded.float() - exact).abs().max()) > 1e-3


def test_inputs_follow_the_view_order(intrinsics: torch.Tensor) -> None:
    """Latents time-major view by view; moments before directions; rays at an eighth; the first camera is the origin."""
    views = release_trajectories(FRAMES, torch.Generator().manual_seed(0))[list(DECODER_ORDER)]
    moved = torch.eye(4)
    moved[:3, 3] = torch.tensor([1.0, 2.0, 3.0])
    latents = [torch.full((16, 2, HEIGHT // 8, WIDTH // 8), float(view)) for view in range(6)]
    seen: list[torch.Tensor] = []

    def encode(video: torch.Tensor) -> torch.Tensor:
        assert video.shape == (1, 3, FRAMES, HEIGHT, WIDTH)
        seen.append(video[0])
        return torch.full((1, 16, 2, HEIGHT // 8, WIDTH // 8), float(len(seen)))

    inputs = decoder_inputs(encode, latents, moved @ views, intrinsics, ray_type="float32")
    assert inputs["num_views"] == 6
    assert inputs["latents"].shape == (1, 12, 16, HEIGHT // 8, WIDTH // 8)
    assert inputs["latents"][0, :, 0, 0, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert inputs["plucker_latents"][0, 2, [0, 15, 16, 31], 0, 0].tolist() == [3, 3, 4, 4]
    assert inputs["ray_origins"].shape == inputs["ray_directions"].shape == (1, 6 * FRAMES, 3, HEIGHT // 8, WIDTH // 8)
    torch.testing.assert_close(inputs["ray_origins"][0, 0], torch.zeros(3, HEIGHT // 8, WIDTH // 8), atol=1e-5, rtol=0)
    origins, directions = rays(views[1], intrinsics, HEIGHT, WIDTH, torch.float32)
    moment = torch.linalg.cross(origins, directions, dim=1).transpose(0, 1)
    torch.testing.assert_close(seen[2], moment, atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[3], directions.transpose(0, 1), atol=1e-5, rtol=0)
