"""The free-space grid as text: exact, small, and never inflated beyond what it states."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
import pytest

from omni_gen3d.errors import InputError
from omni_gen3d.types import FreeSpace
from omni_gen3d.usd.free_space import decode_free_space, encode_free_space


def toy_grid() -> FreeSpace:
    free = np.random.default_rng(0).random((5, 7, 3)) > 0.5
    return FreeSpace(free, np.array([-1.0, 0.1, 0.25]), voxel_size=0.05)


def test_round_trip():
    """Voxels, origin and voxel size come back exactly, also where the count is no multiple of eight."""
    grid = decode_free_space(encode_free_space(toy_grid()))
    assert np.array_equal(grid.free, toy_grid().free) and grid.free.dtype == bool
    assert np.array_equal(grid.origin, toy_grid().origin) and grid.voxel_size == 0.05


def test_a_room_takes_little_space():
    """A room of 10 m x 10 m x 3 m with furniture at 5 cm takes less than 20 kB."""
    free = np.zeros((200, 200, 60), dtype=bool)
    free[5:-5, 5:-5, 2:-2] = True
    for x, y, z in np.random.default_rng(0).integers((0, 0, 0), (180, 180, 30), size=(100, 3)):
        free[x : x + 20, y : y + 20, : z + 5] = False
    assert len(encode_free_space(FreeSpace(free, np.zeros(3), 0.05))["data"]) < 20_000


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("shape", [5, 7]),
        ("shape", [5, 7, 0]),
        ("shape", [5, 7, 3.0]),
        ("shape", [10**6, 10**6, 10**6]),
        ("shape", [5, 7, 300]),
        ("shape", [5, 7, 1]),
        ("origin", [0.0, 0.0, float("nan")]),
        ("voxel_size", 0.0),
        ("encoding", "pickle"),
        ("data", "not base64!"),
        ("data", base64.b64encode(b"not deflated").decode()),
        ("data", base64.b64encode(zlib.compress(bytes(14))[:-6]).decode()),
        ("data", base64.b64encode(zlib.compress(bytes(10**7))).decode()),
        ("extra", 1),
    ],
)
def test_damage_is_refused(key: str, value: Any):
    """A value out of range, damaged data, and data that would inflate beyond the shape are refused."""
    with pytest.raises(InputError, match="free_space"):
        decode_free_space(encode_free_space(toy_grid()) | {key: value})
