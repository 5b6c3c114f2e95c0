"""What many environments weigh, on the host and on the device, and what it costs to notice that cameras moved."""

from __future__ import annotations

import gc
import shutil
import statistics
import time
from pathlib import Path

import torch

from omni_gen3d.bench.render_stage import lab, room_file
from omni_gen3d.bench.report import Value
from omni_gen3d.bench.rooms import Room
from omni_gen3d.render.delegate import Backend, SplatRenderDelegate

_REPEATS = 5


def memory_row(
    room: Room, count: int, environments: int, backend: Backend, folder: Path, seed: int
) -> dict[str, Value]:
    """Environments that share nothing, all of them drawn: every one refers to a file of its own.

    The host's memory is what the process holds beyond that before, mapped files aside: the kernel drops those when it
    needs room. The device's is the most that was held.
    """
    first = room_file(room, count, folder, seed)
    layers = [Path(shutil.copyfile(first, folder / f"different_{i}.usdc")) for i in range(environments)]
    if backend == "cuda":
        torch.zeros(1, device="cuda")
        torch.cuda.reset_peak_memory_stats()
    # A first picture compiles, which is not what is measured.
    warm = lab(room, count, 1, folder, seed)
    with SplatRenderDelegate(warm, backend) as delegate:
        delegate.render(room.cameras(1, 64, 64), environments="/Lab/env_0")
    del warm
    gc.collect()
    before = _anonymous_bytes()
    stage = lab(room, count, environments, folder, seed, layers)
    cameras = room.cameras(environments, 64, 64)
    with SplatRenderDelegate(stage, backend) as delegate:
        began = time.perf_counter()
        delegate.render(cameras, environments=tuple(f"/Lab/env_{i}" for i in range(environments)))
        spent = time.perf_counter() - began
        gc.collect()
        after = _anonymous_bytes()
        assert delegate.counts.splats_loaded == environments
        row: dict[str, Value] = {
            "method": "different environments",
            "environments": environments,
            "gaussians": count,
            "MB": round(delegate.shape_bytes() / 1e6, 1),
            "host GB": round((after - before) / 1e9, 3),
            "first_call_s": round(spent, 1),
        }
    if backend == "cuda":
        row["device GB"] = round(torch.cuda.max_memory_allocated() / 1e9, 3)
    for layer in layers:
        layer.unlink()
    return row


def sync_row(room: Room, count: int, environments: int, backend: Backend, folder: Path, seed: int) -> dict[str, Value]:
    """What it takes to notice that every camera moved."""
    stage = lab(room, count, environments, folder, seed)
    eyes = [stage.GetPrimAtPath(f"/Eyes/eye_{i}/Input") for i in range(environments)]
    with SplatRenderDelegate(stage, backend) as delegate:
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
    return {
        "method": "sync",
        "environments": environments,
        "gaussians": count,
        "first_sync_ms": round(first, 1),
        "sync_ms": round(statistics.median(spent[1:]), 3),
    }


def _anonymous_bytes() -> int:
    """Memory of this process that no file backs."""
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("RssAnon"))
