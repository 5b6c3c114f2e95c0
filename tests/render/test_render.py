"""Every backend against a renderer that a person can read: float64, one Gaussian after the other, no tiles."""

from __future__ import annotations

import math
from dataclasses import replace

import numba
import pytest
import torch

from omni_gen3d import geometry
from omni_gen3d.errors import InputError
from omni_gen3d.render import render
from omni_gen3d.types import Cameras, Gaussians

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def random_scene(count: int, coefficients: int = 16, seed: int = 0) -> Gaussians:
    """Gaussians all around the origin, round and needle-like ones, faint and opaque ones."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return Gaussians(
        means=2 * draw(count, 3),
        quats=torch.nn.functional.normalize(draw(count, 4), dim=1),
        scales=torch.exp(0.8 * draw(count, 3) - 2),
        opacities=torch.sigmoid(2 * draw(count)),
        sh=0.4 * draw(count, coefficients, 3),
    )


def cameras_at(positions: list[list[float]], width: int, height: int) -> Cameras:
    """Cameras that look at the origin through a lens whose axis is off the middle of the picture."""
    eyes = torch.tensor(positions)
    intrinsics = geometry.intrinsics_from_fov(1.2, width, height)
    intrinsics[:2, 2] += torch.tensor([0.11 * width, -0.07 * height])
    intrinsics[1, 1] *= 1.1
    return Cameras(
        geometry.look_at(eyes, torch.zeros(3)), intrinsics.expand(len(eyes), 3, 3).clone(), width=width, height=height
    )


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10((a.cpu().double() - b).square().mean()))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("count", "width", "height"), [(1, 16, 16), (200, 40, 24), (600, 50, 37)], ids=["one", "small", "dense"]
)
def test_agrees_with_the_slow_renderer(device: str, count: int, width: int, height: int, render_slowly) -> None:
    """Colours, depth and coverage agree from inside the cloud, with half of it behind each camera."""
    gaussians = random_scene(count)
    if count == 1:
        gaussians = replace(gaussians, means=torch.tensor([[0.1, 0.2, 0.1]]), scales=torch.tensor([[0.4, 0.2, 0.3]]))
    cameras = cameras_at([[1.5, 0.5, 0.4], [-1.0, 1.5, -0.5]], width, height)
    background = (0.2, 0.5, 0.9)
    views = render(gaussians.to(device), cameras, background=background)
    expected = render_slowly(gaussians, cameras, background)
    assert expected.alpha.max() > 0.2
    floor_db = 100 if device == "cpu" else 60
    assert psnr(views.color, expected.color) >= floor_db
    assert psnr(views.alpha, expected.alpha) >= floor_db
    assert psnr(views.depth, expected.depth) >= floor_db - 20
    differs = (views.median_depth.cpu() - expected.median_depth).abs() > 1e-3
    assert differs.double().mean() <= (0.001 if device == "cpu" else 0.01)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("coefficients", [1, 4, 9])
def test_lower_degrees_of_harmonics(device: str, coefficients: int, render_slowly) -> None:
    """Scenes of degree 0, 1 and 2 show the same colours as in the slow renderer."""
    gaussians, cameras = random_scene(60, coefficients), cameras_at([[3.0, -2.0, 1.0]], 33, 20)
    expected = render_slowly(gaussians, cameras, (1.0, 1.0, 1.0))
    assert psnr(render(gaussians.to(device), cameras).color, expected.color) >= (100 if device == "cpu" else 60)


@pytest.mark.parametrize("device", DEVICES)
def test_background_fills_what_the_scene_leaves(device: str) -> None:
    """Two backgrounds differ by exactly what is not covered, and behind the camera there is nothing but them."""
    gaussians, cameras = random_scene(50).to(device), cameras_at([[4.0, 0.0, 0.5]], 32, 32)
    black = render(gaussians, cameras, background=(0.0, 0.0, 0.0))
    white = render(gaussians, cameras, background=(1.0, 1.0, 1.0))
    unclipped = white.color < 1
    remaining = (1 - white.alpha)[..., None].expand_as(white.color)
    assert torch.allclose((white.color - black.color)[unclipped], remaining[unclipped], atol=1e-5)

    behind = replace(gaussians, means=gaussians.means * 0.1 + torch.tensor([9.0, 0.0, 0.5], device=device))
    empty = render(behind, cameras, background=(0.25, 0.5, 0.75))
    assert empty.color.reshape(-1, 3).unique(dim=0).tolist() == [[0.25, 0.5, 0.75]]
    assert empty.alpha.max() == 0 and empty.depth.max() == 0


@pytest.mark.parametrize("device", DEVICES)
def test_an_opaque_wall_has_its_depth(device: str) -> None:
    """Across a wall of thin opaque Gaussians 2 m ahead, expected (and median) z depth is 2 m, not the distance."""
    side = torch.linspace(-3, 3, 61)
    y, z = torch.meshgrid(side, side, indexing="ij")
    means = torch.stack([torch.full_like(y, 2.0), y, z], -1).reshape(-1, 3)
    count = len(means)
    wall = Gaussians(
        means,
        torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
        torch.tensor([1e-3, 0.1, 0.1]).expand(count, 3),
        torch.full((count,), 0.98),
        torch.zeros(count, 1, 3),
    ).to(device)
    world_to_camera = geometry.look_at(torch.zeros(3), torch.tensor([1.0, 0, 0]))[None]
    cameras = Cameras(world_to_camera, geometry.intrinsics_from_fov(math.pi / 2, 48, 32)[None], width=48, height=32)
    views = render(wall, cameras)
    assert views.alpha.min() > 0.99
    for depth in (views.depth, views.median_depth):
        assert torch.allclose(depth, torch.full_like(depth, 2.0), atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_moving_scene_and_cameras_together_changes_nothing(device: str) -> None:
    """Rotated, shifted and scaled along with its cameras, a scene gives the same picture at scaled depth."""
    gaussians, cameras = random_scene(80), cameras_at([[3.0, -1.0, 1.0]], 40, 30)
    rotation = geometry.quat_to_matrix(torch.tensor([0.5, -0.3, 0.7, 0.2]))
    shift = torch.tensor([1.0, 2.0, -3.0])
    before = render(gaussians.to(device), cameras)
    after = render(
        geometry.transform_gaussians(gaussians, rotation, shift, scale=2.0).to(device),
        geometry.transform_cameras(cameras, rotation, shift, scale=2.0),
        near=0.1,
        far=1000.0,
    )
    assert torch.allclose(after.color, before.color, atol=2e-3)
    assert (after.color - before.color).abs().mean() < 1e-5
    assert torch.allclose(after.depth, 2 * before.depth, rtol=0.02, atol=2e-3)


def test_needles_across_the_whole_picture_stay_exact(render_slowly) -> None:
    """A needle ten thousand pixels long and a third of a pixel wide keeps its width: nothing cancels."""
    needle = Gaussians(
        torch.tensor([[0.3, 0.0, 0.0]]),
        torch.nn.functional.normalize(torch.tensor([[1.0, 0.2, 0.5, 0.1]]), dim=1),
        torch.tensor([[300.0, 1e-4, 1e-4]]),
        torch.tensor([0.9]),
        torch.zeros(1, 1, 3),
    )
    cameras = cameras_at([[4.0, 1.0, 2.0]], 48, 48)
    expected = render_slowly(needle, cameras, (1.0, 1.0, 1.0))
    assert expected.alpha.max() > 0.5
    assert psnr(render(needle, cameras).alpha, expected.alpha) >= 100


def test_bytes_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, all threads, and lists cut into many runs of tiles give identical pictures."""
    gaussians, cameras = random_scene(2500, seed=3), cameras_at([[2.0, 1.0, 0.5]], 150, 90)
    threads = numba.get_num_threads()
    together = render(gaussians, cameras)
    try:
        numba.set_num_threads(1)
        alone = render(gaussians, cameras)
    finally:
        numba.set_num_threads(threads)
    monkeypatch.setattr("omni_gen3d.render.cpu.MAX_LISTED", 500)
    in_runs = render(gaussians, cameras)
    for other in (alone, in_runs):
        for name in ("color", "depth", "alpha", "median_depth"):
            assert torch.equal(getattr(together, name), getattr(other, name)), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"background": (0.0, 0.0, 2.0)}, "background is"),
        ({"near": 0.0}, "near is 0.0"),
        ({"near": 5.0, "far": 5.0}, "near < far"),
        ({"backend": "vulkan"}, "'vulkan'"),
        ({"backend": "cuda"}, "the Gaussians are on cpu"),
    ],
)
def test_values_out_of_range_are_named(arguments: dict, message: str) -> None:
    """Every refused argument is named in the error."""
    with pytest.raises(InputError, match=message):
        render(random_scene(3), cameras_at([[3.0, 0.0, 0.0]], 8, 8), **arguments)


def test_cameras_and_gaussians_are_checked() -> None:
    """Broken Gaussians, huge pictures, skewed lenses and lenses turned inside out are refused before work starts."""
    gaussians, cameras = random_scene(3), cameras_at([[3.0, 0.0, 0.0]], 8, 8)
    with pytest.raises(InputError, match="opacities"):
        render(replace(gaussians, opacities=gaussians.opacities + 1), cameras)
    with pytest.raises(InputError, match="100000x8"):
        render(gaussians, replace(cameras, width=100_000))
    for entry, value, message in (((0, 1), 0.1, "skew"), ((1, 1), -4.0, "focal"), ((0, 2), math.nan, "NaN")):
        intrinsics = cameras.intrinsics.clone()
        intrinsics[0, entry[0], entry[1]] = value
        with pytest.raises(InputError, match=message):
            render(gaussians, replace(cameras, intrinsics=intrinsics))
