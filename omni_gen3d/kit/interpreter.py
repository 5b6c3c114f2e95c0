"""Which Python generates: Kit's own has none of the libraries, and gets none installed."""

from __future__ import annotations

import os
from pathlib import Path

from omni_gen3d.errors import InputError

# Of the checkout or installation that this file belongs to.
ROOT = Path(__file__).parents[2]


class NoInterpreterError(InputError):
    """There is no Python that generates; the message says how to get one."""


def find_interpreter(stated: str | None, root: Path = ROOT) -> Path:
    """The Python of an omni_gen3d installation.

    Args:
        stated: Its path as the user set it; None or empty looks for the virtual environment that the README makes.
        root: The folder of the extension.

    Raises:
        NoInterpreterError: The path is not a file, or there is no virtual environment.
    """
    program = Path("Scripts", "python.exe") if os.name == "nt" else Path("bin", "python")
    usual = root / ".venv" / program
    if stated:
        interpreter = Path(stated).expanduser()
        if not interpreter.is_file():
            raise NoInterpreterError(f"the Python '{interpreter}' is not a file. {_how_to_get_one(root, usual)}")
        return interpreter
    if not usual.is_file():
        raise NoInterpreterError(
            f"no Python that generates is set, and there is no {usual}. {_how_to_get_one(root, usual)}"
        )
    return usual


def _how_to_get_one(root: Path, usual: Path) -> str:
    return (
        f'Run once:  python3.11 -m venv "{root / ".venv"}" && "{usual}" -m pip install "{root}"\n'
        "or name the Python of another installation of omni_gen3d below."
    )
