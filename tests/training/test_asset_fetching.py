"""Packages to a set: what is checked, what is refused, what the conversion makes of toy catalogues."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omni_gen3d.errors import InputError
from omni_gen3d.training import asset_fetching, asset_packages, object_conversion
from omni_gen3d.training.asset_packages import Package, expect_licence, fetch, members
from omni_gen3d.training.mesh_reduction import reduced
from omni_gen3d.training.obj_file import read_mtl, read_obj
from omni_gen3d.training.object_conversion import Pack
from omni_gen3d.training.object_set import load_objects

CUBE = """mtllib chair.mtl
v 0 0 0
v 40 0 0
v 40 80 0
v 0 80 0
v 0 0 50
v 40 0 50
v 40 80 50
v 0 80 50
vt 0 0
vt 1 0
vt 1 1
usemtl cloth
f 1/1 4/2 3/3 2/2
f 5/1 6/2 7/3 8/2
usemtl legs
f 1 2 6 5
f -6 -5 -1 -2
usemtl glass
f 1 5 8 4
f 2 3 7 6
"""
MATERIALS = "newmtl cloth\nKd 1 1 1\nmap_Kd weave.png\nnewmtl legs\nKd 0.2 0.1 0\nnewmtl glass\nd 0.1\n"
CATALOGUE = """license=Public domain
name#1=Oak chair
model#1=/toys/chair.obj
width#1=40
depth#1=50
height#1=80
creator#1=Somebody
name#2=Apple iPhone
model#2=/toys/chair.obj
width#2=40
depth#2=50
height#2=80
name#3=Cup
model#3=/toys/chair.obj
width#3=8
depth#3=8
height#3=10
"""


def _png(color: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(buffer, "PNG")
    return buffer.getvalue()


def _zip(files: dict[str, bytes | str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _deb(files: dict[str, bytes]) -> bytes:
    """An ar archive with a control and a data member (deb(5))."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data.getvalue()}
    rows = [b"!<arch>\n"]
    for name, content in parts.items():
        rows.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{0o100644:<8o}{len(content):<10}`\n".encode())
        rows.append(content + b"\n" * (len(content) % 2))
    return b"".join(rows)


@pytest.fixture
def toy_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output folder whose packages are there already: one catalogue, two wheels of textures, one of photographs."""
    out = tmp_path / "assets"
    (out / "packages").mkdir(parents=True)
    pack = _zip(
        {
            "PluginFurnitureCatalog.properties": CATALOGUE,
            "toys/chair.obj": CUBE,
            "toys/chair.mtl": MATERIALS,
            "toys/weave.png": _png((200, 40, 40)),
        }
    )
    licence = "Files: BlendSwap-CC-0/*\nCopyright: 2014, Somebody\n                 and others\nLicense: CC0\n"
    contents = {
        "furniture.deb": _deb(
            {
                "usr/share/doc/sweethome3d-furniture/copyright": licence.encode(),
                "usr/share/sweethome3d/furniture/BlendSwap-CC-0.sh3f": pack,
            }
        ),
        "robosuite.whl": _zip(
            {
                "robosuite-1.5.2.dist-info/licenses/LICENSE": "MIT License",
                "robosuite/models/assets/textures/light-wood.png": _png((190, 150, 90)),
                "robosuite/models/assets/textures/cereal.png": _png((0, 0, 0)),
            }
        ),
        "metaworld.whl": _zip(
            {
                "metaworld-3.1.1.dist-info/licenses/LICENSE": "MIT License",
                "metaworld/assets/textures/brick1.png": _png((150, 60, 40)),
            }
        ),
        "stereodemo.whl": _zip(
            {
                "stereodemo-0.7.dist-info/licenses/LICENSE": "MIT License",
                "stereodemo/datasets/oak-d/desk_left.png": _png((9, 9, 9)),
                "stereodemo/datasets/oak-d/selfie_left.png": _png((9, 9, 9)),
                "stereodemo/datasets/oak-d/../../../../evil.png": _png((9, 9, 9)),
            }
        ),
    }

    def toy(package: Package) -> Package:
        name = next(name for name in contents if name.split(".")[0] in package.name)
        (out / "packages" / name).write_bytes(contents[name])
        return replace(package, file=name, sha256=hashlib.sha256(contents[name]).hexdigest())

    monkeypatch.setattr(asset_fetching, "FURNITURE", toy(asset_packages.FURNITURE))
    monkeypatch.setattr(asset_fetching, "TEXTURES", tuple(toy(package) for package in asset_packages.TEXTURES))
    monkeypatch.setattr(asset_fetching, "PHOTOGRAPHS", toy(asset_packages.PHOTOGRAPHS))
    monkeypatch.setattr(asset_fetching, "PACKS", object_conversion.PACKS[:1])
    return out


def test_packages_become_a_set_with_credits(toy_packages: Path) -> None:
    """Furniture is scaled and stands, brands and glass are left out, textures are named, people's pictures stay out."""
    path = asset_fetching.fetch_assets(toy_packages, lambda what, share: None)
    objects = load_objects(path.parent)
    assert objects.names == ("Oak chair", "Cup")
    assert objects.places.tolist() == [0, 1]
    assert objects.surfaces == ("light wood", "brick")
    chair = objects.positions[: objects.first_vertex[1]]
    assert np.allclose(chair.min(0), [-0.2, -0.25, 0], atol=1e-3) and np.allclose(
        chair.max(0), [0.2, 0.25, 0.8], atol=1e-3
    )
    assert objects.first_face[1] == 8
    textured = objects.material_texture >= 0
    assert np.allclose(objects.textures[objects.material_texture[textured]][:, 64, 64], [200, 40, 40], atol=6)
    credits = (path.parent / "ATTRIBUTION.txt").read_text()
    assert "Oak chair, by Somebody" in credits and "iPhone" not in credits and "MIT License" in credits
    assert [file.name for file in (path.parent / "pairs").iterdir()] == ["desk_left.png"]
    assert not list(toy_packages.parent.glob("**/evil.png"))


def test_a_finished_set_is_kept_and_made_again_alike(toy_packages: Path) -> None:
    """A second call does nothing; without its credits the set is made again, byte for byte."""
    path = asset_fetching.fetch_assets(toy_packages, lambda what, share: None)
    content, said = path.read_bytes(), []
    asset_fetching.fetch_assets(toy_packages, lambda what, share: said.append(what))
    assert said == ["nothing to do"]
    (path.parent / "ATTRIBUTION.txt").unlink()
    path.unlink()
    assert asset_fetching.fetch_assets(toy_packages, lambda what, share: None).read_bytes() == content


def test_another_licence_is_refused(toy_packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package or a catalogue whose licence text differs is not used."""
    package, path = asset_fetching.TEXTURES[0], toy_packages / "packages" / "robosuite.whl"
    with pytest.raises(InputError, match="does not say 'Apache'"):
        expect_licence(replace(package, licence="Apache"), path)
    monkeypatch.setattr(asset_fetching, "PACKS", (Pack("BlendSwap-CC-0", "Creative Commons"),))
    with pytest.raises(InputError, match="BlendSwap-CC-0 does not say"):
        asset_fetching.fetch_assets(toy_packages, lambda what, share: None)
    assert not (toy_packages / "objects.safetensors").exists()


@pytest.mark.parametrize("brings", ["another file", "nothing"])
def test_what_is_fetched_must_have_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brings: str) -> None:
    """A command that brings other bytes, or none, ends in one error, and no file is left."""
    package = Package("toy", "1", "toy.whl", "0" * 64, "MIT", "LICENSE")
    command = ["touch", "toy.whl"] if brings == "another file" else ["true"]
    monkeypatch.setattr(Package, "command", lambda self: command)
    with pytest.raises(InputError, match="sha256" if brings == "another file" else "brought no toy.whl"):
        fetch(package, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"!<arch>\nshort", b"PK\x03\x04 not a zip", _deb({"a": b"1"})[:-40]])
def test_broken_archives_end_in_one_error(tmp_path: Path, content: bytes) -> None:
    """Whatever is wrong with an archive, it is an InputError that names it."""
    for name in ("toy.deb", "toy.whl"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r"toy\.|data\.tar|cut off"):
            list(members(tmp_path / name, lambda member: True))


def test_obj_files_are_read(tmp_path: Path) -> None:
    """Polygons become fans, indices count from both ends, normals of faces stand in for missing ones."""
    mesh = read_obj(CUBE, "cube")
    assert mesh.faces.shape == (12, 3) and mesh.materials == ("cloth", "legs", "glass")
    assert np.allclose(np.linalg.norm(mesh.normals, axis=1), 1)
    looks = read_mtl(MATERIALS)
    assert looks["cloth"].picture == "weave.png" and looks["glass"].opacity == pytest.approx(0.1)
    with pytest.raises(InputError, match=r"cube, line 1: 'f 1 2 9'"):
        read_obj("f 1 2 9", "cube")


def test_reduction_keeps_shape_and_texture() -> None:
    """A sphere of 5,000 faces at 600: its radius within 3 %, its texture where it was, its shading smooth."""
    turn, rise = np.meshgrid(np.linspace(0, 2 * np.pi, 51), np.linspace(-np.pi / 2, np.pi / 2, 51))
    points = np.stack([np.cos(turn) * np.cos(rise), np.sin(turn) * np.cos(rise), np.sin(rise)], -1).reshape(-1, 3)
    rows = [f"v {x} {y} {z}" for x, y, z in points]
    rows += [f"vt {(z + 1) / 2} {(x + 1) / 2}" for x, _, z in points]
    for i in range(50):
        for j in range(50):
            a, b = 51 * i + j + 1, 51 * (i + 1) + j + 1
            rows.append(f"f {a}/{a} {a + 1}/{a + 1} {b + 1}/{b + 1} {b}/{b}")
    mesh = reduced(read_obj("\n".join(rows), "ball"), 600)
    assert 300 < len(mesh.faces) <= 650
    assert np.abs(np.linalg.norm(mesh.positions, axis=1) - 1).max() < 0.03
    at = (mesh.positions[:, [2, 0]] + 1) / 2
    assert np.median(np.abs(mesh.texture_coordinates - at)) < 0.02
    assert np.median((mesh.normals * mesh.positions).sum(1)) > 0.98
