"""The kernels of the cuda backend, run on a processor by ``host_cuda.h``, beside the cpu backend."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from omni_gen3d import geometry
from omni_gen3d.errors import InputError, MissingDependencyError
from omni_gen3d.render import draws_on, render, surface_index
from omni_gen3d.render.aovs import AOVS
from omni_gen3d.render.cpu import PlacedSplats, SplatArrays, View, draw_splats
from omni_gen3d.render.delegate import SplatRenderDelegate
from omni_gen3d.render.detail import group_splats
from omni_gen3d.render.gpu import batch
from omni_gen3d.render.gpu.draw import draw_gaussians
from omni_gen3d.render.gpu.library import build
from omni_gen3d.types import Cameras, Gaussians
from omni_gen3d.usd.splats import author_splats

WIDTH, HEIGHT = 60, 44


def psnr(a: np.ndarray | torch.Tensor, b: np.ndarray | torch.Tensor) -> float:
    error = ((torch.as_tensor(a).double() - torch.as_tensor(b).double()) ** 2).mean()
    return float(-10 * torch.log10(error.clamp_min(1e-30)))


def cloud(count: int, degree: int, seed: int = 0) -> Gaussians:
    draw = torch.Generator().manual_seed(seed)
    return Gaussians(
        torch.randn(count, 3, generator=draw),
        torch.nn.functional.normalize(torch.randn(count, 4, generator=draw), dim=1),
        torch.exp(torch.randn(count, 3, generator=draw) * 0.5 - 2.5),
        torch.rand(count, generator=draw),
        0.3 * torch.randn(count, (degree + 1) ** 2, 3, generator=draw),
    )


def cameras(eyes: list[list[float]], width: int = WIDTH, height: int = HEIGHT) -> Cameras:
    places = torch.tensor(eyes)
    lens = geometry.intrinsics_from_fov(1.2, width, height).repeat(len(eyes), 1, 1)
    return Cameras(geometry.look_at(places, torch.zeros(3)), lens, width, height)


def place(usd, prim, matrix: np.ndarray) -> None:
    op = usd.UsdGeom.Xformable(prim).MakeMatrixXform()
    op.Set(usd.Gf.Matrix4d(np.asarray(matrix, float).T.tolist()))


@pytest.fixture
def lab(usd, stage, author_box):
    """Two environments: splats of degrees 3 and 0, a turned and stretched set, boxes, a light, a labelled collider."""
    for i, degree in enumerate((3, 0)):
        author_splats(stage, f"/Lab/env_{i}/Cloud", cloud(700, degree, seed=i))
        author_box(stage, f"/Lab/env_{i}/Box", (-0.6, -0.5, -0.4), (0.5, 0.4, 0.3), (0.8, 0.3, 0.2), "robot")
    turned = author_splats(stage, "/Lab/env_0/Turned", cloud(300, 1, seed=5)).GetPrim()
    matrix = np.eye(4)
    matrix[:3, :3] = geometry.quat_to_matrix(torch.tensor([0.5, -0.3, 0.7, 0.2]).double()).numpy() @ np.diag(
        [1, 2, 0.5]
    )
    matrix[:3, 3] = (0.5, 1.0, 0.2)
    place(usd, turned, matrix)
    turned.CreateAttribute("omni_gen3d:tint", usd.Sdf.ValueTypeNames.Color3f).Set(usd.Gf.Vec3f(1.2, 0.5, 0.9))
    sun = usd.UsdLux.DistantLight.Define(stage, "/Lab/env_1/Sun")
    sun.CreateIntensityAttr(1.0)
    author_box(stage, "/Lab/env_1/Proxy", (-0.8, -0.8, -0.8), (0.8, 0.8, 0.8), label="haze")
    stage.GetPrimAtPath("/Lab/env_1/Proxy").GetAttribute("purpose").Set("guide")
    stage.GetPrimAtPath("/Lab/env_1/Cloud").CreateRelationship("omni_gen3d:collider").SetTargets(["/Lab/env_1/Proxy"])
    return stage


def test_every_picture_agrees_with_the_cpu_backend(usd, lab, on_gpu) -> None:
    """Colour at 45 dB and more, ids and depth but for a pixel in a hundred, over two environments that move."""
    eyes = cameras([[3.5, 0.5, 0.8], [0.3, 3.0, -0.5], [-2.5, -1.0, 1.5], [0.2, 0.3, 0.1]])
    roots = ("/Lab/env_0", "/Lab/env_1", "/Lab/env_0", "/Lab/env_1")
    frames = {}
    for name in ("cpu", "cuda"):
        place(usd, lab.GetPrimAtPath("/Lab/env_0/Box"), np.eye(4))
        with SplatRenderDelegate(lab, "cpu") if name == "cpu" else on_gpu(lab) as delegate:
            assert delegate.backend == name
            first = delegate.render(eyes, aovs=AOVS, environments=roots, background=(0.2, 0.3, 0.4), detail=0)
            assert not first.aovs["motion"].any()
            moved = np.eye(4)
            moved[:3, 3] = (0.05, 0.1, -0.02)
            place(usd, lab.GetPrimAtPath("/Lab/env_0/Box"), moved)
            later = cameras([[3.4, 0.6, 0.8], [0.3, 3.1, -0.5], [-2.5, -1.1, 1.4], [0.2, 0.4, 0.1]])
            frames[name] = delegate.render(
                later, aovs=AOVS, environments=roots, background=(0.2, 0.3, 0.4), detail=0, since=first
            )
    ours, theirs = (
        {k: torch.as_tensor(v).cpu().numpy() for k, v in frames[name].aovs.items()} for name in ("cuda", "cpu")
    )
    assert frames["cuda"].labels == frames["cpu"].labels and "haze" in frames["cpu"].labels
    assert frames["cuda"].prim_paths == frames["cpu"].prim_paths
    assert psnr(ours["color"], theirs["color"]) >= 45 and psnr(ours["alpha"], theirs["alpha"]) >= 45
    for name in ("prim_id", "instance_id", "semantic_id"):
        assert ours[name].dtype == np.int32
        assert (ours[name] == theirs[name]).mean() >= 0.99, name
        assert len(np.unique(theirs[name])) >= 2, name
    assert (theirs["semantic_id"] == frames["cpu"].labels.index("haze")).any()
    same = (ours["prim_id"] == theirs["prim_id"]) & (theirs["prim_id"] >= 0)
    for name, tolerance in (
        ("depth", 1e-3),
        ("distance", 1e-3),
        ("median_depth", 1e-3),
        ("normal", 3e-3),
        ("motion", 0.05),
    ):
        error = np.abs(ours[name] - theirs[name]).reshape(*same.shape, -1).max(-1)[same]
        assert (error <= tolerance).mean() >= 0.98, (name, np.quantile(error, 0.99))
    assert np.abs(theirs["motion"]).max() > 1


def test_crowded_tiles_are_sorted_in_slabs(machine) -> None:
    """Five thousand splats in one tile, half of them at one depth, give what the cpu backend gives."""
    crowd = cloud(5000, 0)
    means = torch.cat([crowd.means[:2500] * torch.tensor([0.02, 0.02, 0.3]), crowd.means[2500:] * 0.02])
    means[2500:, 2] = 0.25
    crowd = replace(crowd, means=means, scales=crowd.scales * 0.1, opacities=0.02 * crowd.opacities + 0.006)
    lens = geometry.intrinsics_from_fov(0.3, 16, 16)[None]
    pose = torch.eye(4)[None].clone()
    pose[:, 2, 3] = 3.0
    views = Cameras(pose, lens, 16, 16)
    expected = render(crowd, views, background=(0.0, 0.0, 0.0))
    found = draw(machine, crowd, views)
    assert psnr(found["color"], expected.color) >= 60
    assert psnr(found["alpha"], expected.alpha) >= 60


def test_the_surface_is_of_the_gaussians_as_given(machine) -> None:
    """Which of the given Gaussians a pixel shows is what the cpu backend says, but for a pixel in a hundred."""
    scene, views = cloud(900, 0), cameras([[3.5, 0.5, 0.8], [0.3, 3.0, -0.5]])
    expected = surface_index(scene, views)
    here, black = scene.to(machine.device), (0.0, 0.0, 0.0)
    seen = draw_gaussians(machine.library, here, views, ("splat_index",), background=black, near=0.05, far=500.0)
    assert expected.dtype == seen["splat_index"].dtype == torch.int64
    assert (seen["splat_index"].cpu() == expected).float().mean() >= 0.99
    assert len(expected.unique()) > 100 and (expected == -1).any()


def test_a_missing_compiler_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without nvcc the cuda backend says what it lacks, and leaves nothing in the cache."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(MissingDependencyError, match=r"finds no nvcc.*CUDA_HOME"):
        build("sm_90")
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert draws_on(torch.device("cpu")) and not draws_on(torch.device("cuda"))
    compiler = tmp_path / "bin" / "nvcc"
    compiler.parent.mkdir()
    compiler.touch(0o755)
    assert draws_on(torch.device("cuda"))


def draw(machine, gaussians: Gaussians, views: Cameras, detail: float = 0.0) -> dict[str, torch.Tensor]:
    names = ("color", "alpha", "median_depth", "expected_depth")
    black, here = (0.0, 0.0, 0.0), gaussians.to(machine.device)
    seen = draw_gaussians(machine.library, here, views, names, background=black, near=0.05, far=500.0, detail=detail)
    return {name: picture.cpu() for name, picture in seen.items()}


def test_large_and_small_rounds_give_the_same_bytes(machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cameras one by one, lists that do not fit, pictures of many tiles: the same pictures."""
    scene = cloud(600, 2)
    views = cameras([[3.0, 0.0, 0.5], [0.0, 3.0, 0.5], [-3.0, 0.2, 0.0]], 70, 50)
    whole = draw(machine, scene, views)
    monkeypatch.setattr(batch, "MAX_KEYS", 3000)
    split = draw(machine, scene, views)
    monkeypatch.setattr(batch, "MAX_PIXELS", 1)
    single = draw(machine, scene, views)
    for name, picture in whole.items():
        assert torch.equal(picture, split[name]) and torch.equal(picture, single[name]), name
    wide = cameras([[3.0, 0.0, 0.5]], 400, 300)
    assert psnr(draw(machine, scene, wide)["color"], render(scene, wide, background=(0.0, 0.0, 0.0)).color) >= 60


