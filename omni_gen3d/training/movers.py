"""Things that move through the worlds, as data: boxes on links, and how far every link goes during a clip.

Parts are written in metres in the mover's own frame: x ahead, y left, z up, its foot at the origin. A link is a frame
that parts ride on; ``LINKS`` says what it hangs on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from omni_gen3d.training.furniture import PARTS_PER_OBJECT, ROLE_PAINT, TRIM_SHADE, Role
from omni_gen3d.training.looks import FINISH_NAMES, MATERIALS
from omni_gen3d.training.raycast import OBJECT_SLOTS
from omni_gen3d.training.rooms import WORLD_KINDS

Range = tuple[float, float]
# foot: the mover's base, which travels and turns; shoulder turns about the foot's z axis, elbow about an axis of the
# shoulder; lift rises above the foot; belt slides along the foot's x axis.
LINKS = ("foot", "shoulder", "elbow", "lift", "belt")
Link = Literal["foot", "shoulder", "elbow", "lift", "belt"]

# A mover takes the last two slots of a room's furniture.
MOVER_SLOTS = (OBJECT_SLOTS - 2, OBJECT_SLOTS - 1)
MOVER_PARTS = len(MOVER_SLOTS) * PARTS_PER_OBJECT


class MovingPart(NamedTuple):
    """One box: centre and half sizes [m], the role that decides its paint, and the link it rides on."""

    center: tuple[float, float, float]
    half: tuple[float, float, float]
    role: Role = "body"
    link: Link = "foot"


@dataclass(frozen=True, kw_only=True)
class Mover:
    """A type of mover.

    Attributes:
        name: Singular noun.
        says: What captions say of it.
        parts: Its boxes; none for the ball.
        finishes: Names of the finishes it comes in.
        scale: Range of its size over the written one.
        travel: Range of the way of its foot during a clip [m].
        turn: Range of the turn of its foot [degrees], to either side.
        shoulder, elbow: Ranges of the turns of those links [degrees], to either side.
        lift, belt: Ranges of the ways of those links [m].
        elbow_at: x of the elbow's axis [m].
        at_wall: True for a thing whose foot stands at a wall and looks along it.
        rooms: Kinds of rooms it is met in; empty for all.
        weight: How often it is met there, relative to the others.
    """

    name: str
    says: tuple[str, ...]
    parts: tuple[MovingPart, ...]
    finishes: tuple[str, ...]
    scale: Range = (0.9, 1.1)
    travel: Range = (0.0, 0.0)
    turn: Range = (0.0, 0.0)
    shoulder: Range = (0.0, 0.0)
    elbow: Range = (0.0, 0.0)
    lift: Range = (0.0, 0.0)
    belt: Range = (0.0, 0.0)
    elbow_at: float = 0.0
    at_wall: bool = False
    rooms: tuple[str, ...] = ()
    weight: float = 1.0


_BRIGHT = ("yellow", "orange", "blue", "red", "green", "white", "grey")
_P = MovingPart

MOVERS = (
    Mover(
        name="mobile robot",
        says=("a moving mobile robot", "a mobile robot driving past", "a robot that drives"),
        finishes=(*_BRIGHT, "black"), scale=(0.85, 1.25), travel=(0.4, 1.6), turn=(0, 40),
        parts=(
            _P((0, 0, 0.18), (0.35, 0.25, 0.13)), _P((0.12, 0.26, 0.08), (0.10, 0.025, 0.08), "dark"),
            _P((0.12, -0.26, 0.08), (0.10, 0.025, 0.08), "dark"), _P((0.06, 0, 0.43), (0.20, 0.19, 0.12), "load"),
            _P((-0.26, 0, 0.58), (0.04, 0.05, 0.27), "metal"), _P((-0.22, 0, 0.92), (0.08, 0.17, 0.07), "trim"),
        ),
    ),
    Mover(
        name="forklift", says=("a moving forklift", "a forklift driving", "a forklift that lifts a load"),
        finishes=("yellow", "orange", "red", "blue", "green"), scale=(0.7, 1.0), travel=(0.4, 1.4), turn=(0, 25),
        lift=(0.0, 0.5), rooms=("warehouse", "workshop"), weight=4.0,
        parts=(
            _P((-0.12, 0, 0.46), (0.50, 0.38, 0.24)), _P((-0.68, 0, 0.52), (0.12, 0.38, 0.32), "trim"),
            _P((-0.10, 0, 1.60), (0.42, 0.36, 0.03), "dark"), _P((0.28, 0.32, 1.14), (0.03, 0.03, 0.44), "dark"),
            _P((0.28, -0.32, 1.14), (0.03, 0.03, 0.44), "dark"), _P((-0.48, 0, 1.14), (0.03, 0.34, 0.44), "dark"),
            _P((0.20, 0, 0.15), (0.16, 0.40, 0.15), "dark"), _P((-0.55, 0, 0.13), (0.13, 0.39, 0.13), "dark"),
            _P((0.45, 0.24, 0.95), (0.05, 0.05, 0.90), "metal"), _P((0.45, -0.24, 0.95), (0.05, 0.05, 0.90), "metal"),
            _P((0.84, 0, 0.10), (0.36, 0.28, 0.025), "metal", "lift"),
            _P((0.88, 0, 0.40), (0.32, 0.36, 0.27), "load", "lift"),
        ),
    ),
    Mover(
        name="swinging door", says=("a swinging door", "a door that opens", "an opening door"),
        finishes=("wooden", "dark wooden", "white", "grey", "blue", "red", "green"), at_wall=True, shoulder=(50, 100),
        parts=(
            _P((0.43, 0, 1.0), (0.43, 0.022, 1.0), "body", "shoulder"),
            _P((0.43, 0, 1.45), (0.30, 0.027, 0.35), "trim", "shoulder"),
            _P((0.43, 0, 0.50), (0.30, 0.027, 0.30), "trim", "shoulder"),
            _P((0.78, 0, 1.0), (0.06, 0.06, 0.015), "metal", "shoulder"),
        ),
    ),
    Mover(
        name="ball", says=("a rolling ball", "a ball that rolls"), finishes=_BRIGHT, scale=(0.12, 0.32),
        travel=(0.5, 2.0), parts=(),
    ),
    Mover(
        name="conveyor", says=("a conveyor with moving boxes", "a running conveyor belt", "boxes on a moving conveyor"),
        finishes=_BRIGHT, scale=(0.8, 1.1), belt=(0.2, 0.6),
        rooms=("warehouse", "workshop"), weight=3.0,
        parts=(
            _P((0, 0, 0.62), (1.1, 0.28, 0.05), "dark"), _P((0, 0.30, 0.66), (1.1, 0.025, 0.07)),
            _P((0, -0.30, 0.66), (1.1, 0.025, 0.07)), _P((-0.9, 0, 0.285), (0.05, 0.26, 0.285), "metal"),
            _P((0.9, 0, 0.285), (0.05, 0.26, 0.285), "metal"), _P((-0.9, 0, 0.79), (0.13, 0.15, 0.12), "load", "belt"),
            _P((-0.45, 0.03, 0.83), (0.15, 0.17, 0.16), "white", "belt"),
            _P((-0.02, -0.04, 0.77), (0.12, 0.12, 0.10), "load", "belt"),
            _P((0.35, 0, 0.81), (0.10, 0.18, 0.14), "trim", "belt"),
        ),
    ),
    Mover(
        name="robot arm", says=("a moving robot arm", "an articulated arm at work", "a robot arm that swings"),
        finishes=_BRIGHT, scale=(0.9, 1.3), shoulder=(30, 90), elbow=(20, 90), elbow_at=0.56,
        parts=(
            _P((0, 0, 0.28), (0.17, 0.17, 0.28), "metal"), _P((0, 0, 0.66), (0.12, 0.12, 0.10), "body", "shoulder"),
            _P((0.30, 0, 0.80), (0.36, 0.085, 0.06), "body", "shoulder"),
            _P((0.27, 0, 0.68), (0.34, 0.07, 0.05), "trim", "elbow"),
            _P((0.54, 0, 0.50), (0.035, 0.035, 0.20), "dark", "elbow"),
            _P((0.54, 0, 0.24), (0.09, 0.09, 0.07), "load", "elbow"),
        ),
    ),
)  # fmt: skip
MOVER_NAMES = tuple(mover.name for mover in MOVERS)
BALL_MOVER, DOOR_MOVER = MOVER_NAMES.index("ball"), MOVER_NAMES.index("swinging door")
_RANGES = ("scale", "travel", "turn", "shoulder", "elbow", "lift", "belt")


class MoverTables(NamedTuple):
    """``MOVERS`` as tensors; M types, P = ``MOVER_PARTS`` parts, R finishes.

    Attributes:
        center, half: Boxes [m], shape ``(M, P, 3)``; unused parts have zero size.
        used: True where the part exists, shape ``(M, P)``.
        link: Index into ``LINKS``, shape ``(M, P)``.
        shade, paint, paint_material: As in ``FurnitureTables``.
        finish_weight: 1 where the finish is allowed, shape ``(M, R)``.
        low, high: Of scale, travel, turn, shoulder, elbow, lift, belt, shape ``(M, 7)``.
        elbow_at: [m], shape ``(M,)``.
        at_wall: Shape ``(M,)``, bool.
        room_weight: How often a kind of room holds the mover, shape ``(kinds, M)``.
    """

    center: torch.Tensor
    half: torch.Tensor
    used: torch.Tensor
    link: torch.Tensor
    shade: torch.Tensor
    paint: torch.Tensor
    paint_material: torch.Tensor
    finish_weight: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    elbow_at: torch.Tensor
    at_wall: torch.Tensor
    room_weight: torch.Tensor


def mover_tables(device: torch.device | str) -> MoverTables:
    """Tensors of the catalogue on ``device``."""
    count = len(MOVERS)
    center, half, paint = (torch.zeros(count, MOVER_PARTS, 3) for _ in range(3))
    used = torch.zeros(count, MOVER_PARTS, dtype=torch.bool)
    link, paint_material = (torch.zeros(count, MOVER_PARTS, dtype=torch.long) for _ in range(2))
    shade = torch.zeros(count, MOVER_PARTS)
    for m, mover in enumerate(MOVERS):
        for p, part in enumerate(mover.parts):
            center[m, p], half[m, p], used[m, p] = torch.tensor(part.center), torch.tensor(part.half), True
            link[m, p] = LINKS.index(part.link)
            shade[m, p] = {"body": 1.0, "trim": TRIM_SHADE}.get(part.role, 0.0)
            rgb, material = ROLE_PAINT.get(part.role, ((0.0, 0.0, 0.0), "plain"))
            paint[m, p], paint_material[m, p] = torch.tensor(rgb), MATERIALS.index(material)
    ranges = torch.tensor([[getattr(mover, name) for name in _RANGES] for mover in MOVERS])
    tables = MoverTables(
        center=center, half=half, used=used, link=link, shade=shade, paint=paint, paint_material=paint_material,
        finish_weight=torch.tensor([[float(n in mover.finishes) for n in FINISH_NAMES] for mover in MOVERS]),
        low=ranges[..., 0], high=ranges[..., 1],
        elbow_at=torch.tensor([mover.elbow_at for mover in MOVERS]),
        at_wall=torch.tensor([mover.at_wall for mover in MOVERS]),
        room_weight=torch.tensor(
            [[mover.weight * (not mover.rooms or kind in mover.rooms) for mover in MOVERS] for kind in WORLD_KINDS]
        ),
    )  # fmt: skip
    return MoverTables(*(table.to(device) for table in tables))
