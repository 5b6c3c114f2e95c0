"""Throughput of ``Gen3DNavEnv``: physics, vision, world swaps and memory, over so many robots and distinct worlds.

The worlds are those of ``bench train``. Where more distinct ones are wanted than there are, copies of them in folders
of their own are opened, so that nothing is shared between two of them.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from omni_gen3d.bench.nav_worlds import nav_worlds
from omni_gen3d.bench.newton_camera import NewtonCamera
from omni_gen3d.bench.report import Check, Report, Value, cpu_name
from omni_gen3d.envs.entry import Entry
from omni_gen3d.envs.nav import Gen3DNavEnv
from omni_gen3d.envs.registry import Registry

OURS, NEWTON = "Gen3DNavEnv", "Newton SensorCamera"
_SOURCES = 16


@dataclass(frozen=True)
class Setup:
    """One row: so many robots over so many distinct worlds."""

    envs: int
    worlds: int


# What is held to a figure comes first: a run may end before the others.
_CUDA = (
    Setup(1024, 16),
    Setup(1024, 256),
    *(Setup(envs, worlds) for worlds in (1, 16) for envs in (1024, 256, 16, 1) if (envs, worlds) != (1024, 16)),
    *(Setup(envs, 256) for envs in (256, 16, 1)),
)
_CPU = (Setup(1, 1), Setup(256, 256), Setup(256, 16), Setup(16, 16), Setup(16, 1))
_TOY = (Setup(2, 1), Setup(2, 2))


def bench_envs(
    registry: Registry,
    *,
    device: str,
    toy: bool = False,
    seconds: float = 2.0,
    minutes: float = 15.0,
    report: Callable[[str], None],
) -> Report:
    """Step, look, reset, and say what it took.

    Args:
        registry: Library that holds the worlds, or receives them.
        device: ``cpu`` or ``cuda``.
        toy: Two worlds and two robots.
        seconds: Of each measurement, after the first steps, which compile.
        minutes: After these no further row is begun.
        report: Told what is being done, and each row when it is there.

    Raises:
        InputError: Newton or Gymnasium is not installed, or there are too few worlds.
    """
    sources = nav_worlds(registry, 2 if toy else _SOURCES, extent="view", device=device, report=report)
    rows: list[dict[str, Value]] = []
    ends = time.monotonic() + 60 * minutes
    with TemporaryDirectory() as folder:
        report("kernels")
        _measure(sources[:1], Setup(2, 1), device, 0.1)
        _let_go(device)
        if device == "cpu":
            rows.append(_newton(sources[0], seconds))
            report(str(rows[-1]))
        for setup in _TOY if toy else _CUDA if device == "cuda" else _CPU:
            if time.monotonic() > ends:
                report(f"{minutes:g} minutes are over; {setup} and what follows is left out")
                break
            rows.append(_measure(distinct(sources, setup.worlds, Path(folder)), setup, device, seconds))
            _let_go(device)
            report(str(rows[-1]))
    name = cpu_name() if device == "cpu" else torch.cuda.get_device_name()
    return Report(name, rows, checks_of(rows, device))


def checks_of(rows: Sequence[dict[str, Value]], device: str) -> list[Check]:
    """The figures that the environment is held to on a device."""

    def find(envs: int, worlds: int, column: str, method: str = OURS) -> float | None:
        for row in rows:
            if (row["method"], row.get("envs"), row.get("worlds")) == (method, envs, worlds) and row.get(
                column
            ) is not None:
                return float(row[column] or 0.0)
        return None

    most = 1024 if device == "cuda" else 256
    checks = [Check("host memory with 256 distinct worlds [GB]", find(most, 256, "process_GB"), "<=", 4.0)]
    if device == "cuda":
        return [
            Check("vision steps a second, 1024 robots, 16 worlds, 64x64", find(1024, 16, "vision/s"), ">=", 60_000),
            *checks,
            Check("GPU memory of 256 distinct worlds [GB]", find(1024, 256, "device_GB"), "<=", 12.0),
        ]
    ours, theirs = find(1, 1, "pictures/s"), find(1, 1, "pictures/s", NEWTON)
    ratio = ours / theirs if ours and theirs else None
    return [*checks, Check("pictures a second over Newton's camera", ratio, ">=", 1.0)]


def distinct(sources: Sequence[Entry], count: int, folder: Path) -> list[Entry]:
    """``count`` entries whose files are their own: the sources first, then copies of them."""
    entries = list(sources[:count])
    for i in range(len(sources), count):
        source = sources[i % len(sources)]
        place = folder / f"copy_{i}"
        if not place.exists():
            shutil.copytree(source.folder, place)
        entries.append(replace(source, id=f"{source.id[:60]}-copy-{i}", folder=place))
    return entries


def _measure(entries: list[Entry], setup: Setup, device: str, seconds: float) -> dict[str, Value]:
    host, gpu = _host_gigabytes(), _gpu_gigabytes(device)
    with contextlib.redirect_stdout(sys.stderr):
        began = time.perf_counter()
        env = Gen3DNavEnv(entries, setup.envs, device=device, tensors=True)
        env.reset(seed=0)
        actions = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (64, setup.envs, 2))).float().to(device)
        for i in range(3):
            env.step(actions[i])
        opened = time.perf_counter() - began
    robots, eyes = env._robots, env._eyes
    assert eyes is not None
    physics = _per_second(lambda i: robots.step(actions[i % 64]), seconds, device)
    vision = _per_second(lambda i: env.step(actions[i % 64]), seconds, device)
    pose = robots.pose.clone()
    pictures = _per_second(lambda i: eyes.look(pose), seconds / 2, device)
    resets = _per_second(lambda i: env.reset(), seconds / 2, device)
    row: dict[str, Value] = {
        "method": OURS,
        "envs": setup.envs,
        "worlds": setup.worlds,
        "open_s": round(opened, 1),
        "physics/s": round(physics * setup.envs * robots.body.substeps),
        "vision/s": round(vision * setup.envs),
        "pictures/s": round(pictures * setup.envs),
        "resets/s": round(resets * setup.envs),
        "host_GB": round(_host_gigabytes() - host, 3),
        "process_GB": round(_host_gigabytes(), 3),
        "splats_MB": round(env.splat_bytes() / 1e6, 1),
    }
    if device == "cuda":
        used = _gpu_gigabytes(device) - gpu
        row |= {"gpu_GB": round(used, 3), "gpu_MB/env": round(1000 * used / setup.envs, 2)}
        row["device_GB"] = round(_gpu_gigabytes(device), 3)
    env.close()
    return row


def _let_go(device: str) -> None:
    """Give back the memory of what was measured."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def _per_second(call: Callable[[int], object], seconds: float, device: str) -> float:
    """How often a call is done in a second."""
    for i in range(2):
        call(i)
    _wait(device)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        call(count)
        count += 1
        # The queue of a GPU would hold seconds of work otherwise.
        if count % 8 == 0:
            _wait(device)
    _wait(device)
    return count / (time.perf_counter() - began)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _newton(entry: Entry, seconds: float) -> dict[str, Value]:
    """Newton's own camera at the same size, one robot's view of the same world."""
    from omni_gen3d.envs.eyes import RobotCamera

    camera = RobotCamera().on_robot()
    with contextlib.redirect_stdout(sys.stderr):
        rival = NewtonCamera(entry.usd, camera)
        pictures = _per_second(lambda i: rival.draw(0), seconds, "cpu")
    return {"method": NEWTON, "envs": 1, "worlds": 1, "pictures/s": round(pictures, 1)}


def _host_gigabytes() -> float:
    """Resident memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e9


def _gpu_gigabytes(device: str) -> float:
    """Memory in use on the device, by whatever allocator."""
    if device != "cuda":
        return 0.0
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 1e9
