"""The benchmark of the official decoder, on toys."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from omni_gen3d.bench.commands import bench_app
from omni_gen3d.bench.lyra import bench_lyra
from omni_gen3d.bench.report import Report
from omni_gen3d.errors import InputError

TOY = ["--device", "cpu", "--views", "2", "--frames", "9", "--size", "32x32"]


def test_measures_everything_on_a_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """One JSON object on standard output with the decoder, its parts, every length and every check; progress apart.

    The longest length is held to the cheapest token of the shorter ones.
    """
    monkeypatch.setattr("omni_gen3d.bench.clock.REPEATS", 1)
    result = CliRunner().invoke(bench_app, ["lyra", *TOY, "--tokens", "128,16", "--json"])
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert [row["tokens"] for row in report["rows"] if row["what"] == "decoder"] == [16]
    assert {"of it: MambaBlock", "of it: AttentionBlock", "of it: all else"} <= {row["what"] for row in report["rows"]}
    assert "decoder, 16 tokens" in result.stderr
    checks = {check["name"]: check["value"] for check in report["checks"]}
    assert list(checks) == ["decoder_s", "decoder_peak_gb", "scan_cost_per_token_longest_over_short"]
    assert checks["decoder_peak_gb"] is None
    told = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    assert [line for line in told if "what" in line] == report["rows"]
    costs = {row["tokens"]: row["us_per_token"] for row in report["rows"] if row["what"] == "mixer"}
    assert list(costs) == [16, 128]
    assert checks["scan_cost_per_token_longest_over_short"] == pytest.approx(costs[128] / costs[16])


GEN3C: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 24,
    "num_layers": 2,
    "mlp_ratio": 2.0,
    "text_embed_dim": 32,
    "adaln_lora_dim": 8,
    "max_size": (8, 16, 16),
}


def measure_toy(told: list[str]) -> Report:
    toy: dict[str, Any] = {"views": 1, "frames": 9, "width": 32, "height": 32, "scan_tokens": [16]}
    return bench_lyra(device=torch.device("cpu"), gen3c_sizes=GEN3C, tell=told.append, **toy)


def test_measures_gen3c_on_a_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row for the pass under each plan and for each speed-up, minutes projected from it, a check for each figure."""
    monkeypatch.setattr("omni_gen3d.bench.clock.REPEATS", 1)
    told: list[str] = []
    report = measure_toy(told)
    rows: dict[str, Any] = {str(row["what"]): row for row in report.rows}
    assert not any("failed" in row for row in report.rows)
    passes = ["streamed, 16 GB", "cuDNN attention, 24 GB", "step cache, skipped", "compiled", "diffusers as it is"]
    steps = {f"GEN3C pass, {name}": 2 for name in (*passes, "float8 weights")} | {"GEN3C step, cuDNN attention": 1}
    for what, passes_a_step in steps.items():
        assert rows[what]["minutes"] == pytest.approx(35 * rows[what]["step_s"] / 60)
        assert rows[what]["step_s"] == pytest.approx(rows[what]["seconds"] * passes_a_step)
    assert {"3D cache, one trajectory", "tokenizer, one video"} <= set(rows)
    assert sum(line.startswith("within") for line in told) == 2
    checks = {check.name: check for check in report.checks}
    seconds = {name: rows[f"GEN3C pass, {name}"]["seconds"] for name in passes}
    plain = seconds["cuDNN attention, 24 GB"]
    assert checks["compiled_gain"].value == pytest.approx(plain / seconds["compiled"])
    assert checks["step_cache_skipped_pass_gain"].value == pytest.approx(plain / seconds["step cache, skipped"])
    assert checks["gen3c_minutes_a_trajectory"].value == rows["GEN3C pass, cuDNN attention, 24 GB"]["minutes"]
    assert checks["plan_16_gb_peak_gb"].value is None and not checks["plan_16_gb_peak_gb"].ok


def test_what_fails_costs_its_own_figures_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that runs out of memory becomes a row; the others are measured, and its checks fail."""
    monkeypatch.setattr("omni_gen3d.bench.clock.REPEATS", 1)

    def full(*_args: object, **_kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 880 MiB.")

    monkeypatch.setattr("omni_gen3d.bench.gen3c.cache_steps", full)
    report = measure_toy([])
    failed = [row for row in report.rows if "failed" in row]
    assert [row["what"] for row in failed] == ["GEN3C, resident"] and "880 MiB" in str(failed[0]["failed"])
    checks = {check.name: check for check in report.checks}
    assert checks["compiled_gain"].value is None and not checks["compiled_gain"].ok
    assert checks["gen3c_minutes_a_trajectory"].ok and checks["decoder_s"].value is not None


def test_after_the_deadline_nothing_is_started() -> None:
    """Every part is named as not measured, and every check fails."""
    told: list[str] = []
    report = bench_lyra(device=torch.device("cpu"), frames=9, width=32, height=32, minutes=0, tell=told.append)
    assert not report.rows and [check.ok for check in report.checks] == [False] * 3
    assert next(line for line in told if "out of time" in line) == "out of time: scans is not measured"


@pytest.mark.parametrize(
    ("change", "message"),
    [({"views": 0}, "0 views"), ({"frames": 10}, "10 frames"), ({"width": 40}, "40x"), ({"scan_tokens": []}, "token")],
)
def test_impossible_sizes_are_refused(change: dict[str, Any], message: str) -> None:
    """Nothing is built for sizes that the decoder cannot have."""
    with pytest.raises(InputError, match=message):
        bench_lyra(device=torch.device("cpu"), tell=print, **change)


def test_options_are_checked() -> None:
    """A size or a list of lengths that is none gives one line and exit code 2."""
    for option, value in (("--size", "big"), ("--tokens", "1,x")):
        result = CliRunner().invoke(bench_app, ["lyra", *TOY, option, value])
        assert result.exit_code == 2 and f"{option} is" in result.stderr
