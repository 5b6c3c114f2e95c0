"""The benchmark of generation: one run warms up, the medians of the others are held against the bounds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from omni_gen3d.bench import generate
from omni_gen3d.finishing import GeneratedEnvironment


def test_medians_of_warm_runs_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after the Gaussians is not on the way to them, and only what was made is checked."""
    seeds: list[tuple[str, int]] = []

    def made(kind: str, _film: Path | None, out: Path, _device: torch.device, seed: int) -> GeneratedEnvironment:
        seeds.append((kind, seed))
        return GeneratedEnvironment(out, out, 1, {"picture": 0.0, "collision proxy": 0.0}, (), ())

    ticks = iter([0.0, 50.0, 100.0, 101.0, 200.0, 240.0, 300.0, 302.0])
    monkeypatch.setattr(generate, "_made", made)
    monkeypatch.setattr(generate.time, "perf_counter", lambda: next(ticks))
    report = generate.bench_generate(torch.device("cpu"), ["view"], 3, 7, report=lambda _: None)
    assert seeds == [("view", 7), ("view", 8), ("view", 9), ("view", 10)]
    assert [row["folder_s"] for row in report.rows] == [1.0, 40.0, 2.0]
    assert [(check.name, check.value, check.ok) for check in report.checks] == [("view, to the folder [s]", 2.0, True)]


def test_later_stages_are_not_the_way_to_the_gaussians() -> None:
    """Of four seconds three were spent on the proxy and the preview."""
    timings = {"picture": 1.0, "collision proxy": 2.0, "preview": 1.0}
    row = generate._row("view", 0, GeneratedEnvironment(Path("a"), Path("a"), 1, timings, (), ()), 4.0)
    assert (row["gaussians_s"], row["folder_s"], row["preview"]) == (1.0, 4.0, 1.0)
