"""The render delegate: pictures a second and their quality, the cost of syncing, memory; and who else draws splats.

Every row draws a stage of copies of one room. A copy is an environment of its own prims that refers to the room's file,
so copies share their arrays. The columns ``dB`` and ``worst dB`` compare with every Gaussian drawn.
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

import torch
from PIL import Image

from omni_gen3d.bench.gsplat_batch import draw_with_gsplat
from omni_gen3d.bench.newton_agreement import beside_newton
from omni_gen3d.bench.newton_camera import NewtonCamera
from omni_gen3d.bench.render_memory import memory_row, sync_row
from omni_gen3d.bench.render_stage import lab, sheet_of
from omni_gen3d.bench.report import Check, Report, Value, cpu_name
from omni_gen3d.bench.rooms import Room, rooms
from omni_gen3d.render.delegate import Backend, Environments, SplatRenderDelegate
from omni_gen3d.types import Cameras
from omni_gen3d.usd.splats import read_splats

OURS, NEWTON, GSPLAT = "omni_gen3d", "Newton SensorCamera", "gsplat"
_REPEATS = 5
# A setup is not repeated any more once its calls have taken so long.
_ENOUGH_MS = 2000
_MANY = 256
# Cameras whose pictures are compared with full detail, and with the other backend.
_COMPARED = 64


@dataclass(frozen=True)
class Setup:
    """One row: so many cameras of one size over so many environments of so many Gaussians."""

    cameras: int
    width: int
    height: int
    environments: int
    gaussians: int


_BATCHES = ((64, 128, 128), (256, 64, 64), (4096, 64, 64))
_CUDA = tuple(
    setup
    for count in (100_000, 500_000, 2_000_000)
    for setup in (
        Setup(1, 640, 480, 1, count),
        *(Setup(*batch, environments, count) for batch in _BATCHES for environments in (1, 16, 256)),
    )
    if setup.environments <= setup.cameras
)
# A processor needs minutes for what is left out.
_CPU = (
    Setup(1, 128, 128, 1, 100_000),
    *(Setup(1, 640, 480, 1, count) for count in (100_000, 500_000, 2_000_000)),
    *(Setup(64, 128, 128, environments, 100_000) for environments in (1, 16)),
    *(Setup(256, 64, 64, environments, 100_000) for environments in (1, 16, 256)),
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

    Milliseconds are the median over different views of one camera, or over calls for many cameras; the first call,
    which compiles, is not counted.

    Args:
        device: ``cpu`` or ``cuda``.
        toy: A hundredth of the Gaussians and few cameras.
        seed: Of the room.
        sheet: Where to write a PNG with one view in every picture that the backend makes; None for no file.
        report: Told what is being done.

    Raises:
        InputError: Newton does not load.
        MissingDependencyError: gsplat is not installed, or nvcc is not.
    """
    room = rooms(seed)[0]
    backend: Backend = "cuda" if device == "cuda" else "cpu"
    share = 0.01 if toy else 1.0
    setups = dict.fromkeys(_shrunk(setup) if toy else setup for setup in (_CUDA if backend == "cuda" else _CPU))
    rival = _shrunk(_RIVAL) if toy else _RIVAL
    rows: list[dict[str, Value]] = []
    with TemporaryDirectory() as folder:
        # First, while nothing else has filled the memory.
        report(f"{4 if toy else _MANY} different environments")
        many = (round(100_000 * share), 4 if toy else _MANY, backend, Path(folder), seed)
        rows += [memory_row(room, *many), sync_row(room, *many)]
        for setup in setups:
            report(f"{OURS}: {setup.cameras} x {setup.width}x{setup.height}, {setup.environments} x {setup.gaussians}")
            rows.append(_row(OURS, setup, _ours(room, setup, backend, Path(folder), seed)))
            if backend == "cuda" and setup.environments == 1:
                rows.append(_row(GSPLAT, setup, _bare(room, setup, Path(folder), seed)))
        if backend == "cpu":
            report(f"{NEWTON}: {rival.width}x{rival.height}")
            rows.append(_row(OURS, rival, _ours(room, rival, backend, Path(folder), seed)))
            rows.append(_row(NEWTON, rival, _newton(room, rival, Path(folder), seed)))
            report("surfaces beside Newton")
            with contextlib.redirect_stdout(sys.stderr):
                rows.append(beside_newton(room, round(100_000 * share), (160, 120), Path(folder), seed=seed))
        else:
            report("beside the cpu backend")
            setup = Setup(_COMPARED, 64, 64, 1, round(100_000 * share))
            rows.append({"method": "cuda beside cpu", **_beside_cpu(room, setup, Path(folder), seed)})
    if sheet is not None:
        Image.fromarray(sheet_of(room, round(200_000 * share), seed, backend)).save(sheet, format="PNG")
    name = cpu_name() if backend == "cpu" else torch.cuda.get_device_name()
    return Report(name, rows, checks_of(rows, backend))


