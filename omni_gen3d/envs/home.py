"""Where the library of environments lies, and the staging folders in which its writers prepare what they add.

::

    HOME/index.sqlite          what there is; can be made again from the folders
    HOME/environments/ID/      an environment folder and entry.json, what its owner says about it
    HOME/staging/HOST.PID.X/   of a writer at work
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omni_gen3d.errors import InputError

HOME_VARIABLE = "OMNI_GEN3D_HOME"
# Nobody takes a day to copy an environment; a leftover of another host is told by this alone.
_STALE_AFTER_S = 86_400.0


def default_home() -> Path:
    """``$OMNI_GEN3D_HOME``, else ``omni_gen3d`` in ``$XDG_DATA_HOME``, else in ``~/.local/share``."""
    stated = os.environ.get(HOME_VARIABLE)
    if stated:
        return Path(stated).expanduser().absolute()
    # An XDG folder that is not absolute does not count, says the specification.
    shared = Path(os.environ.get("XDG_DATA_HOME", ""))
    return (shared if shared.is_absolute() else Path.home() / ".local" / "share") / "omni_gen3d"


class Home:
    """The folders of one library; they are created when they are first used."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.index = directory / "index.sqlite"
        self.environments = directory / "environments"
        self._staging = directory / "staging"

    def create(self) -> None:
        """Make the folders.

        Raises:
            InputError: The file system refuses.
        """
        try:
            for folder in (self.environments, self._staging):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the library {self.directory} cannot be used: {error}. Set {HOME_VARIABLE} to a folder of yours."
            ) from error

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Yield a new empty folder on the file system of the library; what is left in it is removed.

        Raises:
            InputError: The file system refuses, here or inside.
        """
        self.create()
        # A dot separates the three; a host's name may hold dots itself.
        prefix = f"{socket.gethostname()}.{os.getpid()}."
        folder: Path | None = None
        try:
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=self._staging))
            yield folder
        except OSError as error:
            raise InputError(f"the library {self.directory} cannot be written: {error}.") from error
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def clear_leftovers(self) -> int:
        """Remove staging folders whose writer is dead; return how many there were."""
        leftovers = [folder for folder in self._staging.iterdir() if _is_left_over(folder)]
        for folder in leftovers:
            shutil.rmtree(folder, ignore_errors=True)
        return len(leftovers)


def _is_left_over(folder: Path) -> bool:
    host, _, pid = folder.name.rpartition(".")[0].rpartition(".")
    try:
        if time.time() - folder.stat().st_mtime > _STALE_AFTER_S:
            return True
    except FileNotFoundError:  # its writer was quicker
        return False
    # Elsewhere than on POSIX, signal 0 is not harmless.
    return host == socket.gethostname() and os.name == "posix" and pid.isdecimal() and not _is_alive(int(pid))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
