"""The 3D cache against plain loops: reliability, splatting, the mesh that hides what is behind."""

from __future__ import annotations

import math

import pytest
import torch

from omni_gen3d.geometry import intrinsics_from_fov
from omni_gen3d.video.gen3c.cache import reliable_pixels, warp
from omni_gen3d.video.gen3c.foreground import EdgeMesh, mesh_depth, mesh_edges
from omni_gen3d.video.gen3c.trajectories import DECODER_ORDER, release_cameras, release_trajectories

HEIGHT, WIDTH = 32, 48


@pytest.fixture
def intrinsics() -> torch.Tensor:
    return intrinsics_from_fov(math.radians(65), WIDTH, HEIGHT).float()


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def moved(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> torch.Tensor:
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor([x, y, z])
    return pose


def test_reliability_is_the_range_in_a_window() -> None:
    """As a loop over 5x5 windows finds it; zeros beyond the border lower the mean, as in the release."""
    depth = 1 + 0.02 * random(1, 9, 11)
    depth[0, 4, 5] = 1.2
    depth[0, 0, 0] = 0.0
    found = reliable_pixels(depth)[0]
    for row in range(9):
        for column in range(11):
            window = depth[0, max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
            ratio = (window.max() - window.min()) / (window.sum() / 25 + 1e-6)
            assert bool(found[row, column]) == bool(ratio < 0.05 and depth[0, row, column] > 0)
    assert 0 < int(found.sum()) < found.numel()


def test_the_still_camera_sees_the_picture(intrinsics: torch.Tensor) -> None:
    """Where the mask is set the colours and depths are the picture's; elsewhere black and nothing."""
    picture, depth = 2 * random(3, HEIGHT, WIDTH) - 1, torch.full((HEIGHT, WIDTH), 2.0)
    depth[8:20, 10:22] = 1.0
    seen = warp(picture, depth, intrinsics, torch.eye(4)[None])
    mask = seen.mask[0, 0, 0].bool()
    assert 0.5 < float(mask.float().mean()) < 1
    torch.testing.assert_close(seen.rgb[0, :, 0][:, mask], picture[:, mask], atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.depth[0, 0, 0][mask], depth[mask], atol=1e-4, rtol=0)
    assert (seen.rgb[0, :, 0][:, ~mask] == -1).all() and (seen.depth[0, 0, 0][~mask] == 0).all()
    assert not mask[7:9, 12:20].any(), "depth edges belong to nobody"


def test_pixels_move_as_their_depth_says(intrinsics: torch.Tensor) -> None:
    """A plane before a camera that moves by exactly three pixels is the picture shifted by three."""
    picture, depth = 2 * random(3, HEIGHT, WIDTH) - 1, torch.full((HEIGHT, WIDTH), 2.0)
    aside = 3 * 2.0 / float(intrinsics[0, 0])
    seen = warp(picture, depth, intrinsics, torch.stack([moved(x=aside), moved(x=-aside)]))
    inner = slice(2, -2)
    torch.testing.assert_close(seen.rgb[0, :, 0, inner, 2:-5], picture[:, inner, 5:-2], atol=1e-3, rtol=0)
    torch.testing.assert_close(seen.rgb[0, :, 1, inner, 5:-2], picture[:, inner, 2:-5], atol=1e-3, rtol=0)


def test_nearer_pixels_win(intrinsics: torch.Tensor) -> None:
    """Where a near square moves over a far wall, the square's colour and depth are seen."""
    picture, depth = torch.full((3, HEIGHT, WIDTH), -0.5), torch.full((HEIGHT, WIDTH), 4.0)
    depth[8:24, 16:32], picture[:, 8:24, 16:32] = 1.0, 0.5
    seen = warp(picture, depth, intrinsics, moved(x=8 / float(intrinsics[0, 0]))[None])
    square = (slice(12, 20), slice(12, 20))
    assert (seen.rgb[0, :, 0][:, *square] > 0.49).all()
    torch.testing.assert_close(seen.depth[0, 0, 0][square], torch.ones(8, 8), atol=1e-3, rtol=0)


def brute_force(mesh: EdgeMesh, pose: torch.Tensor, intrinsics: torch.Tensor) -> torch.Tensor:
    """A ray through every pixel against every triangle (Moeller and Trumbore), in float64."""
    vertices = ((mesh.vertices - pose[:3, 3]) @ pose[:3, :3]).double()
    nearest = torch.full((HEIGHT, WIDTH), torch.inf, dtype=torch.float64)
    a, b, c = vertices[mesh.faces].unbind(1)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            ray = torch.tensor(
                [(column - float(intrinsics[0, 2])) / float(intrinsics[0, 0]),
                 (row - float(intrinsics[1, 2])) / float(intrinsics[1, 1]), 1.0],
                dtype=torch.float64,
            ).expand_as(a)  # fmt: skip
            across = torch.linalg.cross(ray, c - a)
            determinant = ((b - a) * across).sum(-1)
            u = (-a * across).sum(-1) / determinant
            q = torch.linalg.cross(-a, b - a)
            v, t = (ray * q).sum(-1) / determinant, ((c - a) * q).sum(-1) / determinant
            hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)
            if hit.any():
                nearest[row, column] = t[hit].min()
    return nearest


def test_mesh_depth_is_that_of_rays(intrinsics: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The z-buffer agrees with a ray for every pixel but where an edge passes within rounding of its centre."""
    depth = 1 + random(1, 1, 4, 6)
    depth = torch.nn.functional.interpolate(depth, (HEIGHT, WIDTH), mode="bilinear")[0, 0]
    row, column = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    x, y = (column - intrinsics[0, 2]) / intrinsics[0, 0], (row - intrinsics[1, 2]) / intrinsics[1, 1]
    boundary = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    boundary[::8, ::12] = True
    mesh = mesh_edges(torch.stack([x * depth, y * depth, depth], dim=-1), boundary)
    assert 0 < len(mesh.faces) < 2 * 7 * 11
    pose = release_cameras(torch.tensor([0.1, -0.05, 0.2]))
    found = mesh_depth(mesh, pose, intrinsics, HEIGHT, WIDTH)
    wanted = brute_force(mesh, pose, intrinsics)
    same = torch.isclose(found.double(), wanted, atol=1e-3) | (found.isinf() & wanted.isinf())
    assert float(same.float().mean()) > 0.99 and int(wanted.isfinite().sum()) > 200
    monkeypatch.setattr("omni_gen3d.video.gen3c.foreground._PIXELS_AT_ONCE", 7)
    assert torch.equal(mesh_depth(mesh, pose, intrinsics, HEIGHT, WIDTH), found)


def test_thin_foreground_hides_the_wall_behind(intrinsics: torch.Tensor) -> None:
    """Between splatted pixels that drift apart the mask is 0, where without the mesh the wall would show."""
    picture, depth = torch.full((3, HEIGHT, WIDTH), -0.5), torch.full((HEIGHT, WIDTH), 4.0)
    depth[:, 22:26] = 1.0  # all of it lies at a depth edge, so none of its pixels is splatted
    seen = warp(picture, depth, intrinsics, torch.eye(4)[None])
    assert not seen.mask[0, 0, 0, :, 21:27].any()
    # The camera has moved: where the pole now stands the wall behind is not shown.
    seen = warp(picture, depth, intrinsics, moved(x=-4 / float(intrinsics[0, 0]))[None])
    assert not seen.mask[0, 0, 0, 4:28, 27:29].any()
    assert seen.mask[0, 0, 0, 4:28, 40:44].all()


def test_trajectories_are_the_releases() -> None:
    """Straight ones end at (n - 1) / n of their distance; world to camera is the rotation with minus the position."""
    frames = 121
    paths = release_trajectories(frames, torch.Generator().manual_seed(0))
    assert paths.shape == (6, frames, 4, 4)
    torch.testing.assert_close(paths[:, 0], torch.eye(4).expand(6, 4, 4))
    position = -torch.linalg.inv(paths)[..., :3, 3]
    ranges = [(0.2, 0.3), (0.2, 0.3), (0.1, 0.2), (0.3, 0.4), (0.3, 0.4)]
    axes = [(0, -1), (0, 1), (1, -1), (2, -1), (2, 1)]
    for path, (low, high), (axis, sign) in zip(position, ranges, axes, strict=False):
        steps = sign * path[:, axis] * frames / torch.arange(frames).clamp(min=1)
        assert low <= float(steps[1:].min()) and float(steps[1:].max()) <= high + 1e-5
        torch.testing.assert_close(steps[1:], steps[-1].expand(frames - 1), atol=1e-4, rtol=1e-4)
    angle = 4 * math.pi * torch.arange(frames) / (frames - 1)
    distance = position[5, :, 1].abs().max() / 0.10
    assert 0.4 <= float(distance) <= 0.6 * 1.001
    torch.testing.assert_close(position[5, :, 0], distance * 0.15 * (angle.cos() - 1), atol=2e-3, rtol=0)
    forward = torch.tensor([0.0, 0, 1]) - position
    torch.testing.assert_close(paths[..., :3, 2], torch.nn.functional.normalize(forward, dim=-1), atol=1e-4, rtol=0)
    assert sorted(DECODER_ORDER) == list(range(6)) and DECODER_ORDER[0] == 5
