"""The furniture catalogue is sound: names resolve, parts keep to their footprint, no two faces fight."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from omni_gen3d.training.furniture import FURNITURE, OBJECT_TYPES, PARTS_PER_OBJECT, Furniture, Part, furniture_tables
from omni_gen3d.training.looks import CEILINGS, FINISH_NAMES, FLOORS, WALLS
from omni_gen3d.training.rooms import ROOMS


def _interval(part: Part, axis: int) -> tuple[float, float]:
    return part.center[axis] - part.half[axis], part.center[axis] + part.half[axis]


def _share_a_face(a: Part, b: Part) -> bool:
    """Whether faces that look the same way lie in one plane and overlap: a ray could not tell them apart."""
    for axis in range(3):
        others = [_overlap(_interval(a, k), _interval(b, k)) for k in range(3) if k != axis]
        level = any(abs(p - q) < 2e-3 for p, q in zip(_interval(a, axis), _interval(b, axis), strict=True))
        if level and min(others) > 2e-3:
            return True
    return False


def _overlap(a: tuple[float, float], b: tuple[float, float]) -> float:
    return min(a[1], b[1]) - max(a[0], b[0])


@pytest.mark.parametrize("piece", FURNITURE, ids=lambda piece: piece.name)
def test_parts_are_distinct_and_inside(piece: Furniture) -> None:
    """Parts stay in the unit footprint, stand on the floor, reach the top and share no visible face."""
    assert len(piece.parts) <= PARTS_PER_OBJECT
    for part in piece.parts:
        assert all(abs(end) <= 0.5 + 1e-6 for axis in range(2) for end in _interval(part, axis))
        assert _interval(part, 2)[0] >= -1e-6 and _interval(part, 2)[1] <= 1 + 1e-6
    assert not [pair for pair in combinations(piece.parts, 2) if _share_a_face(*pair)]
    assert all(low <= high for low, high in zip(piece.smallest, piece.largest, strict=True))


def test_names_resolve() -> None:
    """Hosts, finishes and everything a room mentions exist; all 18 types are used by some room."""
    for piece in FURNITURE:
        assert set(piece.hosts) <= set(OBJECT_TYPES) and set(piece.finishes) <= set(FINISH_NAMES)
    used = set()
    for room in ROOMS:
        used |= {*room.signature, *room.furniture, *room.round_pieces}
        for names, looks in ((room.floors, FLOORS), (room.walls, WALLS), (room.ceilings, CEILINGS)):
            assert set(names) <= {look.name for look in looks}
    assert used == set(OBJECT_TYPES)


def test_tables_follow_the_catalogue() -> None:
    """Spot checks: a chair's hosts, a desk's parts, a barrel without boxes."""
    tables = furniture_tables("cpu")
    chair, desk, barrel = (OBJECT_TYPES.index(name) for name in ("chair", "desk", "barrel"))
    assert {OBJECT_TYPES[i] for i in torch.where(tables.hosted_by[chair])[0].tolist()} == {"desk", "table"}
    assert tables.used[desk].sum() == len(FURNITURE[desk].parts)
    assert torch.allclose(tables.half[desk, 3], torch.tensor(FURNITURE[desk].parts[3].half))
    assert not tables.used[barrel].any()
