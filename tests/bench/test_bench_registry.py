"""The library's benchmark, short: nothing is lost or torn, and what it would say if something were."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from omni_gen3d.bench import registry as bench
from omni_gen3d.cli import app
from omni_gen3d.envs.registry import Registry


def test_two_seconds_of_it() -> None:
    """Eight processes get somewhere, writers are killed, and every check holds."""
    report = bench.bench_registry(2.0)
    assert [check.name for check in report.checks if not check.ok] == []
    assert len(report.rows) == 8 and sum(int(row["added"] or 0) for row in report.rows) > 0


def test_damage_counts(tmp_path: Path) -> None:
    """A folder that lost a file is torn; an entry that the rebuilt index lacks or has otherwise differs."""
    registry = Registry(tmp_path / "home")
    first, second = (registry.add(bench._write_toy(tmp_path / str(i), i)) for i in range(2))
    assert bench._torn([first, second]) == 0
    (first.folder / "splats.usdc").write_bytes(b"")
    assert bench._torn([first, second]) == 1
    assert bench._differing([first, second], [second]) == 1
    assert bench._differing([first], [registry.add(second.folder, tags=["other"])]) == 2


def test_bad_requests() -> None:
    """No time at all is refused."""
    result = CliRunner().invoke(app, ["bench", "registry", "--seconds", "0"])
    assert result.exit_code == 2 and "seconds is 0" in result.stderr
