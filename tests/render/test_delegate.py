"""The delegate against a slow renderer and against what is known of the scene; and that it reads only what changed."""

from __future__ import annotations

import math
from dataclasses import astuple, replace
from typing import Any

import numpy as np
import pytest
import torch

from omni_gen3d import geometry
from omni_gen3d.errors import InputError
from omni_gen3d.render.delegate import SplatRenderDelegate
from omni_gen3d.types import Cameras, Gaussians, GeneratedScene
from omni_gen3d.usd import write_environment
from omni_gen3d.usd.root_layer import select_variants
from omni_gen3d.usd.splats import author_splats
from omni_gen3d.usd.stage import open_stage

WIDTH, HEIGHT = 48, 32


def cloud(count: int, degree: int = 3, seed: int = 0, spread: float = 1.0) -> Gaussians:
    """Gaussians around the origin, flat and round, faint and opaque."""
    draw = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=spread * torch.randn(count, 3, generator=draw),
        quats=torch.nn.functional.normalize(torch.randn(count, 4, generator=draw), dim=1),
        scales=torch.exp(0.6 * torch.randn(count, 3, generator=draw) - 2),
        opacities=torch.sigmoid(2 * torch.randn(count, generator=draw)),
        sh=0.4 * torch.randn(count, (degree + 1) ** 2, 3, generator=draw),
    )


def wall(x: float, opacity: float = 0.98) -> Gaussians:
    """Grey flat Gaussians over -3 <= y, z <= 3 at one x."""
    side = torch.linspace(-3, 3, 41)
    y, z = torch.meshgrid(side, side, indexing="ij")
    means = torch.stack([torch.full_like(y, x), y, z], -1).reshape(-1, 3)
    count = len(means)
    return Gaussians(
        means,
        torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        torch.tensor([1e-3, 0.15, 0.15]).repeat(count, 1),
        torch.full((count,), opacity),
        torch.zeros(count, 1, 3),
    )


def camera(eye: tuple[float, ...] = (0.0, 0.0, 0.0), target: tuple[float, ...] = (1.0, 0.0, 0.0)) -> Cameras:
    pose = geometry.look_at(torch.tensor([eye]).double(), torch.tensor([target]).double())
    return Cameras(pose, geometry.intrinsics_from_fov(math.pi / 2, WIDTH, HEIGHT).double()[None], WIDTH, HEIGHT)


def peak_depth(gaussians: Gaussians, view: Cameras, centre_depth: np.ndarray) -> np.ndarray:
    """Depth of the peak along each pixel's ray of the Gaussian whose centre has a depth, in the camera's frame."""
    rotation, shift = view.world_to_camera[0, :3, :3], view.world_to_camera[0, :3, 3]
    centres = gaussians.means.double() @ rotation.T + shift
    axes = rotation @ geometry.quat_to_matrix(gaussians.quats.double())
    precisions = axes @ torch.diag_embed(gaussians.scales.double() ** -2) @ axes.mT
    which = (torch.from_numpy(centre_depth)[..., None] - centres[:, 2]).abs().argmin(-1)
    rays = geometry.pixel_rays(view.intrinsics[0], HEIGHT, WIDTH)
    weighted = (precisions[which] @ rays[..., None])[..., 0]
    return ((weighted * centres[which]).sum(-1) / (weighted * rays).sum(-1)).numpy()


def psnr(a: np.ndarray, b: Any) -> float:
    return -10 * math.log10(float(np.square(a - np.asarray(b, np.float64)).mean()) + 1e-30)


def place(usd: Any, prim: Any, matrix: np.ndarray) -> Any:
    operation = usd.UsdGeom.Xformable(prim).AddTransformOp()
    operation.Set(usd.Gf.Matrix4d(matrix.T.tolist()))
    return operation


