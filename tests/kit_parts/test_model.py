"""The model behind the window, with real workers and no widget."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from omni_gen3d.envs.registry import Registry
from omni_gen3d.kit.interpreter import find_interpreter
from omni_gen3d.kit.model import Form, Model
from omni_gen3d.types import GeneratedScene
from omni_gen3d.usd import write_environment


class StageOfPaper:
    """Notes what the model asks the host's stage for."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    def add(self, entry, collision, labels) -> str:
        self.asked.append(("add", entry.id, collision, labels))
        return "/World/Added"

    def replace(self, path, entry, collision, labels) -> None:
        self.asked.append(("replace", path, entry.id, labels))

    def randomize(self, path, seed, index) -> None:
        self.asked.append(("randomize", path, seed, index))

    def target(self) -> str:
        return "/World/Added"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    monkeypatch.setenv("OMNI_GEN3D_HOME", str(tmp_path / "library"))
    made = Model(lambda: find_interpreter(sys.executable), tell=lambda text: None)
    made.stage_commands = StageOfPaper()
    yield made
    made.close()
    assert made.pids == []


def wait(model: Model, condition: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        model.update()
        time.sleep(0.01)


def test_the_gallery_follows_the_library(model: Model, toy_scene: GeneratedScene, tmp_path: Path) -> None:
    """Entries appear, what is selected goes to the stage with what the form says, and what is removed is gone."""
    kept = Registry().add(write_environment(toy_scene, tmp_path / "toy").parent)
    revision = model.gallery_revision
    model.refresh()
    wait(model, lambda: model.entries)
    assert model.entries == (kept,) == model.shown and model.gallery_revision > revision
    assert model.add() is None  # nothing is selected
    model.select(kept.id)
    model.form.labels = False
    assert model.add() == "/World/Added"
    model.replace()
    model.form.seed = 9
    for _ in range(2):
        model.randomize()
    assert isinstance(model.stage_commands, StageOfPaper)
    assert model.stage_commands.asked == [
        ("add", kept.id, None, False),
        ("replace", "/World/Added", kept.id, False),
        ("randomize", "/World/Added", 9, 0),
        ("randomize", "/World/Added", 9, 1),
    ]
    model.remove()
    wait(model, lambda: not model.entries)
    assert not kept.folder.exists() and model.selected == ""


def test_a_lost_librarian_is_replaced(model: Model) -> None:
    """A worker that was killed while it had nothing to do is started again by the next question."""
    model.refresh()
    wait(model, lambda: model.presets and model.pids)
    (pid,) = model.pids
    subprocess.run(["kill", "-9", str(pid)], check=True)
    wait(model, lambda: not model.pids)
    model.refresh()
    (other,) = model.pids
    assert other != pid and model.failure is None


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (Form(), "prompt is empty"),
        (Form(prompt="a room", seed=-1), "seed is -1"),
        (Form(prompt="a room", robot_radius=0.0), "radius"),
        (Form(prompt="a room", extent="house"), "the extent is 'house'"),
        (Form(input="/absent/film.mp4", extent="room"), "a film cannot have the extent room"),
        (Form(input="/absent/picture.png"), "/absent/picture.png does not exist"),
    ],
)
def test_a_form_that_cannot_be_answered_starts_nothing(model: Model, form: Form, message: str) -> None:
    """The trouble is named in the window at once, and no process is started for it."""
    model.form = form
    assert model.generate() is None
    assert model.failure is not None and message in model.failure.message
    assert model.state == "idle" and model.pids == []


def test_the_model_runs_without_kit_torch_and_numpy() -> None:
    """What Kit's Python loads for the window is plain Python."""
    code = "import sys, omni_gen3d.kit.model; print(*{m.partition('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "pxr", "omni", "carb", "yaml"} & set(loaded)
