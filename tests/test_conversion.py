"""Converting: any file of a room becomes the same upright, metric environment, and bad input leaves nothing behind."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from typer.testing import CliRunner

import omni_gen3d
from omni_gen3d.cli import app
from omni_gen3d.conversion import convert
from omni_gen3d.errors import CancelledError, InputError
from omni_gen3d.geometry import intrinsics_from_fov, look_at, quat_to_matrix, transform_cameras, transform_gaussians
from omni_gen3d.render import render
from omni_gen3d.splat_file import read_splat_file
from omni_gen3d.types import Cameras, Gaussians
from omni_gen3d.usd import Manifest, read_environment, validate

Z_UP = torch.eye(3)
Y_DOWN = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # from Z-up: x, -z, y
Y_UP = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
WRITE_AS_IS = {"up_axis": "z", "level": False, "scale": 1.0, "floor_at_zero": False}


def box_of_discs(low: tuple[float, ...], high: tuple[float, ...], sides: str, spacing: float) -> tuple:
    """Centres and sizes of flat Gaussians on some sides of a box: x and X are the low and the high side of x."""
    rng = np.random.default_rng(0)
    means, scales = [], []
    for side in sides:
        axis = "xyz".index(side.lower())
        extent = np.subtract(high, low)
        count = int(np.prod(np.delete(extent, axis)) / spacing**2)
        points = rng.uniform(low, high, (count, 3))
        points[:, axis] = high[axis] if side.isupper() else low[axis]
        means.append(points)
        scales.append(np.where(np.arange(3) == axis, 0.002, 0.6 * spacing) * np.ones((count, 1)))
    return np.concatenate(means), np.concatenate(scales)


def make_room(spacing: float = 0.06, walls: str = "zZxXyY") -> Gaussians:
    """5 m x 4 m x 2.5 m with a table of 1 m x 0.8 m x 0.7 m, its floor at z = 0 and its middle off the origin."""
    shell = box_of_discs((-2, -1.5, 0), (3, 2.5, 2.5), walls, spacing)
    table = box_of_discs((0.5, 0.5, 0), (1.5, 1.3, 0.7), "xXyYZ", spacing)
    means, scales = (torch.tensor(np.concatenate(pair)).float() for pair in zip(shell, table, strict=True))
    generator = torch.Generator().manual_seed(0)
    return Gaussians(
        means=means,
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(len(means), 1),
        scales=scales,
        opacities=torch.full((len(means),), 0.95),
        sh=torch.randn(len(means), 9, 3, generator=generator) * torch.tensor([0.5] + [0.15] * 8)[:, None],
    )


def turn(axis: tuple[float, float, float], degrees: float) -> torch.Tensor:
    half = math.radians(degrees) / 2
    direction = torch.nn.functional.normalize(torch.tensor(axis).float(), dim=0) * math.sin(half)
    return quat_to_matrix(torch.cat([torch.tensor([math.cos(half)]), direction]))


@pytest.fixture(scope="module")
def room() -> Gaussians:
    return make_room()


@pytest.fixture(scope="module")
def room_file(room: Gaussians, tmp_path_factory: pytest.TempPathFactory, write_ply: Callable[..., Path]) -> Path:
    """The room as it is, Z-up in metres."""
    return write_ply(room, tmp_path_factory.mktemp("splats") / "room.ply")


def motion_between(before: torch.Tensor, after: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Rotation, translation and scale of the similarity from one set of points to another (Umeyama 1991)."""
    a, b = before.double() - before.double().mean(0), after.double() - after.double().mean(0)
    scale = float(b.norm() / a.norm())
    u, _, v = torch.linalg.svd(b.T @ a)
    rotation = u @ torch.diag(torch.tensor([1.0, 1.0, float(torch.linalg.det(u @ v))]).double()) @ v
    return rotation, after.double().mean(0) - scale * rotation @ before.double().mean(0), scale


# ------------------------------------------------------------------------------------------ the whole conversion


