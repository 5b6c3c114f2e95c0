"""``environment.yaml``: what an environment is, where it came from, and the digests of its files."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from omni_gen3d.errors import InputError
from omni_gen3d.types import FreeSpace, SpawnPose
from omni_gen3d.usd.free_space import decode_free_space, encode_free_space
from omni_gen3d.usd.target import MANIFEST_NAME, REQUIRED_FILES, is_described_file

SCHEMA_VERSION = 1
# A hundred times what a room needs; a larger file is not read into memory.
MAX_MANIFEST_BYTES = 4 * 2**20
# libyaml reads ten times as fast as Python does; PyYAML can be built without.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Point = tuple[float, float, float]
Score = float | int | bool | None


@dataclass(frozen=True)
class FileDigest:
    """SHA-256 of a file's content, in hexadecimal, and its length."""

    sha256: str
    bytes: int

    @classmethod
    def of(cls, path: Path) -> FileDigest:
        with path.open("rb") as file:
            return cls(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


@dataclass(frozen=True)
class Manifest:
    """The content of ``environment.yaml``, in the order in which it is written.

    Attributes:
        schema_version: 1.
        title: One line for a list of environments.
        kind: ``static`` or ``dynamic``.
        prompt, input_sha256, seed, model, model_sha256: See ``omni_gen3d.types.Provenance``.
        num_gaussians: Number of splats; of a scene that moves, the largest at any time.
        bounds_m: Low and high corner of a box around every splat (three sigma) and every collider [m].
        floor_height_m: Height of the floor [m], None when none was seen.
        spawn_poses: Where a robot can stand.
        proxy: Figures of the collision proxy.
        warnings: Sentences a user must read.
        notes: Sentences about estimates made on the way.
        files: Digest of every other file of the folder, by name.
        tool_versions: Version of each tool that took part, by name.
        timings_s: Seconds of each stage; the one entry that differs between two runs of the same input.
        free_space: Voxels known to be empty, None in an environment without a collision proxy.
    """

    schema_version: int
    title: str
    kind: Literal["static", "dynamic"]
    prompt: str | None
    input_sha256: str | None
    seed: int | None
    model: str
    model_sha256: str | None
    num_gaussians: int
    bounds_m: tuple[Point, Point]
    floor_height_m: float | None
    spawn_poses: tuple[SpawnPose, ...]
    proxy: dict[str, Score]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    files: dict[str, FileDigest]
    tool_versions: dict[str, str]
    timings_s: dict[str, float]
    free_space: FreeSpace | None = field(compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dictionaries and scalars, as written to YAML."""
        plain: dict[str, Any] = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        plain["bounds_m"] = [list(corner) for corner in self.bounds_m]
        plain["spawn_poses"] = [
            {"position": [float(coordinate) for coordinate in pose.position], "yaw": float(pose.yaw)}
            for pose in self.spawn_poses
        ]
        plain["warnings"], plain["notes"] = list(self.warnings), list(self.notes)
        plain["files"] = {name: {"sha256": file.sha256, "bytes": file.bytes} for name, file in self.files.items()}
        plain["free_space"] = None if self.free_space is None else encode_free_space(self.free_space)
        return plain

    @classmethod
    def from_dict(cls, values: Any) -> Manifest:
        """Inverse of ``to_dict``.

        Raises:
            InputError: A key is missing or unknown, or a value is of the wrong type or out of range.
        """
        _expect_keys("the manifest", values, [entry.name for entry in fields(cls)])
        if values["schema_version"] != SCHEMA_VERSION or isinstance(values["schema_version"], bool):
            raise InputError(
                f"schema_version is {values['schema_version']!r}; this release reads {SCHEMA_VERSION}. "
                "Install the release that wrote the environment, or generate it again."
            )
        if values["kind"] not in ("static", "dynamic"):
            raise InputError(f"kind is {values['kind']!r}; expected 'static' or 'dynamic'.")
        for name in ("title", "model"):
            _expect_text(name, values[name])
        for name in ("prompt", "input_sha256", "model_sha256"):
            if values[name] is not None:
                _expect_text(name, values[name])
        if values["seed"] is not None:
            _expect_count("seed", values["seed"])
        _expect_count("num_gaussians", values["num_gaussians"])
        low, high = (_point("bounds_m", corner) for corner in _list("bounds_m", values["bounds_m"], length=2))
        return cls(
            **{
                **values,
                "bounds_m": (low, high),
                "floor_height_m": _optional_number("floor_height_m", values["floor_height_m"]),
                "spawn_poses": tuple(_spawn_pose(pose) for pose in _list("spawn_poses", values["spawn_poses"])),
                "proxy": {key: _score(f"proxy.{key}", score) for key, score in _mapping("proxy", values["proxy"])},
                "warnings": tuple(_expect_text("warnings", line) for line in _list("warnings", values["warnings"])),
                "notes": tuple(_expect_text("notes", line) for line in _list("notes", values["notes"])),
                "files": _file_digests(values["files"]),
                "tool_versions": {
                    name: _expect_text(f"tool_versions.{name}", version)
                    for name, version in _mapping("tool_versions", values["tool_versions"])
                },
                "timings_s": {
                    name: _number(f"timings_s.{name}", seconds)
                    for name, seconds in _mapping("timings_s", values["timings_s"])
                },
                "free_space": None if values["free_space"] is None else decode_free_space(values["free_space"]),
            }
        )

    def changed_files(self, folder: Path) -> list[str]:
        """Names of the present files in ``folder`` whose content is not the one that the manifest describes."""
        return [
            name
            for name, digest in self.files.items()
            if (folder / name).is_file() and FileDigest.of(folder / name) != digest
        ]

    def write(self, path: Path) -> None:
        """Write the manifest as YAML, keys in a fixed order.

        Raises:
            InputError: A value could not be read back (a NaN among the scores), or the text exceeds 4 MiB.
        """
        values = self.to_dict()
        Manifest.from_dict(values)
        text = yaml.safe_dump(values, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)
        if len(text.encode()) > MAX_MANIFEST_BYTES:
            remedy = "" if self.free_space is None else f"; use larger voxels than {self.free_space.voxel_size} m"
            raise InputError(
                f"the manifest would take {len(text.encode())} bytes, at most {MAX_MANIFEST_BYTES} are allowed{remedy}."
            )
        path.write_text(text, encoding="utf-8", newline="\n")

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a manifest.

        Raises:
            InputError: The file is missing, larger than 4 MiB, no YAML, or does not describe an environment.
        """
        try:
            with path.open("rb") as file:
                content = file.read(MAX_MANIFEST_BYTES + 1)
            if len(content) > MAX_MANIFEST_BYTES:
                raise InputError(f"{path} is larger than {MAX_MANIFEST_BYTES} bytes; no environment needs that.")
            return cls.from_dict(yaml.load(content.decode("utf-8"), _Loader))
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}. Is this an environment folder?") from error
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"{path} is not valid YAML: {error}") from error
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def _expect_keys(where: str, values: Any, names: list[str]) -> None:
    if not isinstance(values, dict):
        raise InputError(f"{where} is no mapping; expected the keys {', '.join(names)}.")
    missing = [name for name in names if name not in values]
    unknown = [str(name) for name in values if name not in names]
    if missing or unknown:
        raise InputError(f"{where} has wrong keys: missing [{', '.join(missing)}], unknown [{', '.join(unknown)}].")


