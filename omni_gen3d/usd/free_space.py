"""A free-space grid as text for the manifest: packed bits, deflated, base64."""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from typing import Any

import numpy as np

from omni_gen3d.errors import InputError
from omni_gen3d.types import FreeSpace

ENCODING = "packbits-zlib-base64"
# 1 GiB of unpacked booleans: a hall of 160 m x 160 m x 5 m at 5 cm.
MAX_VOXELS = 2**30
_KEYS = ("origin", "voxel_size", "shape", "encoding", "data")


def encode_free_space(grid: FreeSpace) -> dict[str, Any]:
    """Plain values of the grid; bits run along Z fastest, the first voxel in the highest bit of the first byte."""
    packed = np.packbits(np.ascontiguousarray(grid.free, dtype=bool))
    return {
        "origin": [float(value) for value in grid.origin],
        "voxel_size": float(grid.voxel_size),
        "shape": [int(length) for length in grid.free.shape],
        "encoding": ENCODING,
        "data": base64.b64encode(zlib.compress(packed.tobytes(), level=9)).decode("ascii"),
    }


def decode_free_space(values: Any) -> FreeSpace:
    """Inverse of ``encode_free_space``; never inflates beyond what the stated shape needs.

    Raises:
        InputError: A key is missing or unknown, a value is of the wrong type or out of range, or the data does not
            hold exactly the stated number of voxels.
    """
    if not isinstance(values, dict) or set(values) != set(_KEYS):
        raise InputError(f"free_space must hold exactly the keys {', '.join(_KEYS)}.")
    shape, origin, voxel_size = values["shape"], values["origin"], values["voxel_size"]
    if not _numbers(shape, int) or min(shape) < 1 or math.prod(shape) > MAX_VOXELS:
        raise InputError(f"free_space.shape is {shape}; expected 3 positive integers, at most {MAX_VOXELS} voxels.")
    if not _numbers(origin, float) or not isinstance(voxel_size, float) or not 0 < voxel_size < math.inf:
        raise InputError(f"free_space needs a finite origin and a positive voxel_size; got {origin} and {voxel_size}.")
    if values["encoding"] != ENCODING or not isinstance(values["data"], str):
        raise InputError(f"free_space.encoding is {values['encoding']!r}; expected '{ENCODING}' and text as data.")

    num_voxels = math.prod(shape)
    num_bytes = -(-num_voxels // 8)
    inflater = zlib.decompressobj()
    try:
        packed = inflater.decompress(base64.b64decode(values["data"], validate=True), num_bytes + 1)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise InputError(f"free_space.data cannot be decoded: {error}.") from error
    if len(packed) != num_bytes or not inflater.eof:
        raise InputError(f"free_space.data does not hold exactly the {num_bytes} bytes that shape {shape} needs.")
    bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=num_voxels)
    return FreeSpace(bits.astype(bool).reshape(shape), np.array(origin, dtype=np.float64), voxel_size)


def _numbers(value: Any, kind: type) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(v) is kind and math.isfinite(v) for v in value)
