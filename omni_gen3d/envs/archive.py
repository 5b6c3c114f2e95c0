"""One environment as one file: a zip archive whose files are stored as they are, and archives of others read safely."""

from __future__ import annotations

import os
import shutil
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omni_gen3d.envs.intake import ENTRY_NAME, Opener
from omni_gen3d.errors import InputError
from omni_gen3d.usd.package import check_table_of_contents
from omni_gen3d.usd.target import MANIFEST_NAME, is_described_file

# The first day that zip knows: the same environment gives the same bytes.
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)


def write_archive(folder: Path, names: list[str], target: Path) -> None:
    """Pack files of ``folder`` into ``target``, which appears whole or not at all.

    Raises:
        InputError: ``target`` is a folder or cannot be written, a file is gone, or the archive would exceed 4 GiB.
    """
    if target.is_dir() or not target.parent.is_dir():
        raise InputError(f"{target} cannot be written; name a file in a folder that exists.")
    staging = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(staging, "x", zipfile.ZIP_STORED, allowZip64=False) as archive:
            for name in names:
                entry = zipfile.ZipInfo(name, _FIRST_DAY)
                # Stated, so that zipfile refuses a large file before it writes it.
                entry.file_size = (folder / name).stat().st_size
                entry.external_attr = 0o644 << 16
                with (folder / name).open("rb") as source, archive.open(entry, "w") as copy:
                    shutil.copyfileobj(source, copy, 2**20)
        staging.replace(target)
    except (OSError, RuntimeError, zipfile.LargeZipFile) as error:
        raise InputError(
            f"{target} cannot be written: {error}. An environment beyond 4 GiB is taken along as a folder."
        ) from error
    finally:
        staging.unlink(missing_ok=True)


@contextmanager
def opened_archive(path: Path) -> Iterator[Opener]:
    """Yield a function that opens the files of an archive by name.

    Raises:
        InputError: The file is no such archive: a name in it is none of an environment's or is there twice, or a file
            is compressed, encrypted or claims more bytes than there are. Also while its files are read.
    """
    try:
        check_table_of_contents(path, "archive of an environment")
        with zipfile.ZipFile(path) as archive:
            entries = _checked_entries(path, archive)

            def open_file(name: str):
                if name not in entries:
                    raise InputError(f"{path.name} lacks {name}; export the environment again.")
                return archive.open(entries[name])

            yield open_file  # pyright: ignore[reportReturnType] -- IO[bytes] is a BinaryIO in all but name
    except InputError:
        raise
    except (OSError, EOFError, RuntimeError, ValueError, struct.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path.name} is no readable archive of an environment: {error}.") from error


def _checked_entries(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = entry.orig_filename
        if name != entry.filename or not (name in (ENTRY_NAME, MANIFEST_NAME) or is_described_file(name)):
            raise InputError(f"{path.name} holds a file named {name[:80]!r}, which is none of an environment's.")
        if name in entries:
            raise InputError(f"{path.name} holds '{name}' twice.")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size or entry.flag_bits & 1:
            raise InputError(f"{path.name} holds '{name}' compressed or encrypted; files are stored as they are.")
        entries[name] = entry
    if sum(entry.file_size for entry in entries.values()) > path.stat().st_size:
        raise InputError(f"{path.name} claims more bytes than it has.")
    return entries
