"""Where an environment may be written, and the swap that makes it appear whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omni_gen3d.errors import InputError

MANIFEST_NAME = "environment.yaml"
ROOT_NAME = "environment.usda"
SPLATS_NAME = "splats.usdc"
COLLISION_NAME = "collision.usdc"
CONVEX_NAME = "collision_convex.usdc"
CAMERAS_NAME = "cameras.usdc"
MOVING_NAME = "moving.usdc"
MOVING_COLLISION_NAME = "moving_collision.usdc"
RESIDUAL_NAME = "residual.usdc"
PREVIEW_NAME = "preview.png"
FILM_NAME = "preview.webp"
PACKAGE_NAME = "environment.usdz"
MAX_CLIPS = 10_000

# What every environment holds; the others depend on the scene.
REQUIRED_FILES = (ROOT_NAME, SPLATS_NAME, CAMERAS_NAME, PREVIEW_NAME, MANIFEST_NAME)
_OPTIONAL_NAMES = (COLLISION_NAME, CONVEX_NAME, MOVING_NAME, MOVING_COLLISION_NAME, RESIDUAL_NAME, FILM_NAME)
_OPTIONAL_FILES = re.compile("|".join((*map(re.escape, _OPTIONAL_NAMES), r"(splats|residual)\.[0-9]{4}\.usdc")))


def clip_name(index: int, name: str = SPLATS_NAME) -> str:
    """The layer that holds frame ``index`` of what ``name`` shows, where its number of splats changes."""
    return f"{name.removesuffix('.usdc')}.{index:04d}.usdc"


def is_described_file(name: str) -> bool:
    """Whether the manifest of an environment may describe a file of this name."""
    return name != MANIFEST_NAME and (name in REQUIRED_FILES or _OPTIONAL_FILES.fullmatch(name) is not None)


def check_target(directory: Path | str) -> Path:
    """Absolute path of a folder that an environment may be written to; creates nothing.

    A folder may be new, empty, or hold an earlier environment and nothing else, because replacing it removes what it
    holds.

    Raises:
        InputError: The path is, or lies below, a regular file; it cannot be written; or it holds other files.
    """
    try:
        target = Path(directory).expanduser().resolve()
        if target.exists():
            _check_replaceable(target)
        ancestor = _nearest_existing(target.parent)
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"output folder '{directory}' cannot be used: {error}. Choose another one.") from error
    if not ancestor.is_dir():
        raise InputError(f"output folder '{directory}' lies below the file {ancestor}. Choose another one.")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise InputError(f"output folder '{directory}' cannot be created: {ancestor} is not writable.")
    return target


@contextmanager
def replacing(directory: Path | str) -> Iterator[Path]:
    """Yield a new temporary sibling of ``directory`` to fill; on success it becomes ``directory``, else it is removed.

    An earlier environment is moved aside, replaced and then deleted; a process killed between the two renames leaves
    it beside the target, whole. Parent folders are created, and removed again when the body raises.

    Raises:
        InputError: See ``check_target``; or the file system refuses.
    """
    target = check_target(directory)
    created = _missing_parents(target)
    staging: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        yield staging
        _open_to_readers(staging)
        _swap(staging, target)
    except BaseException as error:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        for parent in created:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        if isinstance(error, OSError):
            raise InputError(f"output folder '{directory}' cannot be written: {error}.") from error
        raise


def _check_replaceable(target: Path) -> None:
    if not target.is_dir():
        raise InputError(f"output folder '{target}' is an existing file. Choose another path.")
    names = {entry.name for entry in target.iterdir()}
    foreign = sorted(name for name in names - {MANIFEST_NAME, PACKAGE_NAME} if not is_described_file(name))
    if foreign or (names and MANIFEST_NAME not in names):
        found = f"it holds '{foreign[0]}'" if foreign else f"it has no {MANIFEST_NAME}"
        raise InputError(
            f"output folder '{target}' exists and is not an environment that may be replaced: {found}. "
            "Choose another folder, or empty this one."
        )
    if not os.access(target, os.W_OK | os.X_OK):
        raise InputError(f"output folder '{target}' is not writable. Choose another one.")


def _nearest_existing(path: Path) -> Path:
    return path if path.exists() or path == path.parent else _nearest_existing(path.parent)


def _missing_parents(target: Path) -> list[Path]:
    """Ancestors that do not exist yet, deepest first."""
    return [parent for parent in target.parents if not parent.exists()]


def _open_to_readers(folder: Path) -> None:
    """Give a private temporary folder the permissions that a plain ``mkdir`` would have given."""
    umask = os.umask(0)
    os.umask(umask)
    folder.chmod(0o777 & ~umask)


def _swap(staging: Path, target: Path) -> None:
    if not target.exists():
        staging.rename(target)
        return
    _check_replaceable(target)
    aside = staging.with_name(f"{staging.name}.old")
    target.rename(aside)
    try:
        staging.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)
