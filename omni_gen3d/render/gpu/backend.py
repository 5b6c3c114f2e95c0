"""The cuda backend of the delegate: shapes stay on the device, tables follow what moves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.render.aovs import Aov
from omni_gen3d.render.backend import Moment, Shot, World, places
from omni_gen3d.render.detail import group_splats
from omni_gen3d.render.gpu.batch import ListLengths, draw_batch
from omni_gen3d.render.gpu.library import Library, stream_of
from omni_gen3d.render.gpu.scene import MeshesAt, ResidentMeshes, ResidentSplats, Scene, SceneWorld, SplatsAt
from omni_gen3d.render.gpu.sensors import SENSOR_AOVS, draw_with_sensor
from omni_gen3d.render.index import RenderIndex, Rprim
from omni_gen3d.render.meshes import Lighting, MeshBatch
from omni_gen3d.types import Cameras, Gaussians


class GpuBackend:
    """All cameras of a shot in a few kernels; tensors on the device out."""

    name = "cuda"
    bends = True

    def __init__(self, device: torch.device, library: Library) -> None:
        self.device, self._library = device, library
        self._meshes: dict[int, tuple[MeshBatch, ResidentMeshes]] = {}
        self._scene: tuple[object, Scene] | None = None
        self._flaw: torch.Tensor | None = None
        self._lengths = ListLengths()

    def keep(self, gaussians: Gaussians) -> ResidentSplats:
        return ResidentSplats.of(group_splats(gaussians.to(self.device)))

    def rows(self, cameras: Cameras, near: float, far: float) -> torch.Tensor:
        """Rows of ``view.camera_rows``; what is wrong with them is said when they are drawn."""
        poses, lenses = cameras.world_to_camera.to(self.device), cameras.intrinsics.to(self.device)
        if poses.dtype != lenses.dtype or poses.dtype not in (torch.float32, torch.float64):
            poses, lenses = poses.double(), lenses.double()
        self._flaw = torch.zeros(1, dtype=torch.int64, device=self.device)
        stream = stream_of(self.device)
        return self._library.take_cameras(poses.contiguous(), lenses.contiguous(), near, far, self._flaw, stream)

    def draw(self, shot: Shot, index: RenderIndex) -> dict[Aov, torch.Tensor]:
        to_device, flaw, self._flaw = self.device, self._flaw, None
        if any(shot.sensors):
            return self._draw_with_sensors(shot, index)
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
            flaw=flaw,
            lengths=self._lengths,
        )

    def _draw_with_sensors(self, shot: Shot, index: RenderIndex) -> dict[Aov, torch.Tensor]:
        refused = [aov for aov in shot.aovs if aov not in SENSOR_AOVS]
        if refused:
            raise InputError(
                f"a bent lens or a rolling shutter shows {', '.join(SENSOR_AOVS)}, not {', '.join(refused)}."
            )
        rows, looks_into = shot.cameras.to(self.device), shot.looks_into.tolist()
        pictures = []
        for number, (row, sensor) in enumerate(zip(rows, shot.sensors, strict=True)):
            world = shot.worlds[looks_into[number]]
            if sensor is None or world.meshes:
                what = "pinhole beside bent lenses" if sensor is None else f"meshes ({world.meshes[0].path})"
                raise InputError(
                    f"gsplat's unscented path cannot draw {what}; draw it in a call of its own, or hide it."
                )
            placed = self._place(world, shot.lightings[looks_into[number]], None, index).splats
            pictures.append(draw_with_sensor(placed, sensor, row, shot.size, shot.background, number))
        return {aov: torch.stack([picture[aov] for picture in pictures]) for aov in shot.aovs}

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