def test_splats_before_and_behind_a_mesh_agree_with_the_slow_renderer(stage, author_box, render_slowly) -> None:
    """A box in the middle of a cloud: colour to 60 dB and depth to 1 mm, splats hidden behind and blended before it."""
    gaussians, view = cloud(120), camera((4.0, 1.0, 0.5), (0.0, 0.0, 0.0))
    author_splats(stage, "/Cloud", gaussians)
    author_box(stage, "/Box", (-0.5, -0.6, -0.7), (0.4, 0.6, 0.5), (0.9, 0.1, 0.2))
    with SplatRenderDelegate(stage, "cpu") as delegate:
        frame = delegate.render(view, aovs=("color", "depth", "alpha", "prim_id"), background=(0.2, 0.5, 0.9)).aovs
        stage.GetPrimAtPath("/Cloud").SetActive(False)
        box = delegate.render(view, aovs=("color", "depth"), background=(0.2, 0.5, 0.9)).aovs
    stop = np.where(box["depth"][0] > 0, box["depth"][0], np.inf)
    slow = render_slowly(gaussians, view, torch.from_numpy(box["color"][0]).double(), torch.from_numpy(stop))
    assert psnr(frame["color"], slow.color) >= 60
    median = slow.median_depth[0].numpy()
    expected = np.where(median > 0, peak_depth(gaussians, view, median), np.inf)
    expected = np.minimum(expected, stop)
    expected[np.isinf(expected)] = 0
    on_box = np.isfinite(stop)
    assert (np.abs(frame["depth"][0] - expected) > 1e-3).mean() <= 0.001
    assert ((median > 0) & on_box).sum() > 10 and ((median == 0) & on_box).sum() > 10
    ids = np.where(median > 0, 0, np.where(on_box, 1, -1))
    assert (frame["prim_id"][0] != ids).mean() <= 0.001
    assert (frame["alpha"][0][on_box] == 1).all()


