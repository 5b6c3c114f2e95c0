"""An environment as one usdz file, and usdz files of others taken apart without trusting them.

OpenUSD maps a package into memory and follows its headers; a hostile one is therefore read here first, with the sizes
that it claims held against the bytes that it has.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pxr import Sdf, Tf

from omni_gen3d.errors import InputError
from omni_gen3d.usd.manifest import FileDigest, Manifest
from omni_gen3d.usd.target import MANIFEST_NAME, PACKAGE_NAME, ROOT_NAME

LAYER_SUFFIXES = (".usd", ".usda", ".usdc")
# What the usdz specification lets a package hold beside layers.
_OTHER_SUFFIXES = (".png", ".jpg", ".jpeg", ".exr", ".avif", ".m4a", ".mp3", ".wav", ".usdz")
_ALIGNMENT = 64
_MAX_MEMBERS = 20_000
_MAX_DIRECTORY_BYTES = 8 * 2**20
_END_RECORD = struct.Struct("<4s4H2LH")


def package_usdz(folder: Path | str) -> Path:
    """Pack the layers of an environment into ``environment.usdz`` in the same folder, and return its path.

    The package holds every variant and clip; it appears whole or not at all, and the same folder gives the same bytes.

    Raises:
        InputError: The folder is no environment, a file differs from its digest, or the package cannot be written.
    """
    folder = Path(folder).expanduser().resolve()
    manifest = Manifest.read(folder / MANIFEST_NAME)
    layers = [ROOT_NAME, *sorted(name for name in manifest.files if name.endswith(".usdc"))]
    for name in layers:
        if not (folder / name).is_file() or FileDigest.of(folder / name) != manifest.files[name]:
            raise InputError(f"{folder / name} is missing or differs from its digest; restore or generate it again.")
    target = folder / PACKAGE_NAME
    # OpenUSD finishes a package by a rename of its own, so it gets a name that nobody else has.
    staging = folder / f".{PACKAGE_NAME}.{os.getpid()}.usdz"
    try:
        with Sdf.ZipFileWriter.CreateNew(str(staging)) as writer:
            for name in layers:
                if not writer.AddFile(str(folder / name), name):
                    raise OSError(f"{name} could not be added")
        _forget_times(staging)
        staging.chmod((folder / ROOT_NAME).stat().st_mode & 0o777)
        staging.replace(target)
    except (OSError, Tf.ErrorException) as error:
        raise InputError(f"{target} cannot be written: {error}.") from error
    finally:
        staging.unlink(missing_ok=True)
    return target


@contextmanager
def unpacked(package: Path) -> Iterator[Path]:
    """Extract a usdz file into a temporary folder and yield the path of its root layer; the folder goes at the end.

    Takes no more room on disk than the package itself, and no more memory than its table of contents.

    Raises:
        InputError: The file is no usdz package, or one that must not be opened (see ``read_members``).
    """
    members = read_members(package)
    with tempfile.TemporaryDirectory(prefix="omni_gen3d-usdz-") as directory, package.open("rb") as file:
        for name, (offset, size) in members.items():
            target = Path(directory, name)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as copy:
                    file.seek(offset)
                    _copy(file, copy, size)
            except (OSError, ValueError) as error:
                raise InputError(f"{package.name} cannot be unpacked: '{name}': {error}.") from error
        yield Path(directory, next(iter(members)))


def member_digests(package: Path) -> dict[str, FileDigest]:
    """Digest of every file in a package.

    Raises:
        InputError: See ``read_members``.
    """
    digests = {}
    with package.open("rb") as file:
        for name, (offset, size) in read_members(package).items():
            file.seek(offset)
            digest, left = hashlib.sha256(), size
            while left > 0 and (block := file.read(min(left, 2**20))):
                digest.update(block)
                left -= len(block)
            digests[name] = FileDigest(digest.hexdigest(), size)
    return digests


def read_members(package: Path) -> dict[str, tuple[int, int]]:
    """Where each file of a usdz package lies: offset and size [bytes] by name, the root layer first.

    Raises:
        InputError: The file is no zip archive, or breaks a rule of usdz: files are stored uncompressed and aligned to
            64 bytes, the first is a USD layer; or a name leads out of the package, is there twice, or claims more
            bytes than there are.
    """
    try:
        check_table_of_contents(package, "usdz package")
        with zipfile.ZipFile(package) as archive, package.open("rb") as file:
            total = package.stat().st_size
            members: dict[str, tuple[int, int]] = {}
            for entry in archive.infolist():
                _check_entry(package, entry)
                file.seek(entry.header_offset)
                header = file.read(30)
                if header[:4] != b"PK\x03\x04" or len(header) < 30:
                    raise InputError(f"{package.name} holds no file where its table of contents says.")
                name_length, extra_length = struct.unpack("<2H", header[26:30])
                offset = entry.header_offset + 30 + name_length + extra_length
                if offset + entry.file_size > total:
                    raise InputError(
                        f"{package.name} claims {entry.file_size} bytes for '{entry.filename}', more than it holds."
                    )
                if offset % _ALIGNMENT:
                    raise InputError(f"{package.name} holds '{entry.filename}' at byte {offset}; usdz aligns to 64.")
                if entry.filename in members:
                    raise InputError(f"{package.name} holds '{entry.filename}' twice.")
                members[entry.filename] = (offset, entry.file_size)
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, ValueError, NotImplementedError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{package.name} is no readable usdz package: {error}") from error
    if sum(size for _, size in members.values()) > total:
        raise InputError(f"{package.name} claims more bytes than the {total} it has; its files overlap.")
    if not members or PurePosixPath(next(iter(members))).suffix.lower() not in LAYER_SUFFIXES:
        raise InputError(f"{package.name} does not begin with a USD layer, as a usdz package must.")
    return members


def check_table_of_contents(package: Path, what: str) -> None:
    """Refuse a zip archive whose table of contents would not fit into memory, before anybody reads it.

    Args:
        package: The file.
        what: It ought to be.

    Raises:
        InputError: It is no zip archive, a 64-bit one, or lists too much.
    """
    with package.open("rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - _END_RECORD.size - 0xFFFF))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END_RECORD.size:
        raise InputError(f"{package.name} is no readable {what}: it is no zip archive.")
    _, _, _, _, count, directory_bytes, _, _ = _END_RECORD.unpack_from(tail, at)
    if count > _MAX_MEMBERS or directory_bytes > _MAX_DIRECTORY_BYTES:
        raise InputError(
            f"{package.name} lists {count} files in {directory_bytes} bytes; at most {_MAX_MEMBERS} in "
            f"{_MAX_DIRECTORY_BYTES} are read."
        )
    if tail[max(0, at - 20) : at].startswith(b"PK\x06\x07"):
        raise InputError(f"{package.name} is a 64-bit zip archive, which a {what} never is.")


def _check_entry(package: Path, entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    path = PurePosixPath(name)
    # zipfile cuts a name at a NUL; OpenUSD would not.
    if (
        not name
        or entry.orig_filename != name
        or path.is_absolute()
        or ".." in path.parts
        or any(c in name for c in '\\:"')
    ):
        raise InputError(f"{package.name} holds a file named {entry.orig_filename!r}, which leads out of the package.")
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size or entry.flag_bits & 1:
        raise InputError(
            f"{package.name} holds '{name}' compressed or encrypted ({entry.compress_size} bytes that claim to be "
            f"{entry.file_size}); usdz stores files as they are."
        )
    if path.suffix.lower() not in (*LAYER_SUFFIXES, *_OTHER_SUFFIXES):
        raise InputError(f"{package.name} holds '{name}'; usdz allows layers, pictures and sounds only.")


def _copy(source, target, size: int) -> None:
    while size > 0:
        block = source.read(min(size, 2**20))
        if not block:
            raise OSError("the package ends before the file does")
        target.write(block)
        size -= len(block)


def _forget_times(package: Path) -> None:
    """Set every modification time in a package to the first day that zip knows, so that it can be made again."""
    with zipfile.ZipFile(package) as archive:
        entries = [entry.header_offset for entry in archive.infolist()]
        directory = archive.start_dir
    first_day = struct.pack("<2H", 0, 1 << 5 | 1)
    with package.open("r+b") as file:
        for offset in entries:
            file.seek(offset + 10)
            file.write(first_day)
        at = directory
        for _ in entries:
            file.seek(at)
            record = file.read(46)
            name, extra, comment = struct.unpack("<3H", record[28:34])
            file.seek(at + 12)
            file.write(first_day)
            at += 46 + name + extra + comment
