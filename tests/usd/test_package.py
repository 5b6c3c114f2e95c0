"""usdz: an environment in one file, and hostile packages that end in one clear error."""

from __future__ import annotations

import dataclasses
import struct
import tempfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from pxr import Usd, UsdGeom
from typer.testing import CliRunner

from omni_gen3d.cli import app
from omni_gen3d.errors import InputError
from omni_gen3d.types import GaussianSequence
from omni_gen3d.usd import check_target, package_usdz, read_environment, validate, write_environment
from omni_gen3d.usd.package import read_members
from omni_gen3d.usd.splats import read_splats

if TYPE_CHECKING:
    from tests.conftest import ToyScene

LAYER = (
    b'#usda 1.0\n(\n    defaultPrim = "World"\n    metersPerUnit = 1\n    upAxis = "Z"\n)\ndef Xform "World"\n{\n}\n'
)


@pytest.fixture
def folder(toy_scene_in_pieces: ToyScene, tmp_path: Path) -> Path:
    return write_environment(toy_scene_in_pieces, tmp_path / "env").parent


def aligned(name: str, content: bytes, offset: int, **changes: int) -> zipfile.ZipInfo:
    """An entry whose content begins at a multiple of 64 bytes when its header is written at ``offset``."""
    entry = zipfile.ZipInfo(name)
    padding = -(offset + 30 + len(name) + 4) % 64
    entry.extra = struct.pack("<2H", 0x1986, padding) + bytes(padding)
    for key, value in changes.items():
        setattr(entry, key, value)
    return entry


def make_package(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with path.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(aligned(name, content, file.tell()), content, compress_type=compression)
    return path


def only_error(path: Path) -> str:
    findings = validate(path)
    assert [finding.severity for finding in findings] == ["error"], findings
    assert "\n" not in str(findings[0])
    return str(findings[0])


def test_an_environment_in_one_file(folder: Path, toy_scene_in_pieces: ToyScene):
    """The package opens, holds every variant, is valid, and gives the splats back bit by bit."""
    package = package_usdz(folder)
    assert package == folder / "environment.usdz"
    assert validate(package) == [] and validate(folder) == []
    stage = Usd.Stage.Open(str(package))
    assert not stage.GetCompositionErrors()
    splats = stage.GetPrimAtPath("/World/Environment/Splats")
    assert torch.equal(read_splats(splats).sh, toy_scene_in_pieces.gaussians.sh)
    variants = stage.GetPrimAtPath("/World/Environment").GetVariantSets()
    for variant, count in (("mesh", 4), ("convex", 5), ("none", 0)):
        variants.SetSelection("collision", variant)
        assert len([prim for prim in stage.Traverse() if prim.IsA(UsdGeom.Mesh)]) == count


def test_layers_are_stored_and_aligned(folder: Path):
    """The root layer comes first; every layer is uncompressed and begins at a multiple of 64 bytes."""
    package = package_usdz(folder)
    content = package.read_bytes()
    members = read_members(package)
    assert list(members) == [
        "environment.usda", "cameras.usdc", "collision.usdc", "collision_convex.usdc", "splats.usdc",
    ]  # fmt: skip
    for name, (offset, size) in members.items():
        assert offset % 64 == 0 and content[offset : offset + size] == (folder / name).read_bytes()


def test_same_folder_same_bytes(folder: Path):
    """Packing again gives the same bytes and leaves nothing else behind."""
    first = package_usdz(folder).read_bytes()
    before = sorted(file.name for file in folder.iterdir())
    assert package_usdz(folder).read_bytes() == first
    assert sorted(file.name for file in folder.iterdir()) == before


def test_a_packed_environment_may_be_replaced(folder: Path, toy_scene: ToyScene):
    """The package is part of the environment: writing over the folder takes it away."""
    package_usdz(folder)
    assert check_target(folder) == folder
    write_environment(toy_scene, folder)
    assert not (folder / "environment.usdz").exists()


def test_clips_are_packed(toy_scene: ToyScene, growing_gaussians: GaussianSequence, tmp_path: Path):
    """A sequence of clips plays out of the package."""
    scene = dataclasses.replace(toy_scene, gaussians=growing_gaussians)
    package = package_usdz(write_environment(scene, tmp_path / "env").parent)
    assert validate(package) == []
    stage = Usd.Stage.Open(str(package))
    for i, frame in enumerate(growing_gaussians.frames):
        assert torch.equal(read_splats(stage.GetPrimAtPath("/World/Environment/Splats"), i).means, frame.means)


def test_a_damaged_environment_is_not_packed(folder: Path):
    """A layer that differs from its digest is named, and no package appears."""
    with (folder / "environment.usda").open("a") as file:
        file.write("# mine\n")
    with pytest.raises(InputError, match=r"environment\.usda"):
        package_usdz(folder)
    assert not list(folder.glob("*.usdz")) and not list(folder.glob(".*"))


def test_a_stale_package_is_found(folder: Path, toy_scene: ToyScene, tmp_path: Path):
    """A package of another environment beside the layers is an error of the folder."""
    other = package_usdz(write_environment(toy_scene, tmp_path / "other").parent)
    (folder / "environment.usdz").write_bytes(other.read_bytes())
    assert "holds another 'collision_convex.usdc' than the folder" in only_error(folder)
    (folder / "environment.usdz").write_bytes(b"PK")
    assert "no zip archive" in only_error(folder)
    assert read_environment(folder).parts


def test_packages_of_others_are_checked(tmp_path: Path):
    """A sound package of another tool is unpacked and checked like a lone layer."""
    package = make_package(tmp_path / "other.usdz", {"default.usda": LAYER, "textures/a.png": b"png"})
    findings = validate(package)
    assert {finding.severity for finding in findings} == {"warning"}
    package = make_package(tmp_path / "other.usdz", {"default.usda": LAYER.replace(b'"Z"', b'"Y"')})
    assert any("upAxis is 'Y'" in str(finding) for finding in validate(package))


def test_a_zip_bomb_is_refused_in_little_memory(tmp_path: Path):
    """A compressed gigabyte is refused by its header: nothing is inflated, nothing is left behind."""
    bomb = tmp_path / "bomb.usdz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("default.usda", "w") as file:
        for _ in range(64):
            file.write(bytes(2**20))
    before = set(Path(tempfile.gettempdir()).glob("omni_gen3d-usdz-*"))
    tracemalloc.start()
    message = only_error(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "compressed" in message and peak < 8 * 2**20
    assert set(Path(tempfile.gettempdir()).glob("omni_gen3d-usdz-*")) == before


def test_claimed_sizes_are_held_against_the_file(tmp_path: Path):
    """A stored entry that claims gigabytes, in a file of some hundred bytes, is refused."""
    package = make_package(tmp_path / "a.usdz", {"default.usda": LAYER})
    content = bytearray(package.read_bytes())
    directory = content.rfind(b"PK\x01\x02")
    content[directory + 20 : directory + 28] = struct.pack("<2L", 3 * 10**9, 3 * 10**9)
    package.write_bytes(content)
    assert "claims 3000000000 bytes" in only_error(package)


def test_overlapping_entries_are_refused(tmp_path: Path):
    """Many names for one stretch of the file would unpack to more than there is."""
    layers = {"default.usda": LAYER * 50, "b.usda": LAYER, "c.usda": LAYER}
    package = make_package(tmp_path / "a.usdz", layers)
    content = bytearray(package.read_bytes())
    first = content.find(b"PK\x01\x02")
    second = content.find(b"PK\x01\x02", first + 4)
    third = content.find(b"PK\x01\x02", second + 4)
    size, offset = content[first + 20 : first + 28], content[first + 42 : first + 46]
    for record in (second, third):
        content[record + 20 : record + 28], content[record + 42 : record + 46] = size, offset
    package.write_bytes(content)
    assert only_error(package)


@pytest.mark.parametrize("name", ["../escape.usda", "a/../../escape.usda", "/etc/escape.usda", "..\\escape.usda"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str):
    """No entry may be written or read outside of the package."""
    package = make_package(tmp_path / "a.usdz", {"default.usda": LAYER})
    with zipfile.ZipFile(package, "a") as archive:
        archive.writestr(name, LAYER)
    assert "leads out of the package" in only_error(package)
    assert list(tmp_path.iterdir()) == [package]


def test_a_layer_that_asks_for_a_file_outside_is_refused(tmp_path: Path):
    """A payload that climbs out of the package is reported by the layer that holds it, and not opened."""
    asks = LAYER.replace(b'def Xform "World"', b'def Xform "World" (payload = @../../secret.usda@)')
    assert "'../../secret.usda', which lies outside the folder" in str(
        validate(make_package(tmp_path / "a.usdz", {"default.usda": asks}))[0]
    )


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "does not begin with a USD layer"),
        ({"a.png": b"1", "default.usda": LAYER}, "does not begin with a USD layer"),
        ({"default.usda": LAYER, "run.py": b"1"}, "'run.py'"),
    ],
)
def test_rules_of_usdz(tmp_path: Path, members: dict[str, bytes], message: str):
    """A package begins with a layer and holds nothing but layers, pictures and sounds."""
    assert message in only_error(make_package(tmp_path / "a.usdz", members))


