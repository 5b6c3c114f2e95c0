"""The cuda backend of the delegate: shapes stay on the device, tables follow what moves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from omni_gen3d.render.aovs import Aov
from omni_gen3d.render.backend import Moment, Shot, World, places
from omni_gen3d.render.detail import group_splats
from omni_gen3d.render.gpu.batch import draw_batch
from omni_gen3d.render.gpu.library import Library
from omni_gen3d.render.gpu.scene import MeshesAt, ResidentMeshes, ResidentSplats, Scene, SceneWorld, SplatsAt
from omni_gen3d.render.index import RenderIndex, Rprim
from omni_gen3d.render.meshes import Lighting, MeshBatch
from omni_gen3d.types import Gaussians


class GpuBackend:
    """All cameras of a shot in a few kernels; tensors on the device out."""

    name = "cuda"

    def __init__(self, device: torch.device, library: Library) -> None:
        self.device, self._library = device, library
        self._meshes: dict[int, tuple[MeshBatch, ResidentMeshes]] = {}
        self._scene: tuple[object, Scene] | None = None

    def keep(self, gaussians: Gaussians) -> ResidentSplats:
        return ResidentSplats.of(group_splats(gaussians.to(self.device)))

    def draw(self, shot: Shot, index: RenderIndex) -> dict[Aov, torch.Tensor]:
        to_device = self.device
        return draw_batch(  # type: ignore[return-value]
            self._library,
            self._scene_of(shot, index),
            shot.cameras.to(to_device),
            shot.looks_into.to(to_device),
            shot.size,
            shot.aovs,
            background=shot.background,
            pixels=shot.detail,
            earlier=None if shot.since is None else shot.since.cameras.to(to_device),
        )

    def _scene_of(self, shot: Shot, index: RenderIndex) -> Scene:
        """The tables of a shot, those of the last call where nothing in the worlds has moved since."""
        state = (index.version, index.placement, id(shot.since), *map(id, shot.worlds))
        if self._scene is None or self._scene[0] != state:
            used = {id(batch): batch for world in shot.worlds for batch in (world.batch, world.collider_batch)}
            self._meshes = {
                key: self._meshes.get(key) or (batch, ResidentMeshes.of(batch, self.device))
                for key, batch in used.items()
            }
            worlds = [
                self._place(world, lighting, shot.since, index)
                for world, lighting in zip(shot.worlds, shot.lightings, strict=True)
            ]
            self._scene = state, Scene(worlds, self.device)
        return self._scene[1]

    def _place(self, world: World, lighting: Lighting, since: Moment | None, index: RenderIndex) -> SceneWorld:
        return SceneWorld(
            [
                SplatsAt(index.splats_of(r), r.to_world, since.place_of(r) if since else r.to_world, r.gain, r.tags)
                for r in world.splats
            ],
            self._meshes_at(world.batch, world.meshes, since),
            self._meshes_at(world.collider_batch, world.colliders, None),
            lighting,
        )

    def _meshes_at(self, batch: MeshBatch, rprims: Sequence[Rprim], since: Moment | None) -> MeshesAt | None:
        if not rprims:
            return None
        now = places(rprims)
        earlier = now if since is None else np.array([since.place_of(rprim) for rprim in rprims])
        return MeshesAt(self._meshes[id(batch)][1], now, earlier, [rprim.tags for rprim in rprims])
