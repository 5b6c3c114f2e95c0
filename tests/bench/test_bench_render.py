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
    sheet = tmp_path / "sheet.png"
    result = CliRunner().invoke(bench_app, ["render", "--device", "cpu", "--toy", "--json", "--sheet", str(sheet)])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    ours = [row for row in found["rows"] if row["method"] == bench.OURS and "ms" in row]
    assert len(ours) == len(bench._CPU) + 1 and all(row["ms"] > 0 and row["img/s"] > 0 for row in ours)
    assert [row["method"] for row in found["rows"]].count(bench.NEWTON) == 1
    sync = found["rows"][-1]
    assert sync["environments"] == 4 and 0 < sync["sync_ms"] < sync["first_sync_ms"]
    assert len(found["checks"]) == 4
    assert Image.open(sheet).size == (1280, 480)


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

    def row(method: str, cameras: int, width: int, ms: float) -> dict:
        return {"method": method, "cameras": cameras, "width": width, "ms": ms, "img/s": 1000 * cameras / ms}

    rows = [
        row(bench.OURS, 1, 128, 30.0),
        row(bench.OURS, 1, 640, 100.0),
        row(bench.GSPLAT, 1, 640, 100.0),
        row(bench.OURS, 1, 320, 50.0),
        row(bench.NEWTON, 1, 320, 500.0),
        {"method": bench.OURS, "sync_ms": 0.5},
    ]
    checks = {check.name.split(",")[0].split(" [")[0]: check.ok for check in bench.checks_of(rows, device)}
    assert checks.pop("sync after cameras moved")
    if device == "cpu":
        assert checks == {"100k at 128x128": False, "500k at 640x480": True, "times as fast as Newton": True}
    else:
        assert checks == {"256 x 64x64": False, "64 x 128x128": False, "640x480 over bare gsplat": True}