def test_unaligned_and_doubled_files_are_refused(tmp_path: Path):
    """A plain zip of a layer is no usdz package, nor is one with a name twice."""
    with zipfile.ZipFile(tmp_path / "plain.usdz", "w") as archive:
        archive.writestr("default.usda", LAYER)
    assert "usdz aligns to 64" in only_error(tmp_path / "plain.usdz")
    twice = tmp_path / "twice.usdz"
    with twice.open("wb") as file, zipfile.ZipFile(file, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for _ in range(2):
            archive.writestr(aligned("default.usda", LAYER, file.tell()), LAYER)
    assert "'default.usda' twice" in only_error(twice)


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06", b"PK\x05\x06" + b"\xff" * 18, b"\x00" * 100_000])
def test_what_is_no_zip(tmp_path: Path, content: bytes):
    """Noise, a cut archive and one that lists 65,535 files in 4 GB are refused."""
    (tmp_path / "a.usdz").write_bytes(content)
    assert "a.usdz" in only_error(tmp_path / "a.usdz")


def test_a_truncated_package(folder: Path):
    """A package cut anywhere is one error."""
    package = package_usdz(folder)
    content = package.read_bytes()
    cut = folder.parent / "cut.usdz"
    for length in (10, 1000, len(content) // 2, len(content) - 1):
        cut.write_bytes(content[:length])
        only_error(cut)


def test_the_verb_says_it_in_one_line(tmp_path: Path):
    """``omni-gen3d validate`` prints one finding and ends with 1."""
    (tmp_path / "a.usdz").write_bytes(b"PK")
    result = CliRunner().invoke(app, ["validate", str(tmp_path / "a.usdz")])
    assert result.exit_code == 1
    assert result.stdout.count("\n") == 1 and result.stdout.startswith("error: a.usdz: ")
