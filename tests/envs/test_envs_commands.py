"""The verbs ``omni-gen3d envs``: what each prints, refuses and leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from omni_gen3d.cli import app
from omni_gen3d.types import Gaussians

WriteToy = Callable[..., Path]
VERBS = ["list", "show", "search", "sample", "add", "remove", "export", "import", "repair", "map"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMNI_GEN3D_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path / "home"


def invoke(*arguments: str | Path, code: int = 0):
    result = CliRunner().invoke(app, ["envs", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def answer(*arguments: str | Path):
    return json.loads(invoke(*arguments, "--json").stdout)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str) -> None:
    """The overview names the verb, its own help describes it."""
    assert f" {verb} " in invoke("--help").stdout
    assert "Usage" in invoke(verb, "--help").stdout


def test_listing_loads_nothing_heavy(home: Path) -> None:
    """The index answers alone: neither torch nor USD nor numpy."""
    code = (
        "import sys; from typer.testing import CliRunner; from omni_gen3d.cli import app\n"
        "assert CliRunner().invoke(app, ['envs', 'list', '--json']).exit_code == 0\n"
        "print({'torch', 'pxr', 'numpy', 'yaml'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_from_adding_to_removing(home: Path, write_toy: WriteToy, tmp_path: Path) -> None:
    """A day in the life of two environments."""
    assert "no environment in" in invoke("list").stderr
    hall, room = write_toy("a large hall"), write_toy("a small room")
    hall_id, room_id = invoke("add", hall, room, "--tag", "toy").stdout.split()
    listed = invoke("list").stdout
    assert hall_id in listed and room_id in listed and "toy" in listed
    assert [entry["id"] for entry in answer("list", "--tag", "toy")["environments"]] == [hall_id, room_id]
    assert answer("list", "--min-area", "1000") == {"environments": []}
    assert len(answer("list", "--score", "faces>=48", "--score", "faces<=48")["environments"]) == 2
    assert answer("list", "--score", "faces>=49") == {"environments": []}

    shown = invoke("show", "a-small").stdout
    assert "a small room" in shown and shown.splitlines()[-1] == str(
        home / "environments" / room_id / "environment.usda"
    )
    assert answer("show", room_id)["scores"]["faces"] == 48
    assert answer("search", "small", "-n", "1")["environments"][0]["id"] == room_id
    assert hall_id in invoke("search", "hall").stdout

    drawn = invoke("sample", "2", "--seed", "3").stdout.split()
    assert drawn == invoke("sample", "2", "--seed", "3").stdout.split() and all(Path(usd).is_file() for usd in drawn)
    assert len(answer("sample", "5", "--replacement")["environments"]) == 5

    archive = tmp_path / "hall.zip"
    assert invoke("export", hall_id, "--out", archive).stdout.strip() == str(archive)
    assert invoke("remove", hall_id, room_id).stdout.split() == [hall_id, room_id]
    assert answer("list") == {"environments": []}
    assert invoke("import", archive, "--tag", "again").stdout.strip() == hall_id
    assert answer("show", hall_id)["tags"] == ["again", "toy"]

    (home / "index.sqlite").unlink()
    assert "1 added" in invoke("repair").stderr
    (home / "environments" / hall_id / "preview.png").unlink()
    assert "preview.png" in invoke("repair", code=1).stdout
    assert answer("list") == {"environments": []}


def test_convert_into_the_library(home: Path, write_ply: Callable[..., Path], tmp_path: Path, monkeypatch) -> None:
    """``--register`` writes no folder beside; the same file is the same entry; ``--out`` is then refused."""
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    ply = write_ply(toy_gaussians(200), tmp_path / "scan.ply")
    convert = ["convert", str(ply), "--up-axis", "z", "--no-level", "--collision", "none"]
    first = CliRunner().invoke(app, [*convert, "--register"])
    assert first.exit_code == 0, first.output
    (entry,) = answer("list")["environments"]
    assert first.stdout.splitlines()[-1] == entry["usd"] and Path(entry["usd"]).is_file()
    again = CliRunner().invoke(app, [*convert, "--register", "--json", "--usdz"])
    assert json.loads(again.stdout)["usd"] == entry["usd"] and len(answer("list")["environments"]) == 1
    assert set(tmp_path.iterdir()) - before == {ply, home}
    for wrong in ([], ["--register", "--out", "x"]):
        refused = CliRunner().invoke(app, [*convert, *wrong])
        assert refused.exit_code == 2 and "--register" in refused.stderr
    refused = CliRunner().invoke(app, ["generate", "a room", "--register", "--out", "x"])
    assert refused.exit_code == 2 and "--register" in refused.stderr


def toy_gaussians(count: int) -> Gaussians:
    generator = torch.Generator().manual_seed(0)
    return Gaussians(
        means=torch.rand(count, 3, generator=generator) * 4,
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        scales=torch.full((count, 3), 0.05),
        opacities=torch.full((count,), 0.9),
        sh=torch.zeros(count, 1, 3),
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "nothing"], "envs list"),
        (["remove", "../x"], "no id"),
        (["sample", "1"], "has 0"),
        (["sample", "1", "--seed", "-1"], "seed"),
        (["list", "--kind", "wild"], "static and dynamic"),
        (["list", "--split", "test"], "train and heldout"),
        (["list", "--score", "faces=3"], ">= or <="),
        (["list", "--tag", "A B"], "tag"),
        (["search", " "], "word"),
        (["add", "nowhere"], "nowhere"),
        (["import", "nowhere.zip"], "nowhere.zip"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], words: str) -> None:
    """Exit code 2, one line that says what is allowed."""
    result = invoke(*arguments, code=2)
    line, *rest = result.stderr.splitlines()
    assert line.startswith("error: ") and words in line and not rest and not result.stdout


def test_a_home_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable to set."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OMNI_GEN3D_HOME", str(tmp_path / "file" / "home"))
    assert "OMNI_GEN3D_HOME" in invoke("list", code=2).stderr
