"""Things from a pool of meshes, strewn over the free floor of an environment so that nothing touches anything."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from omni_gen3d.envs.sample import Thing
from omni_gen3d.errors import InputError
from omni_gen3d.types import FreeSpace, TriMesh

if TYPE_CHECKING:
    from omni_gen3d.envs.entry import Point

_MAX_MESHES = 1000
_MAX_FILE_BYTES = 64 * 2**20
# Tried places of a thing before it is left out.
_TRIES = 40
# Above the floor, so that an engine finds no contact to push apart [m].
_LIFT_M = 0.002


@dataclass(frozen=True)
class PoolMesh:
    """A mesh of the pool: metres, Z-up; it stands on its lowest point."""

    name: str
    sha256: str
    mesh: TriMesh


@dataclass(frozen=True)
class Pool:
    """Meshes to choose from, in the order of their names."""

    meshes: tuple[PoolMesh, ...]

    @classmethod
    def read(cls, folder: Path | str) -> Pool:
        """Read every .ply, .obj, .stl and .glb file of a folder.

        Raises:
            InputError: There is none, there are more than 1000, or one is larger than 64 MiB or cannot be read.
        """
        from omni_gen3d.mesh.mesh_file import MESH_SUFFIXES, read_mesh_file

        directory = Path(folder).expanduser()
        files = sorted(file for file in directory.glob("*") if file.suffix.lower() in MESH_SUFFIXES)
        if not 1 <= len(files) <= _MAX_MESHES:
            raise InputError(f"{directory} holds {len(files)} meshes ({', '.join(MESH_SUFFIXES)}); 1 to 1000 are read.")
        meshes = []
        for file in files:
            if file.stat().st_size > _MAX_FILE_BYTES:
                raise InputError(f"{file} has {file.stat().st_size} bytes; a mesh of a pool has at most 64 MiB.")
            mesh = read_mesh_file(file)
            meshes.append(PoolMesh(file.name, hashlib.sha256(file.read_bytes()).hexdigest(), mesh))
        return cls(tuple(meshes))

    def place(self, thing: Thing) -> TriMesh:
        """A thing where it stands, in the frame of the environment.

        Raises:
            InputError: The pool lacks its mesh, or has another one of that name.
        """
        found = self.meshes[self.number(thing)].mesh
        turned = _turned(found.vertices, thing.scale, thing.yaw)
        return TriMesh((turned + np.array(thing.position)).astype(np.float32), found.faces)

    def number(self, thing: Thing) -> int:
        """Which of the meshes a thing is.

        Raises:
            InputError: As ``place``.
        """
        found = next((i for i, entry in enumerate(self.meshes) if entry.name == thing.mesh), None)
        if found is None or self.meshes[found].sha256 != thing.sha256:
            known = "no" if found is None else "another"
            raise InputError(f"the pool has {known} mesh {thing.mesh}; give the one that was drawn.")
        return found

    def outline(self, thing: Thing) -> tuple[float, float, float]:
        """Middle and radius of a disc that holds what is seen of a thing from above [m]."""
        points = self.place(thing).vertices[:, :2].astype(np.float64)
        x, y = (points.min(0) + points.max(0)) / 2
        return float(x), float(y), float(np.hypot(*(points - [x, y]).T).max())


def strew(
    pool: Pool,
    space: FreeSpace,
    floor: float,
    wanted: Sequence[tuple[float, float, Point]],
    rng: np.random.Generator,
    clear: Sequence[tuple[float, float, float]] = (),
) -> tuple[Thing, ...]:
    """Stand things on the floor, each in voxels that are free and that no other thing or its neighbours touch.

    A thing is taken to fill everything between its lowest and highest point over each column of voxels, and keeps a
    voxel away from the others and from what is not free. One that fits nowhere in 40 tries is left out.

    Args:
        pool: What to choose from.
        space: Of the environment.
        floor: Its height [m].
        wanted: Scale, yaw [rad] and colour of each thing.
        rng: Chooses meshes and places; of each thing that is wanted it draws as much, whether the thing fits or not.
        clear: Middle x, y and radius [m] of places that stay free.
    """
    free = space.free.copy()
    x, y = (space.origin[axis] + (np.arange(free.shape[axis]) + 0.5) * space.voxel_size for axis in (0, 1))
    for middle_x, middle_y, radius in clear:
        free[np.hypot(x[:, None] - middle_x, y[None] - middle_y) < radius] = False
    layer = math.floor((floor + _LIFT_M - space.origin[2]) / space.voxel_size)
    things = []
    for scale, yaw, color in wanted:
        chosen = pool.meshes[int(rng.integers(len(pool.meshes)))]
        draws = rng.random((_TRIES, 3))
        columns = np.argwhere(free[:, :, layer]) if 0 <= layer < free.shape[2] else np.empty((0, 2), int)
        if len(columns) == 0:
            continue
        points = _points_of(chosen.mesh, scale, yaw, space.voxel_size)
        lift = floor + _LIFT_M - float(points[:, 2].min())
        for choice, *within in draws:
            column = columns[int(choice * len(columns))]
            x, y = space.origin[:2] + (column + within) * space.voxel_size
            position = float(x), float(y), lift
            low, filled = _filled_voxels(points + np.array(position), space)
            window = tuple(slice(first, first + size) for first, size in zip(low, filled.shape, strict=True))
            if (low < 0).any() or (low + filled.shape > free.shape).any() or not free[window][filled].all():
                continue
            free[window][filled] = False
            things.append(Thing(chosen.name, chosen.sha256, position, yaw, scale, color))
            break
    return tuple(things)


def _turned(vertices: np.ndarray, scale: float, yaw: float) -> np.ndarray:
    cos, sin = math.cos(yaw), math.sin(yaw)
    return scale * vertices.astype(np.float64) @ np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])


def _points_of(mesh: TriMesh, scale: float, yaw: float, voxel_size: float) -> np.ndarray:
    """Points no farther apart than half a voxel on a mesh that is turned and scaled, shape ``(S, 3)``."""
    from omni_gen3d.mesh.free_space import surface_samples

    turned = TriMesh(_turned(mesh.vertices, scale, yaw).astype(np.float32), mesh.faces)
    return surface_samples(turned, voxel_size / 2)


def _filled_voxels(points: np.ndarray, space: FreeSpace) -> tuple[np.ndarray, np.ndarray]:
    """The first voxel of a box around points, and which of the box they fill, a voxel of margin at the sides."""
    voxels = np.floor((points - space.origin) / space.voxel_size).astype(np.int64)
    low = voxels.min(0) - [1, 1, 0]
    hit = np.zeros(voxels.max(0) - low + [2, 2, 1], bool)
    hit[tuple((voxels - low).T)] = True
    filled = np.maximum.accumulate(hit, axis=2) & np.maximum.accumulate(hit[:, :, ::-1], axis=2)[:, :, ::-1]
    for axis in (0, 1):
        grown = filled.copy()
        ahead, behind = (np.moveaxis(array, axis, 0) for array in (grown, filled))
        ahead[1:] |= behind[:-1]
        ahead[:-1] |= behind[1:]
        filled = grown
    return low, filled
