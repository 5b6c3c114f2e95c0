"""The six kinds of worlds as data: how large, how furnished, how finished, what their walls open to."""

from __future__ import annotations

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Room:
    """A kind of world. Every mapping holds relative weights.

    Attributes:
        name: What people call it.
        half_length, half_width, height: Ranges [m].
        signature: Furniture the first piece is drawn from; it makes the kind recognisable.
        furniture: Furniture the other pieces are drawn from.
        pieces: Least and greatest number of pieces, at most six.
        round_pieces: Furniture of the cylinders.
        round_chance: Probability of each cylinder.
        floors, walls, ceilings: Looks by name.
        openings: What a wall holds.
        floor_line_chance: Probability of a yellow line along the walls.
        lamp_period: Spacing of the ceiling lights [m].
    """

    name: str
    half_length: Range
    half_width: Range
    height: Range
    signature: dict[str, float]
    furniture: dict[str, float]
    pieces: tuple[int, int]
    round_pieces: dict[str, float]
    round_chance: float
    floors: dict[str, float]
    walls: dict[str, float]
    ceilings: dict[str, float]
    openings: dict[str, float]
    floor_line_chance: float = 0.0
    lamp_period: float = 100.0


ROOMS = (
    Room(
        name="warehouse", half_length=(4.2, 6.8), half_width=(3.2, 5.0), height=(4.2, 5.8),
        signature={"shelf rack": 3, "pallet": 1},
        furniture={"shelf rack": 4, "pallet": 6, "crate stack": 3, "cardboard box": 2, "workbench": 0.4},
        pieces=(4, 6), round_pieces={"barrel": 3, "column": 2}, round_chance=0.55,
        floors={"concrete": 3, "green epoxy": 1},
        walls={"grey": 3, "white": 2, "brick": 2, "blue": 1},
        ceilings={"sheet metal": 1}, openings={"gate": 4, "window": 1, "none": 2, "door": 1},
        floor_line_chance=0.6, lamp_period=3.2,
    ),
    Room(
        name="workshop", half_length=(2.7, 4.2), half_width=(2.3, 3.4), height=(3.0, 3.8),
        signature={"workbench": 1},
        furniture={"workbench": 3, "cabinet": 2, "shelf rack": 2, "crate stack": 2, "cardboard box": 1, "table": 1,
                   "chair": 1},
        pieces=(4, 6), round_pieces={"barrel": 3, "bin": 1}, round_chance=0.5,
        floors={"concrete": 3, "green epoxy": 2, "light wood": 1},
        walls={"brick": 3, "grey": 2, "white": 2, "green": 1},
        ceilings={"white": 1, "sheet metal": 2}, openings={"window": 3, "door": 2, "gate": 1, "none": 1},
        lamp_period=2.4,
    ),
    Room(
        name="corridor", half_length=(4.5, 7.0), half_width=(1.15, 1.6), height=(2.5, 2.9),
        signature={"cabinet": 2, "chair": 2, "bookcase": 1, "cardboard box": 1},
        furniture={"cabinet": 2, "chair": 3, "bookcase": 1, "cardboard box": 2},
        pieces=(2, 5), round_pieces={"bin": 1}, round_chance=0.35,
        floors={"white tile": 3, "grey carpet": 3, "concrete": 2, "terracotta tile": 1},
        walls={"white": 3, "beige": 2, "blue": 2, "green": 2, "grey": 1},
        ceilings={"panelled": 2, "white": 1}, openings={"door": 5, "picture": 1, "window": 1}, lamp_period=2.6,
    ),
    Room(
        name="office", half_length=(2.4, 3.8), half_width=(2.1, 3.1), height=(2.6, 3.0),
        signature={"desk": 1},
        furniture={"desk": 4, "chair": 5, "bookcase": 2, "cabinet": 1.5, "table": 0.5, "cardboard box": 0.4},
        pieces=(4, 6), round_pieces={"bin": 3, "column": 1}, round_chance=0.4,
        floors={"grey carpet": 4, "light wood": 2, "dark wood": 1},
        walls={"white": 3, "blue": 2, "green": 1, "beige": 1, "grey": 1},
        ceilings={"panelled": 3, "white": 1}, openings={"window": 4, "door": 2, "picture": 2}, lamp_period=2.2,
    ),
    Room(
        name="kitchen", half_length=(2.0, 2.9), half_width=(1.8, 2.5), height=(2.5, 2.8),
        signature={"kitchen counter": 1},
        furniture={"kitchen counter": 3, "refrigerator": 7, "table": 3, "chair": 4, "cabinet": 0.5},
        pieces=(4, 6), round_pieces={"bin": 1}, round_chance=0.3,
        floors={"white tile": 3, "terracotta tile": 3, "light wood": 1},
        walls={"white": 3, "beige": 2, "green": 2, "blue": 2},
        ceilings={"white": 1}, openings={"window": 4, "door": 2, "none": 1},
    ),
    Room(
        name="living room", half_length=(2.4, 3.5), half_width=(2.1, 3.0), height=(2.5, 2.9),
        signature={"sofa": 1},
        furniture={"sofa": 1.5, "coffee table": 5, "television": 5, "bookcase": 2, "cabinet": 1, "chair": 1,
                   "table": 0.5},
        pieces=(4, 6), round_pieces={"bin": 1}, round_chance=0.15,
        floors={"light wood": 3, "dark wood": 3, "grey carpet": 1},
        walls={"beige": 3, "white": 2, "blue": 2, "green": 2, "brick": 1},
        ceilings={"white": 1}, openings={"picture": 3, "window": 3, "door": 2},
    ),
)  # fmt: skip
WORLD_KINDS = tuple(room.name for room in ROOMS)
