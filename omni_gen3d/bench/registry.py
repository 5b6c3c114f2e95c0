"""The library under fire: processes that register, remove and sample at once, others that are killed, a lost index."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from omni_gen3d.bench.report import Check, Report, Value, cpu_name
from omni_gen3d.envs.entry import Entry
from omni_gen3d.envs.intake import inspect_entry
from omni_gen3d.envs.registry import Registry
from omni_gen3d.errors import InputError
from omni_gen3d.geometry import intrinsics_from_fov
from omni_gen3d.types import Cameras, Gaussians, GeneratedScene, Provenance
from omni_gen3d.usd import write_environment

PROCESSES = 8
SECONDS = (1.0, 3600.0)
_SHARED = 6
_NUM_GAUSSIANS = 500
# A victim lives so long at most [s]: around the time that registering takes.
_LONGEST_LIFE_S = 0.5


def bench_registry(seconds: float = 60.0, seed: int = 0, report: Callable[[str], None] = print) -> Report:
    """Eight processes work on one new library while others are killed in it; then its index is deleted.

    Args:
        seconds: For how long.
        seed: Of what the processes do and of when the others are killed.
        report: Told what happens.

    Raises:
        InputError: ``seconds`` is out of range.
    """
    if not SECONDS[0] <= seconds <= SECONDS[1]:
        raise InputError(f"seconds is {seconds:g}; it must lie between {SECONDS[0]:g} and {SECONDS[1]:g}.")
    with tempfile.TemporaryDirectory(prefix="omni_gen3d-bench-") as directory:
        home, logs = Path(directory, "home"), Path(directory, "logs")
        logs.mkdir()
        report(f"writing {PROCESSES + _SHARED + 1} small environments")
        sources = [_write_toy(Path(directory, f"source{i}"), i) for i in range(PROCESSES + _SHARED + 1)]
        own, shared, victims = sources[:PROCESSES], sources[PROCESSES:-1], sources[-1]
        report(f"{PROCESSES} processes for {seconds:g} s")
        began = time.monotonic()
        end = began + seconds
        # What is forked here runs no tensor operation.
        context = multiprocessing.get_context("fork")
        workers = [
            context.Process(target=_work, args=(home, own[i], shared, (seed, i), end, logs / f"{i}.json"))
            for i in range(PROCESSES)
        ]
        for worker in workers:
            worker.start()
        kills = _kill_writers(home, victims, end, random.Random(seed))
        for worker in workers:
            worker.join()
        took = time.monotonic() - began
        rows = [json.loads(log.read_text()) for log in sorted(logs.iterdir())]
        failed = sum(worker.exitcode != 0 for worker in workers)

        report("repairing, then deleting the index and repairing again")
        registry = Registry(home)
        torn = _torn(registry.entries())
        repaired = registry.repair()
        entries = registry.entries()
        registry.home.index.unlink()
        rebuilt = registry.repair()
        checks = [
            Check("seconds", took, ">=", seconds),
            Check("processes that failed", failed, "<=", 0),
            Check("entries lost", sum(int(row["lost"]) for row in rows), "<=", 0),
            Check("entries torn", sum(int(row["torn"]) for row in rows) + torn, "<=", 0),
            Check("writers killed", kills, ">=", 1),
            Check("entries without a sound folder", len(repaired.dropped), "<=", 0),
            Check("folders broken", len(repaired.broken) + len(rebuilt.broken), "<=", 0),
            Check("leftovers after repair", len(list((home / "staging").iterdir())), "<=", 0),
            Check("entries that differ in the rebuilt index", _differing(entries, registry.entries()), "<=", 0),
        ]
    return Report(cpu_name(), rows, checks)


def _work(home: Path, own: Path, shared: Sequence[Path], seed: tuple[int, int], end: float, log: Path) -> None:
    """One process: it keeps an entry of its own, which must never be lost, and comes and goes with the shared ones."""
    rng, registry = random.Random(str(seed)), Registry(home)
    counts: dict[str, Value] = {"process": seed[1], "rounds": 0, "added": 0, "removed": 0, "lost": 0, "torn": 0}

    def count(name: str, number: int = 1) -> None:
        counts[name] = int(counts[name] or 0) + number

    kept = registry.add(own)
    while time.monotonic() < end:
        registry.add(rng.choice(shared), tags=["shared"])
        count("added")
        entries = registry.entries()
        count("lost", kept not in entries)
        # Nobody removes what has no tag, so that whoever draws it must find it whole.
        drawn = registry.sample(2, np.random.default_rng(rng.getrandbits(32)), replacement=True)
        count("torn", _torn([entry for entry in drawn if not entry.tags]))
        victims = [entry.id for entry in entries if entry.tags]
        if victims and rng.random() < 0.5:
            count("removed", _remove(registry, rng.choice(victims)))
        count("rounds")
    log.write_text(json.dumps(counts))


def _kill_writers(home: Path, source: Path, end: float, rng: random.Random) -> int:
    """Kill processes while they register an environment, again and again; return how many were."""
    kills = 0
    while time.monotonic() < end:
        writer = multiprocessing.get_context("fork").Process(target=_register_and_remove, args=(home, source))
        writer.start()
        writer.join(rng.uniform(0, _LONGEST_LIFE_S))
        if writer.is_alive() and writer.pid is not None:
            os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        kills += writer.exitcode == -signal.SIGKILL
    return kills


def _register_and_remove(home: Path, source: Path) -> None:
    registry = Registry(home)
    while True:
        _remove(registry, registry.add(source, tags=["victim"]).id)


def _remove(registry: Registry, id_: str) -> bool:
    """Remove an entry; False where another process was faster."""
    try:
        registry.remove(id_)
    except InputError as error:
        if "not in the library" not in str(error):
            raise
        return False
    return True


def _torn(entries: Sequence[Entry]) -> int:
    """How many of these have a folder that is not what the index says."""
    torn = 0
    for entry in entries:
        try:
            torn += inspect_entry(entry.folder).digest != entry.digest
        except InputError:
            torn += 1
    return torn


def _differing(entries: Sequence[Entry], rebuilt: Sequence[Entry]) -> int:
    known = {entry.id: entry for entry in entries}
    return sum(known.pop(entry.id, None) != entry for entry in rebuilt) + len(known)


def _write_toy(folder: Path, seed: int) -> Path:
    """A small cloud of splats without a collider."""
    generator = torch.Generator().manual_seed(seed)
    n = _NUM_GAUSSIANS
    gaussians = Gaussians(
        means=torch.rand(n, 3, generator=generator),
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(n, 1),
        scales=torch.full((n, 3), 0.02),
        opacities=torch.full((n,), 0.5),
        sh=torch.randn(n, 4, 3, generator=generator),
    )
    cameras = Cameras(torch.eye(4)[None], intrinsics_from_fov(1.2, 32, 32)[None], width=32, height=32)
    provenance = Provenance("static", f"toy {seed}", None, seed, "file", None)
    preview = np.zeros((32, 32, 3), np.uint8)
    return write_environment(GeneratedScene(gaussians, cameras, None, preview, provenance), folder).parent
