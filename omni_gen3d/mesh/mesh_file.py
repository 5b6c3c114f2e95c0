"""Triangle meshes from the files of others."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from omni_gen3d.errors import InputError
from omni_gen3d.types import TriMesh

MESH_SUFFIXES = (".ply", ".obj", ".stl", ".glb")


def read_mesh_file(path: Path | str) -> TriMesh:
    """Read all triangles of a mesh file, in its own frame; materials and textures are left where they are.

    Raises:
        InputError: The file is missing, of another kind, damaged, or holds no triangles.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"{file} is no file; name a mesh ({', '.join(MESH_SUFFIXES)}).")
    suffix = file.suffix.lower()
    if suffix not in MESH_SUFFIXES:
        raise InputError(f"{file} is of an unknown kind '{file.suffix}'; allowed are {', '.join(MESH_SUFFIXES)}.")
    import trimesh

    try:
        with file.open("rb") as stream:  # an open file has no folder, so nothing beside it is read
            loaded = trimesh.load(stream, file_type=suffix[1:], force="mesh", process=False)
        if not isinstance(loaded, trimesh.Trimesh):
            raise ValueError("it holds no triangles")
        vertices, faces = np.asarray(loaded.vertices, np.float32), np.asarray(loaded.faces, np.int32)
    except Exception as error:
        raise InputError(f"{file} cannot be read as a mesh: {error or type(error).__name__}.") from error
    if len(faces) == 0 or not np.isfinite(vertices).all():
        what = "has no triangles" if len(faces) == 0 else "holds NaN or infinite vertices"
        raise InputError(f"{file} {what}; give a mesh of the true surface.")
    return TriMesh(vertices, faces)
