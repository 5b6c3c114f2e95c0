"""Many environments on one stage, each under a prim of its own, as a renderer of many worlds wants them; and prims that
refer to them, with light and clutter of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pxr import Sdf, Usd

from omni_gen3d.errors import InputError
from omni_gen3d.types import TriMesh
from omni_gen3d.usd.overrides import is_clutter, override_clutter, override_light
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


class FurnishedWorlds:
    """A prim for each of N viewers that refers to one of the worlds of ``gather_worlds``, furnished for that viewer.

    Attributes:
        paths: Of the prims.
    """

    def __init__(self, stage: Usd.Stage, worlds: Sequence[str], count: int) -> None:
        """Every viewer is in the first of the worlds, which has nothing else in it."""
        self._stage = stage
        self._shown = [worlds[0]] * count
        self._bare = [True] * count
        self.paths = tuple(f"/{_ROOT}/Viewer_{i}" for i in range(count))
        for path in self.paths:
            self._refer(path, worlds[0])

    def furnish(
        self,
        viewer: int,
        world: str,
        things: Sequence[tuple[TriMesh, tuple[float, float, float]]],
        light: tuple[float, float, tuple[float, float, float], tuple[float, float, float]] | None,
    ) -> None:
        """Move a viewer into a world with these things and this light, see ``overrides``, and no others."""
        path = self.paths[viewer]
        if self._shown[viewer] != world:
            self._refer(path, world)
            self._shown[viewer] = world
        bare = not things and light is None
        if not (bare and self._bare[viewer]):
            override_clutter(self._stage, path, things)
            override_light(self._stage, path, light)
        self._bare[viewer] = bare

    @staticmethod
    def is_thing(path: str) -> bool:
        """Whether a prim is one of the things."""
        return is_clutter(path)

    def _refer(self, path: str, world: str) -> None:
        prim = self._stage.DefinePrim(path, "Xform")
        prim.GetReferences().SetReferences([Sdf.Reference("", world)])
        prim.Load()