def test_merged_detail_is_seen_as_little(machine) -> None:
    """A patterned wall of 10,000 splats at 32x32 pixels, a third of them is drawn, at 35 dB and more."""
    y, z = torch.meshgrid(torch.linspace(-2, 2, 100), torch.linspace(-2, 2, 100), indexing="ij")
    # Of splats at exactly one depth always the same side would be in front.
    x = 3 + 0.003 * torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    means = torch.stack([x, y.flatten(), z.flatten()], 1)
    pattern = ((4 * means[:, 1]).sin(), (3 * means[:, 2]).cos(), means[:, 1] * means[:, 2] / 4)
    colors = 0.5 + 0.3 * torch.stack(pattern, 1)
    wall = Gaussians(
        means,
        torch.tensor([1.0, 0, 0, 0]).repeat(10_000, 1),
        torch.tensor([1e-3, 0.026, 0.026]).repeat(10_000, 1),
        torch.full((10_000,), 0.9),
        geometry.rgb_to_sh_dc(colors)[:, None],
    )
    lens = geometry.intrinsics_from_fov(1.0, 32, 32).repeat(2, 1, 1)
    eyes = torch.tensor([[0.0, 0.0, 0.0], [0.5, 1.0, 0.3]])
    views = Cameras(geometry.look_at(eyes, torch.tensor([[3.0, 0.0, 0.0], [3.0, -0.5, 0.0]])), lens, 32, 32)
    full, merged = (draw(machine, wall, views, detail)["color"] for detail in (0.0, 1.0))
    assert not torch.equal(full, merged)
    assert psnr(full, merged) >= 35
    grouped = group_splats(wall)
    assert grouped.count[:, 1].sum() < 0.4 * len(wall)
    behind = SplatArrays.grouped(grouped)
    seen = [draw_splats([PlacedSplats(behind, np.eye(4))], view, *BLACK, 1.0).color for view in views_of(views)]
    assert psnr(np.stack(seen), merged) >= 60


