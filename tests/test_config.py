"""Presets: closed, typed, found by name only."""

from __future__ import annotations

import pytest

from omni_gen3d import config
from omni_gen3d.config import Preset, load_preset, preset_names
from omni_gen3d.errors import InputError


def test_mini_is_the_default():
    """The shipped preset is there under its name and changes nothing."""
    assert "mini" in preset_names()
    assert load_preset("mini") == Preset()


@pytest.mark.parametrize("name", ["gigantic", "../mini", "", "mini.yaml"])
def test_unknown_names_are_refused(name):
    """A name that is no preset, path or not, is refused, and the message tells the allowed ones."""
    with pytest.raises(InputError, match="mini"):
        load_preset(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hieght: 176", "hieght"),
        ("height: tall", "height"),
        ("video_steps: 4.5", "video_steps"),
        ("family: 3", "family"),
    ],
)
def test_misspelt_keys_and_wrong_types_are_refused(text, message, tmp_path, monkeypatch):
    """A key or type that the preset does not know is named in the error."""
    (tmp_path / "mine.yaml").write_text(text)
    monkeypatch.setattr(config, "_FOLDERS", (tmp_path,))
    with pytest.raises(InputError, match=message):
        load_preset("mine")


def test_values_replace_defaults(tmp_path, monkeypatch):
    """What the file gives is taken, an integer for a length too; the rest stays."""
    (tmp_path / "mine.yaml").write_text("max_gaussians: 20000\nrobot_radius: 1\n")
    monkeypatch.setattr(config, "_FOLDERS", (tmp_path,))
    assert load_preset("mine") == Preset(max_gaussians=20_000, robot_radius=1)
