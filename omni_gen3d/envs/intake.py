"""The door of the library: an environment is copied in file by file, held against its manifest on the way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from omni_gen3d.envs.entry import Description, check_tags, describe
from omni_gen3d.envs.plain import from_plain, to_plain
from omni_gen3d.errors import InputError
from omni_gen3d.usd.manifest import MAX_MANIFEST_BYTES, FileDigest, Manifest
from omni_gen3d.usd.target import MANIFEST_NAME

ENTRY_NAME = "entry.json"
_MAX_ENTRY_BYTES = 64 * 2**10
_BLOCK = 2**20

# Opens a file of the environment by its name.
Opener = Callable[[str], AbstractContextManager[BinaryIO]]


@dataclass(frozen=True)
class OwnersNote:
    """``entry.json``: what the owner of an environment says about it."""

    tags: tuple[str, ...] = ()


def take_in(open_file: Opener, origin: str, tags: tuple[str, ...], folder: Path) -> Description:
    """Copy an environment into ``folder``, which is empty, and write its ``entry.json``.

    Only what the manifest describes is copied, and never more bytes of a file than it states.

    Raises:
        InputError: The manifest is no manifest, or a file is missing, unreadable or differs from its digest.
    """
    with open_file(MANIFEST_NAME) as source:
        content = source.read(MAX_MANIFEST_BYTES + 1)
    (folder / MANIFEST_NAME).write_bytes(content)
    try:
        manifest = Manifest.read(folder / MANIFEST_NAME)
    except InputError as error:
        raise InputError(f"{origin}: {str(error).removeprefix(f'{folder / MANIFEST_NAME}: ')}") from error
    description = describe(manifest, tags)
    for name, digest in manifest.files.items():
        with open_file(name) as source, (folder / name).open("xb") as target:
            found = _copy(source, target, digest.bytes)
        if found != digest:
            raise InputError(f"{origin}: {name} differs from its digest in {MANIFEST_NAME}; restore or make it again.")
    write_note(folder, description.tags)
    return description


def inspect_entry(folder: Path) -> Description:
    """What lies in a folder of the library, every digest checked.

    Raises:
        InputError: It is not what its name and its manifest say.
    """
    manifest = Manifest.read(folder / MANIFEST_NAME)
    description = describe(manifest, read_note(folder / ENTRY_NAME))
    missing = [name for name in manifest.files if not (folder / name).is_file()]
    changed = manifest.changed_files(folder)
    if missing or changed:
        raise InputError(f"{folder / [*missing, *changed][0]} is missing or differs from its digest.")
    if description.id != folder.name:
        raise InputError(f"{folder} holds the environment {description.id}.")
    return description


def read_note(path: Path) -> tuple[str, ...]:
    """Tags of an environment in the library; none where the note is missing.

    Raises:
        InputError: The note cannot be read.
    """
    if not path.exists():
        return ()
    with path.open("rb") as file:
        return tags_of_note(file, str(path))


def tags_of_note(file: BinaryIO, origin: str) -> tuple[str, ...]:
    """Tags in an ``entry.json`` of unknown origin.

    Raises:
        InputError: It holds something else.
    """
    try:
        content = file.read(_MAX_ENTRY_BYTES + 1)
        if len(content) > _MAX_ENTRY_BYTES:
            raise InputError(f"{origin} is larger than {_MAX_ENTRY_BYTES} bytes.")
        return check_tags(from_plain(OwnersNote, json.loads(content.decode()), ENTRY_NAME).tags)
    except (ValueError, RecursionError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{origin} is no readable note of an environment: {error}") from error


def write_note(folder: Path, tags: tuple[str, ...]) -> None:
    """Write ``entry.json`` whole or not at all."""
    staging = folder / f".{ENTRY_NAME}"
    staging.write_text(json.dumps(to_plain(OwnersNote(tags))) + "\n", encoding="utf-8")
    staging.replace(folder / ENTRY_NAME)


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> FileDigest:
    """Copy up to ``size`` bytes and one more is looked for; the digest of what was there."""
    digest, copied = hashlib.sha256(), 0
    while block := source.read(min(_BLOCK, size + 1 - copied)):
        digest.update(block)
        target.write(block)
        copied += len(block)
    return FileDigest(digest.hexdigest(), copied)