@pytest.fixture(scope="module")
def converted(room: Gaussians, tmp_path_factory: pytest.TempPathFactory, write_ply: Callable[..., Path]):
    """A tilted, shrunk, y-down file of the room, with the collider."""
    folder = tmp_path_factory.mktemp("converted")
    moved = transform_gaussians(room, Y_DOWN @ turn((1, 0.4, 0), 9), torch.tensor([1.0, 0.5, -2.0]), 0.4)
    file = write_ply(moved, folder / "my room.ply")
    return convert(file, folder / "out", scale=2.5, usdz=True, seed=3)


def test_environment_is_valid_and_says_where_it_came_from(converted) -> None:
    """The validator finds no error; the manifest names file, digest and seed; the package lies beside the layers."""
    assert [f for f in validate(converted.environment) if f.severity == "error"] == []
    manifest = Manifest.read(converted.environment / "environment.yaml")
    assert (manifest.model, manifest.title, manifest.seed, manifest.prompt) == ("file", "my room.ply", 3, None)
    assert manifest.input_sha256 is not None and manifest.model_sha256 is None
    assert set(manifest.timings_s) >= {"read", "placing", "cameras", "collision proxy", "preview"}
    assert converted.usdz is not None and converted.usdz.is_file()
    assert converted.usd.is_file() and converted.warnings == ()


def test_room_comes_out_upright_metric_and_standable(converted, room: Gaussians) -> None:
    """Floor level within 5 mm of z = 0, walls square, 2.5 m high; the collider has a floor and spawn poses on it."""
    environment = read_environment(converted.environment)
    rotation, translation, scale = motion_between(room.means, environment.gaussians.means)
    assert abs(scale - 1) < 1e-3
    assert float(rotation[2, 2]) > math.cos(math.radians(0.1))
    assert abs(float((rotation[:2, :2].abs().amax(1) - 1).abs().max())) < 1e-4  # a multiple of 90 degrees
    assert abs(float(translation[2])) < 0.005
    assert environment.manifest.floor_height_m == 0
    poses = np.array([pose.position for pose in environment.manifest.spawn_poses])
    assert len(poses) == 32
    inside = (torch.tensor(poses).double() - translation) @ rotation
    assert ((inside > torch.tensor([-2, -1.5, -0.01])) & (inside < torch.tensor([3, 2.5, 0.01]))).all()
    on_table = ((inside > torch.tensor([0.5, 0.5, -1])) & (inside < torch.tensor([1.5, 1.3, 1]))).all(1)
    assert not on_table.any()


def test_view_dependent_colours_turn_along(converted, room: Gaussians) -> None:
    """A camera that moves with the scene sees the same picture; without turning the harmonics it would not."""
    after = read_environment(converted.environment).gaussians
    rotation, translation, scale = motion_between(room.means, after.means)
    eyes = torch.tensor([[-1.0, 0.0, 1.5], [2.0, 2.0, 1.0]])
    views = Cameras(
        look_at(eyes, torch.tensor([[1.0, 1, 0.7]] * 2)), intrinsics_from_fov(1.3, 96, 64).repeat(2, 1, 1), 96, 64
    )
    moved = transform_cameras(views, rotation, translation, scale)
    before, seen = render(room, views).color, render(after, moved).color
    unturned = read_splat_file(converted.environment.parent / "my room.ply").sh
    forgotten = Gaussians(after.means, after.quats, after.scales, after.opacities, unturned)
    assert float((before - seen).square().mean()) < 1e-5
    assert float((before - render(forgotten, moved).color).square().mean()) > 1e-3


