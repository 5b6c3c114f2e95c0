"""Where an environment may be written, and that it appears whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from omni_gen3d.errors import InputError
from omni_gen3d.usd import check_target, environment, validate, write_environment
from omni_gen3d.usd.target import replacing

if TYPE_CHECKING:
    from tests.conftest import ToyScene


def test_new_and_empty_folders_are_fine(tmp_path: Path):
    """An empty folder, and one below others that do not exist yet, are accepted; nothing is created."""
    assert check_target(tmp_path) == tmp_path
    assert check_target(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("below", ["file", "file/env", "file/a/b/env"])
def test_below_a_regular_file(tmp_path: Path, below: str, toy_scene: ToyScene):
    """A target that is a file, or lies below one, is refused by the check and by the writer; the file is untouched."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="file"):
        check_target(tmp_path / below)
    with pytest.raises(InputError, match="file"):
        write_environment(toy_scene, tmp_path / below)
    assert (tmp_path / "file").read_text() == "mine"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_name_that_no_file_system_takes(tmp_path: Path):
    """A name that is too long and one with a NUL are refused, not crashed upon."""
    for name in ("x" * 5000, "a\0b"):
        with pytest.raises(InputError, match="output folder"):
            check_target(tmp_path / name)


def test_folders_of_other_things_are_refused(tmp_path: Path, toy_scene: ToyScene):
    """A folder with files of its own is never replaced, not even one that holds an environment.yaml of another tool."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        check_target(tmp_path)
    (tmp_path / "environment.yaml").write_text("name: conda")
    with pytest.raises(InputError, match=r"notes\.txt"):
        write_environment(toy_scene, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_without_manifest_is_refused(tmp_path: Path):
    """A folder that holds a layer but no manifest is not known to be an environment."""
    (tmp_path / "environment.usda").write_text("#usda 1.0\n")
    with pytest.raises(InputError, match=r"environment\.yaml"):
        check_target(tmp_path)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError("No space left on device"), RuntimeError])
@pytest.mark.parametrize("stage", ["_write_splats", "_write_root", "_write_preview", "_describe"])
def test_nothing_is_left_of_an_interrupted_write(
    toy_scene: ToyScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, interruption
):
    """Whatever interrupts whichever step of the write, no folder, no parent and no temporary sibling remains."""

    def interrupt(*_: object) -> None:
        raise interruption

    monkeypatch.setattr(environment, stage, interrupt)
    with pytest.raises((KeyboardInterrupt, InputError, RuntimeError)):
        write_environment(toy_scene, tmp_path / "new" / "parents" / "env")
    assert not list(tmp_path.iterdir())


def test_the_old_environment_survives_an_interrupted_replacement(
    toy_scene: ToyScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """An interrupt in the last rename puts the old environment back, valid, with nothing beside it."""
    folder = write_environment(toy_scene, tmp_path / "env").parent
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    rename = Path.rename

    def interrupted_rename(self: Path, target: Path) -> Path:
        if target == folder and not self.name.endswith(".old"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted_rename)
    with pytest.raises(KeyboardInterrupt):
        write_environment(toy_scene, folder)
    monkeypatch.undo()
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [folder]
    assert validate(folder) == []


def test_permissions_are_those_of_a_plain_folder(tmp_path: Path):
    """The folder that appears can be read by whoever could read one made by mkdir."""
    (tmp_path / "plain").mkdir()
    with replacing(tmp_path / "env"):
        pass
    assert (tmp_path / "env").stat().st_mode == (tmp_path / "plain").stat().st_mode
