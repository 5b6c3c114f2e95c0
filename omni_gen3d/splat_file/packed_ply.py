"""SuperSplat's ``.compressed.ply``: 16 bytes a Gaussian, quantised between the bounds of its chunk of 256.

The format is the one that PlayCanvas documents for its editor and engine: positions and log scales take 11, 10 and 11
bits, rotations the three smaller quaternion components in 10 bits each after 2 bits that name the largest, colours and
opacity 8 bits each. Early files have no colour bounds; theirs are 0 and 1.
"""

from __future__ import annotations

import numpy as np

from omni_gen3d.errors import InputError
from omni_gen3d.geometry import SH_DC
from omni_gen3d.splat_file.ply import PlyHeader, rest_degree
from omni_gen3d.splat_file.raw import CHANNELS, RawSplats

_CHUNK = 256
_PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
# Bytes 0 to 255 stand for the middles of 256 steps over this range of a coefficient.
_SH_RANGE = 8.0


def is_packed(header: PlyHeader) -> bool:
    """Whether a PLY file is a compressed one."""
    return "chunk" in header.elements


def read_packed_ply(header: PlyHeader, sh_degree: int) -> RawSplats:
    """Unpack all Gaussians, harmonics up to ``sh_degree``.

    Raises:
        InputError: A property is missing, the tables do not belong together, or the file is truncated.
    """
    bounds, packed = header.read("chunk"), header.read("vertex")
    count = len(packed)
    missing = [name for name in _PACKED if name not in (packed.dtype.names or ())]
    missing += [
        f"{end}_{quantity}"
        for quantity in ("x", "y", "z", "scale_x", "scale_y", "scale_z")
        for end in ("min", "max")
        if f"{end}_{quantity}" not in (bounds.dtype.names or ())
    ]
    if missing or any(packed.dtype[name] != np.dtype("<u4") for name in _PACKED):
        found = f"it lacks the properties {', '.join(missing)}" if missing else "its values are no uint32"
        raise InputError(f"{header.file} is no compressed splat file: {found}.")
    if len(bounds) * _CHUNK < count:
        raise InputError(f"{header.file} has {len(bounds)} chunks of {_CHUNK}, too few for {count} Gaussians.")
    chunk = np.arange(count) // _CHUNK

    def within(prefix: str, shares: np.ndarray) -> np.ndarray:
        low, high = (np.stack([bounds[f"{end}_{prefix}{axis}"] for axis in "xyz"], 1) for end in ("min", "max"))
        return (low[chunk] + shares * (high - low)[chunk]).astype(np.float32)

    levels = packed["packed_color"][:, None] >> np.array([24, 16, 8, 0], np.uint32) & 255
    colours = (levels / 255).astype(np.float32)
    rgb = colours[:, :3]
    if "min_r" in (bounds.dtype.names or ()):
        low, high = (np.stack([bounds[f"{end}_{channel}"] for channel in "rgb"], 1) for end in ("min", "max"))
        rgb = low[chunk] + rgb * (high - low)[chunk]
    return RawSplats(
        means=within("", _three_shares(packed["packed_position"])),
        quats=_smallest_three(packed["packed_rotation"]),
        log_scales=within("scale_", _three_shares(packed["packed_scale"])),
        opacities=np.ascontiguousarray(colours[:, 3]),
        sh=np.concatenate([((rgb - 0.5) / SH_DC).astype(np.float32)[:, None], _rest(header, count, sh_degree)], 1),
    )


def _three_shares(packed: np.ndarray) -> np.ndarray:
    """11, 10 and 11 bits as shares in [0, 1], ``(N,)`` -> ``(N, 3)``, float32."""
    bits = np.stack([packed >> 21, packed >> 11 & 1023, packed & 2047], 1)
    return (bits / np.array([2047, 1023, 2047])).astype(np.float32)


def _smallest_three(packed: np.ndarray) -> np.ndarray:
    """Unit quaternions wxyz, ``(N,)`` -> ``(N, 4)``, float32."""
    bits = np.stack([packed >> 20 & 1023, packed >> 10 & 1023, packed & 1023], 1)
    smaller = ((bits / 1023 - 0.5) * np.sqrt(2)).astype(np.float32)
    largest = np.sqrt(np.maximum(1 - (smaller**2).sum(1), 0))
    quats = np.empty((len(packed), 4), np.float32)
    for which in range(4):
        rows = packed >> 30 == which
        quats[rows] = np.insert(smaller[rows], which, largest[rows], axis=1)
    return quats


def _rest(header: PlyHeader, count: int, sh_degree: int) -> np.ndarray:
    """Harmonics above degree 0, shape ``(N, K - 1, 3)``, float32."""
    if "sh" not in header.elements:
        return np.zeros((count, 0, CHANNELS), np.float32)
    rows = header.read("sh")
    degree = rest_degree(header.file, rows.dtype.names or ())
    if len(rows) != count:
        raise InputError(f"{header.file} has harmonics of {len(rows)} Gaussians, but {count} Gaussians.")
    per_channel = (degree + 1) ** 2 - 1
    rest = np.empty((count, (min(degree, sh_degree) + 1) ** 2 - 1, CHANNELS), np.float32)
    for channel in range(CHANNELS):
        for k in range(rest.shape[1]):
            rest[:, k, channel] = rows[f"f_rest_{channel * per_channel + k}"]
    return (rest + 0.5) * np.float32(_SH_RANGE / 256) - np.float32(_SH_RANGE / 2)
