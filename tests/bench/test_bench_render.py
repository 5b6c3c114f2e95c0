"""The benchmark of the render delegate runs, and its checks say what its rows say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from omni_gen3d.bench import render as bench
from omni_gen3d.bench.commands import bench_app


def test_verb_on_a_toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A row for every setup, the rival beside ours on the same stage, a check a target and a sheet of pictures."""

    class Rival:
        def __init__(self, path, cameras):
            assert Path(path).exists()

        def draw(self, index):
            pass

    monkeypatch.setattr(bench, "NewtonCamera", Rival)
    monkeypatch.setattr(bench, "beside_newton", lambda *_, **__: {"method": "", "depth cm": 1.0, "same prim": 0.9})
    sheet = tmp_path / "sheet.png"
    result = CliRunner().invoke(bench_app, ["render", "--device", "cpu", "--toy", "--json", "--sheet", str(sheet)])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    ours = [row for row in found["rows"] if row["method"] == bench.OURS and "ms" in row]
    assert all(row["ms"] > 0 and row["img/s"] > 0 and row["worst dB"] <= row["dB"] for row in ours)
    assert len({(row["cameras"], row["width"], row["environments"]) for row in ours}) >= 5
    assert [row["method"] for row in found["rows"]].count(bench.NEWTON) == 1
    different, sync = found["rows"][:2]
    assert different["environments"] == sync["environments"] == 4 and different["host GB"] < 0.5
    assert 0 < sync["sync_ms"] < sync["first_sync_ms"]
    assert len(found["checks"]) == 8
    assert [check["ok"] for check in found["checks"][-2:]] == [True, False]
    assert Image.open(sheet).size == (1600, 480)


def test_copies_share_their_arrays(tmp_path: Path):
    """Sixteen environments that refer to one file weigh what one does."""
    room = bench.rooms(0)[0]
    stage = bench.lab(room, 500, 16, tmp_path, 0)
    with bench.SplatRenderDelegate(stage, "cpu") as delegate:
        roots = [f"/Lab/env_{i}" for i in range(16)]
        delegate.render(room.cameras(16, 8, 8), environments=roots)
        assert delegate.counts.splats_loaded == 1


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_checks_follow_the_rows(device: str):
    """Ten times Newton's speed and equal speed with gsplat pass, slow pictures fail, and what is missing fails."""

    def row(method: str, cameras: int, width: int, gaussians: int, ms: float) -> dict:
        speed = {"ms": ms, "img/s": 1000 * cameras / ms, "dB": 40.0 if method == bench.OURS else None}
        return {"method": method, "cameras": cameras, "width": width, "gaussians": gaussians, **speed}

    rows = [
        row(bench.OURS, 1, 128, 100_000, 30.0),
        row(bench.OURS, 1, 640, 500_000, 100.0),
        row(bench.GSPLAT, 1, 640, 500_000, 100.0),
        row(bench.OURS, 1, 320, 200_000, 50.0),
        row(bench.NEWTON, 1, 320, 200_000, 500.0),
        {"method": "sync", "sync_ms": 0.5},
        {"method": "different", "host GB": 2.5, "device GB": 7.0},
        {"method": "beside", "cpu dB": 44.0},
    ]
    checks = {check.name: check.ok for check in bench.checks_of(rows, device)}
    passed = {name for name, ok in checks.items() if ok}
    assert {
        "sync after cameras moved, 256 environments [ms]",
        "least quality beside full detail, where a speed is asked for [dB]",
    } <= passed
    assert not checks["256 different environments, on the host [GB]"]
    if device == "cpu":
        assert not checks["100k at 128x128 [ms]"] and checks["500k at 640x480 [ms]"]
        assert checks["times as fast as Newton, 200k at 320x240"]
    else:
        assert not checks["256 x 64x64, 100k [img/s]"] and not checks["64 x 128x128, 500k [img/s]"]
        assert checks["640x480 over bare gsplat"] and checks["256 different environments, on the device [GB]"]
        assert not checks["cuda beside cpu, colour [dB]"]
