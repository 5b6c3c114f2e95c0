"""Many environments on one stage, each under a prim of its own, as a renderer of many worlds wants them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pxr import Usd

from omni_gen3d.errors import InputError
from omni_gen3d.usd.stage import new_stage
from omni_gen3d.usd.target import ROOT_NAME

_ROOT = "Worlds"


def gather_worlds(folders: Sequence[Path | str]) -> tuple[Usd.Stage, tuple[str, ...]]:
    """A stage in memory that refers to environments, without their colliders; and the path of each ``/World``.

    Raises:
        InputError: A folder holds no environment.
    """
    stage = new_stage(_ROOT)
    paths = []
    for i, folder in enumerate(folders):
        root = (Path(folder) / ROOT_NAME).resolve()
        if not root.is_file():
            raise InputError(f"{folder} is no environment: it has no {ROOT_NAME}.")
        prim = stage.DefinePrim(f"/{_ROOT}/World_{i}", "Xform")
        prim.GetReferences().AddReference(str(root))
        stage.GetPrimAtPath(f"{prim.GetPath()}/Environment").GetVariantSets().SetSelection("collision", "none")
        paths.append(str(prim.GetPath()))
    stage.Load()
    return stage, tuple(paths)
