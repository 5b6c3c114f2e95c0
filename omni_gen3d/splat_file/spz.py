"""Niantic's ``.spz``, versions 1 to 3: a gzip stream of one header and six tables of bytes.

Layout and constants follow the published format (github.com/nianticlabs/spz): positions in 24-bit fixed point (half
floats in version 1), opacities and colours 8 bits, log scales 4.4 bits, quaternions three bytes (version 3: the three
smaller components in 10 bits each), harmonics 8 bits. Its frame is customarily x right, y up, z back, where a PLY of
the same scene has y down; nothing is converted here.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from omni_gen3d.errors import InputError
from omni_gen3d.splat_file.raw import CHANNELS, RawSplats

_MAGIC = 0x5053474E
_HEADER = struct.Struct("<IIIBBBB")
# The format's own reader takes no more either.
_MAX_POINTS = 10_000_000
# Later versions append small extensions; a stream that goes on for longer is no honest file.
_MAX_EXTENSION_BYTES = 1 << 20
# Deflate cannot shrink data further than about 1032 to 1.
_MAX_RATIO = 1040
_COLOUR_SCALE = 0.15
_GZIP = 31


def read_spz(file: Path, sh_degree: int) -> RawSplats:
    """Unpack all Gaussians, harmonics up to ``sh_degree``.

    Raises:
        InputError: It is no SPZ file of a known version, is truncated, or holds more than its header says.
    """
    packed = file.read_bytes()
    stream = zlib.decompressobj(wbits=_GZIP)
    if packed[:4] == struct.pack("<I", _MAGIC):
        raise InputError(f"{file} is an SPZ file of version 4 or later; save it as version 3, or as .ply.")
    header = _inflate(stream, packed, _HEADER.size, file)
    if len(header) < _HEADER.size:
        raise InputError(f"{file} is no SPZ file: it ends inside its header.")
    magic, version, count, degree, fraction_bits, _, _ = _HEADER.unpack(header)
    if magic != _MAGIC:
        raise InputError(f"{file} is no SPZ file: it does not begin with 'NGSP'.")
    if version not in (1, 2, 3) or degree > 3 or fraction_bits > 24:
        raise InputError(
            f"{file} is an SPZ file of version {version} with SH degree {degree} and {fraction_bits} fractional bits; "
            "read are versions 1 to 3, degrees 0 to 3 and up to 24 bits."
        )
    coefficients = (degree + 1) ** 2 - 1
    widths = (6 if version == 1 else 9, 1, 3, 3, 4 if version == 3 else 3, CHANNELS * coefficients)
    size = count * sum(widths)
    if count > _MAX_POINTS:
        raise InputError(f"{file} claims {count} Gaussians; an SPZ file holds at most {_MAX_POINTS}.")
    if size > _MAX_RATIO * len(packed):
        raise InputError(f"{file} is truncated: {count} Gaussians do not fit into its {len(packed)} bytes.")
    body = _inflate(stream, stream.unconsumed_tail, size, file)
    if len(body) < size:
        raise InputError(f"{file} is truncated: {count} Gaussians take {size} bytes, it holds {len(body)}.")
    if len(_inflate(stream, stream.unconsumed_tail, _MAX_EXTENSION_BYTES + 1, file)) > _MAX_EXTENSION_BYTES:
        raise InputError(f"{file} inflates to far more than the {count} Gaussians that its header names.")

    tables = np.split(np.frombuffer(body, np.uint8), np.cumsum([count * width for width in widths])[:-1])
    positions, alphas, colours, scales, rotations, rest = (
        table.reshape(count, width) for table, width in zip(tables, widths, strict=True)
    )
    kept = (min(degree, sh_degree) + 1) ** 2 - 1
    sh = np.empty((count, 1 + kept, CHANNELS), np.float32)
    sh[:, 0] = (colours / np.float32(255) - np.float32(0.5)) / np.float32(_COLOUR_SCALE)
    sh[:, 1:] = (rest.reshape(count, coefficients, CHANNELS)[:, :kept] - np.float32(128)) / np.float32(128)
    return RawSplats(
        means=positions.view("<f2").astype(np.float32) if version == 1 else _fixed_point(positions, fraction_bits),
        quats=_smallest_three(rotations) if version == 3 else _first_three(rotations),
        log_scales=scales / np.float32(16) - np.float32(10),
        opacities=alphas[:, 0] / np.float32(255),
        sh=sh,
    )


def _inflate(stream: zlib._Decompress, packed: bytes, size: int, file: Path) -> bytes:
    """Up to ``size`` bytes more of the stream; zero of them means nothing, not everything."""
    try:
        return stream.decompress(packed, size) if size and not stream.eof else b""
    except zlib.error as error:
        raise InputError(f"{file} is no SPZ file, or damaged: {error}.") from error


def _fixed_point(positions: np.ndarray, fraction_bits: int) -> np.ndarray:
    """24-bit signed integers, little-endian, ``(N, 9)`` bytes -> ``(N, 3)`` float32."""
    low, middle, high = np.moveaxis(positions.reshape(-1, 3, 3).astype(np.int32), -1, 0)
    values = low | middle << 8 | high << 16
    return ((values << 8 >> 8) / np.float32(1 << fraction_bits)).astype(np.float32)


def _first_three(rotations: np.ndarray) -> np.ndarray:
    """x, y, z in a byte each, w positive, ``(N, 3)`` -> wxyz ``(N, 4)`` float32."""
    xyz = rotations / np.float32(127.5) - np.float32(1)
    w = np.sqrt(np.maximum(1 - (xyz**2).sum(1, keepdims=True), 0))
    return np.concatenate([w, xyz], 1).astype(np.float32)


def _smallest_three(rotations: np.ndarray) -> np.ndarray:
    """Sign and 9 bits for each of three components, then 2 bits for the largest, ``(N, 4)`` -> wxyz ``(N, 4)``."""
    packed = rotations.copy().view("<u4")[:, 0]
    bits = np.stack([packed >> shift & 1023 for shift in (20, 10, 0)], 1)
    magnitude = (bits & 511) / np.float32(511 * np.sqrt(2))
    smaller = np.where(bits & 512, -magnitude, magnitude).astype(np.float32)
    largest = np.sqrt(np.maximum(1 - (smaller**2).sum(1), 0))
    xyzw = np.empty((len(packed), 4), np.float32)
    for which in range(4):
        rows = packed >> 30 == which
        xyzw[rows] = np.insert(smaller[rows], which, largest[rows], axis=1)
    return xyzw[:, [3, 0, 1, 2]]
