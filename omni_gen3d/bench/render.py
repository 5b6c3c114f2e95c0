"""The render delegate: pictures a second, the cost of syncing, memory; beside Newton's camera on a CPU, gsplat on CUDA.

Every row draws a stage of copies of one room. A copy is an environment of its own prims that refers to the room's file,
so copies share their arrays; the column ``MB`` is what the arrays of all environments weigh.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from omni_gen3d.bench.gsplat_batch import draw_with_gsplat
from omni_gen3d.bench.newton_camera import NewtonCamera
from omni_gen3d.bench.report import Check, Report, Value, cpu_name
from omni_gen3d.bench.rooms import Room, rooms
from omni_gen3d.render.aovs import AOVS
from omni_gen3d.render.delegate import SplatRenderDelegate
from omni_gen3d.render.picture import alpha_to_image, color_to_image, depth_to_image, ids_to_image, normal_to_image
from omni_gen3d.types import ProxyPart, TriMesh
from omni_gen3d.usd.cameras import author_cameras
from omni_gen3d.usd.collision import author_collision
from omni_gen3d.usd.splats import author_splats
from omni_gen3d.usd.stage import new_stage, open_stage, save_stage

OURS, NEWTON, GSPLAT = "omni_gen3d", "Newton SensorCamera", "gsplat"
_REPEATS = 5
_MANY = 256


@dataclass(frozen=True)
class Setup:
    """One row: so many cameras of one size over so many environments of so many Gaussians."""

    cameras: int
    width: int
    height: int
    environments: int
    gaussians: int


_CPU = (
    Setup(1, 128, 128, 1, 100_000),
    Setup(1, 640, 480, 1, 500_000),
    Setup(64, 128, 128, 1, 100_000),
    Setup(64, 128, 128, 16, 100_000),
    Setup(256, 64, 64, 1, 100_000),
    Setup(256, 64, 64, 256, 100_000),
)
_CUDA = (
    Setup(1, 640, 480, 1, 500_000),
    Setup(64, 128, 128, 1, 500_000),
    Setup(256, 64, 64, 1, 100_000),
    Setup(4096, 64, 64, 16, 100_000),
)
_RIVAL = Setup(1, 320, 240, 1, 200_000)


def bench_render(
    device: str,
    *,
    toy: bool = False,
    seed: int = 0,
    sheet: Path | None = None,
    report: Callable[[str], None] = print,
) -> Report:
    """Draw, and say what it took.

    Milliseconds are the median over different views of one camera, or one call for many cameras; the first call, which
    compiles, is not counted.

    Args:
        device: ``cpu`` or ``cuda``.
        toy: A hundredth of the Gaussians and few cameras.
        seed: Of the room.
        sheet: Where to write a PNG with one view in every picture that the cpu backend makes; None for no file.
        report: Told what is being done.

    Raises:
        InputError: Newton does not load.
    """
    room = rooms(seed)[0]
    share = 0.01 if toy else 1.0
    setups = [_shrunk(setup) if toy else setup for setup in (_CPU if device == "cpu" else _CUDA)]
    rows: list[dict[str, Value]] = []
    with TemporaryDirectory() as folder:
        for setup in setups:
            report(f"{OURS}: {setup.cameras} x {setup.width}x{setup.height}, {setup.environments} environments")
            rows.append(_row(OURS, setup, *_ours(room, setup, device, Path(folder), seed)))
            if device == "cuda":
                rows.append(_row(GSPLAT, setup, *_bare(room, setup, seed)))
        rival = _shrunk(_RIVAL) if toy else _RIVAL
        if device == "cpu":
            report(f"{NEWTON}: {rival.width}x{rival.height}")
            rows.append(_row(OURS, rival, *_ours(room, rival, device, Path(folder), seed)))
            rows.append(_row(NEWTON, rival, *_newton(room, rival, Path(folder), seed)))
        report(f"sync and memory of {_MANY} environments")
        rows.append(_sync_row(room, round(100_000 * share), 4 if toy else _MANY, device, Path(folder), seed))
    if sheet is not None:
        Image.fromarray(contact_sheet(room, round(200_000 * share), seed)).save(sheet, format="PNG")
    name = cpu_name() if device == "cpu" else torch.cuda.get_device_name()
    return Report(name, rows, checks_of(rows, device))


def contact_sheet(room: Room, count: int, seed: int) -> np.ndarray:
    """One view of a room with a box in it, in colour, depth, normals and ids, uint8 RGB, shape ``(480, 1280, 3)``."""
    stage = new_stage("World")
    author_splats(stage, "/World/Splats", room.gaussians(count, seed))
    middle = np.append(room.outline.mean(0), 0.0)
    low, high = middle + np.array([[-0.3, -0.3, 0.8], [0.3, 0.3, 1.6]])
    corners = np.where(np.indices((2, 2, 2)).reshape(3, 8).T, high, low).astype(np.float32)
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = np.array([face for a, b, c, d in quads for face in ((a, b, c), (a, c, d))], np.int32)
    author_collision(stage, "/World", (ProxyPart("Robot", "object", TriMesh(corners, faces)),))
    with SplatRenderDelegate(stage, "cpu", purposes=("default", "render", "guide")) as delegate:
        aovs = delegate.render(room.cameras(1, 320, 240), aovs=AOVS).aovs
    view = {name: picture[0] for name, picture in aovs.items()}
    depth, distance, alpha, color = (torch.from_numpy(view[name]) for name in ("depth", "distance", "alpha", "color"))
    gray = np.repeat(alpha_to_image(alpha)[..., None], 3, 2)
    top = [color_to_image(color), depth_to_image(depth, alpha), depth_to_image(distance, alpha)]
    bottom = [ids_to_image(view[name]) for name in ("prim_id", "instance_id", "semantic_id")]
    return np.concatenate([np.hstack([*top, normal_to_image(view["normal"])]), np.hstack([*bottom, gray])])


def checks_of(rows: Sequence[dict[str, Value]], device: str) -> list[Check]:
    """The figures that the delegate is held to on a device."""

    def find(method: str, cameras: int, width: int, column: str) -> float | None:
        for row in rows:
            if (row["method"], row.get("cameras"), row.get("width")) == (method, cameras, width):
                return float(row[column] or 0.0)
        return None

    sync = next((float(row["sync_ms"] or 0.0) for row in rows if "sync_ms" in row), None)
    checks = [Check(f"sync after cameras moved, {_MANY} environments [ms]", sync, "<=", 1.0)]
    if device == "cuda":
        bare, ours = find(GSPLAT, 1, 640, "ms"), find(OURS, 1, 640, "ms")
        return [
            *checks,
            Check("256 x 64x64, 100k [img/s]", find(OURS, 256, 64, "img/s"), ">=", 150_000),
            Check("64 x 128x128, 500k [img/s]", find(OURS, 64, 128, "img/s"), ">=", 40_000),
            Check("640x480 over bare gsplat", ours / bare if ours and bare else None, "<=", 1.05),
        ]
    theirs, ours = find(NEWTON, 1, 320, "ms"), find(OURS, 1, 320, "ms")
    return [
        *checks,
        Check("100k at 128x128 [ms]", find(OURS, 1, 128, "ms"), "<=", 25.0),
        Check("500k at 640x480 [ms]", find(OURS, 1, 640, "ms"), "<=", 200.0),
        Check("times as fast as Newton, 200k at 320x240", theirs / ours if ours and theirs else None, ">=", 5.0),
    ]


def _shrunk(setup: Setup) -> Setup:
    return Setup(min(setup.cameras, 4), setup.width, setup.height, min(setup.environments, 2), setup.gaussians // 100)


def _row(method: str, setup: Setup, milliseconds: float, megabytes: float | None) -> dict[str, Value]:
    return {
        "method": method,
        "cameras": setup.cameras,
        "width": setup.width,
        "height": setup.height,
        "environments": setup.environments,
        "gaussians": setup.gaussians,
        "ms": round(milliseconds, 2),
        "img/s": round(1000 * setup.cameras / milliseconds, 1),
        "MB": None if megabytes is None else round(megabytes, 1),
    }


def lab(room: Room, count: int, environments: int, folder: Path, seed: int) -> Any:
    """A stage with ``environments`` rooms, ``/Lab/env_0`` and so on, and as many cameras, ``/Eyes/eye_0/Input``.

    Args:
        room: What the splats stand for.
        count: About how many Gaussians a room has.
        environments: How many rooms; all refer to one file.
        folder: Where that file is written.
        seed: Of the Gaussians.
    """
    layer = folder / f"room_{count}.usdc"
    if not layer.exists():
        asset = new_stage("Room")
        author_splats(asset, "/Room/Splats", room.gaussians(count, seed))
        save_stage(asset, layer)
    stage = new_stage("Lab")
    for i in range(environments):
        prim = stage.DefinePrim(f"/Lab/env_{i}", "Xform")
        prim.GetReferences().AddReference(str(layer))
        author_cameras(stage, f"/Eyes/eye_{i}", room.cameras(1, 64, 64))
    path = folder / f"lab_{count}_{environments}.usda"
    save_stage(stage, path)
    return open_stage(path)


def _ours(room: Room, setup: Setup, device: str, folder: Path, seed: int) -> tuple[float, float]:
    stage = lab(room, setup.gaussians, setup.environments, folder, seed)
    with SplatRenderDelegate(stage, "cuda" if device == "cuda" else "cpu") as delegate:
        roots = [f"/Lab/env_{i % setup.environments}" for i in range(setup.cameras)]
        cameras = room.cameras(max(setup.cameras, _REPEATS + 1), setup.width, setup.height)

        def draw(i: int) -> None:
            chosen = cameras[[i]] if setup.cameras == 1 else cameras[: setup.cameras]
            delegate.render(chosen, aovs=("color", "depth"), environments=roots)

        return _timed(draw, setup, device), delegate.shape_bytes() / 1e6


def _bare(room: Room, setup: Setup, seed: int) -> tuple[float, None]:
    gaussians = room.gaussians(setup.gaussians, seed).to("cuda")
    cameras = room.cameras(max(setup.cameras, _REPEATS + 1), setup.width, setup.height).to("cuda")

    def draw(i: int) -> None:
        draw_with_gsplat(gaussians, cameras[[i]] if setup.cameras == 1 else cameras[: setup.cameras])

    return _timed(draw, setup, "cuda"), None


def _timed(draw: Callable[[int], object], setup: Setup, device: str) -> float:
    """Median milliseconds of a call."""
    spent = []
    for i in range(_REPEATS + 1 if setup.cameras == 1 else 2):
        if device == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        draw(i)
        if device == "cuda":
            torch.cuda.synchronize()
        spent.append(1000 * (time.perf_counter() - began))
    return statistics.median(spent[1:])


def _newton(room: Room, setup: Setup, folder: Path, seed: int) -> tuple[float, None]:
    """The same stage in Newton, colour and depth along the axis of the same cameras, in its default mode."""
    stage = lab(room, setup.gaussians, 1, folder, seed)
    cameras = room.cameras(_REPEATS + 1, setup.width, setup.height)
    path = folder / "newton.usda"
    stage.Export(str(path))
    # Warp tells on standard output what it compiles, where a program may wait for JSON.
    with contextlib.redirect_stdout(sys.stderr):
        camera = NewtonCamera(path, cameras)
        return _timed(camera.draw, setup, "cpu"), None


def _sync_row(room: Room, count: int, environments: int, device: str, folder: Path, seed: int) -> dict[str, Value]:
    """What it takes to notice that every camera moved, and what the arrays of all environments weigh."""
    stage = lab(room, count, environments, folder, seed)
    eyes = [stage.GetPrimAtPath(f"/Eyes/eye_{i}/Input") for i in range(environments)]
    with SplatRenderDelegate(stage, "cuda" if device == "cuda" else "cpu") as delegate:
        began = time.perf_counter()
        delegate.sync()
        first = 1000 * (time.perf_counter() - began)
        spent = []
        for turn in range(_REPEATS + 1):
            for eye in eyes:
                place = eye.GetAttribute("xformOp:transform")
                place.Set(place.Get().SetTranslateOnly((0.0, 0.0, float(turn))))
            began = time.perf_counter()
            delegate.sync()
            spent.append(1000 * (time.perf_counter() - began))
        delegate.render(room.cameras(1, 16, 16), environments="/Lab/env_0")
        megabytes = delegate.shape_bytes() / 1e6
    return {
        "method": OURS,
        "environments": environments,
        "gaussians": count,
        "MB": round(megabytes, 1),
        "first_sync_ms": round(first, 1),
        "sync_ms": round(statistics.median(spent[1:]), 3),
    }