def _expect_text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{name} is {value!r}; expected text.")
    return value


def _expect_count(name: str, value: Any) -> int:
    if type(value) is not int or value < 0:
        raise InputError(f"{name} is {value!r}; expected an integer of at least 0.")
    return value


def _number(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise InputError(f"{name} is {value!r}; expected a finite number.")
    return float(value)


def _optional_number(name: str, value: Any) -> float | None:
    return None if value is None else _number(name, value)


def _score(name: str, value: Any) -> Score:
    if value is not None and not isinstance(value, bool | int):
        return _number(name, value)
    return value


def _list(name: str, value: Any, length: int | None = None) -> list[Any]:
    if not isinstance(value, list) or length not in (None, len(value)):
        raise InputError(f"{name} is no list{'' if length is None else f' of {length}'}.")
    return value


def _mapping(name: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InputError(f"{name} is no mapping from names to values.")
    return list(value.items())


def _point(name: str, value: Any) -> Point:
    x, y, z = (_number(name, coordinate) for coordinate in _list(name, value, length=3))
    return x, y, z


def _spawn_pose(value: Any) -> SpawnPose:
    _expect_keys("an entry of spawn_poses", value, ["position", "yaw"])
    return SpawnPose(_point("spawn_poses.position", value["position"]), _number("spawn_poses.yaw", value["yaw"]))


def _file_digests(value: Any) -> dict[str, FileDigest]:
    described = [name for name, _ in _mapping("files", value) if is_described_file(name)]
    _expect_keys("files", value, [*(name for name in REQUIRED_FILES if name != MANIFEST_NAME), *described])
    for name, entry in value.items():
        _expect_keys(f"files.{name}", entry, ["sha256", "bytes"])
        _expect_text(f"files.{name}.sha256", entry["sha256"])
        _expect_count(f"files.{name}.bytes", entry["bytes"])
    return {name: FileDigest(**entry) for name, entry in value.items()}