def checks_of(rows: Sequence[dict[str, Value]], device: str) -> list[Check]:
    """The figures that the delegate is held to on a device."""

    def find(method: str, cameras: int, width: int, gaussians: int, column: str) -> float | None:
        wanted = (method, cameras, width, gaussians)
        for row in rows:
            if tuple(row.get(key) for key in ("method", "cameras", "width", "gaussians")) == wanted:
                return float(row[column] or 0.0)
        return None

    def only(column: str) -> float | None:
        return next((float(row[column] or 0.0) for row in rows if column in row), None)

    held = [(1, 128, 100_000), (1, 640, 500_000), (1, 320, 200_000), (256, 64, 100_000), (64, 128, 500_000)]
    found = [find(OURS, *setup, "dB") for setup in held]
    qualities = [quality for quality in found if quality is not None]
    checks = [
        Check("sync after cameras moved, 256 environments [ms]", only("sync_ms"), "<=", 1.0),
        Check("256 different environments, on the host [GB]", only("host GB"), "<=", 2.0),
        Check(
            "least quality beside full detail, where a speed is asked for [dB]",
            min(qualities, default=None),
            ">=",
            35.0,
        ),
    ]
    if device == "cuda":
        singles = [(find(OURS, 1, 640, n, "ms"), find(GSPLAT, 1, 640, n, "ms")) for n in (100_000, 500_000, 2_000_000)]
        ratios = [ours / bare for ours, bare in singles if ours and bare]
        return [
            *checks,
            Check("256 different environments, on the device [GB]", only("device GB"), "<=", 8.0),
            Check("256 x 64x64, 100k [img/s]", find(OURS, 256, 64, 100_000, "img/s"), ">=", 150_000),
            Check("64 x 128x128, 500k [img/s]", find(OURS, 64, 128, 500_000, "img/s"), ">=", 40_000),
            Check("640x480 over bare gsplat", max(ratios, default=None), "<=", 1.05),
            Check("cuda beside cpu, colour [dB]", only("cpu dB"), ">=", 45.0),
        ]
    theirs, ours = (find(method, 1, 320, 200_000, "ms") for method in (NEWTON, OURS))
    return [
        *checks,
        Check("100k at 128x128 [ms]", find(OURS, 1, 128, 100_000, "ms"), "<=", 25.0),
        Check("500k at 640x480 [ms]", find(OURS, 1, 640, 500_000, "ms"), "<=", 200.0),
        Check("times as fast as Newton, 200k at 320x240", theirs / ours if ours and theirs else None, ">=", 5.0),
        Check("median depth beside Newton, worst view [cm]", only("depth cm"), "<=", 2.0),
        Check("same prim as Newton away from edges, worst view [share]", only("same prim"), ">=", 0.98),
    ]


