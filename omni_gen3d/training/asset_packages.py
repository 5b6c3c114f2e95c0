"""The packages that real objects, textures and photographs come in: fetched by their own tools, checked, read.

Nothing in them is executed or unpacked onto the disk; an archive's members are read one by one, each of bounded size.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, BinaryIO

from omni_gen3d.errors import InputError, MissingDependencyError

_MAX_MEMBER_BYTES = 256 << 20
_MAX_MEMBERS = 20_000
_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60


@dataclass(frozen=True)
class Package:
    """A package of a known state.

    Attributes:
        name: In its registry.
        version: Exactly this one.
        file: Name of the archive.
        sha256: Of the archive.
        licence: What a licence text inside it must say.
        licence_file: Where that text is.
    """

    name: str
    version: str
    file: str
    sha256: str
    licence: str
    licence_file: str

    @property
    def is_debian(self) -> bool:
        return self.file.endswith(".deb")

    def command(self) -> list[str]:
        """What fetches the archive into the current folder."""
        if self.is_debian:
            return ["apt-get", "download", "-q", f"{self.name}={self.version}"]
        return [sys.executable, "-m", "pip", "download", "-q", "--no-deps", f"{self.name}=={self.version}"]


FURNITURE = Package(
    "sweethome3d-furniture", "1.8-1", "sweethome3d-furniture_1.8-1_all.deb",
    "3ccb90c63f9525e887a767b9cd5c8b6933b8b6b2973a615a5359ee68a2118668",
    r"Files: BlendSwap-CC-0/\*\nCopyright:[^\n]*\n(?: [^\n]*\n)*License: CC0",
    "usr/share/doc/sweethome3d-furniture/copyright",
)  # fmt: skip
TEXTURES = (
    Package(
        "robosuite", "1.5.2", "robosuite-1.5.2-py3-none-any.whl",
        "b9e02df55de8949739de6ba1d196d2ba59cf33c51a76efcfbe5c2f73cdcf99ce",
        "MIT License", "robosuite-1.5.2.dist-info/licenses/LICENSE",
    ),
    Package(
        "metaworld", "3.1.1", "metaworld-3.1.1-py3-none-any.whl",
        "99e25d9baf97f2f1a19ca89c0d2ca9c6a2b396d9a9be81729de64eedc683f0d3",
        "MIT License", "metaworld-3.1.1.dist-info/licenses/LICENSE",
    ),
)  # fmt: skip
PHOTOGRAPHS = Package(
    "stereodemo", "0.7", "stereodemo-0.7-py3-none-any.whl",
    "effd07da657295e834aa1b0c89cc962e953d66b506a75365ad32a1114f2389ec",
    "MIT License", "stereodemo-0.7.dist-info/licenses/LICENSE",
)  # fmt: skip


def fetch(package: Package, folder: Path) -> Path:
    """Path of a package's archive, fetched unless a good one lies in the folder.

    Raises:
        MissingDependencyError: The tool that fetches it is missing.
        InputError: It cannot be fetched, or is not the archive it should be.
    """
    path = folder / package.file
    if path.is_file() and digest_of(path) == package.sha256:
        return path
    command = package.command()
    if shutil.which(command[0]) is None:
        raise MissingDependencyError(
            f"{command[0]} is not on PATH; it fetches {package.name} {package.version}. Fetch {package.file} on "
            f"another machine and put it into {folder}."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as place:
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        made = Path(place) / package.file
        if done.returncode != 0 or not made.is_file():
            said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it says nothing"]
            raise InputError(f"'{' '.join(command)}' brought no {package.file}: {said[0][:300]}")
        found = digest_of(made)
        if found != package.sha256:
            raise InputError(
                f"{package.file} has the sha256 {found}, not {package.sha256}: it is not the file that was looked at "
                "when this was written, and is not used."
            )
        made.replace(path)
    return path


def digest_of(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def members(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Regular files of a .deb, wheel or zip whose names are wanted, with their content; names are never paths to us.

    Raises:
        InputError: The archive is broken or holds too much.
    """
    try:
        if path.suffix == ".deb":
            with _data_of_deb(path) as stream, tarfile.open(fileobj=stream, mode="r|*") as archive:
                for number, member in enumerate(archive):
                    name = member.name.removeprefix("./")
                    if number > _MAX_MEMBERS:
                        raise InputError(f"{path.name} holds more than {_MAX_MEMBERS} files.")
                    file = archive.extractfile(member) if member.isreg() and wanted(name) else None
                    if file is not None:
                        yield name, _bounded(file, member.size, name)
        else:
            with path.open("rb") as file:
                yield from zip_members(file, path.name, wanted)
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise InputError(f"{path.name} is broken ({error}); delete it and fetch it again.") from error


def zip_members(file: BinaryIO, name: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Likewise, of a zip that is open."""
    with zipfile.ZipFile(file) as archive:
        if len(archive.infolist()) > _MAX_MEMBERS:
            raise InputError(f"{name} holds more than {_MAX_MEMBERS} files.")
        for entry in archive.infolist():
            if not entry.is_dir() and wanted(entry.filename):
                with archive.open(entry) as member:
                    yield entry.filename, _bounded(member, entry.file_size, entry.filename)


def expect_licence(package: Package, path: Path) -> str:
    """The licence text inside an archive, which must say what it is expected to.

    Raises:
        InputError: It is missing or says something else.
    """
    for _, content in members(path, lambda name: name == package.licence_file):
        text = content.decode("utf-8", "replace")
        if re.search(package.licence, text):
            return text
        raise InputError(f"the licence in {path.name} does not say {package.licence!r}; it is not used.")
    raise InputError(f"{path.name} holds no licence at {package.licence_file}; it is not used.")


def _bounded(file: IO[bytes], size: int, name: str) -> bytes:
    """Content of a member of the size that its header names."""
    if size > _MAX_MEMBER_BYTES:
        raise InputError(f"{name} is larger than {_MAX_MEMBER_BYTES >> 20} MiB.")
    content = file.read(size)
    if len(content) != size:
        raise InputError(f"{name} is cut off: {len(content)} of {size} bytes.")
    return content


@contextmanager
def _data_of_deb(path: Path) -> Iterator[BinaryIO]:
    """The tar archive of a Debian package, compressed: the member ``data.tar.*`` of an ar archive (deb(5))."""
    with path.open("rb") as file:
        if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
            raise InputError(f"{path.name} is no Debian package.")
        while len(header := file.read(_AR_HEADER)) == _AR_HEADER:
            name, length = header[:16].decode("ascii", "replace").strip(" /"), header[48:58]
            if not length.strip().isdigit():
                break
            if name.startswith("data.tar"):
                yield BytesIO(_bounded(file, int(length), name))
                return
            file.seek(int(length) + int(length) % 2, 1)
    raise InputError(f"{path.name} holds no data.tar; delete it and fetch it again.")