@pytest.mark.parametrize(
    ("frame", "tilt", "axis"),
    [(Y_DOWN, ((1, 0, 0), 0), "auto"), (Y_UP, ((1, 0.5, 0), 12), "auto"), (Z_UP, ((0.3, 1, 0), -20), "auto"),
     (Y_UP, ((0, 0, 1), 30), "y"), (Y_DOWN, ((0, 1, 0), 25), "-y"), (Z_UP, ((0, 0, 1), 40), "z")],
)  # fmt: skip
def test_copies_converge(
    frame: torch.Tensor, tilt: tuple, axis: str, room: Gaussians, tmp_path: Path, write_ply: Callable[..., Path]
) -> None:
    """However the file is turned, shifted and scaled, the floor ends at z = 0 and the walls end parallel to X and Y."""
    moved = transform_gaussians(room, frame @ turn(*tilt), torch.tensor([-1.0, 2.0, 0.5]), 3.0)
    file = write_ply(moved, tmp_path / "copy.ply")
    ends = [moved.means[i].tolist() for i in (0, 999)]
    metres = float((room.means[0] - room.means[999]).norm())
    reference = (ends[0], ends[1], metres)
    result = convert(file, tmp_path / "out", up_axis=axis, reference_length=reference, collision="none")  # pyright: ignore[reportArgumentType]
    after = read_environment(result.environment).gaussians
    rotation, translation, scale = motion_between(room.means, after.means)
    assert abs(scale - 1) < 1e-4 and float(rotation[2, 2]) > math.cos(math.radians(0.1))
    assert float(rotation[:2, :2].abs().amax(1).min()) > math.cos(math.radians(0.3))
    assert abs(float(translation[2])) < 0.005


def test_nothing_is_touched_when_nothing_is_asked(room: Gaussians, room_file: Path, tmp_path: Path) -> None:
    """up_axis z, no level, scale 1, floor left: positions, scales and harmonics are those of the file, bit for bit."""
    result = convert(room_file, tmp_path / "out", collision="none", **WRITE_AS_IS)
    actual, expected = read_environment(result.environment).gaussians, read_splat_file(room_file)
    assert torch.equal(actual.means, room.means)
    for name in ("means", "quats", "scales", "opacities", "sh"):
        assert torch.equal(getattr(actual, name), getattr(expected, name)), name


def test_same_seed_gives_the_same_bytes(room_file: Path, tmp_path: Path) -> None:
    """Two conversions differ in nothing but their timings."""
    for name in ("a", "b"):
        convert(room_file, tmp_path / name, collision="none", max_gaussians=5000)
    for file in (tmp_path / "a").iterdir():
        other = tmp_path / "b" / file.name
        if file.name == "environment.yaml":
            one, two = (Manifest.read(path).to_dict() for path in (file, other))
            assert {**one, "timings_s": 0} == {**two, "timings_s": 0}
        else:
            assert file.read_bytes() == other.read_bytes(), file.name


# --------------------------------------------------------------------------------------------------- the options


def test_camera_height_gives_the_scale(room: Gaussians, tmp_path: Path, write_ply: Callable[..., Path]) -> None:
    """The file's origin lay 1.5 m above the floor: told so, the room is 2.5 m high again."""
    moved = transform_gaussians(room, Y_DOWN, Y_DOWN @ torch.tensor([0.0, 0.0, -1.5]) / 7, 1 / 7)
    file = write_ply(moved, tmp_path / "a.ply")
    result = convert(file, tmp_path / "out", camera_height=1.5, collision="none")
    height = read_environment(result.environment).gaussians.means[:, 2]
    assert abs(float(height.max()) - 2.5) < 0.01 and abs(float(height.min())) < 0.01
    with pytest.raises(InputError, match="origin above the floor"):
        up = write_ply(transform_gaussians(room, Z_UP, torch.tensor([0.0, 0.0, 0.5])), tmp_path / "b.ply")
        convert(up, tmp_path / "no", camera_height=1.5, collision="none")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ply", "b.ply", "out"]


def test_gaussians_are_left_out(room: Gaussians, room_file: Path, tmp_path: Path) -> None:
    """The crop keeps a box of the final frame, the budget the largest, the degree the first coefficients; in order."""
    box = (0.0, 0.0, 0.1, 2.0, 2.0, 1.0)
    options = {"crop": box, "max_gaussians": 100, "sh_degree": 1}
    result = convert(room_file, tmp_path / "out", collision="none", **options, **WRITE_AS_IS)
    actual = read_environment(result.environment).gaussians
    low, high = torch.tensor(box[:3]), torch.tensor(box[3:])
    inside = torch.nonzero(((room.means >= low) & (room.means <= high)).all(1))[:, 0]
    assert result.num_gaussians == len(actual) == 100 < len(inside)
    kept = torch.cdist(actual.means, room.means[inside]).argmin(1)
    assert (kept.diff() > 0).all()
    assert torch.equal(actual.sh, room.sh[inside][kept][:, :4])


