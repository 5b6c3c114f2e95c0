"""What the delegate asks of whoever draws: one shot of many cameras, each in its world; and the cpu backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.render.aovs import Aov, Earlier, PlacedMeshes, draw
from omni_gen3d.render.cpu import PlacedSplats, SplatArrays, View
from omni_gen3d.render.detail import group_splats
from omni_gen3d.render.index import RenderIndex, Rprim
from omni_gen3d.render.meshes import Lighting, MeshBatch
from omni_gen3d.render.threads import side_by_side
from omni_gen3d.render.view import camera_rows, lens_of, pose_of
from omni_gen3d.types import Cameras, Gaussians
from omni_gen3d.usd.cameras import Sensor


@dataclass(frozen=True)
class World:
    """What cameras that look into one environment see, apart from where it is.

    Attributes:
        root: Path of the environment.
        version: Of the index when this was put together.
        splats: The sets that are shown.
        meshes: The meshes that are shown, side by side in ``batch``.
        batch: Their shapes.
        colliders: Meshes that tell what splats are, side by side in ``collider_batch``; none where nobody asks.
        collider_batch: Their shapes.
    """

    root: str
    version: int
    splats: tuple[Rprim, ...]
    meshes: tuple[Rprim, ...]
    batch: MeshBatch
    colliders: tuple[Rprim, ...]
    collider_batch: MeshBatch


@dataclass(frozen=True)
class Moment:
    """Where everything was when a frame was drawn.

    Attributes:
        cameras: Rows of ``view.camera_rows``.
        to_world: Of every rprim.
    """

    cameras: torch.Tensor
    to_world: Mapping[tuple[str, int], np.ndarray]

    def place_of(self, rprim: Rprim) -> np.ndarray:
        """Where an rprim was; where it is, if it was not there."""
        return self.to_world.get(rprim.key, rprim.to_world)


@dataclass(frozen=True)
class Shot:
    """One call of ``render``, checked.

    Attributes:
        cameras: Rows of ``view.camera_rows``.
        worlds: The different worlds that they look into.
        lightings: What shines in each.
        looks_into: Which world each camera looks into, shape ``(C,)``, int32, on any device.
        size: Width and height [pixels].
        aovs: The pictures.
        background: RGB behind everything.
        detail: Detail finer than this is merged [pixels].
        since: From when ``motion`` counts; None where nobody asks.
        sensors: What each camera does that a pinhole does not, None for a pinhole; nothing where all are pinholes.
    """

    cameras: torch.Tensor
    worlds: Sequence[World]
    lightings: Sequence[Lighting]
    looks_into: torch.Tensor
    size: tuple[int, int]
    aovs: Sequence[Aov]
    background: tuple[float, float, float]
    detail: float
    since: Moment | None
    sensors: Sequence[Sensor | None] = ()


class Backend(Protocol):
    """Draws shots; pictures are on its device.

    Attributes:
        name: ``cpu`` or ``cuda``.
        device: Where its pictures are.
        bends: Whether it draws what pinholes do not see.
    """

    name: str
    device: torch.device
    bends: bool

    def keep(self, gaussians: Gaussians) -> Any:
        """What is kept of a set of Gaussians."""
        ...

    def rows(self, cameras: Cameras, near: float, far: float) -> torch.Tensor:
        """Rows of ``view.camera_rows`` on its device."""
        ...

    def draw(self, shot: Shot, index: RenderIndex) -> dict[Aov, Any]:
        """The pictures of a shot, C of each.

        Raises:
            InputError: A camera holds what is not finite, a focal length that is not positive or a skew.
        """
        ...


class CpuBackend:
    """One camera after the other, several side by side; numpy arrays out."""

    name = "cpu"
    device = torch.device("cpu")
    bends = False

    def keep(self, gaussians: Gaussians) -> SplatArrays:
        return SplatArrays.grouped(group_splats(gaussians))

    def rows(self, cameras: Cameras, near: float, far: float) -> torch.Tensor:
        rows = camera_rows(cameras.world_to_camera.cpu(), cameras.intrinsics.cpu(), near, far)
        if not torch.isfinite(rows).all():
            raise InputError("the cameras hold NaN or infinite values; all must be finite.")
        if (rows[:, 12:14] <= 0).any() or (cameras.intrinsics[:, 0, 1] != 0).any():
            raise InputError("the cameras' focal lengths must be positive and their skew 0.")
        return rows

    def draw(self, shot: Shot, index: RenderIndex) -> dict[Aov, np.ndarray]:
        rows = shot.cameras.cpu().numpy()
        before = None if shot.since is None else shot.since.cameras.cpu().numpy()
        looks_into = shot.looks_into.tolist()
        scenes = [
            (
                [PlacedSplats(index.splats_of(r), r.to_world, r.gain) for r in world.splats],
                [rprim.tags for rprim in world.splats],
                _placed(world.batch, world.meshes),
                _placed(world.collider_batch, world.colliders) if world.colliders else None,
                lighting,
            )
            for world, lighting in zip(shot.worlds, shot.lightings, strict=True)
        ]
        tasks = []
        for i, number in enumerate(looks_into):
            earlier = None
            if shot.since is not None and before is not None:
                world, since = shot.worlds[number], shot.since
                places = [[since.place_of(rprim) for rprim in rprims] for rprims in (world.splats, world.meshes)]
                earlier = Earlier(_view(before[i], shot.size), *places)
            view = _view(rows[i], shot.size)
            tasks.append(partial(draw, view, *scenes[number], shot.background, shot.aovs, shot.detail, earlier))
        pictures = side_by_side(tasks)
        return {aov: np.stack([picture[aov] for picture in pictures]) for aov in shot.aovs}


def _view(row: np.ndarray, size: tuple[int, int]) -> View:
    return View(pose_of(row), lens_of(row), *size, float(row[16]), float(row[17]))


def _placed(batch: MeshBatch, rprims: Sequence[Rprim]) -> PlacedMeshes:
    return PlacedMeshes(batch, places(rprims), [rprim.tags for rprim in rprims])


def places(rprims: Sequence[Rprim]) -> np.ndarray:
    """Where rprims are, shape ``(R, 4, 4)``, float64."""
    return np.array([rprim.to_world for rprim in rprims], np.float64).reshape(-1, 4, 4)
