"""The ``.ply`` of 3D Gaussian splatting: log scales, logit opacities, channel-major harmonics.

Read by property name with a structured dtype, so that order, scalar types and further properties do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omni_gen3d.errors import InputError
from omni_gen3d.splat_file.raw import CHANNELS, RawSplats, sigmoid

_MAX_HEADER_BYTES = 1 << 16
_BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}
_SCALARS = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
# Rows that are unpacked at a time: they fit into the cache of a core.
_BLOCK_ROWS = 8192
# f_rest_* of degree 0 to 3.
_DEGREE_OF_REST = {CHANNELS * ((degree + 1) ** 2 - 1): degree for degree in range(4)}


@dataclass(frozen=True)
class Element:
    """One table of a PLY file.

    Attributes:
        count: Rows.
        dtype: Of a row, packed; None when it holds lists.
        offset: Where the table begins [bytes]; -1 when that depends on the lists before it.
    """

    count: int
    dtype: np.dtype | None
    offset: int


@dataclass(frozen=True)
class PlyHeader:
    """The tables of a binary PLY file, in their order."""

    file: Path
    elements: dict[str, Element]

    def table(self, name: str) -> Element:
        """The element ``name``, which is known to lie inside the file.

        Raises:
            InputError: There is none, it holds lists or follows some, or the file ends before it does.
        """
        element = self.elements.get(name)
        if element is None:
            raise InputError(f"{self.file} has no element '{name}', so it holds no Gaussians.")
        if element.dtype is None or element.offset < 0:
            raise InputError(f"{self.file}: the element '{name}' holds or follows lists; Gaussians have none.")
        end, size = element.offset + element.count * element.dtype.itemsize, self.file.stat().st_size
        if end > size:
            raise InputError(
                f"{self.file} is truncated: {element.count} rows of '{name}' end at byte {end}, but the file has "
                f"{size}. Copy or export it again."
            )
        return element

    def read(self, name: str) -> np.ndarray:
        """All rows of the element ``name``, structured, shape ``(count,)``."""
        element = self.table(name)
        rows = np.fromfile(self.file, element.dtype, element.count, offset=element.offset)
        if len(rows) != element.count:
            raise InputError(f"{self.file} became shorter while it was read.")
        return rows


def read_header(file: Path) -> PlyHeader:
    """Parse the header of a PLY file.

    Raises:
        InputError: It is no binary PLY file.
    """
    with file.open("rb") as stream:
        start = stream.read(_MAX_HEADER_BYTES)
    text, end, _ = start.partition(b"end_header")
    newline = start.find(b"\n", len(text))
    if not start.startswith(b"ply") or not end or newline < 0:
        raise InputError(f"{file} is no PLY file: it lacks a header from 'ply' to 'end_header'.")
    lines = [line.split() for line in text.decode("ascii", "replace").splitlines()]
    try:
        return PlyHeader(file, _parse(lines, newline + 1))
    except (IndexError, KeyError, ValueError) as error:
        if isinstance(error, InputError):
            raise InputError(f"{file}: {error}") from error
        raise InputError(f"{file} has a damaged PLY header ({error}). Export it again.") from error


def _parse(lines: list[list[str]], offset: int) -> dict[str, Element]:
    order = ""
    counts: dict[str, int] = {}
    fields: dict[str, list[tuple[str, str]] | None] = {}
    for words in lines:
        if words[:1] == ["format"]:
            if words[1] not in _BYTE_ORDERS:
                raise InputError(f"the PLY format is '{words[1]}'; only binary files are read. Export it as binary.")
            order = _BYTE_ORDERS[words[1]]
        elif words[:1] == ["element"]:
            if words[1] in counts or int(words[2]) < 0:
                raise ValueError(f"element {words[1]} {words[2]}")
            counts[words[1]], fields[words[1]] = int(words[2]), []
        elif words[:1] == ["property"]:
            properties = fields[next(reversed(fields))] if fields else None
            if words[1] == "list":
                fields[next(reversed(fields))] = None
            elif properties is not None:
                properties.append((words[2], order + _SCALARS[words[1]]))
    if not order:
        raise ValueError("no format")
    elements = {}
    for name, properties in fields.items():
        dtype = None if properties is None else np.dtype(properties)
        elements[name] = Element(counts[name], dtype, offset)
        offset = -1 if dtype is None or offset < 0 else offset + counts[name] * dtype.itemsize
    return elements


def read_ply(header: PlyHeader, sh_degree: int) -> RawSplats:
    """Read the element ``vertex``, harmonics up to ``sh_degree``.

    Raises:
        InputError: A property is missing, or the file is truncated.
    """
    element = header.table("vertex")
    assert element.dtype is not None
    names = element.dtype.names or ()
    degree = rest_degree(header.file, names)
    needed = ("x", "y", "z", *_numbered("f_dc", 3), "opacity", *_numbered("scale", 3), *_numbered("rot", 4))
    missing = [name for name in needed if name not in names]
    if missing:
        raise InputError(
            f"{header.file} lacks the properties {', '.join(missing)}: it is no Gaussian-splat file, but perhaps a "
            "point cloud or a mesh."
        )
    raw = RawSplats.empty(element.count, min(degree, sh_degree))
    per_channel = (degree + 1) ** 2 - 1
    with header.file.open("rb") as stream:
        stream.seek(element.offset)
        for first in range(0, element.count, _BLOCK_ROWS):
            block = slice(first, min(first + _BLOCK_ROWS, element.count))
            rows = np.fromfile(stream, element.dtype, block.stop - block.start)
            if len(rows) != block.stop - block.start:
                raise InputError(f"{header.file} became shorter while it was read.")
            for axis in range(3):
                raw.means[block, axis] = rows["xyz"[axis]]
                raw.log_scales[block, axis] = rows[f"scale_{axis}"]
            for axis in range(4):
                raw.quats[block, axis] = rows[f"rot_{axis}"]
            raw.opacities[block] = sigmoid(rows["opacity"])
            for channel in range(CHANNELS):
                raw.sh[block, 0, channel] = rows[f"f_dc_{channel}"]
                for k in range(1, raw.sh.shape[1]):
                    raw.sh[block, k, channel] = rows[f"f_rest_{channel * per_channel + k - 1}"]
    return raw


def rest_degree(file: Path, names: tuple[str, ...]) -> int:
    """The degree of the harmonics among the property names.

    Raises:
        InputError: The number of ``f_rest_*`` is none of 0, 9, 24 and 45.
    """
    rest = {name for name in names if name.startswith("f_rest_")}
    if len(rest) not in _DEGREE_OF_REST or rest != set(_numbered("f_rest", len(rest))):
        allowed = ", ".join(map(str, _DEGREE_OF_REST))
        raise InputError(f"{file} has {len(rest)} properties f_rest_*; allowed are {allowed} (SH degree 0 to 3).")
    return _DEGREE_OF_REST[len(rest)]


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}_{i}" for i in range(count)]
