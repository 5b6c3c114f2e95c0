"""Environments as one file, and what hostile files get."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from omni_gen3d.envs.intake import inspect_entry
from omni_gen3d.envs.registry import Registry
from omni_gen3d.errors import InputError

WriteToy = Callable[..., Path]


@pytest.fixture
def exported(registry: Registry, write_toy: WriteToy, tmp_path: Path) -> Path:
    """The archive of an environment that has left the library."""
    entry = registry.add(write_toy("an exported room"), tags=["blue"])
    archive = registry.export(entry.id, tmp_path / "room.zip")
    registry.remove(entry.id)
    return archive


def rewritten(archive: Path, change: Callable[[dict[str, bytes]], object], **options) -> Path:
    """The archive with its files changed."""
    with zipfile.ZipFile(archive) as source:
        files = {name: source.read(name) for name in source.namelist()}
    change(files)
    target = archive.with_name("changed.zip")
    with zipfile.ZipFile(target, "w", **options) as copy:
        for name, content in files.items():
            copy.writestr(name, content)
    return target


def assert_refused(registry: Registry, archive: Path, words: str) -> None:
    home = registry.home.directory
    before = {path for path in home.parent.rglob("*") if path.parent != home}
    with pytest.raises(InputError, match=words):
        registry.import_archive(archive)
    assert registry.entries() == [] and not list((home / "staging").iterdir())
    assert {path for path in home.parent.rglob("*") if path.parent != home} == before


def test_there_and_back(registry: Registry, write_toy: WriteToy, exported: Path, tmp_path: Path) -> None:
    """Another library gets the same entry with the same bytes and tags; the same environment gives the same file."""
    other = Registry(tmp_path / "other")
    entry = other.import_archive(exported, tags=["red"])
    assert entry.tags == ("blue", "red")
    source = write_toy("an exported room")
    here = registry.add(source, tags=["blue"])
    assert here.id == entry.id
    for file in source.iterdir():
        assert (entry.folder / file.name).read_bytes() == file.read_bytes()
    assert registry.export(here.id, tmp_path / "again.zip").read_bytes() == exported.read_bytes()


def test_a_damaged_environment_is_not_exported(registry: Registry, write_toy: WriteToy, tmp_path: Path) -> None:
    """Nothing is written, nothing left behind."""
    entry = registry.add(write_toy())
    with pytest.raises(InputError, match="folder that exists"):
        registry.export(entry.id, tmp_path / "no" / "out.zip")
    (entry.folder / "cameras.usdc").write_bytes(b"x")
    with pytest.raises(InputError, match=r"cameras\.usdc"):
        registry.export(entry.id, tmp_path / "out.zip")
    assert not list(tmp_path.glob("*.zip*")) and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "name",
    ["../escape.usdc", "/tmp/escape.usdc", "a/splats.usdc", "..", "evil.py", "C:\\x", "x/"],
)
def test_foreign_names(registry: Registry, exported: Path, name: str) -> None:
    """A file that no environment has is refused before anything is written."""
    assert_refused(registry, rewritten(exported, lambda files: files.update({name: b"x"})), "none of an environment")


def test_a_name_that_is_cut_at_a_nul(registry: Registry, exported: Path) -> None:
    """What one reader takes for the splats and another does not is refused."""
    changed = rewritten(exported, lambda files: files.update({"preview.png#sh": files.pop("preview.png")}))
    changed.write_bytes(changed.read_bytes().replace(b"preview.png#sh", b"preview.png\0sh"))
    assert_refused(registry, changed, "none of an environment")


def test_a_bomb(registry: Registry, exported: Path) -> None:
    """Compressed files are refused, so nothing is ever larger than the archive."""
    bomb = rewritten(
        exported, lambda files: files.update({"splats.0000.usdc": bytes(50_000_000)}), compression=zipfile.ZIP_DEFLATED
    )
    assert bomb.stat().st_size < 500_000
    assert_refused(registry, bomb, "compressed")


def test_contents_that_do_not_fit(registry: Registry, exported: Path) -> None:
    """Every file is held against its digest, the manifest and the note against what they may say."""

    def spoil(name: str, content: bytes) -> Path:
        return rewritten(exported, lambda files: files.update({name: content}))

    assert_refused(registry, spoil("splats.usdc", b"x"), "digest")
    assert_refused(registry, spoil("environment.yaml", b"!!python/object/apply:os.getcwd []"), "not valid YAML")
    assert_refused(registry, spoil("environment.yaml", b"a" * (5 * 2**20)), "larger")
    assert_refused(registry, spoil("entry.json", b'{"tags": ["../.."]}'), "tag")
    assert_refused(registry, spoil("entry.json", b'{"tags": [], "x": 1}'), "'x'")
    assert_refused(registry, spoil("entry.json", b"[" * 60_000), "note")
    assert_refused(registry, spoil("entry.json", json.dumps({"tags": ["x"] * 50_000}).encode()), "larger")
    assert_refused(registry, rewritten(exported, lambda files: files.pop("cameras.usdc")), "lacks")
    assert_refused(registry, rewritten(exported, lambda files: files.pop("entry.json")), "lacks")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_twice(registry: Registry, exported: Path) -> None:
    """Which of the two counts is no question that arises."""
    with zipfile.ZipFile(exported, "a") as archive:
        archive.writestr("splats.usdc", b"x")
    assert_refused(registry, exported, "twice")


def test_bytes_that_are_no_archive(registry: Registry, exported: Path, tmp_path: Path) -> None:
    """Cut, scrambled, empty and missing files are one error each."""
    content = exported.read_bytes()
    directory = content.rindex(b"PK\x01\x02")
    cases = {
        "cut": content[: len(content) // 2],
        "empty": b"",
        "noise": bytes(range(256)) * 100,
        "start": b"xx" + content[2:],
        "size": content[: directory + 20] + b"\xff\xff\xff\x7f\xff\xff\xff\x7f" + content[directory + 28 :],
        "many": content[:-12] + b"\xff\xff" + content[-10:],
        "middle": content[:3000] + b"\xff" + content[3001:],
    }
    for name, changed in cases.items():
        path = tmp_path / f"{name}.zip"
        path.write_bytes(changed)
        assert_refused(registry, path, name)
    assert_refused(registry, tmp_path / "nowhere.zip", "nowhere")
    assert_refused(registry, tmp_path, tmp_path.name)


def test_scrambled_bytes(registry: Registry, exported: Path) -> None:
    """Whatever a few bytes of the table of contents turn into, it is refused or the very environment comes out."""
    content = exported.read_bytes()
    directory = content.index(b"PK\x01\x02")
    rng = random.Random(0)
    outcomes = set()
    for _ in range(150):
        changed = bytearray(content)
        for _ in range(rng.randrange(1, 4)):
            changed[rng.randrange(directory, len(changed))] = rng.randrange(256)
        exported.write_bytes(changed)
        try:
            outcomes.add(registry.import_archive(exported).title)
        except InputError:
            outcomes.add("refused")
    assert outcomes == {"refused", "an exported room"}
    (entry,) = registry.entries()
    assert inspect_entry(entry.folder).id == entry.id and not list((registry.home.directory / "staging").iterdir())
