"""From a prompt or a film to a folder on disk, in a process that has made one of each kind before."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from omni_gen3d.bench.explored import MAX_SECONDS as MAX_ROOM_SECONDS
from omni_gen3d.bench.film import MAX_SECONDS as MAX_FILM_SECONDS
from omni_gen3d.bench.film import TIMES, write_film
from omni_gen3d.bench.report import Check, Report, Value, cpu_name
from omni_gen3d.filming import generate_from_video
from omni_gen3d.finishing import GeneratedEnvironment
from omni_gen3d.pipeline import generate

KINDS = ("view", "large", "room", "film")
# Until what may take how long [s], on a GPU and on two cores of a CPU.
MAX_SECONDS = {
    "cuda": {
        "view, to the Gaussians": 1.5,
        "view, to the folder": 4.0,
        "large, to the folder": 6.0,
        "room, to the folder": MAX_ROOM_SECONDS["cuda"],
        "film, to the folder": 6.0,
    },
    "cpu": {
        "view, to the folder": 30.0,
        "room, to the folder": MAX_ROOM_SECONDS["cpu"],
        "film, to the folder": MAX_FILM_SECONDS,
    },
}
_PROMPT = "a living room with a red sofa and wooden floor"
# The stages that are not the way to the Gaussians.
_AFTER_GAUSSIANS = ("levelling", "motion", "parts", "collision proxy", "preview", "write")


def bench_generate(
    device: torch.device, kinds: Sequence[str], runs: int, seed: int, *, report: Callable[[str], None] = print
) -> Report:
    """Time every kind ``runs`` times after one that is not counted, each run with a seed of its own.

    Columns: ``kind``, ``seed``; ``gaussians_s`` until there are Gaussians; ``folder_s`` until all is on disk; and the
    seconds of each stage. A check holds the median.

    Args:
        device: Where the networks run.
        kinds: Of ``KINDS``: a prompt with the extent of a view, the same by the larger preset, one with the extent of a
            room, or a film of 17 times.
        runs: That count, of each kind.
        seed: Of the first one; those that follow count on.
        report: Told every run.
    """
    rows: list[dict[str, Value]] = []
    with tempfile.TemporaryDirectory() as place:
        film = write_film(Path(place) / "board.mp4", 2 * TIMES) if "film" in kinds else None
        for kind in kinds:
            for run in range(runs + 1):
                began = time.perf_counter()
                made = _made(kind, film, Path(place) / f"{kind}{run}", device, seed + run)
                row = _row(kind, seed + run, made, time.perf_counter() - began)
                report(", ".join(f"{name} {value}" for name, value in row.items()) + (", not counted" * (run == 0)))
                if run:
                    rows.append(row)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    return Report(name, rows, _checks(device, kinds, rows))


def _made(kind: str, film: Path | None, out: Path, device: torch.device, seed: int) -> GeneratedEnvironment:
    if kind == "film":
        assert film is not None
        return generate_from_video(film, out=out, device=str(device), seed=seed, times=TIMES)
    if kind == "large":
        return generate(_PROMPT, out=out, device=str(device), seed=seed, preset="mini-large")
    return generate(_PROMPT, out=out, device=str(device), seed=seed, extent=kind)


def _row(kind: str, seed: int, made: GeneratedEnvironment, folder_s: float) -> dict[str, Value]:
    after = sum(made.timings_s.get(stage, 0.0) for stage in _AFTER_GAUSSIANS)
    row: dict[str, Value] = {"kind": kind, "seed": seed, "gaussians_s": round(folder_s - after, 2)}
    return row | {"folder_s": round(folder_s, 2)} | {stage: round(s, 2) for stage, s in made.timings_s.items()}


def _checks(device: torch.device, kinds: Sequence[str], rows: Sequence[dict[str, Value]]) -> list[Check]:
    checks = []
    for name, most in MAX_SECONDS[device.type].items():
        kind, _, until = name.partition(", ")
        if kind in kinds:
            column = "gaussians_s" if until == "to the Gaussians" else "folder_s"
            seconds = [float(row[column]) for row in rows if row["kind"] == kind]  # pyright: ignore[reportArgumentType]
            checks.append(Check(f"{name} [s]", round(statistics.median(seconds), 2), "<=", most))
    return checks
