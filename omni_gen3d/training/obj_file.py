"""Wavefront OBJ files with their materials: triangles that share corners, a colour or a picture for each face."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from omni_gen3d.errors import InputError

_MAX_CORNERS = 2_000_000


@dataclass(frozen=True)
class Material:
    """A material of an MTL file.

    Attributes:
        color: Diffuse reflectance in [0, 1].
        opacity: 1 is opaque.
        shine: Greatest channel of the specular reflectance, in [0, 1].
        picture: File of the diffuse texture as the MTL file names it, empty for none.
    """

    color: tuple[float, float, float] = (0.8, 0.8, 0.8)
    opacity: float = 1.0
    shine: float = 0.0
    picture: str = ""


@dataclass(frozen=True)
class ObjMesh:
    """Triangles of an OBJ file.

    Attributes:
        positions: As written, shape ``(V, 3)``, float64.
        normals: Unit, shape ``(V, 3)``, float32.
        texture_coordinates: Lower left origin, shape ``(V, 2)``, float32; 0 where the file has none.
        faces: Indices of the corners, shape ``(F, 3)``, int64.
        materials: Names, in the order of their first use.
        face_material: Index into ``materials``, shape ``(F,)``, int64.
        libraries: MTL files that the file names.
    """

    positions: np.ndarray
    normals: np.ndarray
    texture_coordinates: np.ndarray
    faces: np.ndarray
    materials: tuple[str, ...]
    face_material: np.ndarray
    libraries: tuple[str, ...]


def read_obj(text: str, name: str) -> ObjMesh:
    """Read the faces of an OBJ file; polygons become fans, lines and points are left out.

    Args:
        text: The file.
        name: What errors call it.

    Raises:
        InputError: An index points nowhere, a number is none, or there are more than two million corners.
    """
    points: list[list[float]] = []
    pictured: list[list[float]] = []
    turned: list[list[float]] = []
    corners: dict[tuple[int, int, int], int] = {}
    faces: list[tuple[int, int, int]] = []
    face_material: list[int] = []
    materials: dict[str, int] = {}
    libraries: list[str] = []
    material = -1
    for number, line in enumerate(text.splitlines(), 1):
        word, _, rest = line.strip().partition(" ")
        try:
            if word == "v":
                points.append([float(value) for value in rest.split()[:3]])
            elif word == "vt":
                pictured.append([float(value) for value in rest.split()[:2]])
            elif word == "vn":
                turned.append([float(value) for value in rest.split()[:3]])
            elif word == "f":
                if material < 0:
                    material = materials.setdefault("", len(materials))
                ring = []
                for token in rest.split():
                    parts = [int(part) if part else 0 for part in [*token.split("/"), "", ""][:3]]
                    key = (
                        _resolved(parts[0], len(points)),
                        _resolved(parts[1], len(pictured)) if parts[1] else -1,
                        _resolved(parts[2], len(turned)) if parts[2] else -1,
                    )
                    ring.append(corners.setdefault(key, len(corners)))
                faces += [(ring[0], ring[i], ring[i + 1]) for i in range(1, len(ring) - 1)]
                face_material += [material] * (len(ring) - 2)
            elif word == "usemtl":
                material = materials.setdefault(rest.strip(), len(materials))
            elif word == "mtllib":
                libraries.append(rest.strip())
        except (ValueError, IndexError) as error:
            raise InputError(f"{name}, line {number}: {line.strip()[:60]!r} cannot be read ({error}).") from error
        if len(corners) > _MAX_CORNERS:
            raise InputError(f"{name} has more than {_MAX_CORNERS} corners; that is no piece of furniture.")
    index = np.array(list(corners), np.int64).reshape(-1, 3)
    position = np.array(points, np.float64).reshape(-1, 3)[index[:, 0]]
    triangles = np.array(faces, np.int64).reshape(-1, 3)
    return ObjMesh(
        positions=position,
        normals=_normals(position, triangles, np.array(turned, np.float64).reshape(-1, 3), index[:, 2]),
        texture_coordinates=_picked(np.array(pictured, np.float32).reshape(-1, 2), index[:, 1]),
        faces=triangles,
        materials=tuple(materials),
        face_material=np.array(face_material, np.int64),
        libraries=tuple(libraries),
    )


def read_mtl(text: str) -> dict[str, Material]:
    """Materials by name; what is not understood is left out."""
    rows: dict[str, dict] = {}
    row: dict = {}
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        try:
            if word == "newmtl":
                row = rows.setdefault(rest, {})
            elif word == "Kd":
                red, green, blue = (min(max(float(value), 0.0), 1.0) for value in rest.split()[:3])
                row["color"] = (red, green, blue)
            elif word == "Ks":
                row["shine"] = min(max(float(value) for value in rest.split()[:3]), 1.0)
            elif word == "d":
                row["opacity"] = min(max(float(rest), 0.0), 1.0)
            elif word == "map_Kd":
                row["picture"] = PurePosixPath(rest.replace("\\", "/")).name
        except ValueError:
            continue
    return {name: Material(**values) for name, values in rows.items()}


def _resolved(index: int, count: int) -> int:
    """From OBJ's 1-based index, negative from the end, to ours."""
    resolved = index - 1 if index > 0 else count + index
    if not 0 <= resolved < count:
        raise IndexError(f"index {index} of {count}")
    return resolved


def _picked(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    if not len(values):
        return np.zeros((len(index), values.shape[1]), values.dtype)
    return np.where(index[:, None] >= 0, values[index], 0).astype(values.dtype)


def _normals(position: np.ndarray, faces: np.ndarray, given: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The file's normals, and where it has none those of the faces around a corner, weighted by area."""
    across = np.cross(position[faces[:, 1]] - position[faces[:, 0]], position[faces[:, 2]] - position[faces[:, 0]])
    normals = np.zeros((len(index), 3))
    for corner in range(3):
        np.add.at(normals, faces[:, corner], across)
    if len(given):
        normals = np.where((index >= 0)[:, None], given[index], normals)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > 1e-20, normals / np.maximum(length, 1e-20), (0.0, 0.0, 1.0)).astype(np.float32)