def test_a_mesh_hides_a_wall_and_a_wall_hides_a_mesh(stage, author_box) -> None:
    """Depth, distance, normals and ids of a wall at 2 m with a box before it and another one behind it."""
    author_splats(stage, "/Wall", wall(2.0))
    author_box(stage, "/Near", (1.0, -0.2, -0.2), (1.2, 0.2, 0.2), label="robot")
    author_box(stage, "/Far", (3.0, -0.2, 0.5), (3.2, 0.2, 0.7))
    with SplatRenderDelegate(stage, "cpu") as delegate:
        frame = delegate.render(
            camera(), aovs=("depth", "distance", "normal", "alpha", "prim_id", "instance_id", "semantic_id")
        )
    found = {name: picture[0] for name, picture in frame.aovs.items()}
    middle, corner = (HEIGHT // 2, WIDTH // 2), (2, 3)
    assert set(np.unique(found["prim_id"])) == {frame.prim_paths.index("/Wall"), frame.prim_paths.index("/Near")}
    assert frame.prim_paths[found["prim_id"][middle]] == "/Near" and found["depth"][middle] == pytest.approx(1.0)
    assert frame.prim_paths[found["prim_id"][corner]] == "/Wall"
    assert found["depth"][corner] == pytest.approx(2.0, abs=1e-4)
    ray = geometry.pixel_rays(camera().intrinsics, HEIGHT, WIDTH)[0].norm(dim=-1).numpy()
    np.testing.assert_allclose(found["distance"], found["depth"] * ray, rtol=1e-5)
    np.testing.assert_allclose(found["normal"], np.broadcast_to([-1, 0, 0], found["normal"].shape), atol=1e-5)
    assert frame.labels == ("BACKGROUND", "UNLABELLED", "robot")
    assert found["semantic_id"][middle] == 2 and found["semantic_id"][corner] == 1
    assert (found["instance_id"] == 0).all()


def test_a_veil_before_a_mesh_tints_it(stage, author_box) -> None:
    """Through splats of 30 % coverage the mesh behind shows, and the pixel is still the mesh's."""
    author_splats(stage, "/Veil", wall(1.0, opacity=0.05))
    author_box(stage, "/Box", (2.0, -3, -3), (2.2, 3, 3), (1.0, 0.0, 0.0))
    with SplatRenderDelegate(stage, "cpu") as delegate:
        veiled = delegate.render(camera(), aovs=("color", "depth", "prim_id"))
        stage.GetPrimAtPath("/Veil").GetAttribute("visibility").Set("invisible")
        bare = delegate.render(camera()).aovs["color"]
    share = veiled.aovs["color"][..., 1] / 0.5  # the veil is grey, the box has no green
    assert 0.05 < share.min() and share.max() < 0.5
    np.testing.assert_allclose(veiled.aovs["color"][..., 0], 0.5 * share + bare[..., 0] * (1 - share), atol=1e-5)
    assert (veiled.aovs["prim_id"] == veiled.prim_paths.index("/Box")).all()
    np.testing.assert_allclose(veiled.aovs["depth"], 2.0, atol=1e-5)


def test_moving_scene_and_camera_together_changes_nothing(usd, stage, author_box) -> None:
    """Harmonics of degree 3 turn with their prim: 60 dB after a rotation, a shift and a scale of everything."""
    author_splats(stage, "/World/Cloud", cloud(200))
    author_box(stage, "/World/Box", (-0.5, -0.5, -0.5), (0.5, 0.5, 0.5), (0.2, 0.7, 0.3))
    eye = camera((3.0, 1.0, 0.5), (0.0, 0.0, 0.0))
    rotation = geometry.quat_to_matrix(torch.tensor([0.5, -0.3, 0.7, 0.2]).double())
    shift = torch.tensor([1.0, 2.0, -3.0]).double()
    names = ("color", "depth", "normal", "prim_id")
    with SplatRenderDelegate(stage, "cpu") as delegate:
        before = delegate.render(eye, aovs=names).aovs
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = 1.5 * rotation.numpy(), shift.numpy()
        place(usd, stage.GetPrimAtPath("/World") or stage.DefinePrim("/World"), matrix)
        stage.GetPrimAtPath("/World").SetTypeName("Xform")
        after = delegate.render(geometry.transform_cameras(eye, rotation, shift, 1.5), aovs=names).aovs
    assert psnr(after["color"], before["color"]) >= 60
    seen = before["depth"] > 0
    np.testing.assert_allclose(np.median(after["depth"][seen] / before["depth"][seen]), 1.5, rtol=1e-5)
    turned = before["normal"] @ rotation.numpy().T
    assert (np.abs(after["normal"] - turned).max(-1) > 1e-4).mean() <= 0.005
    assert (after["prim_id"] != before["prim_id"]).mean() <= 0.005


def test_a_sheared_set_is_drawn_as_its_covariance_says(usd, stage, render_slowly) -> None:
    """Below a prim stretched unevenly, round Gaussians are the ellipsoids of the stretch."""
    round_ones = replace(cloud(40, degree=0), scales=torch.full((40, 3), 0.1))
    prim = author_splats(stage, "/Cloud", round_ones).GetPrim()
    place(usd, prim, np.diag([1.0, 2.0, 0.5, 1.0]))
    stretch = torch.tensor([1.0, 2.0, 0.5])
    expected = replace(
        round_ones,
        means=round_ones.means * stretch,
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(40, 1),
        scales=0.1 * stretch.repeat(40, 1),
    )
    view = camera((4.0, 0.0, 0.3), (0.0, 0.0, 0.0))
    with SplatRenderDelegate(stage, "cpu") as delegate:
        color = delegate.render(view).aovs["color"]
    assert psnr(color, render_slowly(expected, view, (0.0, 0.0, 0.0)).color) >= 60


def test_only_what_changed_is_read(usd, stage, author_box) -> None:
    """Moving a camera reads nothing, a robot its transform; a new colour of the splats leaves their arrays alone."""
    splats = author_splats(stage, "/Env/Cloud", cloud(50)).GetPrim()
    robot = author_box(stage, "/Robot/Body", (-0.2, -0.2, -0.2), (0.2, 0.2, 0.2)).GetPrim()
    drive = place(usd, robot, np.eye(4))
    eye = usd.UsdGeom.Camera.Define(stage, "/Camera")
    moved = eye.AddTranslateOp()
    with SplatRenderDelegate(stage, "cpu") as delegate:

        def spent(change) -> tuple[int, ...]:
            before = astuple(delegate.counts)
            change()
            delegate.render("/Camera", size=(16, 16))
            return tuple(now - then for now, then in zip(astuple(delegate.counts), before, strict=True))[1:]

        # walks, transforms, visibilities, splats, meshes
        assert spent(lambda: None) == (0, 2, 2, 1, 1)
        assert spent(lambda: None) == (0, 0, 0, 0, 0)
        assert spent(lambda: moved.Set(usd.Gf.Vec3d(0, 0, 3))) == (0, 0, 0, 0, 0)
        assert spent(lambda: drive.Set(usd.Gf.Matrix4d(2.0))) == (0, 1, 0, 0, 0)
        splats.CreateAttribute("omni_gen3d:exposure", usd.Sdf.ValueTypeNames.Float)
        delegate.render("/Camera", size=(16, 16))
        assert spent(lambda: splats.GetAttribute("omni_gen3d:exposure").Set(-1.0))[3:] == (0, 0)
        assert spent(lambda: usd.UsdGeom.Imageable(robot).MakeInvisible())[3:] == (0, 0)
        assert spent(lambda: splats.GetAttribute("opacities").Set([0.5] * 50)) == (0, 0, 0, 1, 0)
        assert spent(lambda: stage.DefinePrim("/Env/New", "Xform"))[3:] == (0, 0)


def test_edits_show_in_the_picture(usd, stage) -> None:
    """Exposure, new values, another visibility and a removed prim are seen by the next picture."""
    splats = author_splats(stage, "/Wall", wall(2.0)).GetPrim()
    splats.CreateAttribute("omni_gen3d:exposure", usd.Sdf.ValueTypeNames.Float).Set(0.0)
    with SplatRenderDelegate(stage, "cpu") as delegate:

        def middle() -> float:
            return float(delegate.render(camera()).aovs["color"][0, HEIGHT // 2, WIDTH // 2, 0])

        assert middle() == pytest.approx(0.5, abs=0.01)
        splats.GetAttribute("omni_gen3d:exposure").Set(-1.0)
        assert middle() == pytest.approx(0.25, abs=0.01)
        dc = (geometry.rgb_to_sh_dc(torch.ones(len(wall(2.0)), 3))).numpy()
        splats.GetAttribute("radiance:sphericalHarmonicsCoefficients").Set(usd.Vt.Vec3fArray.FromNumpy(dc))
        assert middle() == pytest.approx(0.5, abs=0.01)
        usd.UsdGeom.Imageable(splats).MakeInvisible()
        assert middle() == 0
        usd.UsdGeom.Imageable(splats).MakeVisible()
        assert middle() > 0
        usd.UsdGeom.Imageable(splats).CreatePurposeAttr("guide")
        assert middle() == 0
        splats.GetAttribute("purpose").Set("render")
        assert middle() > 0
        stage.RemovePrim("/Wall")
        assert middle() == 0


def test_switching_a_variant_reloads_only_its_payload(toy_scene: GeneratedScene, tmp_path) -> None:
    """Another collider leaves the splats of a written environment alone; labels come from the collider."""
    floor = wall(0.0)
    floor = replace(floor, means=floor.means[:, [1, 2, 0]] * 0.6, scales=floor.scales[:, [1, 2, 0]])
    stage = open_stage(write_environment(replace(toy_scene, gaussians=floor), tmp_path / "toy"))
    names = ("semantic_id", "prim_id", "depth")
    view = camera((-1.5, -1.5, 1.2), (1.0, 1.0, 0.2))
    with SplatRenderDelegate(stage, "cpu") as delegate:
        with_mesh = delegate.render(view, aovs=names, environments="/World/Environment")
        assert delegate.counts.splats_loaded == 1 and delegate.counts.meshes_loaded > 0
        meshes = delegate.counts.meshes_loaded
        select_variants(stage, collision="none", appearance="dim")
        without = delegate.render(view, aovs=names)
        assert delegate.counts.splats_loaded == 1 and delegate.counts.meshes_loaded == meshes
        select_variants(stage, collision="mesh")
        again = delegate.render(view, aovs=names)
        assert delegate.counts.splats_loaded == 1
    splat = with_mesh.prim_paths.index("/World/Environment/Splats")
    assert set(np.unique(with_mesh.aovs["prim_id"])) <= {-1, splat}
    seen = {with_mesh.labels[i] for i in np.unique(with_mesh.aovs["semantic_id"])}
    assert "floor" in seen
    assert {without.labels[i] for i in np.unique(without.aovs["semantic_id"])} <= {"BACKGROUND", "UNLABELLED"}
    assert [again.labels[i] for i in again.aovs["semantic_id"].flat] == [
        with_mesh.labels[i] for i in with_mesh.aovs["semantic_id"].flat
    ]


def test_instances_share_their_shape_and_keep_their_numbers(usd, stage, author_box) -> None:
    """A PointInstancer's and an instanceable prim's copies: one load, every copy where it belongs, numbered."""
    instancer = usd.UsdGeom.PointInstancer.Define(stage, "/Crowd")
    author_box(stage, "/Crowd/Prototypes/Box", (-0.2, -0.2, -0.2), (0.2, 0.2, 0.2))
    instancer.CreatePrototypesRel().SetTargets(["/Crowd/Prototypes/Box"])
    instancer.CreateProtoIndicesAttr([0, 0, 0])
    positions = instancer.CreatePositionsAttr([(2, 1, 0), (2, 0, 0), (2, -1, 0)])
    asset = usd.Usd.Stage.CreateInMemory()
    author_splats(
        asset, "/Asset/Splats", replace(wall(0.0), means=0.05 * wall(0.0).means, scales=wall(0.0).scales / 20)
    )
    for i in range(2):
        prim = usd.UsdGeom.Xform.Define(stage, f"/Copy_{i}")
        prim.AddTranslateOp().Set((2, 1 - 2 * i, 1))
        prim.GetPrim().GetReferences().AddReference(asset.GetRootLayer().identifier, "/Asset")
        prim.GetPrim().SetInstanceable(True)
    with SplatRenderDelegate(stage, "cpu") as delegate:
        frame = delegate.render(camera(), aovs=("prim_id", "instance_id"))
        loads = delegate.counts.splats_loaded, delegate.counts.meshes_loaded
        positions.Set([(2, 1, 0), (2, 0, 0), (2, 0, -1)])
        moved = delegate.render(camera(), aovs=("prim_id", "instance_id"))
        assert (delegate.counts.splats_loaded, delegate.counts.meshes_loaded) == loads == (1, 1)

    def found(frame, y: float, z: float) -> tuple[str, int]:
        column, row = int(WIDTH / 2 - y / 2 * WIDTH / 2), int(HEIGHT / 2 - z / 2 * WIDTH / 2)
        ids = frame.aovs["prim_id"][0, row, column], frame.aovs["instance_id"][0, row, column]
        return ("" if ids[0] < 0 else frame.prim_paths[ids[0]]), int(ids[1])

    box = "/Crowd/Prototypes/Box"
    assert [found(frame, y, 0) for y in (1, 0, -1)] == [(box, 0), (box, 1), (box, 2)]
    assert [found(frame, y, 1) for y in (1, -1)] == [("/Copy_0/Splats", 0), ("/Copy_1/Splats", 1)]
    assert found(moved, -1, 0) == ("", -1) and found(moved, 0, -1) == (box, 2)


def test_copies_of_an_instancer_follow_the_time(usd, stage, author_box) -> None:
    """Copies move, come and go between time codes, and nothing is loaded again."""
    instancer = usd.UsdGeom.PointInstancer.Define(stage, "/World/Crowd")
    author_box(stage, "/World/Crowd/Box", (-0.2, -0.2, -0.2), (0.2, 0.2, 0.2))
    instancer.CreatePrototypesRel().SetTargets(["/World/Crowd/Box"])
    for time, places in ((-9, []), (0, [(2, 0, 0)]), (10, [(3, 0, 0)]), (20, [(2, 0, 0), (2, 1, 0)])):
        instancer.CreateProtoIndicesAttr().Set([0] * len(places), time)
        instancer.CreatePositionsAttr().Set(places, time)
    with SplatRenderDelegate(stage, "cpu") as delegate:

        def seen(time: float) -> tuple[float, list[int]]:
            found = delegate.render(camera(), time=time, aovs=("depth", "instance_id")).aovs
            return float(found["depth"][0, 16, 24]), np.unique(found["instance_id"]).tolist()

        assert seen(-9) == (0, [-1])
        moving = [seen(time) for time in (0, 5, 10, 20, 0)]
        assert delegate.counts.meshes_loaded == 1
    np.testing.assert_allclose([depth for depth, _ in moving], [1.8, 2.3, 2.8, 1.8, 1.8], atol=1e-4)
    assert [ids for _, ids in moving] == [[-1, 0], [-1, 0], [-1, 0], [-1, 0, 1], [-1, 0]]


def test_each_camera_sees_its_environment_at_its_time(usd, stage) -> None:
    """Two environments at one place do not see each other; time samples move the splats."""
    for i, x in enumerate((2.0, 3.0)):
        author_splats(stage, f"/Lab/env_{i}/Wall", wall(x))
    move = usd.UsdGeom.Xformable(stage.GetPrimAtPath("/Lab/env_1/Wall")).AddTranslateOp()
    for time, shift in ((0, 0.0), (10, 1.0)):
        move.Set((shift, 0, 0), time)
    both = Cameras(camera().world_to_camera.repeat(2, 1, 1), camera().intrinsics.repeat(2, 1, 1), WIDTH, HEIGHT)
    with SplatRenderDelegate(stage, "cpu") as delegate:
        roots = ("/Lab/env_0", "/Lab/env_1")
        depths = [delegate.render(both, time=t, environments=roots).aovs["depth"][:, 16, 24] for t in (0, 5, 10)]
        assert delegate.counts.splats_loaded == 2
    np.testing.assert_allclose(depths, [[2, 3], [2, 3.5], [2, 4]], atol=1e-4)


def test_lights_and_centimetres(usd, stage, author_box) -> None:
    """A distant light leaves what looks away in the dome's light; in a stage of centimetres depth is in metres."""
    usd.UsdGeom.SetStageMetersPerUnit(stage, 0.01)
    author_box(stage, "/Box", (200, -50, -50), (300, 50, 50), (1.0, 1.0, 1.0))
    author_splats(stage, "/Wall", replace(wall(400.0), scales=wall(4.0).scales * 100, means=wall(4.0).means * 100))
    usd.UsdLux.DomeLight.Define(stage, "/Dome").CreateIntensityAttr(250.0)
    sun = usd.UsdLux.DistantLight.Define(stage, "/Sun")  # shines along -z
    sun.CreateIntensityAttr(750.0)
    aovs = ("color", "depth")
    with SplatRenderDelegate(stage, "cpu") as delegate:
        front = {k: v[0, 16, 24] for k, v in delegate.render(camera(), aovs=aovs).aovs.items()}
        top = delegate.render(camera((2.5, 0.0, 2.0), (2.5, 0.01, 0.0)), aovs=aovs).aovs["color"][0, 16, 24]
        corner = delegate.render(camera(), aovs=aovs).aovs["depth"][0, 16, 10]
    np.testing.assert_allclose(front["color"], 0.25, atol=1e-3)
    np.testing.assert_allclose(top, 1.0, atol=1e-3)
    np.testing.assert_allclose([front["depth"], corner], [2.0, 4.0], atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cameras": "/Nothing", "size": (8, 8)}, "'/Nothing' is no prim"),
        ({"cameras": "/Wall", "size": (8, 8)}, "expected a Camera"),
        ({"cameras": "/Camera"}, "size is missing"),
        ({"cameras": "/Camera", "size": (0, 8)}, "0x8"),
        ({"cameras": "/Camera", "size": (8, 8), "aovs": ("colour",)}, "colour"),
        ({"cameras": "/Camera", "size": (8, 8), "environments": "/Elsewhere"}, "'/Elsewhere' is no prim"),
        ({"cameras": "/Camera", "size": (8, 8), "environments": ("/", "/")}, "2 for 1 cameras"),
        ({"cameras": "/Bent", "size": (8, 8)}, "distortion is not drawn"),
    ],
)
def test_what_cannot_be_drawn_is_named(usd, stage, arguments: dict, message: str) -> None:
    """Every refused argument and camera is named in the error."""
    author_splats(stage, "/Wall", wall(2.0))
    usd.UsdGeom.Camera.Define(stage, "/Camera")
    bent = usd.UsdGeom.Camera.Define(stage, "/Bent").GetPrim()
    bent.CreateAttribute("omni:lensdistortion:model", usd.Sdf.ValueTypeNames.Token).Set("opencvPinhole")
    with SplatRenderDelegate(stage, "cpu") as delegate, pytest.raises(InputError, match=message):
        delegate.render(**arguments)


def test_backends_and_purposes_are_checked(stage) -> None:
    """An unknown backend, cuda without a device and an unknown purpose are refused when the delegate is made."""
    with pytest.raises(InputError, match="'vulkan'"):
        SplatRenderDelegate(stage, "vulkan")  # type: ignore[arg-type]
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA device"):
            SplatRenderDelegate(stage, "cuda")
    with pytest.raises(InputError, match="proxies"):
        SplatRenderDelegate(stage, "cpu", purposes=("proxies",))


def test_halves_samples_and_activity(usd, stage) -> None:
    """Half attributes show what floats show; sampled positions are interpolated; a deactivated prim is gone."""
    author_splats(stage, "/Floats", cloud(60))
    author_splats(stage, "/Halves", cloud(60), half=True)
    near_wall = wall(2.0)
    moving = author_splats(stage, "/Moving", near_wall).GetPrim().GetAttribute("positions")
    for time, x in ((0, 2.0), (10, 3.0)):
        moved = near_wall.means.numpy() + np.array([x - 2.0, 0, 0], np.float32)
        moving.Set(usd.Vt.Vec3fArray.FromNumpy(moved), time)
    outside = camera((3.5, 0.4, 0.2), (0.0, 0.0, 0.0))
    with SplatRenderDelegate(stage, "cpu") as delegate:
        floats, halves = (delegate.render(outside, environments=path).aovs["color"] for path in ("/Floats", "/Halves"))
        assert psnr(halves, floats) >= 50
        middle = [
            delegate.render(camera(), time=time, aovs=("depth",), environments="/Moving").aovs["depth"][0, 16, 24]
            for time in (0, 5, 10)
        ]
        np.testing.assert_allclose(middle, [2.0, 2.5, 3.0], atol=1e-3)
        stage.GetPrimAtPath("/Moving").SetActive(False)
        names = ("prim_id",)
        seen = delegate.render(camera(), aovs=names)
        assert seen.prim_paths.index("/Moving") not in seen.aovs["prim_id"]
        stage.GetPrimAtPath("/Moving").SetActive(True)
        assert delegate.render(camera(), time=0, aovs=names).aovs["prim_id"][0, 16, 24] >= 0