BLACK = np.zeros((32, 32, 3), np.float32), np.full((32, 32), np.inf, np.float32)


def views_of(views: Cameras) -> list[View]:
    poses, lenses = (tensor.double().numpy() for tensor in (views.world_to_camera, views.intrinsics))
    size = (views.width, views.height)
    return [View(pose, lens, *size, 0.05, 500.0) for pose, lens in zip(poses, lenses, strict=True)]


def test_grouping_keeps_every_splat_and_its_mass() -> None:
    """Sorted into groups nobody is lost; each is within the bounds of its group; merged ones keep mean and colour."""
    scene = cloud(1000, 1)
    grouped = group_splats(scene)
    assert torch.equal(grouped.order.sort().values, torch.arange(1000))
    assert torch.equal(grouped.gaussians.means[:1000], scene.means[grouped.order])
    assert grouped.count[:, 0].sum() == 1000
    for number in range(len(grouped.centres)):
        for level in range(grouped.count.shape[1]):
            first, count = int(grouped.first[number, level]), int(grouped.count[number, level])
            away = (grouped.gaussians.means[first : first + count] - grouped.centres[number]).norm(dim=1)
            assert count > 0 and (away <= grouped.radii[number] * 1.0001 + 1e-6).all()
            widest = grouped.gaussians.scales[first : first + count].max()
            assert 3 * widest <= grouped.reaches[number]
    pair = replace(
        scene[torch.tensor([0, 1])],
        means=torch.tensor([[0.0, 0.0, 0.0], [0.01, 0.0, 0.0]]),
        scales=torch.full((2, 3), 0.05),
        opacities=torch.tensor([0.3, 0.3]),
    )
    both = group_splats(pair)
    assert both.count[0].tolist()[1:] == [1] * (both.count.shape[1] - 1)
    merged = both.gaussians[torch.tensor([2])]
    torch.testing.assert_close(merged.means, torch.tensor([[0.005, 0.0, 0.0]]), atol=1e-6, rtol=0)
    torch.testing.assert_close(merged.sh[0], pair.sh.mean(0), atol=1e-6, rtol=0)
    widths = torch.tensor([0.05, 0.05, (0.05**2 + 0.005**2) ** 0.5])
    torch.testing.assert_close(merged.scales[0].sort().values, widths, atol=1e-5, rtol=0)
    assert 0.5 < float(merged.opacities[0]) < 0.6


def test_what_is_wrong_with_cameras_is_said(stage, on_gpu) -> None:
    """NaN, a lens turned inside out, skew and an environment that is none are refused, the last also after a change."""
    author_splats(stage, "/Lab/env_0", cloud(30, 0))
    eyes = cameras([[3.0, 0.0, 0.5], [0.0, 3.0, 0.5]], 16, 16)
    index = torch.tensor([0, 0])
    with on_gpu(stage) as delegate:
        for entry, value, message in (((0, 2), float("nan"), "NaN"), ((1, 1), -4.0, "focal"), ((0, 1), 0.1, "skew")):
            lens = eyes.intrinsics.clone()
            lens[1, entry[0], entry[1]] = value
            with pytest.raises(InputError, match=message):
                delegate.render(replace(eyes, intrinsics=lens))
        delegate.render(eyes, environments=(["/Lab/env_0"], index))
        index[1] = 3
        with pytest.raises(InputError, match="paths 0 to 3; there are 1"):
            delegate.render(eyes, environments=(["/Lab/env_0"], index))
        with torch.inference_mode():
            picture = delegate.render(eyes, environments=(["/Lab/env_0"], torch.tensor([0, 0]))).aovs["color"]
        assert picture.shape == (2, 16, 16, 3)
