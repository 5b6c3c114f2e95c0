"""The worlds that robots are trained and tested in: in the library under a tag, generated where they are missing."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Literal

from omni_gen3d.envs.entry import Entry, Filter
from omni_gen3d.envs.registry import Registry
from omni_gen3d.errors import InputError

Extent = Literal["view", "room"]
TAGS: dict[Extent, str] = {"view": "bench-nav", "room": "bench-nav-rooms"}
PROMPTS = (
    "a small warehouse with pallets and a concrete floor",
    "a narrow corridor with doors",
    "an office with desks and chairs",
    "a living room with a sofa and a wooden floor",
    "a warehouse with shelves along the wall",
    "a bright room with tables",
    "a storage room with boxes",
    "a workshop with a tiled floor",
)
_FIRST_SEED, _NUM_SEEDS = 3, 40
# Floor on which the centre of a robot of 0.25 m radius can be [m2]; some worlds show little more than a wall.
_ROOMY_M2 = 1.25


def nav_worlds(
    registry: Registry, count: int, *, extent: Extent, device: str, report: Callable[[str], None]
) -> list[Entry]:
    """The first ``count`` roomy worlds of the series of prompts and seeds; what is missing is generated and registered.

    Raises:
        InputError: The library cannot be written, or too few worlds of the series are roomy.
    """
    known = {(entry.prompt, entry.seed): entry for entry in registry.entries(Filter(tags=(TAGS[extent],)))}
    roomy: list[Entry] = []
    for prompt, seed in ((prompt, seed) for seed in range(_FIRST_SEED, _FIRST_SEED + _NUM_SEEDS) for prompt in PROMPTS):
        if len(roomy) == count:
            return roomy
        entry = known.get((prompt, seed))
        if entry is None:
            # It loads what a machine that was given finished worlds need not have.
            from omni_gen3d.pipeline import generate

            report(f"{len(roomy)} of {count} worlds; generating '{prompt}', seed {seed}")
            with registry.receiving(tags=[TAGS[extent]]) as receipt:
                generate(prompt, out=receipt.folder, seed=seed, device=device, extent=extent)
            entry = receipt.entry
        if (entry.scores.get("traversable_area_m2") or 0.0) >= _ROOMY_M2:
            roomy.append(entry)
    raise InputError(f"only {len(roomy)} worlds of the whole series are roomy enough; {count} are needed.")


def training_worlds(
    registry: Registry, train: int, heldout: int, *, device: str, report: Callable[[str], None]
) -> tuple[list[Entry], list[Entry]]:
    """Rooms to learn in and others for tests: what the library holds out is never learned in.

    Where it holds out fewer than wanted, the last of the series are tested in, too, and not learned in.

    Raises:
        InputError: See ``nav_worlds``.
    """
    for count in itertools.count(train + heldout):
        worlds = nav_worlds(registry, count, extent="room", device=device, report=report)
        learned = [entry for entry in worlds if entry.split == "train"][:train]
        if len(learned) == train:
            break
    others = sorted((entry for entry in worlds if entry not in learned), key=lambda entry: entry.split == "train")
    return learned, others[:heldout]
