"""The training and evaluation verbs: help, refusals, and what they pass on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from omni_gen3d.cli import app
from omni_gen3d.training import evaluation
from omni_gen3d.training.shipping import NETWORKS


def invoke(*arguments: str | Path | int):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


RESULT: dict[str, Any] = {
    "device": "cpu", "scenes": 3, "seed": 7, "fidelity_psnr_db": 24.5,
    "rows": [
        {"name": "fidelity_psnr_db", "value": 24.5, "against": 23.25, "meaning": "of a toy"},
        {"name": "hole_psnr_db", "value": None, "against": None, "meaning": "no hole"},
    ],
    "classifier": {"groups": {"kind": 0.99, "wall": None}, "groups_used": ["kind"], "prompt_groups": {"kind": 0.5}},
    "seconds_per_scene": {"decode": 0.25},
    "checks": [{"name": "gain", "value": 3.0, "target": 2.0, "ok": True}],
}  # fmt: skip


@pytest.mark.parametrize("verb", ["train", "eval"])
def test_the_overview_names_the_verbs(verb: str) -> None:
    """Both groups appear in the help of the command line."""
    assert verb in invoke("--help").stdout


@pytest.mark.parametrize(
    "verb",
    [("train", name) for name in ("tokenizer", "depth", "diffusion", "decoder", "bodies")]
    + [("eval", "mini"), ("eval", "sheet")],
)
def test_every_verb_has_help(verb: tuple[str, str]) -> None:
    """Its own help describes its options."""
    result = invoke(*verb, "--help")
    assert result.exit_code == 0 and "Usage" in result.stdout and "--seed" in result.stdout


@pytest.mark.parametrize("size", ["320", "x", "0x16", "30x16", "-16x16"])
def test_bad_sizes_are_refused(size: str, tmp_path: Path) -> None:
    """Exit code 2, one line that names the size, nothing written."""
    for verb in (("train", "tokenizer", "--out", tmp_path / "out"), ("eval", "mini")):
        result = invoke(*verb, f"--size={size}")
        assert result.exit_code == 2 and result.stderr.startswith("error: ") and size in result.stderr
    assert len(result.stderr.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_missing_networks_are_refused(tmp_path: Path) -> None:
    """Training on top of networks that are not there ends before it starts."""
    result = invoke("train", "diffusion", "--out", tmp_path / "a", "--tokenizer", tmp_path, "--depth", tmp_path)
    assert result.exit_code == 2 and "no weights" in result.stderr


def test_evaluation_refuses_missing_weights(tmp_path: Path) -> None:
    """The folder is named."""
    result = invoke("eval", "mini", "--weights", tmp_path, "--device", "cpu")
    assert result.exit_code == 2 and str(tmp_path) in result.stderr


def test_evaluation_prints_rows_or_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table shows every row and check, --json the very result; the options arrive."""
    received: list[Any] = []
    monkeypatch.setattr(evaluation, "evaluate_mini", lambda *a, **k: received.append((a, k)) or RESULT)
    table = invoke(
        "eval", "mini", "--weights", tmp_path, "--scenes", 3, "--seed", 7, "--device", "cpu", "--out", tmp_path
    )
    assert table.exit_code == 0
    for words in (
        "fidelity_psnr_db",
        "24.500  23.250",
        "of a toy",
        "hole_psnr_db",
        "kind 0.990, wall -",
        "ok: gain is 3.000",
    ):
        assert words in table.stdout
    (weights, scenes, device, seed), options = received[0]
    assert (weights, scenes, device.type, seed) == (tmp_path, 3, "cpu", 7)
    assert options == {"against": None, "out": tmp_path, "classifier_seconds": 75.0, "height": 176, "width": 320}
    result = invoke("eval", "mini", "--weights", tmp_path, "--device", "cpu", "--json")
    assert json.loads(result.stdout) == RESULT


def test_a_failed_check_is_an_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is printed, then 1 is returned."""
    failed = {**RESULT, "checks": [{"name": "gain", "value": 1.0, "target": 2.0, "ok": False}]}
    monkeypatch.setattr(evaluation, "evaluate_mini", lambda *_a, **_k: failed)
    result = invoke("eval", "mini", "--weights", tmp_path, "--device", "cpu")
    assert result.exit_code == 1 and "FAILED: gain is 1.000" in result.stdout


def test_networks_are_shipped(toy_weights: Path, tmp_path: Path) -> None:
    """One line of bytes for each; a folder without networks is refused."""
    result = invoke("train", "ship", toy_weights, "--out", tmp_path / "shipped")
    assert result.exit_code == 0
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == list(NETWORKS)
    result = invoke("train", "ship", tmp_path, "--out", tmp_path / "none")
    assert result.exit_code == 2 and "holds none of" in result.stderr
