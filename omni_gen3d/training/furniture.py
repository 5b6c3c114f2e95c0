"""The furniture of the worlds: each type is a few boxes (or one cylinder), a range of sizes and a place to stand.

Parts are written in units of the piece's own size: x over its width and y over its depth in [-0.5, 0.5], z over its
height in [0, 1]. Every piece looks along +y; its back is at y = -0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from omni_gen3d.training.looks import FINISH_NAMES, MATERIALS, RGB

PARTS_PER_OBJECT = 6

Role = Literal["body", "trim", "metal", "dark", "load", "white", "books", "worktop"]
Stance = Literal["wall", "free", "beside"]
STANCES: tuple[Stance, ...] = ("wall", "free", "beside")


class Part(NamedTuple):
    """One box: centre and half sizes in units of the piece, and the role that decides its paint."""

    center: tuple[float, float, float]
    half: tuple[float, float, float]
    role: Role = "body"


@dataclass(frozen=True, kw_only=True)
class Furniture:
    """A type of furniture.

    Attributes:
        name: Singular noun.
        plural: Plural noun.
        smallest, largest: Range of width, depth, height [m]; of a round piece, width and depth are its diameter.
        stance: ``wall``: back to a wall; ``free``: anywhere; ``beside``: next to a host, else at a wall.
        hosts: Names of the types a ``beside`` piece joins.
        finishes: Names of the finishes it comes in.
        material: What a plain finish covers.
        parts: Its boxes; none for a round piece.
        unique: At most one in a room.
    """

    name: str
    plural: str
    smallest: tuple[float, float, float]
    largest: tuple[float, float, float]
    stance: Stance
    finishes: tuple[str, ...]
    parts: tuple[Part, ...] = ()
    hosts: tuple[str, ...] = ()
    material: str = "plain"
    unique: bool = False


def _legs(inset: float, thickness: tuple[float, float], top: float, role: Role) -> tuple[Part, ...]:
    x, y = 0.5 - inset, 0.5 - inset
    return tuple(
        Part((sx * x, sy * y, top / 2), (thickness[0], thickness[1], top / 2), role) for sx in (-1, 1) for sy in (-1, 1)
    )


_WOODS = ("wooden", "dark wooden")
_PAINTS = ("white", "grey", "black", "blue", "red", "green")

BOX_FURNITURE = (
    Furniture(
        name="table", plural="tables", smallest=(1.0, 0.7, 0.70), largest=(1.7, 0.95, 0.78), stance="free",
        finishes=(*_WOODS, "white"), unique=True,
        parts=(
            Part((0, 0, 0.965), (0.5, 0.5, 0.035)), *_legs(0.06, (0.03, 0.05), 0.93, "trim"),
        ),
    ),
    Furniture(
        name="shelf rack", plural="shelf racks", smallest=(1.4, 0.5, 1.6), largest=(2.2, 0.7, 2.3), stance="wall",
        finishes=("blue", "orange", "steel", "green"), material="metal",
        parts=(
            Part((-0.48, 0, 0.5), (0.02, 0.5, 0.5)), Part((0.48, 0, 0.5), (0.02, 0.5, 0.5)),
            Part((0, 0, 0.10), (0.46, 0.5, 0.025)), Part((0, 0, 0.56), (0.46, 0.5, 0.025)),
            Part((-0.18, 0.02, 0.26), (0.22, 0.40, 0.135), "load"), Part((0.16, 0, 0.705), (0.26, 0.38, 0.12), "load"),
        ),
    ),
    Furniture(
        name="crate stack", plural="crate stacks", smallest=(0.9, 0.6, 0.8), largest=(1.3, 0.9, 1.5), stance="free",
        finishes=("wooden", "blue", "green", "red", "yellow"),
        parts=(
            Part((-0.26, 0, 0.26), (0.23, 0.48, 0.26)), Part((0.26, -0.03, 0.24), (0.23, 0.44, 0.24), "trim"),
            Part((-0.20, 0.02, 0.73), (0.22, 0.42, 0.21)), Part((0.24, 0, 0.50), (0.21, 0.40, 0.02)),
        ),
    ),
    Furniture(
        name="cabinet", plural="cabinets", smallest=(0.8, 0.4, 0.8), largest=(1.3, 0.55, 1.9), stance="wall",
        finishes=(*_WOODS, "white", "grey", "blue", "green", "red"),
        parts=(
            Part((0, -0.02, 0.49), (0.49, 0.47, 0.49), "trim"), Part((0, -0.01, 0.985), (0.5, 0.49, 0.015)),
            Part((-0.248, 0.46, 0.50), (0.238, 0.025, 0.44)), Part((0.248, 0.46, 0.50), (0.238, 0.025, 0.44)),
            Part((-0.05, 0.492, 0.55), (0.012, 0.008, 0.07), "dark"),
            Part((0.05, 0.492, 0.55), (0.012, 0.008, 0.07), "dark"),
        ),
    ),
    Furniture(
        name="chair", plural="chairs", smallest=(0.42, 0.44, 0.80), largest=(0.52, 0.52, 0.98), stance="beside",
        hosts=("desk", "table"), finishes=("wooden", *_PAINTS, "yellow", "orange"), material="fabric",
        parts=(
            Part((0, 0, 0.50), (0.5, 0.5, 0.045)), Part((0, -0.45, 0.77), (0.48, 0.045, 0.23)),
            *_legs(0.06, (0.05, 0.05), 0.455, "metal"),
        ),
    ),
    Furniture(
        name="sofa", plural="sofas", smallest=(1.5, 0.80, 0.75), largest=(2.2, 0.95, 0.85), stance="wall",
        finishes=("grey", "blue", "red", "green", "beige", "brown", "yellow"), material="fabric",
        parts=(
            Part((0, 0, 0.25), (0.47, 0.47, 0.18), "trim"), Part((0, -0.36, 0.66), (0.40, 0.14, 0.34)),
            Part((-0.45, 0.02, 0.42), (0.05, 0.48, 0.34)), Part((0.45, 0.02, 0.42), (0.05, 0.48, 0.34)),
            Part((-0.2, 0.13, 0.50), (0.195, 0.35, 0.075)), Part((0.2, 0.13, 0.50), (0.195, 0.35, 0.075)),
        ),
    ),
    Furniture(
        name="pallet", plural="pallets", smallest=(0.9, 0.8, 0.7), largest=(1.2, 1.1, 1.4), stance="free",
        finishes=("wooden",),
        parts=(
            Part((0, 0, 0.135), (0.5, 0.5, 0.025)), Part((-0.42, 0, 0.055), (0.06, 0.5, 0.055), "trim"),
            Part((0.42, 0, 0.055), (0.06, 0.5, 0.055), "trim"), Part((0, 0, 0.40), (0.45, 0.45, 0.24), "load"),
            Part((-0.22, 0, 0.82), (0.215, 0.42, 0.18), "load"), Part((0.22, -0.04, 0.74), (0.215, 0.40, 0.10), "load"),
        ),
    ),
    Furniture(
        name="cardboard box", plural="cardboard boxes", smallest=(0.40, 0.40, 0.35), largest=(0.80, 0.65, 0.75),
        stance="free", finishes=("cardboard",), parts=(Part((0, 0, 0.5), (0.5, 0.5, 0.5)),),
    ),
    Furniture(
        name="desk", plural="desks", smallest=(1.2, 0.65, 1.15), largest=(1.7, 0.80, 1.25), stance="wall",
        finishes=(*_WOODS, "white", "grey"),
        parts=(
            Part((0, 0, 0.60), (0.5, 0.5, 0.018)), Part((-0.47, 0, 0.291), (0.02, 0.46, 0.291), "trim"),
            Part((0.40, 0, 0.291), (0.09, 0.46, 0.291), "trim"), Part((0, -0.22, 0.83), (0.22, 0.025, 0.16), "dark"),
            Part((0, -0.26, 0.66), (0.03, 0.05, 0.045), "dark"), Part((0, 0.18, 0.626), (0.16, 0.11, 0.009), "dark"),
        ),
    ),
    Furniture(
        name="workbench", plural="workbenches", smallest=(1.4, 0.60, 1.45), largest=(2.1, 0.80, 1.65), stance="wall",
        finishes=("wooden", "blue", "red", "green", "grey"), material="metal",
        parts=(
            Part((0, 0, 0.56), (0.5, 0.5, 0.03)), Part((-0.46, 0, 0.265), (0.03, 0.44, 0.265), "metal"),
            Part((0.33, 0, 0.265), (0.15, 0.44, 0.265), "metal"), Part((-0.14, 0, 0.14), (0.29, 0.42, 0.02), "trim"),
            Part((0, -0.47, 0.80), (0.5, 0.03, 0.20), "metal"),
            Part((-0.25, -0.05, 0.655), (0.12, 0.20, 0.065), "dark"),
        ),
    ),
    Furniture(
        name="kitchen counter", plural="kitchen counters", smallest=(1.6, 0.60, 2.05), largest=(2.5, 0.65, 2.15),
        stance="wall", finishes=(*_WOODS, "white", "grey", "blue", "green", "red"),
        parts=(
            Part((0, -0.05, 0.235), (0.5, 0.45, 0.185), "trim"), Part((0, 0, 0.437), (0.5, 0.5, 0.017), "worktop"),
            Part((-0.248, 0.42, 0.235), (0.24, 0.02, 0.175)), Part((0.248, 0.42, 0.235), (0.24, 0.02, 0.175)),
            Part((0, -0.22, 0.85), (0.5, 0.28, 0.15)), Part((0, -0.07, 0.025), (0.49, 0.42, 0.025), "dark"),
        ),
    ),
    Furniture(
        name="refrigerator", plural="refrigerators", smallest=(0.60, 0.60, 1.60), largest=(0.75, 0.70, 1.95),
        stance="wall", finishes=("white", "steel", "red", "black"), unique=True,
        parts=(
            Part((0, -0.06, 0.5), (0.5, 0.44, 0.5), "trim"), Part((0, 0.42, 0.33), (0.49, 0.04, 0.31)),
            Part((0, 0.42, 0.83), (0.49, 0.04, 0.165)), Part((-0.40, 0.48, 0.48), (0.025, 0.02, 0.12), "metal"),
            Part((-0.40, 0.48, 0.76), (0.025, 0.02, 0.07), "metal"),
        ),
    ),
    Furniture(
        name="coffee table", plural="coffee tables", smallest=(0.80, 0.45, 0.38), largest=(1.2, 0.60, 0.46),
        stance="beside", hosts=("sofa",), finishes=(*_WOODS, "white", "black"), unique=True,
        parts=(
            Part((0, 0, 0.83), (0.5, 0.5, 0.05)), Part((-0.44, 0, 0.39), (0.03, 0.46, 0.39), "trim"),
            Part((0.44, 0, 0.39), (0.03, 0.46, 0.39), "trim"), Part((0, 0, 0.25), (0.41, 0.42, 0.03), "trim"),
            Part((0.12, 0.05, 0.93), (0.12, 0.17, 0.05), "white"),
        ),
    ),
    Furniture(
        name="bookcase", plural="bookcases", smallest=(0.80, 0.30, 1.50), largest=(1.3, 0.38, 2.1), stance="wall",
        finishes=(*_WOODS, "white", "black"),
        parts=(
            Part((-0.475, 0, 0.5), (0.025, 0.5, 0.5)), Part((0.475, 0, 0.5), (0.025, 0.5, 0.5)),
            Part((0, 0, 0.03), (0.45, 0.5, 0.03)), Part((0, 0, 0.5), (0.45, 0.5, 0.015)),
            Part((0, 0, 0.98), (0.45, 0.5, 0.02)),
            Part((0, -0.12, 0.5), (0.445, 0.36, 0.44), "books"),
        ),
    ),
    Furniture(
        name="television", plural="televisions", smallest=(1.2, 0.38, 1.15), largest=(1.7, 0.45, 1.35), stance="wall",
        finishes=(*_WOODS, "white", "black"), unique=True,
        parts=(
            Part((0, 0, 0.20), (0.5, 0.5, 0.17)), Part((0, 0, 0.385), (0.5, 0.5, 0.015), "trim"),
            Part((0, -0.1, 0.43), (0.12, 0.2, 0.03), "dark"), Part((0, -0.1, 0.73), (0.40, 0.06, 0.27), "dark"),
        ),
    ),
)  # fmt: skip
ROUND_FURNITURE = (
    Furniture(
        name="barrel", plural="barrels", smallest=(0.52, 0.52, 0.80), largest=(0.64, 0.64, 0.98), stance="free",
        finishes=("blue", "red", "green", "yellow", "steel", "orange"), material="metal",
    ),
    Furniture(
        name="column", plural="columns", smallest=(0.32, 0.32, 3.0), largest=(0.50, 0.50, 3.0), stance="free",
        finishes=("grey", "white", "yellow"), material="concrete",
    ),
    Furniture(
        name="bin", plural="bins", smallest=(0.28, 0.28, 0.35), largest=(0.42, 0.42, 0.70), stance="wall",
        finishes=("grey", "black", "steel", "green", "blue"), material="metal",
    ),
)  # fmt: skip
FURNITURE = (*BOX_FURNITURE, *ROUND_FURNITURE)
OBJECT_TYPES = tuple(piece.name for piece in FURNITURE)
COLUMN = OBJECT_TYPES.index("column")

ROLE_PAINT: dict[Role, tuple[RGB, str]] = {
    "metal": ((0.36, 0.38, 0.41), "metal"),
    "dark": ((0.05, 0.055, 0.07), "plain"),
    "load": ((0.68, 0.49, 0.29), "cardboard"),
    "white": ((0.85, 0.85, 0.83), "plain"),
    "books": ((0.55, 0.52, 0.48), "books"),
    "worktop": ((0.22, 0.22, 0.24), "plain"),
}
TRIM_SHADE = 0.68


class FurnitureTables(NamedTuple):
    """``FURNITURE`` as tensors; F types, P = ``PARTS_PER_OBJECT`` parts, R finishes.

    Attributes:
        smallest, largest: Sizes [m], shape ``(F, 3)``.
        stance: Index into ``STANCES``, shape ``(F,)``.
        hosted_by: True where the column type is a host of the row type, shape ``(F, F)``.
        unique: True where a room holds at most one, shape ``(F,)``.
        finish_weight: 1 where the finish is allowed, shape ``(F, R)``.
        material: Material under a plain finish, shape ``(F,)``.
        center, half: Boxes in units of the piece, shape ``(F, P, 3)``; unused parts have zero size.
        used: True where the part exists, shape ``(F, P)``.
        shade: Factor on the finish's colour, shape ``(F, P)``; 0 where the part has its own paint.
        paint: The part's own colour, shape ``(F, P, 3)``.
        paint_material: The material of its own paint, shape ``(F, P)``.
    """

    smallest: torch.Tensor
    largest: torch.Tensor
    stance: torch.Tensor
    hosted_by: torch.Tensor
    unique: torch.Tensor
    finish_weight: torch.Tensor
    material: torch.Tensor
    center: torch.Tensor
    half: torch.Tensor
    used: torch.Tensor
    shade: torch.Tensor
    paint: torch.Tensor
    paint_material: torch.Tensor


def furniture_tables(device: torch.device | str) -> FurnitureTables:
    """Tensors of the catalogue on ``device``."""
    count = len(FURNITURE)
    center, half, paint = (torch.zeros(count, PARTS_PER_OBJECT, 3) for _ in range(3))
    used = torch.zeros(count, PARTS_PER_OBJECT, dtype=torch.bool)
    shade = torch.zeros(count, PARTS_PER_OBJECT)
    paint_material = torch.zeros(count, PARTS_PER_OBJECT, dtype=torch.long)
    for f, piece in enumerate(FURNITURE):
        for p, part in enumerate(piece.parts):
            center[f, p], half[f, p], used[f, p] = torch.tensor(part.center), torch.tensor(part.half), True
            shade[f, p] = {"body": 1.0, "trim": TRIM_SHADE}.get(part.role, 0.0)
            rgb, material = ROLE_PAINT.get(part.role, ((0.0, 0.0, 0.0), "plain"))
            paint[f, p], paint_material[f, p] = torch.tensor(rgb), MATERIALS.index(material)
    tables = FurnitureTables(
        smallest=torch.tensor([piece.smallest for piece in FURNITURE]),
        largest=torch.tensor([piece.largest for piece in FURNITURE]),
        stance=torch.tensor([STANCES.index(piece.stance) for piece in FURNITURE]),
        hosted_by=torch.tensor([[host.name in piece.hosts for host in FURNITURE] for piece in FURNITURE]),
        unique=torch.tensor([piece.unique for piece in FURNITURE]),
        finish_weight=torch.tensor([[float(n in piece.finishes) for n in FINISH_NAMES] for piece in FURNITURE]),
        material=torch.tensor([MATERIALS.index(piece.material) for piece in FURNITURE]),
        center=center, half=half, used=used, shade=shade, paint=paint, paint_material=paint_material,
    )  # fmt: skip
    return FurnitureTables(*(table.to(device) for table in tables))
