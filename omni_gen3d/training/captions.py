"""What a person would type to get the picture: the kind of room, what stands in it, what it is made of, its light."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from omni_gen3d.training.furniture import FURNITURE, OBJECT_TYPES
from omni_gen3d.training.looks import FINISH_NAMES, FLOOR_NAMES, LIGHT_LEVELS, LIGHT_TONES, WALL_NAMES
from omni_gen3d.training.raycast import FIRST_WALL, FLOOR_SURFACE
from omni_gen3d.training.rooms import ROOMS, WORLD_KINDS
from omni_gen3d.training.sampling import Worlds

__all__ = [
    "FLOOR_NAMES",
    "OBJECT_TYPES",
    "WALL_NAMES",
    "Attributes",
    "attributes",
    "describe",
    "named_attributes",
    "visible_slots",
]

_Option = TypeVar("_Option")

_VISIBLE_SHARE = 0.008  # of the pixels
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SYNONYMS = {
    "shelf rack": (("storage rack", "storage racks"), ("shelving unit", "shelving units")),
    "crate stack": (("stack of crates", "stacks of crates"),),
    "cabinet": (("cupboard", "cupboards"),),
    "sofa": (("couch", "couches"),),
    "pallet": (("loaded pallet", "loaded pallets"),),
    "cardboard box": (("carton", "cartons"),),
    "desk": (("desk with a monitor", "desks with monitors"), ("computer desk", "computer desks")),
    "refrigerator": (("fridge", "fridges"),),
    "coffee table": (("low table", "low tables"),),
    "bookcase": (("bookshelf", "bookshelves"),),
    "television": (("TV on a stand", "TVs on stands"), ("TV stand", "TV stands")),
    "barrel": (("drum", "drums"),),
    "column": (("pillar", "pillars"),),
    "bin": (("waste bin", "waste bins"),),
}
_KIND_WORDS = {"corridor": ("corridor", "hallway"), "living room": ("living room", "lounge")}
_FLOOR_WORDS = {"green epoxy": ("green epoxy floor", "green painted floor"), "grey carpet": ("grey carpet",)}
_WALL_WORDS = {"brick": ("brick walls", "red brick walls")}


@dataclass(frozen=True)
class Attributes:
    """What a classifier should find in a picture; -1 stands for what nothing is said about.

    Attributes:
        kind: Index into ``WORLD_KINDS``, shape ``(B,)``, long.
        floor: Index into ``FLOOR_NAMES``, shape ``(B,)``, long.
        wall: Index into ``WALL_NAMES``, shape ``(B,)``, long.
        objects: Which of ``OBJECT_TYPES`` are visible, shape ``(B, 18)``, bool.
    """

    kind: torch.Tensor
    floor: torch.Tensor
    wall: torch.Tensor
    objects: torch.Tensor


def visible_slots(worlds: Worlds, surface: torch.Tensor) -> torch.Tensor:
    """Which object slots cover more than 0.8 % of a picture.

    Args:
        worlds: B worlds.
        surface: Surface index of every pixel, shape ``(B, H, W)``.

    Returns:
        Shape ``(B, 9)``, bool.
    """
    slots = torch.arange(FIRST_WALL, device=surface.device)
    share = torch.stack([(surface == slot).flatten(1).float().mean(1) for slot in slots], 1)
    return (share > _VISIBLE_SHARE) & (worlds.object_type >= 0)


def attributes(worlds: Worlds, surface_first_frame: torch.Tensor) -> Attributes:
    """The true attributes of the pictures whose surfaces ``(B, H, W)`` are given."""
    types = torch.where(visible_slots(worlds, surface_first_frame), worlds.object_type, -1)
    objects = (types[..., None] == torch.arange(len(OBJECT_TYPES), device=types.device)).any(1)
    return Attributes(worlds.kind, worlds.floor, worlds.wall, objects)


def _vocabulary() -> dict[str, tuple[str, int]]:
    """Every phrase a caption may use, in lower case: the field of ``Attributes`` it tells and the index in it."""
    words: dict[str, tuple[str, int]] = {}
    for field, names, special, noun in (
        ("kind", WORLD_KINDS, _KIND_WORDS, ""),
        ("floor", FLOOR_NAMES, _FLOOR_WORDS, " floor"),
        ("wall", WALL_NAMES, _WALL_WORDS, " walls"),
    ):
        for index, name in enumerate(names):
            words |= dict.fromkeys(special.get(name, (name + noun,)), (field, index))
    for index, piece in enumerate(FURNITURE):
        for singular, plural in ((piece.name, piece.plural), *_SYNONYMS.get(piece.name, ())):
            words |= {singular.lower(): ("objects", index), plural.lower(): ("objects", index)}
    return words


def named_attributes(captions: list[str]) -> Attributes:
    """What captions say, on the CPU; of two rooms, floors or walls the last one named counts."""
    vocabulary = _vocabulary()
    longest_first = sorted(vocabulary, key=len, reverse=True)
    phrase = re.compile(rf"\b({'|'.join(map(re.escape, longest_first))})\b", re.IGNORECASE)
    surroundings = {field: torch.full((len(captions),), -1) for field in ("kind", "floor", "wall")}
    objects = torch.zeros(len(captions), len(OBJECT_TYPES), dtype=torch.bool)
    for b, caption in enumerate(captions):
        for match in phrase.findall(caption):
            field, index = vocabulary[match.lower()]
            if field == "objects":
                objects[b, index] = True
            else:
                surroundings[field][b] = index
    return Attributes(**surroundings, objects=objects)


def describe(worlds: Worlds, surface_first_frame: torch.Tensor, rng: np.random.Generator) -> list[str]:
    """One caption per picture; it names only what is visible, in varying words and varying detail.

    Args:
        worlds: B worlds.
        surface_first_frame: Surface index of every pixel, shape ``(B, H, W)``.
        rng: Source of every choice of words.
    """
    seen = visible_slots(worlds, surface_first_frame).tolist()
    surfaces = surface_first_frame.flatten(1)
    sees_floor = ((surfaces == FLOOR_SURFACE).float().mean(1) > _VISIBLE_SHARE).tolist()
    types, finishes = worlds.object_type.tolist(), worlds.object_finish.tolist()
    areas = (4 * worlds.half_extents.prod(1)).tolist()
    rooms = zip(
        worlds.kind.tolist(), worlds.floor.tolist(), worlds.wall.tolist(),
        worlds.light_tone.tolist(), worlds.light_level.tolist(), strict=True,
    )  # fmt: skip
    captions = []
    for b, (kind, floor, wall, tone, level) in enumerate(rooms):
        pieces = [(t, f) for t, f, visible in zip(types[b], finishes[b], seen[b], strict=True) if visible]
        light = (LIGHT_TONES[tone][0], LIGHT_LEVELS[level][0])
        floor_name = FLOOR_NAMES[floor] if sees_floor[b] else None
        captions.append(_caption(kind, areas[b], pieces, floor_name, WALL_NAMES[wall], light, rng))
    return captions


def _caption(
    kind: int,
    area: float,
    pieces: list[tuple[int, int]],
    floor: str | None,
    wall: str,
    light: tuple[str, str],
    rng: np.random.Generator,
) -> str:
    detail = float(rng.random())
    names_finish = detail > 0.25
    room = _room_phrase(kind, area, light, rng)
    things = _object_phrases(pieces, names_finish, rng)
    floor_words = _pick(_FLOOR_WORDS.get(floor, (f"{floor} floor",)), rng) if floor else None
    wall_words = _pick(_WALL_WORDS.get(wall, (f"{wall} walls",)), rng)
    surroundings = [
        w for w in (wall_words if detail > 0.35 else None, _article(floor_words) if floor_words else None) if w
    ]
    if rng.random() < 0.5:
        surroundings.reverse()

    if not things:
        return f"{room} with {_join(surroundings)}" if surroundings else room
    form = rng.random()
    if form < 0.45 or not surroundings:
        return f"{room} with {_join(things + surroundings)}"
    if form < 0.75:
        return f"{room} with {_join(surroundings)}, {_join(things)}"
    if form < 0.9:
        return f"{_join(things)} in {room} with {_join(surroundings)}"
    return ", ".join([room, *things, *surroundings])


def _room_phrase(kind: int, area: float, light: tuple[str, str], rng: np.random.Generator) -> str:
    """Such as "a small dim warehouse"; size and light are mentioned when they stand out."""
    room = ROOMS[kind]
    smallest = 4 * room.half_length[0] * room.half_width[0]
    largest = 4 * room.half_length[1] * room.half_width[1]
    fraction = (area - smallest) / (largest - smallest)
    words = []
    if rng.random() < 0.6:
        if fraction < 0.3:
            words.append("small")
        elif fraction > 0.6:
            words.append(_pick(("large", "spacious"), rng))
    tone, level = light
    if level != "even" and rng.random() < 0.5:
        words.append({"dim": _pick(("dim", "dimly lit"), rng), "bright": _pick(("bright", "brightly lit"), rng)}[level])
    noun = _pick(_KIND_WORDS.get(WORLD_KINDS[kind], (WORLD_KINDS[kind],)), rng)
    phrase = _article(" ".join([*words, noun]))
    if tone != "neutral" and rng.random() < 0.35:
        phrase += f" in {tone} light"
    return phrase


def _object_phrases(pieces: list[tuple[int, int]], names_finish: bool, rng: np.random.Generator) -> list[str]:
    """Such as "two wooden pallets": equal pieces are counted together, in a random order."""
    counts = Counter((kind, finish if names_finish else -1) for kind, finish in pieces)
    groups = list(counts.items())
    phrases = []
    for index in rng.permutation(len(groups)):
        (kind, finish), number = groups[int(index)]
        piece = FURNITURE[kind]
        singular, plural = piece.name, piece.plural
        if piece.name in _SYNONYMS and rng.random() < 0.4:
            singular, plural = _pick(_SYNONYMS[piece.name], rng)
        adjective = FINISH_NAMES[finish] + " " if finish >= 0 and len(piece.finishes) > 1 else ""
        if number == 1:
            phrases.append(_article(adjective + singular))
        elif names_finish or rng.random() < 0.5:
            phrases.append(f"{_NUMBERS[number]} {adjective}{plural}")
        else:
            phrases.append(plural)
    return phrases


def _pick(options: tuple[_Option, ...], rng: np.random.Generator) -> _Option:
    return options[int(rng.integers(len(options)))]


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _join(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