def test_half_precision_halves_the_file(room_file: Path, tmp_path: Path) -> None:
    """--half reaches the writer."""
    sizes = [
        (convert(room_file, tmp_path / str(half), collision="none", half=half).environment / "splats.usdc")
        .stat()
        .st_size
        for half in (False, True)
    ]
    assert sizes[1] < 0.6 * sizes[0]


def test_a_wall_alone_is_an_environment_without_a_floor(tmp_path: Path, write_ply: Callable[..., Path]) -> None:
    """No visible floor: a collider, warnings that say so, and no spawn poses."""
    wall = make_room(spacing=0.1, walls="X")
    wall = wall[wall.means[:, 0] > 2.9]
    result = convert(write_ply(wall, tmp_path / "wall.ply"), tmp_path / "out", up_axis="z")
    manifest = Manifest.read(result.environment / "environment.yaml")
    assert manifest.spawn_poses == () and manifest.floor_height_m is None
    assert any("No floor was found" in warning for warning in result.warnings)
    assert any("from around" in warning for warning in result.warnings)
    assert manifest.warnings == result.warnings
    assert [f for f in validate(result.environment) if f.severity == "error"] == []


def test_ground_truth_is_scored(room_file: Path, tmp_path: Path) -> None:
    """Against the boxes that the room was made of, the manifest says how far the collider is; the table is convex."""
    shell = trimesh.creation.box(bounds=[(-2, -1.5, 0), (3, 2.5, 2.5)])
    shell.invert()
    truth = trimesh.util.concatenate([shell, trimesh.creation.box(bounds=[(0.5, 0.5, 0), (1.5, 1.3, 0.7)])])
    truth.export(tmp_path / "truth.ply")
    truth_file = tmp_path / "truth.ply"
    result = convert(room_file, tmp_path / "out", ground_truth=truth_file, collision="convex", **WRITE_AS_IS)
    assert any(part.label == "object" for part in read_environment(result.environment, collision="convex").parts)
    scores = Manifest.read(result.environment / "environment.yaml").proxy
    accuracy, f_score, completeness = scores["accuracy_mm"], scores["f_5cm"], scores["completeness"]
    assert accuracy is not None and f_score is not None and completeness is not None
    assert accuracy < 20 and f_score > 0.9 and completeness > 0.9
    assert scores["solid_share"] is not None


