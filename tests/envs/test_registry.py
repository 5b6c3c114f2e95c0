"""The library of environments: what is registered is found, drawn, removed, taken along and brought back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omni_gen3d.envs.entry import Filter
from omni_gen3d.envs.registry import Registry
from omni_gen3d.errors import InputError
from omni_gen3d.types import Gaussians, GeneratedScene
from omni_gen3d.usd import write_environment

WriteToy = Callable[..., Path]


def folders_of(registry: Registry) -> set[str]:
    return {folder.name for folder in registry.home.environments.iterdir()}


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def staged(registry: Registry) -> list[Path]:
    return list((registry.home.directory / "staging").iterdir())


def test_what_is_added_is_copied_and_found(registry: Registry, write_toy: WriteToy) -> None:
    """An entry tells what the manifest tells, its folder holds the same bytes, and the source may go."""
    source = write_toy("a narrow corridor", seed=7)
    entry = registry.add(source, tags=["corridor", "a1"])
    assert entry.id.startswith("a-narrow-corridor-") and entry.tags == ("a1", "corridor")
    assert (entry.prompt, entry.seed, entry.kind, entry.num_gaussians) == ("a narrow corridor", 7, "static", 50)
    assert entry.scores["watertight"] is True and type(entry.scores["faces"]) is int
    assert [pose.yaw for pose in entry.spawn_poses] == [0.5, -2.0]
    copied = files_of(entry.folder)
    assert json.loads(copied.pop("entry.json")) == {"tags": ["a1", "corridor"]}
    assert copied == files_of(source)
    assert Registry(registry.home.directory).get(entry.id) == entry == registry.get(entry.id[:20])
    assert not staged(registry)


def test_the_same_environment_is_one_entry(
    registry: Registry, write_toy: WriteToy, toy_scene: GeneratedScene, tmp_path: Path
) -> None:
    """Timings do not matter, tags add up; another seed is another environment."""
    first = registry.add(write_toy(seed=1), tags=["a"])
    again = registry.add(write_toy(seed=1, timings_s={"decode": 99.0}), tags=["b"])
    assert again.id == first.id and again.tags == ("a", "b")
    assert json.loads((again.folder / "entry.json").read_text()) == {"tags": ["a", "b"]}
    assert registry.add(write_toy(seed=2)).id != first.id
    assert len(registry.entries()) == 2


def test_an_environment_may_be_written_right_into_the_library(registry: Registry, toy_scene: GeneratedScene) -> None:
    """Nothing is copied, and nothing is left when writing it fails."""
    with registry.receiving(tags=["new"]) as receipt:
        write_environment(toy_scene, receipt.folder)
    assert registry.get(receipt.entry.id).tags == ("new",)
    with pytest.raises(ZeroDivisionError), registry.receiving() as receipt:
        write_environment(toy_scene, receipt.folder)
        _ = 1 / 0
    assert len(registry.entries()) == 1 and not staged(registry)


def test_filters(registry: Registry, write_toy: WriteToy, toy_scene: GeneratedScene) -> None:
    """Each condition leaves out what it says."""
    assert isinstance(toy_scene.gaussians, Gaussians) and toy_scene.proxy is not None
    scores = {"faces": 12, "traversable_area_m2": 20.0}
    hall = registry.add(
        write_toy(
            "hall",
            gaussians=replace(toy_scene.gaussians, means=3 * toy_scene.gaussians.means),
            proxy=replace(toy_scene.proxy, scores=scores),
        ),
        tags=["hall", "big"],
    )
    room = registry.add(write_toy("room"), tags=["room"])
    assert hall.area_m2 > 100 > 40 > room.area_m2

    def found(**conditions) -> list[str]:
        return [entry.title for entry in registry.entries(Filter(**conditions))]

    assert found() == ["hall", "room"]
    assert found(tags=("big", "hall")) == ["hall"] and found(tags=("big", "room")) == []
    assert found(min_area_m2=50) == ["hall"] and found(max_area_m2=50) == ["room"]
    assert found(max_size_m=(6, 6, 6)) == ["room"]
    assert found(min_scores={"traversable_area_m2": 5}) == ["hall"]
    assert found(max_scores={"faces": 20}) == ["hall"] and found(max_scores={"faces": 50}) == ["hall", "room"]
    assert found(kind="dynamic") == []
    assert found(split=hall.split, tags=("hall",)) == ["hall"]


def test_samples_follow_the_seed_and_the_split(registry: Registry, write_toy: WriteToy) -> None:
    """The same seed draws the same, splits do not overlap, and too few is an error."""
    source = write_toy()
    template = registry.add(source)
    with registry._index.writing() as index:  # thirty entries without thirty folders
        for i in range(30):
            index.put(replace(index.get(template.id) or template, id=f"toy-{i:012d}"))
    everything = registry.entries()
    drawn = registry.sample(10, np.random.default_rng(4))
    assert drawn == registry.sample(10, np.random.default_rng(4)) != registry.sample(10, np.random.default_rng(5))
    assert len({entry.id for entry in drawn}) == 10
    train = registry.sample(len(registry.entries(Filter(split="train"))), np.random.default_rng(0), split="train")
    heldout = [entry for entry in everything if entry.split == "heldout"]
    assert {e.id for e in train} == {e.id for e in everything} - {e.id for e in heldout}
    assert 1 <= len(heldout) <= 15
    assert len(registry.sample(100, np.random.default_rng(0), replacement=True)) == 100
    with pytest.raises(InputError, match="31"):
        registry.sample(32, np.random.default_rng(0))
    assert registry.sample(0, np.random.default_rng(0)) == []


def test_the_split_of_an_id_never_changes(registry: Registry, write_toy: WriteToy) -> None:
    """Stated as numbers, because a model trained last year must not meet its held-out worlds."""
    entry = registry.add(write_toy())
    splits = [replace(entry, id=f"room-{i:012x}").split for i in range(1000)]
    assert 160 <= splits.count("heldout") <= 240
    assert [i for i in range(30) if splits[i] == "heldout"] == [4, 9, 10, 11, 14, 15, 20, 26]


def test_search_by_meaning(registry: Registry, write_toy: WriteToy) -> None:
    """Words find what means the same without sharing a word; vectors are kept and follow the tags."""
    for prompt in ("a narrow corridor in a hotel", "a forest with tall trees", "a kitchen with a stove and a fridge"):
        registry.add(write_toy(prompt))
    best = registry.search("tight hallway", limit=2)
    assert best[0].entry.title == "a narrow corridor in a hotel" and best[0].similarity > best[1].similarity
    assert registry.search("cooking")[0].entry.title == "a kitchen with a stove and a fridge"
    with registry._index.reading() as index:
        assert len(index.embeddings()) == 3
    registry.add(write_toy("a forest with tall trees"), tags=["cooking"])
    with_tag = {match.entry.title: match.similarity for match in registry.search("cooking")}
    assert with_tag["a forest with tall trees"] > 0.3
    registry.remove(best[0].entry.id)
    with registry._index.reading() as index:
        assert len(index.embeddings()) == 2


def test_removing(registry: Registry, write_toy: WriteToy) -> None:
    """Folder and entry go; what is gone cannot be removed, and can be added again."""
    source = write_toy()
    entry = registry.add(source)
    assert registry.remove(entry.id[:10]).id == entry.id
    assert registry.entries() == [] and folders_of(registry) == set() and not staged(registry)
    with pytest.raises(InputError, match="not in the library"):
        registry.remove(entry.id)
    assert registry.add(source).id == entry.id


@pytest.mark.parametrize("id_", ["../../etc", "", "a/b", "Ä", "nothing-like-it", "%"])
def test_ids_that_are_none(registry: Registry, id_: str) -> None:
    """They are refused in words, and touch nothing."""
    for use in (registry.get, registry.remove, lambda i: registry.export(i, "x.zip")):
        with pytest.raises(InputError, match="envs list"):
            use(id_)


def test_an_ambiguous_beginning(registry: Registry, write_toy: WriteToy) -> None:
    """It is refused, with what it may mean."""
    registry.add(write_toy(seed=1))
    registry.add(write_toy(seed=2))
    with pytest.raises(InputError, match="more than one"):
        registry.get("a-toy-room")


@pytest.mark.parametrize("fault", ["manifest", "changed", "shortened", "lengthened", "missing", "folder", "nothing"])
def test_broken_environments_stay_out(registry: Registry, write_toy: WriteToy, fault: str) -> None:
    """One error, and the library is as it was."""
    source = write_toy()
    splats = source / "splats.usdc"
    if fault == "manifest":
        (source / "environment.yaml").write_text("title: [")
    elif fault == "changed":
        content = bytearray(splats.read_bytes())
        content[100] ^= 1
        splats.write_bytes(content)
    elif fault == "shortened":
        splats.write_bytes(splats.read_bytes()[:-1])
    elif fault == "lengthened":
        splats.write_bytes(splats.read_bytes() + b"x")
    elif fault == "missing":
        splats.unlink()
    elif fault == "folder":
        splats.unlink()
        splats.mkdir()
    else:
        source = source / "nowhere"
    with pytest.raises(InputError):
        registry.add(source)
    assert registry.entries() == [] and folders_of(registry) == set() and not staged(registry)


@pytest.mark.parametrize("tag", ["Big", "", "a b", "../x", "x" * 33, "-x"])
def test_tags_are_words(registry: Registry, write_toy: WriteToy, tag: str) -> None:
    """A tag that is none is refused before anything is copied."""
    with pytest.raises(InputError, match="tag"):
        registry.add(write_toy(), tags=[tag])


# ------------------------------------------------------------------------------------------------------- repair


def test_repair_rebuilds_a_deleted_index(registry: Registry, write_toy: WriteToy) -> None:
    """Everything comes back from the folders, tags too."""
    entries = [registry.add(write_toy(seed=i), tags=[f"t{i}"]) for i in range(3)]
    registry._index.delete()
    assert registry.entries() == []
    done = registry.repair()
    assert registry.entries() == sorted(entries, key=lambda entry: entry.id)
    assert done.entries == 3 and len(done.added) == 3 and not done.dropped and not done.broken
    assert registry.repair().added == ()


def test_repair_replaces_a_damaged_index(registry: Registry, write_toy: WriteToy) -> None:
    """Noise in the place of the index is reported, then made good."""
    entry = registry.add(write_toy())
    registry._index.delete()
    registry.home.index.write_bytes(b"no database " * 400)
    with pytest.raises(InputError, match="envs repair"):
        registry.entries()
    registry.repair()
    assert registry.entries() == [entry]


def test_repair_drops_what_has_no_sound_folder(registry: Registry, write_toy: WriteToy) -> None:
    """A folder that is gone or changed leaves the index; a foreign one is named; a sound one may come again."""
    import shutil

    source = write_toy(seed=1)
    changed, gone, sound = registry.add(source), registry.add(write_toy(seed=2)), registry.add(write_toy(seed=3))
    (changed.folder / "splats.usdc").write_bytes(b"x")
    shutil.rmtree(gone.folder)
    (registry.home.environments / "foreign").mkdir()
    done = registry.repair()
    assert set(done.dropped) == {changed.id, gone.id} and set(done.broken) == {changed.id, "foreign"}
    assert registry.entries() == [sound]
    assert registry.add(source) == changed
    assert registry.repair().broken.keys() == {"foreign"}