def _shrunk(setup: Setup) -> Setup:
    return Setup(min(setup.cameras, 4), setup.width, setup.height, min(setup.environments, 2), setup.gaussians // 100)


def _row(method: str, setup: Setup, found: dict[str, Value]) -> dict[str, Value]:
    milliseconds = float(found["ms"] or 0.0)
    return {
        "method": method,
        **vars(setup),
        **found,
        "ms": round(milliseconds, 3),
        "img/s": round(1000 * setup.cameras / milliseconds, 1),
    }


def _ours(room: Room, setup: Setup, backend: Backend, folder: Path, seed: int) -> dict[str, Value]:
    stage = lab(room, setup.gaussians, setup.environments, folder, seed)
    with SplatRenderDelegate(stage, backend) as delegate:
        cameras = _cameras(room, setup, backend)
        every = torch.arange(len(cameras), dtype=torch.int32, device=cameras.intrinsics.device) % setup.environments
        roots = [f"/Lab/env_{i}" for i in range(setup.environments)]

        def draw(eyes: Cameras, looks: Environments, **arguments: Any) -> torch.Tensor:
            aovs = delegate.render(eyes, aovs=("color", "depth"), environments=looks, **arguments).aovs
            return torch.as_tensor(aovs["color"])

        # As a trainer does it: the same tensors in every step.
        calls = [(cameras[turn], (roots, every[turn])) for turn in (_turn(setup, i) for i in range(_REPEATS + 1))]
        draw(cameras[:1], (roots, every[:1]))
        milliseconds = _timed(lambda i: draw(*calls[i]), setup, backend)
        some = (cameras[:_COMPARED], (roots, every[:_COMPARED]))
        error = (draw(*some) - draw(*some, detail=0.0)).square().flatten(1).mean(1).clamp_min(1e-12)
        quality, worst = (float(-10 * torch.log10(value)) for value in (error.mean(), error.max()))
        megabytes = delegate.shape_bytes() / 1e6
    return {"ms": milliseconds, "MB": round(megabytes, 1), "dB": round(quality, 1), "worst dB": round(worst, 1)}


def _cameras(room: Room, setup: Setup, backend: Backend) -> Cameras:
    cameras = room.cameras(max(setup.cameras, _REPEATS + 1), setup.width, setup.height)
    return cameras.to("cuda") if backend == "cuda" else cameras


def _turn(setup: Setup, number: int) -> slice:
    """The cameras of a timed call: another one each time, or all of the batch."""
    return slice(number, number + 1) if setup.cameras == 1 else slice(0, setup.cameras)


def _bare(room: Room, setup: Setup, folder: Path, seed: int) -> dict[str, Value]:
    stage = lab(room, setup.gaussians, 1, folder, seed)
    gaussians = read_splats(stage.GetPrimAtPath("/Lab/env_0/Splats")).to("cuda")
    cameras = _cameras(room, setup, "cuda")
    return {"ms": _timed(lambda i: draw_with_gsplat(gaussians, cameras[_turn(setup, i)]), setup, "cuda")}


def _timed(draw: Callable[[int], object], setup: Setup, backend: Backend) -> float:
    """Median milliseconds of a call."""
    spent: list[float] = []
    for i in range(_REPEATS + 1 if setup.cameras == 1 or backend == "cuda" else 2):
        if len(spent) > 1 and sum(spent) > _ENOUGH_MS:
            break
        if backend == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        draw(i)
        if backend == "cuda":
            torch.cuda.synchronize()
        spent.append(1000 * (time.perf_counter() - began))
    return statistics.median(spent[1:])


def _newton(room: Room, setup: Setup, folder: Path, seed: int) -> dict[str, Value]:
    """The same stage in Newton, colour and depth along the axis of the same cameras, in its default mode."""
    stage = lab(room, setup.gaussians, 1, folder, seed)
    cameras = room.cameras(_REPEATS + 1, setup.width, setup.height)
    path = folder / "newton.usda"
    stage.Export(str(path))
    # Warp tells on standard output what it compiles, where a program may wait for JSON.
    with contextlib.redirect_stdout(sys.stderr):
        camera = NewtonCamera(path, cameras)
        return {"ms": _timed(camera.draw, setup, "cpu")}


def _beside_cpu(room: Room, setup: Setup, folder: Path, seed: int) -> dict[str, Value]:
    """How the pictures of the two backends differ, every Gaussian drawn."""
    stage = lab(room, setup.gaussians, 1, folder, seed)
    cameras = room.cameras(setup.cameras, setup.width, setup.height)
    found = {}
    for backend in ("cpu", "cuda"):
        with SplatRenderDelegate(stage, backend) as delegate:
            aovs = delegate.render(cameras, aovs=("color", "depth", "prim_id"), detail=0.0).aovs
            found[backend] = {name: torch.as_tensor(picture).cpu() for name, picture in aovs.items()}
    ours, theirs = found["cuda"], found["cpu"]
    error = (ours["color"] - theirs["color"]).square().mean().clamp_min(1e-12)
    return {
        **vars(setup),
        "cpu dB": round(float(-10 * torch.log10(error)), 1),
        "same prim": round(float((ours["prim_id"] == theirs["prim_id"]).float().mean()), 4),
        "depth within 1 mm": round(float(((ours["depth"] - theirs["depth"]).abs() <= 1e-3).float().mean()), 4),
    }
