"""The benchmark of the official decoder, on toys."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from omni_gen3d.bench.commands import bench_app
from omni_gen3d.bench.lyra import bench_lyra
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
    costs = {row["tokens"]: row["us_per_token"] for row in report["rows"] if row["what"] == "mixer"}
    assert list(costs) == [16, 128]
    assert checks["scan_cost_per_token_longest_over_short"] == pytest.approx(costs[128] / costs[16])


def test_measures_gen3c_on_a_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row for the pass as it is and for each speed-up, minutes projected from it, and a check for each figure."""
    monkeypatch.setattr("omni_gen3d.bench.clock.REPEATS", 1)
    told: list[str] = []
    sizes: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 24, "num_layers": 2, "mlp_ratio": 2.0}
    sizes |= {"text_embed_dim": 32, "adaln_lora_dim": 8, "max_size": (8, 16, 16)}
    toy: dict[str, Any] = {"views": 1, "frames": 9, "width": 32, "height": 32, "scan_tokens": [16]}
    report = bench_lyra(device=torch.device("cpu"), gen3c_sizes=sizes, tell=told.append, **toy)
    rows: dict[str, Any] = {str(row["what"]): row for row in report.rows}
    passes = ["diffusers as it is", "cuDNN attention", "step cache, skipped", "float8 weights"]
    for row in [*(rows[f"GEN3C pass, {name}"] for name in passes), rows["GEN3C step, compiled"]]:
        assert row["minutes"] == pytest.approx(35 * row["step_s"] / 60)
        assert row["step_s"] == pytest.approx(row["seconds"] * (1 if row["what"] == "GEN3C step, compiled" else 2))
    assert {"3D cache, one trajectory", "tokenizer, one video"} <= set(rows)
    assert sum("within" in line for line in told) == 2
    checks = {check.name: check for check in report.checks}
    assert {"plan_24_gb_peak_gb", "plan_16_gb_peak_gb", "gen3c_minutes_a_trajectory"} <= set(checks)
    whole = [row["minutes"] for name, row in rows.items() if "minutes" in row and "skipped" not in name]
    assert checks["gen3c_minutes_a_trajectory"].value == min(whole)
    assert checks["plan_16_gb_peak_gb"].value is None and not checks["plan_16_gb_peak_gb"].ok


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
