"""Ground-truth meshes: four kinds of files, and errors for the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from omni_gen3d.errors import InputError
from omni_gen3d.mesh.mesh_file import MESH_SUFFIXES, read_mesh_file


@pytest.mark.parametrize("suffix", MESH_SUFFIXES)
def test_meshes_are_read_in_their_frame(suffix: str, tmp_path: Path) -> None:
    """A box off the origin keeps its place, size and number of faces."""
    box = trimesh.creation.box(extents=(1, 2, 3))
    box.apply_translation((4, 5, 6))
    box.export(tmp_path / f"box{suffix}")
    mesh = read_mesh_file(tmp_path / f"box{suffix}")
    assert len(mesh.faces) == 12 and mesh.vertices.dtype == np.float32 and mesh.faces.dtype == np.int32
    np.testing.assert_allclose(mesh.vertices.min(0), [3.5, 4, 4.5], atol=1e-6)
    np.testing.assert_allclose(mesh.vertices.max(0), [4.5, 6, 7.5], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "contents", "words"),
    [
        ("absent.obj", None, "is no file"),
        ("a.fbx", b"x", "unknown kind"),
        ("a.ply", b"hello", "cannot be read|no triangles"),
        ("a.glb", b"glTF", "cannot be read"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\n", "cannot be read|no triangles"),
        ("a.obj", b"v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "NaN"),
    ],
)
def test_other_files_are_refused(name: str, contents: bytes | None, words: str, tmp_path: Path) -> None:
    """Each with its name and what is wrong."""
    if contents is not None:
        (tmp_path / name).write_bytes(contents)
    with pytest.raises(InputError, match=words):
        read_mesh_file(tmp_path / name)
