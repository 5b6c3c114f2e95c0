"""The manifest: typed, bounded, and refused with the name of what is wrong."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from omni_gen3d.errors import InputError
from omni_gen3d.types import FreeSpace, SpawnPose
from omni_gen3d.usd.manifest import MAX_MANIFEST_BYTES, FileDigest, Manifest
from omni_gen3d.usd.target import MANIFEST_NAME, REQUIRED_FILES


def toy_manifest() -> Manifest:
    return Manifest(
        schema_version=1,
        title="2001-01-01",
        kind="dynamic",
        prompt="yes: 'a' \"b\"\n# ünïcode \t{",
        input_sha256=None,
        seed=None,
        model="mini",
        model_sha256=None,
        num_gaussians=7,
        bounds_m=((-1.0, -2.0, 1e-7), (1.0, 2.0, 3e21)),
        floor_height_m=None,
        spawn_poses=(SpawnPose((1.0, 2.0, 0.1 + 0.2), -math.pi),),
        proxy={"faces": 12, "closed": False, "error_mm": None, "agreement": 0.1},
        warnings=("a: b",),
        notes=(),
        files={name: FileDigest("0" * 64, 5) for name in REQUIRED_FILES if name != MANIFEST_NAME},
        tool_versions={"openusd": "26.10"},
        timings_s={"write": 1e-5},
        free_space=FreeSpace(np.zeros((2, 3, 5), dtype=bool), np.zeros(3), 0.1),
    )


def test_round_trip_through_yaml(tmp_path: Path):
    """Every value survives, also text that YAML would take for a date, a boolean or a comment."""
    manifest = toy_manifest()
    manifest.write(tmp_path / "environment.yaml")
    assert Manifest.read(tmp_path / "environment.yaml") == manifest


def test_files_that_depend_on_the_scene(tmp_path: Path):
    """Colliders and clips may be described, and a manifest without a proxy has no free space; all of it comes back."""
    manifest = toy_manifest()
    extra = ("collision.usdc", "collision_convex.usdc", "splats.0000.usdc")
    files = manifest.files | dict.fromkeys(extra, FileDigest("1" * 64, 6))
    manifest = dataclasses.replace(manifest, files=files, free_space=None)
    manifest.write(tmp_path / "environment.yaml")
    read = Manifest.read(tmp_path / "environment.yaml")
    assert read == manifest and read.free_space is None and set(extra) <= set(read.files)


@pytest.mark.parametrize("key", [field.name for field in dataclasses.fields(Manifest)])
def test_missing_key_is_named(key: str):
    """A manifest that lacks a key is refused with the key's name."""
    values = toy_manifest().to_dict()
    del values[key]
    with pytest.raises(InputError, match=key):
        Manifest.from_dict(values)


def test_unknown_key_is_named():
    """A misspelt key is refused with its name."""
    with pytest.raises(InputError, match="promt"):
        Manifest.from_dict(toy_manifest().to_dict() | {"promt": "a room"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema_version", 2),
        ("schema_version", True),
        ("title", None),
        ("kind", "solid"),
        ("prompt", 5),
        ("seed", -1),
        ("seed", 1.5),
        ("num_gaussians", "many"),
        ("bounds_m", [[0, 0, 0]]),
        ("bounds_m", [[0, 0, 0], [1, 1, math.nan]]),
        ("bounds_m", [[0, 0], [1, 1]]),
        ("floor_height_m", math.inf),
        ("spawn_poses", [{"position": [0, 0, 0]}]),
        ("spawn_poses", [{"position": [0, 0, "0"], "yaw": 0}]),
        ("proxy", {"faces": "12"}),
        ("proxy", {"faces": math.nan}),
        ("proxy", {3: 4}),
        ("warnings", "one sentence"),
        ("notes", [1]),
        ("files", {"environment.usda": {"sha256": "0", "bytes": 1}}),
        ("files", {name: {"sha256": "0", "bytes": 1} for name in (*REQUIRED_FILES, "splats.00000.usdc")}),
        ("tool_versions", {"python": 3.11}),
        ("timings_s", {"decode": None}),
        ("free_space", "empty"),
    ],
)
def test_wrong_value_is_named(key: str, value: Any):
    """A value of the wrong type or out of range is refused, and the message names its key."""
    with pytest.raises(InputError, match=key):
        Manifest.from_dict(toy_manifest().to_dict() | {key: value})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"just text",
        b"- a\n- b\n",
        b"a: [1, 2",
        b"\xff\xfe\x00",
        b"[" * 5000,
        b"!!python/object/apply:os.getcwd []",
        b"a: &a [1]\nb: *c\n",
        b"#" * (MAX_MANIFEST_BYTES + 1),
    ],
    ids=["empty", "text", "list", "cut", "binary", "deep", "object", "alias", "huge"],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes):
    """Content that is no manifest, too deep, too large or asks for Python objects ends in one clear error."""
    (tmp_path / "environment.yaml").write_bytes(content)
    with pytest.raises(InputError, match=r"environment\.yaml"):
        Manifest.read(tmp_path / "environment.yaml")


def test_unreadable_scores_are_not_written(tmp_path: Path):
    """A NaN among the scores is refused when written, not when read."""
    with pytest.raises(InputError, match="error_mm"):
        dataclasses.replace(toy_manifest(), proxy={"error_mm": math.nan}).write(tmp_path / "environment.yaml")
    assert not list(tmp_path.iterdir())


def test_changed_files_are_found(tmp_path: Path):
    """A file of other content or length than its digest says is named; a missing one is not called changed."""
    (tmp_path / "splats.usdc").write_bytes(b"abc")
    digest = FileDigest.of(tmp_path / "splats.usdc")
    assert digest == FileDigest("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 3)
    manifest = dataclasses.replace(toy_manifest(), files=toy_manifest().files | {"splats.usdc": digest})
    assert manifest.changed_files(tmp_path) == []
    (tmp_path / "splats.usdc").write_bytes(b"abd")
    assert manifest.changed_files(tmp_path) == ["splats.usdc"]


def test_yaml_reads_without_this_package(tmp_path: Path):
    """Another program sees plain lists and numbers."""
    toy_manifest().write(tmp_path / "environment.yaml")
    plain = yaml.safe_load((tmp_path / "environment.yaml").read_text(encoding="utf-8"))
    assert plain["spawn_poses"] == [{"position": [1.0, 2.0, 0.1 + 0.2], "yaw": -math.pi}]
    assert plain["timings_s"] == {"write": 1e-5}
