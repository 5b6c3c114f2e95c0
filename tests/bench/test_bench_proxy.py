"""The benchmark of collision proxies: its figures where they are known, and its verb."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from omni_gen3d.bench import proxy as bench
from omni_gen3d.bench.commands import bench_app
from omni_gen3d.bench.rooms import rooms
from omni_gen3d.mesh.depth_views import render_depth_views
from omni_gen3d.types import ProxyPart


def test_the_truth_measures_perfectly():
    """The true surface as a proxy has no error, no ghost and a level floor."""
    room = rooms()[2]
    row = bench.measure((ProxyPart("truth", "object", room.truth()),), room)
    assert row["accuracy_mm"] == 0 and row["F@5cm_%"] == 100 and row["solid_%"] == 100
    assert row["ghost_%"] == 0 and row["floor_mm"] == 0


def test_ours_on_a_toy():
    """A fifth of the discs in small pictures already give a closed proxy that is centimetres from the truth."""
    room = rooms()[0]
    gaussians = room.gaussians(20_000, seed=0)
    parts, watertight = bench._surface(bench.OURS, gaussians, render_depth_views(gaussians, room.cameras(48, 160, 120)))
    row = bench.measure(parts, room)
    assert watertight
    figures = {name: float(value) for name, value in row.items() if isinstance(value, int | float)}
    assert figures["F@5cm_%"] > 95 and figures["accuracy_mm"] < 12
    assert figures["solid_%"] > 97 and figures["floor_mm"] < 5


def test_verb_with_rivals_that_know_the_truth(monkeypatch: pytest.MonkeyPatch):
    """The verb prints a row a method and a check a target; rivals are measured by the same rule."""
    truth = rooms()[0].truth()
    monkeypatch.setattr(bench, "_NUM_AIR_POINTS", 5000)
    monkeypatch.setattr(bench, "require_open3d", lambda: None)
    monkeypatch.setattr(bench, "_block_grid", lambda views: truth)
    monkeypatch.setattr(bench, "_poisson", lambda gaussians: truth)
    result = CliRunner().invoke(bench_app, ["proxy", "--toy", "--views", "8", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [row["method"] for row in found["rows"]] == [bench.OURS, bench.TSDF, bench.POISSON]
    assert found["rows"][1]["F@5cm_%"] == 100 and found["rows"][1]["watertight"] is True
    checks = {check["name"].split(",")[0]: check for check in found["checks"]}
    assert checks["faces"]["ok"] and checks["watertight shells [share]"]["ok"] and len(found["checks"]) == 8


def test_too_few_views_are_refused():
    """Three cameras are one clear error."""
    result = CliRunner().invoke(bench_app, ["proxy", "--views", "3"])
    assert result.exit_code == 2 and "at least 4" in result.output
