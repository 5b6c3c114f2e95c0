"""The render delegate: a stage in, pictures and ground truth out.

It follows Hydra's concepts (``HdRenderDelegate``, rprims, sprims, dirty bits, AOVs) in Python over compiled kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Literal, get_args

import numpy as np
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.render.aovs import AOVS, Aov, PlacedMeshes, draw
from omni_gen3d.render.cpu import PlacedSplats, View
from omni_gen3d.render.index import RenderIndex, Rprim, SyncCounts
from omni_gen3d.render.meshes import HEADLIGHT, Lighting, MeshBatch
from omni_gen3d.render.threads import side_by_side
from omni_gen3d.render.view import resize_cameras
from omni_gen3d.types import Cameras
from omni_gen3d.usd.cameras import read_view
from omni_gen3d.usd.imaging import time_code

Backend = Literal["auto", "cuda", "cpu"]
MAX_SIDE = 8192
# All pixels of one call, so that a slip of the size ends in an error and not in the swap file.
MAX_PIXELS = 1 << 28
_NEAR_M, _FAR_M = 0.05, 500.0


@dataclass(frozen=True)
class Frame:
    """What the cameras of one call see.

    Attributes:
        aovs: By name, C pictures each: ``color`` ``(C, H, W, 3)`` in [0, 1]; ``depth`` along z and ``distance`` from
            the camera [m], 0 where nothing is; ``normal`` in the stage's axes, towards the camera, ``(C, H, W, 3)``;
            ``alpha``; ``prim_id``, ``instance_id`` and ``semantic_id``, int32, the first two -1 where nothing is. numpy
            arrays from the cpu backend, tensors on the device from cuda.
        prim_paths: Path of the prim with each ``prim_id``.
        labels: Label with each ``semantic_id``; the first two are BACKGROUND and UNLABELLED.
    """

    aovs: dict[Aov, Any]
    prim_paths: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class _World:
    """What cameras that look into one environment see, apart from where it is."""

    version: int
    splats: tuple[Rprim, ...]
    meshes: tuple[Rprim, ...]
    batch: MeshBatch
    colliders: tuple[Rprim, ...]
    collider_batch: MeshBatch | None


class SplatRenderDelegate:
    """Draws a stage that lives on: change the stage, render again, and only what changed is read again.

    Use it as a context manager, or ``close`` it, to stop listening to the stage.

    Attributes:
        counts: What syncing has cost so far.
    """

    def __init__(
        self, stage: Any, backend: Backend = "auto", *, purposes: Sequence[str] = ("default", "render")
    ) -> None:
        """Index a stage.

        Args:
            stage: A ``Usd.Stage``, composed, with the payloads that are to be seen loaded.
            backend: ``auto`` takes cuda where torch sees a device. The cuda backend draws splats only.
            purposes: Of the prims that are drawn: ``default``, ``render``, ``proxy``, ``guide``.

        Raises:
            InputError: The backend is unknown or cannot run here, or a purpose is unknown.
        """
        if backend not in get_args(Backend):
            raise InputError(f"backend is {backend!r}; allowed are 'auto', 'cuda' and 'cpu'.")
        if backend == "cuda" and not torch.cuda.is_available():
            raise InputError("backend is 'cuda', but torch sees no CUDA device; use 'cpu' or 'auto'.")
        unknown = set(purposes) - {"default", "render", "proxy", "guide"}
        if unknown:
            raise InputError(f"purposes holds {sorted(unknown)}; allowed are default, render, proxy and guide.")
        self.backend = "cuda" if backend != "cpu" and torch.cuda.is_available() else "cpu"
        self._stage = stage
        self._index = RenderIndex(stage, purposes)
        self._worlds: dict[tuple[str, bool], _World] = {}

    def __enter__(self) -> SplatRenderDelegate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening to the stage."""
        self._index.close()

    @property
    def counts(self) -> SyncCounts:
        return self._index.counts

    def shape_bytes(self) -> int:
        """Memory of the shapes that are loaded [bytes]."""
        return self._index.shape_bytes()

    def sync(self, time: float | None = None) -> None:
        """Take over what changed on the stage; ``render`` does so by itself.

        Args:
            time: Time code; None for what has no time, or the first sample of what has.
        """
        self._index.sync(time)

    def render(
        self,
        cameras: str | Sequence[str] | Cameras,
        *,
        time: float | None = None,
        aovs: Sequence[Aov] = ("color", "depth"),
        size: tuple[int, int] | None = None,
        environments: str | Sequence[str] = "/",
        background: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> Frame:
        """Draw what cameras see.

        A pixel of depth, normal or an id shows whatever takes its ray past half of its coverage. A splat set with a
        collider (see ``usd.root_layer``) has in each pixel the label of the collider's part at that depth.

        Args:
            cameras: Paths of Camera prims, whose aperture fills the picture and whose clipping range cuts; or cameras
                in the axes of the stage, in metres, which see from 0.05 to 500 m.
            time: Time code of the stage; None for what has no time.
            aovs: Which pictures.
            size: Width and height [pixels]; may be left out for ``Cameras``.
            environments: Path of the prim at or below which a camera sees everything, one for all or one each. Lights
                shine from inside of an environment only.
            background: RGB behind everything, in [0, 1].

        Raises:
            InputError: A camera, an environment or an argument cannot be used, or a prim cannot be read.
        """
        self._check(aovs, background)
        views = self._views(cameras, time, size)
        roots = [environments] * len(views) if isinstance(environments, str) else list(environments)
        if len(roots) != len(views):
            raise InputError(f"environments names {len(roots)} for {len(views)} cameras; give one, or one for each.")
        self._index.sync(time)
        for root in dict.fromkeys(roots):
            if not self._stage.GetPrimAtPath(root):
                raise InputError(f"environment {root!r} is no prim of the stage.")
        if self.backend == "cuda":
            pictures = self._draw_on_cuda(views, roots, aovs, background)
        else:
            pictures = self._draw_on_cpu(views, roots, aovs, background)
        return Frame(pictures, tuple(self._index.prim_paths), tuple(self._index.labels))

    # ---------------------------------------------------------------------------------------------------- door

    def _check(self, aovs: Sequence[Aov], background: Sequence[float]) -> None:
        unknown = [aov for aov in aovs if aov not in AOVS]
        if unknown or not aovs:
            raise InputError(f"aovs is {tuple(aovs)}; name at least one of {', '.join(AOVS)}.")
        if len(background) != 3 or not all(0 <= value <= 1 for value in background):
            raise InputError(f"background is {background}; it must be three numbers in [0, 1].")

    def _views(
        self, cameras: str | Sequence[str] | Cameras, time: float | None, size: tuple[int, int] | None
    ) -> list[View]:
        count = 1 if isinstance(cameras, str) else len(cameras)
        if size is None and isinstance(cameras, Cameras):
            size = (cameras.width, cameras.height)
        if size is None:
            raise InputError("size is missing; a Camera prim has none, so give (width, height) in pixels.")
        width, height = size
        if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and 1 <= count * width * height <= MAX_PIXELS):
            raise InputError(
                f"{count} pictures of {width}x{height} were asked for; at least one, at most {MAX_SIDE} pixels a side "
                f"and {MAX_PIXELS} in all."
            )
        if isinstance(cameras, Cameras):
            if (width, height) != (cameras.width, cameras.height):
                cameras = resize_cameras(cameras, width, height)
            if not (torch.isfinite(cameras.world_to_camera).all() and torch.isfinite(cameras.intrinsics).all()):
                raise InputError("the cameras hold NaN or infinite values; all must be finite.")
            poses, lenses = (t.double().cpu().numpy() for t in (cameras.world_to_camera, cameras.intrinsics))
            if (lenses[:, (0, 1), (0, 1)] <= 0).any() or lenses[:, 0, 1].any():
                raise InputError("the cameras' focal lengths must be positive and their skew 0.")
            return [View(pose, lens, width, height, _NEAR_M, _FAR_M) for pose, lens in zip(poses, lenses, strict=True)]
        metres = self._index.metres
        views = []
        for path in [cameras] if isinstance(cameras, str) else cameras:
            prim = self._stage.GetPrimAtPath(path)
            if not prim:
                raise InputError(f"camera {path!r} is no prim of the stage.")
            seen = read_view(prim, time_code(time), width, height)
            pose = seen.camera_to_world.copy()
            pose[:3, 3] *= metres
            views.append(
                View(np.linalg.inv(pose), seen.intrinsics, width, height, seen.near * metres, seen.far * metres)
            )
        return views

    # ------------------------------------------------------------------------------------------------- drawing

    def _draw_on_cpu(
        self, views: Sequence[View], roots: Sequence[str], aovs: Sequence[Aov], background: Sequence[float]
    ) -> dict[Aov, Any]:
        tasks = {}
        for root in dict.fromkeys(roots):
            world = self._world(root, with_labels="semantic_id" in aovs)
            splats = [PlacedSplats(self._index.splats_of(r), r.to_world, r.gain) for r in world.splats]
            tags = [rprim.tags for rprim in world.splats]
            meshes = _placed(world.batch, world.meshes)
            labels = None if world.collider_batch is None else _placed(world.collider_batch, world.colliders)
            lighting = self._lighting(root)
            for i in [i for i, other in enumerate(roots) if other == root]:
                tasks[i] = partial(draw, views[i], splats, tags, meshes, labels, lighting, background, aovs)
        pictures = side_by_side([tasks[i] for i in range(len(views))])
        return {aov: np.stack([picture[aov] for picture in pictures]) for aov in aovs}

    def _draw_on_cuda(
        self, views: Sequence[View], roots: Sequence[str], aovs: Sequence[Aov], background: Sequence[float]
    ) -> dict[Aov, Any]:
        from omni_gen3d.render.placed import draw_on_cuda

        worlds = {}
        for root in dict.fromkeys(roots):
            world = self._world(root, with_labels=False)
            if world.meshes:
                raise InputError(f"{world.meshes[0].path} is a mesh; the cuda backend draws splats only, use 'cpu'.")
            worlds[root] = [PlacedSplats(self._index.splats_of(r), r.to_world, r.gain) for r in world.splats]
        return draw_on_cuda(views, [worlds[root] for root in roots], aovs, background)

    def _world(self, root: str, with_labels: bool) -> _World:
        """What is below ``root``, put together again only when the index says that it may differ."""
        known = self._worlds.get((root, with_labels))
        if known is not None and known.version == self._index.version:
            return known
        shown = [rprim for rprim in self._index.below(root) if rprim.shown]
        splats = tuple(rprim for rprim in shown if rprim.drawable.kind == "splats")
        meshes = tuple(rprim for rprim in shown if rprim.drawable.kind == "mesh")
        targets = dict.fromkeys(path for rprim in splats for path in rprim.colliders) if with_labels else {}
        colliders = tuple(r for path in targets for r in self._index.below(path) if r.drawable.kind == "mesh")
        world = _World(
            self._index.version,
            splats,
            meshes,
            MeshBatch.of([self._index.surface_of(rprim) for rprim in meshes]),
            colliders,
            MeshBatch.of([self._index.surface_of(rprim) for rprim in colliders]) if colliders else None,
        )
        self._worlds = {key: old for key, old in self._worlds.items() if old.version == self._index.version}
        self._worlds[root, with_labels] = world
        return world

    def _lighting(self, root: str) -> Lighting:
        """The lights of an environment, scaled so that a white surface before all of them is not brighter than 1.

        A stage's lights are in units that only its camera's exposure and tone curve make sense of; what meshes need
        here is how they compare with each other.
        """
        prefix = root.rstrip("/") + "/"
        lights = [light for path, light in self._index.lights() if path.startswith(prefix) or path == root]
        if not lights:
            return HEADLIGHT
        distant = [light for light in lights if light.toward is not None]
        ambient = np.sum([np.zeros(3), *(light.color for light in lights if light.toward is None)], axis=0)
        colors = np.array([light.color for light in distant], np.float64).reshape(-1, 3)
        toward = np.array([light.toward for light in distant], np.float64).reshape(-1, 3)
        scale = 1 / max(1.0, float((ambient + colors.sum(0)).max()))
        return Lighting(ambient * scale, toward, colors * scale)


def _placed(batch: MeshBatch, rprims: Sequence[Rprim]) -> PlacedMeshes:
    to_world = np.array([rprim.to_world for rprim in rprims], np.float64).reshape(-1, 4, 4)
    return PlacedMeshes(batch, to_world, [rprim.tags for rprim in rprims])
