"""The export benchmark at toy size: its input is a real splat file, both sides write it, its checks can fail."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from omni_gen3d.bench import export
from omni_gen3d.bench.export import Measured, make_report
from omni_gen3d.cli import app
from omni_gen3d.errors import InputError, MissingDependencyError, OmniGen3DError
from omni_gen3d.types import Gaussians
from omni_gen3d.usd.stage import open_stage


def read_with_gsply(path: Path) -> Gaussians:
    """An independent reader of the PLY."""
    import gsply

    data = gsply.plyread(path)
    quats = torch.from_numpy(np.array(data.quats))
    return Gaussians(
        means=torch.from_numpy(np.array(data.means)),
        quats=quats / quats.norm(dim=1, keepdim=True),
        scales=torch.from_numpy(np.exp(data.scales)),
        opacities=torch.sigmoid(torch.from_numpy(np.array(data.opacities))).reshape(-1),
        sh=torch.from_numpy(np.concatenate([data.sh0[:, None], data.shN], axis=1)),
    )


@pytest.fixture
def ply(tmp_path: Path) -> Path:
    path = tmp_path / "splats.ply"
    export.write_random_ply(path, 120, seed=3)
    return path


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """The independent reader in the place of the package's."""
    module = types.ModuleType("omni_gen3d.splat_file")
    setattr(module, "read_splat_file", read_with_gsply)  # noqa: B010
    monkeypatch.setitem(sys.modules, "omni_gen3d.splat_file", module)


def test_the_input_is_a_splat_file(ply: Path, tmp_path: Path):
    """Another program reads valid Gaussians of degree 3 out of it; the same seed gives the same bytes."""
    gaussians = read_with_gsply(ply)
    gaussians.validate()
    assert len(gaussians) == 120 and gaussians.sh_degree == 3
    assert gaussians.means.abs().max() <= 4 and gaussians.means[:, 2].min() >= 0
    export.write_random_ply(tmp_path / "again.ply", 120, seed=3)
    assert (tmp_path / "again.ply").read_bytes() == ply.read_bytes()
    export.write_random_ply(tmp_path / "other.ply", 120, seed=4)
    assert (tmp_path / "other.ply").read_bytes() != ply.read_bytes()


def test_blocks_leave_no_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file that is written in several blocks holds as many Gaussians as asked for."""
    monkeypatch.setattr(export, "_ROWS_AT_A_TIME", 50)
    export.write_random_ply(tmp_path / "splats.ply", 120, seed=0)
    assert len(read_with_gsply(tmp_path / "splats.ply")) == 120


@pytest.mark.parametrize("kind", ["float", "half", "rival"])
def test_each_side_writes_the_same_splats(ply: Path, tmp_path: Path, reader: None, kind):
    """What ours and the rival write holds the centres and harmonics of the file."""
    export.export(kind, ply, tmp_path / "splats.usdc")
    stage = open_stage(tmp_path / "splats.usdc")
    prim = stage.GetDefaultPrim()
    suffix = "h" if kind == "half" else ""
    tolerance = 2e-3 if kind == "half" else 1e-6
    expected = read_with_gsply(ply)
    positions = np.array(prim.GetAttribute(f"positions{suffix}").Get(), dtype=np.float32)
    harmonics = prim.GetAttribute(f"radiance:sphericalHarmonicsCoefficients{suffix}").Get()
    np.testing.assert_allclose(positions, expected.means, atol=tolerance)
    np.testing.assert_allclose(np.array(harmonics, dtype=np.float32).reshape(120, 16, 3), expected.sh, atol=tolerance)


@pytest.mark.parametrize("kind", ["float", "rival"])
def test_a_side_is_measured(ply: Path, reader: None, kind):
    """Every repeat takes time, the process holds memory, the file has a size, and nothing is left of it."""
    measured = export.measure(kind, ply, 2)
    assert len(measured.seconds) == 2 and min(measured.seconds) > 0
    assert 0.01 < measured.peak_gb < 100
    assert measured.usd_mb is not None and 0.02 < measured.usd_mb < 0.1
    assert list(ply.parent.iterdir()) == [ply]


def test_memory_is_measured_in_a_process_of_its_own(ply: Path):
    """The rival's process starts without what this one holds, and reports on the last line."""
    ballast = np.ones(80_000_000)
    measured = export._measure_in_process("rival", ply, 1)
    assert measured.peak_gb < ballast.nbytes / 1e9


def test_a_command_that_fails_is_reported(ply: Path):
    """The exit code and what was said end up in the error."""

    def command(ply: Path, folder: Path) -> list[str]:
        return [sys.executable, "-c", "import sys; sys.exit('no such splats')"]

    with pytest.raises(OmniGen3DError, match="exit code 1: no such splats"):
        export._measure_command(command, ply, 1)


def test_the_rival_command_writes_a_layer(ply: Path):
    """The whole command of the rival runs and leaves a layer whose size is taken."""
    measured = export._measure_command(export._rival_command, ply, 1)
    assert measured.usd_mb is not None and measured.usd_mb > 0.02


def test_checks_can_fail():
    """Speed is the rival's time over our median; the largest memory and sizes are held to their bounds."""
    quick, slow = Measured((0.5, 0.7, 9.0), 0.9, 118.0), Measured((35.0,), 3.3, 124.0)
    half = Measured((0.5,), 0.9, 61.0)
    command, rival_command = Measured((4.0, 5.0), 1.0, 118.0), Measured((36.0,), 3.3, 124.0)
    report = make_report(quick, half, slow, command, rival_command)
    values = {check.name: (round(check.value or 0, 3), check.ok) for check in report.checks}
    assert values == {
        "speedup_in_process": (50.0, True),
        "speedup_command": (8.0, True),
        "peak_gb": (1.0, True),
        "usdc_mb_float": (118.0, True),
        "usdc_mb_half": (61.0, False),
    }
    rows = json.loads(report.to_json())["rows"]
    assert [(row["seconds"], row["fastest"], row["slowest"], row["runs"]) for row in rows[:1]] == [(0.7, 0.5, 9.0, 3)]


def test_two_batches_are_one_measurement():
    """Every repeat counts, and the larger peak."""
    both = Measured((1.0, 2.0), 0.5, 118.0).joined(Measured((3.0,), 0.6, 118.0))
    assert both == Measured((1.0, 2.0, 3.0), 0.6, 118.0)


def test_bad_requests(monkeypatch: pytest.MonkeyPatch):
    """No Gaussians, too many, no repeats, and a rival that is not there are refused before anything is written."""
    for values in ({"num_gaussians": 0}, {"num_gaussians": 10**9}, {"num_gaussians": 5, "repeats": 0}):
        with pytest.raises(InputError, match="num_gaussians"):
            export.run_export(**values)
    result = CliRunner().invoke(app, ["bench", "export", "--num-gaussians", "0"])
    assert result.exit_code == 2 and result.stderr.startswith("error: num_gaussians is 0")
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'omni_gen3d\[bench\]'"):
        export.run_export(5)