def test_ambiguous_and_impossible_options_are_refused(room_file: Path, tmp_path: Path) -> None:
    """Each one before anything is read, with the value in the message."""
    nan = math.nan
    for options, words in [
        ({"scale": 2.0, "camera_height": 1.0}, "exclude each other"),
        ({"scale": -1.0}, "scale is -1"),
        ({"scale": nan}, "scale is nan"),
        ({"camera_height": 0.0}, "camera height is 0"),
        ({"reference_length": ((0, 0, 0), (0, 0, 0), 1.0)}, "give two that differ"),
        ({"reference_length": ((0, 0), (0, 0, 1), 1.0)}, "3 finite numbers"),
        ({"crop": (0, 0, 0, 1, 1, 0)}, "must be less"),
        ({"crop": (50.0, 50, 50, 51, 51, 51)}, "no Gaussian lies in the crop"),
        ({"up_axis": "x"}, "up axis is 'x'"),
        ({"collision": "spheres"}, "collision is 'spheres'"),
        ({"sh_degree": 4}, "SH degree is 4"),
        ({"max_gaussians": 0}, "max_gaussians is 0"),
        ({"robot_radius": 0.0}, "robot's radius is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"ground_truth": room_file, "collision": "none"}, "no collider to compare"),
        ({"ground_truth": tmp_path / "absent.obj", "collision": "mesh"}, "absent.obj is no file"),
    ]:
        with pytest.raises(InputError, match=words):
            convert(room_file, tmp_path / "out", **{"collision": "none", **options})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("stop_at", ["read", "placing", "cameras", "collision proxy", "preview"])
def test_stopping_leaves_nothing(stop_at: str, room_file: Path, tmp_path: Path) -> None:
    """Asked to stop once a stage began, the conversion raises before it writes anything."""
    stages: list[str] = []
    with pytest.raises(CancelledError, match="nothing was written"):
        convert(
            room_file,
            tmp_path / "new" / "out",
            max_gaussians=4000,
            collision="mesh" if stop_at == "collision proxy" else "none",
            progress=lambda stage, fraction: stages.append(stage),
            cancelled=lambda: stop_at in stages,
        )
    assert "write" not in stages and not any(tmp_path.iterdir())


# ---------------------------------------------------------------------------------------------- the command line


def invoke(*arguments: str | Path):
    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


def test_the_verb_prints_where_the_environment_is(room_file: Path, tmp_path: Path) -> None:
    """Last line of standard output: environment.usda; every option is understood; --json prints one object."""
    options = [
        "--up-axis",
        "z",
        "--no-level",
        "--no-floor-at-zero",
        "--collision",
        "none",
        "--half",
        "--sh-degree",
        "1",
    ]
    options += ["--crop", "-5,-5,-1,5,5,1.2", "--max-gaussians", "3000", "--title", "A room", "--seed", "4", "--usdz"]
    options += ["--reference-length", "-1,0,0", "1,0,0", "2", "--robot-radius", "0.2", "--robot-height", "1"]
    result = invoke(room_file, "--out", tmp_path / "out", *options)
    usd = tmp_path / "out" / "environment.usda"
    assert (result.exit_code, result.stdout) == (0, f"{usd}\n"), result.stderr
    manifest = Manifest.read(tmp_path / "out" / "environment.yaml")
    assert (manifest.title, manifest.seed, manifest.num_gaussians) == ("A room", 4, 3000)
    result = invoke(room_file, "--out", tmp_path / "out", *options, "--json")
    values = json.loads(result.stdout)
    assert values["usd"] == str(usd) and values["usdz"] == str(usd.with_name("environment.usdz"))


@pytest.mark.parametrize(
    "kind", ["truncated", "nan", "none", "50 million", "unknown", "bomb", "below a file", "points"]
)
def test_bad_input_is_one_error(kind: str, tmp_path: Path, write_ply: Callable[..., Path]) -> None:
    """Exit code 2, one line that begins with error, nothing on standard output, nothing left behind."""
    gaussians = make_room(spacing=0.5)
    file, out, options = tmp_path / "bad.ply", tmp_path / "out", []
    whole = write_ply(gaussians, file).read_bytes()
    if kind == "truncated":
        file.write_bytes(whole[: len(whole) // 2])
    elif kind == "nan":
        file.write_bytes(whole[:-400] + np.float32(np.nan).tobytes() + whole[-396:])
    elif kind in ("none", "50 million"):
        count = b"0" if kind == "none" else b"50000000"
        file.write_bytes(whole.replace(f"vertex {len(gaussians)}".encode(), b"vertex " + count)[:1024])
    elif kind == "unknown":
        file = file.rename(tmp_path / "bad.splat")
    elif kind == "bomb":
        import gzip
        import struct

        file.unlink()
        file = tmp_path / "bad.spz"
        file.write_bytes(gzip.compress(struct.pack("<IIIBBBB", 0x5053474E, 2, 1, 0, 12, 0, 0) + bytes(8 << 20)))
    elif kind == "below a file":
        out = file / "out"
    else:
        options = ["--reference-length", "0,0", "1,0,0", "1"]
    before = sorted(tmp_path.iterdir())
    result = invoke(file, "--out", out, *options)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    lines = result.stderr.splitlines()
    assert [line.startswith("error: ") for line in lines].count(True) == 1 and lines[-1].startswith("error: ")
    assert sorted(tmp_path.iterdir()) == before


def test_converting_loads_no_networks() -> None:
    """Neither diffusers nor transformers nor a library that only others need."""
    code = (
        "import sys, omni_gen3d.conversion; print({'diffusers', 'transformers', 'gsply', 'trimesh'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert omni_gen3d.convert is convert
