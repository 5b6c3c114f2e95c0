"""``generate --count`` and ``--prompts``: what is there is skipped, what fails loses nothing, a stop keeps the rest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import omni_gen3d
from omni_gen3d.cli import app
from omni_gen3d.config import PACKAGED_WEIGHTS
from omni_gen3d.envs.registry import Registry
from omni_gen3d.errors import CancelledError
from omni_gen3d.finishing import GeneratedEnvironment
from omni_gen3d.pipeline import load_model
from omni_gen3d.types import GeneratedScene
from omni_gen3d.usd import Manifest, write_environment
from omni_gen3d.usd.manifest import FileDigest

HALL, CORRIDOR = "a small hall", "a narrow corridor"


class ToyGenerator:
    """In the place of the generator: writes the toy room under what was asked, and fails or stops where told."""

    def __init__(self, scene: GeneratedScene) -> None:
        self._scene = scene
        self.asked: list[tuple[str | None, int]] = []
        self.failing: str | None = None
        self.stopping: tuple[str | None, int] | None = None

    def __call__(
        self, prompt: str | None, *, image: Path | None, out: Path, seed: int, **_: object
    ) -> GeneratedEnvironment:
        self.asked.append((prompt, seed))
        if (prompt, seed) == self.stopping:
            raise CancelledError("cancelled while the stage 'depth' was running; nothing was written.")
        if prompt is not None and prompt == self.failing:
            raise ValueError("no floor today")
        digest = None if image is None else FileDigest.of(image).sha256
        provenance = replace(self._scene.provenance, prompt=prompt, seed=seed, model="mini", input_sha256=digest)
        usd = write_environment(replace(self._scene, provenance=provenance), out)
        return GeneratedEnvironment(usd, usd.parent, 50, timings_s={}, notes=(), warnings=("a warning",))


@pytest.fixture
def generator(toy_scene: GeneratedScene, monkeypatch: pytest.MonkeyPatch) -> ToyGenerator:
    toy = ToyGenerator(toy_scene)
    monkeypatch.setitem(vars(omni_gen3d), "generate", toy)
    return toy


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text(f"{HALL}\n\n  # not this\n{CORRIDOR}\n{HALL}\n")
    return path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMNI_GEN3D_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def generate(*arguments: str | Path, code: int = 0):
    result = CliRunner().invoke(app, ["generate", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def answer(*arguments: str | Path, code: int = 0) -> dict[str, Any]:
    return json.loads(generate(*arguments, "--json", code=code).stdout)


def test_prompts_fill_the_library(generator: ToyGenerator, prompts: Path) -> None:
    """Every sentence with every seed, once; a second run makes nothing and prints the same paths."""
    first = generate("--prompts", prompts, "--count", "2", "--seed", "7")
    assert generator.asked == [(HALL, 7), (CORRIDOR, 7), (HALL, 8), (CORRIDOR, 8)]
    entries = Registry().entries()
    assert sorted(first.stdout.split()) == sorted(str(entry.usd) for entry in entries) and len(entries) == 4
    assert {(entry.prompt, entry.seed) for entry in entries} == set(generator.asked)
    assert "environment 2 of 4: a narrow corridor, seed 7" in first.stderr and "warning: a warning" in first.stderr
    again = generate("--prompts", prompts, "--count", "2", "--seed", "7")
    assert again.stdout == first.stdout and "0 made, 4 found, 0 failed" in again.stderr and len(generator.asked) == 4


def test_one_failure_loses_nothing(generator: ToyGenerator, prompts: Path, tmp_path: Path) -> None:
    """The others are made, the exit code tells, and once the cause is gone the next run makes what is missing."""
    out = tmp_path / "worlds"
    generator.failing = HALL
    values = answer("--prompts", prompts, "--out", out, code=1)
    assert (values["made"], values["found"], values["failed"]) == (1, 0, 1)
    failed, made = values["environments"]
    assert failed == {"prompt": HALL, "seed": 0, "state": "failed", "usd": None, "error": "ValueError: no floor today"}
    assert made["state"] == "made" and Path(made["usd"]).parent.parent == out and Path(made["usd"]).is_file()
    generator.failing = None
    values = answer("--prompts", prompts, "--out", out)
    assert [entry["state"] for entry in values["environments"]] == ["made", "found"]
    assert len(list(out.iterdir())) == 2


def test_a_stop_keeps_what_was_made(generator: ToyGenerator, tmp_path: Path) -> None:
    """Stopped in the third: exit code 130, two are there, and the next run makes the third alone."""
    arguments = [HALL, "--count", "3", "--out", tmp_path / "worlds"]
    generator.stopping = (HALL, 2)
    stopped = generate(*arguments, "--json", code=130)
    assert "cancelled in environment 3 of 3" in stopped.stderr.splitlines()[-1]
    assert json.loads(stopped.stdout)["made"] == 2
    generator.stopping = None
    values = answer(*arguments)
    assert [entry["state"] for entry in values["environments"]] == ["found", "found", "made"]


def test_what_is_damaged_or_differs_is_not_taken_for_it(generator: ToyGenerator, tmp_path: Path) -> None:
    """Another picture is another environment; a folder with another's manifest is made again."""
    pictures = [tmp_path / name for name in ("a.png", "b.png")]
    for number, picture in enumerate(pictures):
        picture.write_bytes(bytes([number]))
        assert answer("--image", picture, "--count", "2")["made"] == 2
    assert answer("--image", pictures[0], "--count", "2")["found"] == 2
    assert len(Registry().entries()) == 4
    out = tmp_path / "worlds"
    usd = Path(answer(HALL, "--count", "2", "--out", out)["environments"][0]["usd"])
    manifest = Manifest.read(usd.parent / "environment.yaml")
    replace(manifest, prompt="another").write(usd.parent / "environment.yaml")
    assert answer(HALL, "--count", "2", "--out", out)["made"] == 1
    assert Manifest.read(usd.parent / "environment.yaml").prompt == HALL


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a hall", "--prompts", "prompts.txt"], "exclude each other"),
        (["--prompts", "nowhere.txt"], "nowhere.txt cannot be read"),
        (["--prompts", "empty.txt"], "holds no prompt"),
        (["--prompts", "latin.txt"], "not UTF-8"),
        (["--prompts", "long.txt"], "1001 characters"),
        (["a hall", "--count", "0"], "count is 0"),
        (["a hall", "--count", "1000000"], "count is 1000000"),
        (["a hall", "--count", "2", "--seed", str(2**63 - 1)], "seed is"),
        (["--image", "nowhere.png", "--count", "2"], "nowhere.png cannot be read"),
    ],
)
def test_refused_before_anything_is_made(
    arguments: list[str], words: str, generator: ToyGenerator, prompts: Path, home: Path, monkeypatch
) -> None:
    """One error, exit code 2, and nothing is asked of the generator."""
    monkeypatch.chdir(prompts.parent)
    Path("empty.txt").write_text("\n# a remark\n")
    Path("latin.txt").write_bytes(b"a caf\xe9")
    Path("long.txt").write_text(f"a hall\n{'a' * 1001}\n")
    result = generate(*arguments, code=2)
    assert result.stdout == "" and words in result.stderr
    assert generator.asked == [] and not home.exists()


def test_one_load_serves_all() -> None:
    """The networks of the embedded model are read once in a process."""
    device = torch.device("cpu")
    assert load_model(PACKAGED_WEIGHTS, device) is load_model(PACKAGED_WEIGHTS, device)
