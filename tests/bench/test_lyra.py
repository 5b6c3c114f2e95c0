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
