"""The Python that generates is found, or the message says how to get one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from omni_gen3d.errors import InputError
from omni_gen3d.kit.interpreter import find_interpreter


def test_the_setting_goes_first_then_the_virtual_environment(tmp_path: Path) -> None:
    usual = tmp_path / ".venv" / "bin" / "python"
    usual.parent.mkdir(parents=True)
    usual.touch()
    assert find_interpreter(sys.executable, tmp_path) == Path(sys.executable)
    assert find_interpreter("", tmp_path) == find_interpreter(None, tmp_path) == usual


@pytest.mark.parametrize("stated", ["", "/absent/python"])
def test_what_to_run_is_said(tmp_path: Path, stated: str) -> None:
    """Nothing is downloaded or guessed; the two commands are in the message."""
    with pytest.raises(InputError, match=r"-m venv .*\.venv.* -m pip install") as refusal:
        find_interpreter(stated, tmp_path)
    assert stated in str(refusal.value)
