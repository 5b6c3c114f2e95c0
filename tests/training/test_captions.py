"""Captions and attributes: they tell what is visible, and nothing else."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from omni_gen3d.training.captions import Attributes, attributes, describe, named_attributes, visible_slots
from omni_gen3d.training.furniture import FURNITURE, OBJECT_TYPES
from omni_gen3d.training.looks import FINISH_NAMES, FLOOR_NAMES, WALL_NAMES
from omni_gen3d.training.worlds import WORLD_KINDS, Worlds, render_worlds, sample_worlds, start_cameras, world_generator

# What may be said for each type, written down independently of the module under test.
NOUNS = {
    "table": r"(?<!coffee )(?<!low )tables?\b", "shelf rack": r"(shelf|storage) racks?|shelving units?",
    "crate stack": r"crate stacks?|stacks? of crates", "cabinet": r"cabinets?|cupboards?", "chair": r"chairs?",
    "sofa": r"sofas?|couch(es)?", "pallet": r"pallets?", "cardboard box": r"cardboard box(es)?|cartons?",
    "desk": r"desks?", "workbench": r"workbench(es)?", "kitchen counter": r"kitchen counters?",
    "refrigerator": r"refrigerators?|fridges?", "coffee table": r"(coffee|low) tables?",
    "bookcase": r"bookcases?|bookshel(f|ves)", "television": r"televisions?|TVs?", "barrel": r"barrels?|drums?",
    "column": r"columns?|pillars?", "bin": r"\bbins?",
}  # fmt: skip


@pytest.fixture(scope="module")
def seen() -> tuple[Worlds, torch.Tensor, Attributes]:
    generator = world_generator(2, "heldout", "cpu")
    worlds = sample_worlds(48, generator, "cpu")
    cameras = start_cameras(worlds, generator)[:, None]
    frames = render_worlds(worlds, cameras, torch.full((48,), 24.0), 18, 32, supersample=1)
    return worlds, frames.surface[:, 0], attributes(worlds, frames.surface[:, 0])


def _captions(seen: tuple[Worlds, torch.Tensor, Attributes], seed: int) -> list[str]:
    return describe(seen[0], seen[1], np.random.default_rng(seed))


def test_captions_name_exactly_the_visible_objects(seen: tuple[Worlds, torch.Tensor, Attributes]) -> None:
    """Every type is mentioned where it is visible and nowhere else."""
    assert set(NOUNS) == set(OBJECT_TYPES)
    for caption, objects in zip(_captions(seen, 0), seen[2].objects.tolist(), strict=True):
        mentioned = [bool(re.search(NOUNS[name], caption)) for name in OBJECT_TYPES]
        assert mentioned == objects, caption


def test_visibility_counts_pixels(seen: tuple[Worlds, torch.Tensor, Attributes]) -> None:
    """A slot is visible exactly when more than 0.8 % of the pixels show it."""
    worlds, surface, _ = seen
    visible = visible_slots(worlds, surface)
    for b in range(len(worlds)):
        for slot in range(9):
            pixels = sum(value == slot for value in surface[b].flatten().tolist())
            assert bool(visible[b, slot]) == (pixels > 0.008 * surface[b].numel())


def test_rooms_floors_and_walls_are_named_truly(seen: tuple[Worlds, torch.Tensor, Attributes]) -> None:
    """The kind is always named; a floor or wall that is named is the true one."""
    kinds = {"corridor": r"corridor|hallway", "living room": r"living room|lounge"}
    floors = {"green epoxy": r"green (epoxy|painted) floor", "grey carpet": r"grey carpet"}
    for seed in range(4):
        for b, caption in enumerate(_captions(seen, seed)):
            kind = WORLD_KINDS[seen[2].kind[b]]
            assert re.search(kinds.get(kind, kind), caption), caption
            for f, name in enumerate(FLOOR_NAMES):
                if re.search(floors.get(name, f"{name} floor"), caption):
                    assert f == seen[2].floor[b], caption
            for w, name in enumerate(WALL_NAMES):
                if re.search(rf"\b{name} walls", caption):
                    assert w == seen[2].wall[b], caption


def test_counts_and_finishes_are_true(seen: tuple[Worlds, torch.Tensor, Attributes]) -> None:
    """ "two wooden pallets" is said only of a picture with exactly two visible wooden pallets."""
    worlds, surface, _ = seen
    visible = visible_slots(worlds, surface)
    numbers = {"two": 2, "three": 3, "four": 4, "five": 5}
    checked = 0
    for seed in range(6):
        for b, caption in enumerate(_captions(seen, seed)):
            for word, finish, plural in re.findall(
                rf"\b({'|'.join(numbers)}) ({'|'.join(FINISH_NAMES)}) (\w+s)\b", caption
            ):
                types = [f for f, piece in enumerate(FURNITURE) if piece.plural == plural]
                if types:
                    same = (worlds.object_type[b] == types[0]) & visible[b]
                    same = same & (worlds.object_finish[b] == FINISH_NAMES.index(finish))
                    assert int(same.sum()) == numbers[word], caption
                    checked += 1
    assert checked > 0


def test_size_and_light_words_are_true(seen: tuple[Worlds, torch.Tensor, Attributes]) -> None:
    """Dim, bright, warm and cool are said only of such rooms, small only of smaller rooms than large ones."""
    worlds = seen[0]
    areas: dict[tuple[int, str], list[float]] = {}
    for seed in range(6):
        for b, caption in enumerate(_captions(seen, seed)):
            if re.search(r"\bdim", caption):
                assert worlds.light_level[b] == 0
            if re.search(r"\bbright", caption):
                assert worlds.light_level[b] == 2
            if "warm light" in caption:
                assert worlds.light_tone[b] == 0
            if "cool light" in caption:
                assert worlds.light_tone[b] == 2
            for word in re.findall(r"\b(small|large|spacious)\b", caption):
                key = (int(worlds.kind[b]), "small" if word == "small" else "large")
                areas.setdefault(key, []).append(float(worlds.half_extents[b].prod()))
    both = [kind for kind in range(6) if (kind, "small") in areas and (kind, "large") in areas]
    assert both
    assert all(max(areas[kind, "small"]) < min(areas[kind, "large"]) for kind in both)


def test_phrasing_varies_but_repeats_with_its_seed(seen: tuple[Worlds, torch.Tensor, Attributes]) -> None:
    """One seed gives one caption; several seeds give several."""
    assert _captions(seen, 1) == _captions(seen, 1)
    variants = [set(captions) for captions in zip(*(_captions(seen, seed) for seed in range(8)), strict=True)]
    assert sum(len(variant) >= 4 for variant in variants) > 40
    assert all(len(caption) < 400 for variant in variants for caption in variant)


def test_captions_are_read_back(seen: tuple[Worlds, torch.Tensor, Attributes]) -> None:
    """What is found in a caption is what was described: all objects and the kind, floors and walls where named."""
    truth = seen[2]
    for seed in range(6):
        named = named_attributes(_captions(seen, seed))
        assert torch.equal(named.objects, truth.objects) and torch.equal(named.kind, truth.kind)
        for found, true in ((named.floor, truth.floor), (named.wall, truth.wall)):
            assert (found >= 0).any() and (found == true)[found >= 0].all()


def test_longer_phrases_win() -> None:
    """A coffee table is no table, a kitchen counter makes no kitchen, and grey walls are no grey carpet."""
    named = named_attributes(["An office with a Coffee Table, a kitchen counter and grey walls", "somewhere"])
    assert [OBJECT_TYPES[i] for i in named.objects[0].nonzero()[:, 0]] == sorted(
        ["kitchen counter", "coffee table"], key=OBJECT_TYPES.index
    )
    assert WORLD_KINDS[named.kind[0]] == "office" and WALL_NAMES[named.wall[0]] == "grey" and named.floor[0] == -1
    assert named.kind[1] == named.floor[1] == named.wall[1] == -1 and not named.objects[1].any()
