"""The render delegate: a stage in, pictures and ground truth out.

It follows Hydra's concepts (``HdRenderDelegate``, rprims, sprims, dirty bits, AOVs) in Python over compiled kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal, get_args

import numpy as np
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.render.aovs import AOVS, Aov
from omni_gen3d.render.backend import Backend as Drawer
from omni_gen3d.render.backend import CpuBackend, Moment, Shot, World
from omni_gen3d.render.index import RenderIndex, SyncCounts
from omni_gen3d.render.meshes import HEADLIGHT, Lighting, MeshBatch
from omni_gen3d.render.view import camera_rows, resize_cameras
from omni_gen3d.types import Cameras
from omni_gen3d.usd.cameras import Sensor, read_view
from omni_gen3d.usd.imaging import time_code

Backend = Literal["auto", "cuda", "cpu"]
# One path for all cameras, one for each, or the different paths and which of them each camera looks into.
Environments = str | Sequence[str] | tuple[Sequence[str], torch.Tensor]
MAX_SIDE = 8192
# All pixels of one call, so that a slip of the size ends in an error and not in the swap file.
MAX_PIXELS = 1 << 28
_NEAR_M, _FAR_M = 0.05, 500.0
# Detail finer than this is merged [pixels]; docs/benchmarks.md has what that costs in quality.
DETAIL_PX = 2.0


@dataclass(frozen=True)
class Frame:
    """What the cameras of one call see.

    Attributes:
        aovs: By name, C pictures each: ``color`` ``(C, H, W, 3)`` in [0, 1]; ``depth`` along z and ``distance`` from
            the camera [m], 0 where nothing is; ``normal`` in the stage's axes, towards the camera, ``(C, H, W, 3)``;
            ``alpha``; ``median_depth`` of the centre of the splat that is shown [m]; ``prim_id``, ``instance_id`` and
            ``semantic_id``, int32, the first two -1 where nothing is; ``motion`` to the right and down since an earlier
            frame [pixels], ``(C, H, W, 2)``, 0 where nothing is. numpy arrays from the cpu backend, tensors on the
            device from cuda.
        prim_paths: Path of the prim with each ``prim_id``.
        labels: Label with each ``semantic_id``; the first two are BACKGROUND and UNLABELLED.
        moment: Where everything was, for the ``motion`` of a later frame; None unless this one has ``motion`` too.
    """

    aovs: dict[Aov, Any]
    prim_paths: tuple[str, ...]
    labels: tuple[str, ...]
    moment: Moment | None


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
            backend: ``auto`` takes cuda where torch sees a device.
            purposes: Of the prims that are drawn: ``default``, ``render``, ``proxy``, ``guide``.

        Raises:
            InputError: The backend is unknown or cannot run here, or a purpose is unknown.
            MissingDependencyError: The kernels of the cuda backend have to be built and there is no compiler.
        """
        if backend not in get_args(Backend):
            raise InputError(f"backend is {backend!r}; allowed are 'auto', 'cuda' and 'cpu'.")
        if backend == "cuda" and not torch.cuda.is_available():
            raise InputError("backend is 'cuda', but torch sees no CUDA device; use 'cpu' or 'auto'.")
        unknown = set(purposes) - {"default", "render", "proxy", "guide"}
        if unknown:
            raise InputError(f"purposes holds {sorted(unknown)}; allowed are default, render, proxy and guide.")
        self._drawer = _open_backend("cuda" if backend != "cpu" and torch.cuda.is_available() else "cpu")
        self.backend = self._drawer.name
        self._stage = stage
        self._index = RenderIndex(stage, purposes, self._drawer.keep)
        self._worlds: dict[tuple[str, bool], World] = {}
        self._roots: tuple[Any, list[str], torch.Tensor] | None = None
        self._last: tuple[tuple, list[World], list[Lighting]] | None = None
        self._assigned: tuple[torch.Tensor, int, int] | None = None

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
        environments: Environments = "/",
        background: tuple[float, float, float] = (0.0, 0.0, 0.0),
        detail: float = DETAIL_PX,
        since: Frame | None = None,
    ) -> Frame:
        """Draw what cameras see.

        A pixel of depth, normal or an id shows whatever takes its ray past half of its coverage. A splat set with a
        collider (see ``usd.root_layer``) has in each pixel the label of the collider's part at that depth.

        Args:
            cameras: Paths of Camera prims, whose aperture fills the picture and whose clipping range cuts; or cameras
                in the axes of the stage, in metres, which see from 0.05 to 500 m; on the device nothing is copied.
                Of a prim the cuda backend follows OpenCV lens coefficients of Omniverse's schema,
                ``omni_gen3d:rollingShutter`` between ``shutter:open`` and ``shutter:close``, and
                ``omni_gen3d:sensorNoise``, for color, depth and alpha of splats; the cpu backend refuses them.
            time: Time code of the stage; None for what has no time.
            aovs: Which pictures.
            size: Width and height [pixels]; may be left out for ``Cameras``.
            environments: Path of the prim at or below which a camera sees everything, one for all or one each; or a
                pair of different paths and an integer tensor ``(C,)`` that says which of them each camera looks into.
                Lights shine from inside of an environment only.
            background: RGB behind everything, in [0, 1].
            detail: Splats that a camera sees closer together than this are drawn as one [pixels]; 0 draws every one.
            since: An earlier frame of the same number of cameras, with ``motion``, from which ``motion`` counts; None
                counts from this one, which is 0 everywhere.

        Raises:
            InputError: A camera, an environment or an argument cannot be used, or a prim cannot be read.
        """
        self._check(aovs, background, detail)
        rows, shape, sensors = self._cameras(cameras, time, size)
        roots, looks_into = self._environments(environments, len(rows))
        self._index.sync(time)
        worlds, lightings = self._worlds_below(roots, with_labels="semantic_id" in aovs)
        moves = "motion" in aovs
        earlier = since.moment if moves and since is not None else None
        if moves and since is not None and (earlier is None or len(earlier.cameras) != len(rows)):
            raise InputError(
                f"since must be a frame of {len(rows)} cameras that was drawn with 'motion' among its aovs."
            )
        shot = Shot(
            cameras=rows,
            worlds=worlds,
            lightings=lightings,
            looks_into=looks_into,
            size=shape,
            aovs=aovs,
            background=background,
            detail=detail,
            since=earlier,
            sensors=sensors,
        )
        pictures = self._drawer.draw(shot, self._index)
        return Frame(
            pictures,
            tuple(self._index.prim_paths),
            tuple(self._index.labels),
            Moment(rows, self._index.places()) if moves else None,
        )

    # ---------------------------------------------------------------------------------------------------- door

    def _check(self, aovs: Sequence[Aov], background: Sequence[float], detail: float) -> None:
        unknown = [aov for aov in aovs if aov not in AOVS]
        if unknown or not aovs:
            raise InputError(f"aovs is {tuple(aovs)}; name at least one of {', '.join(AOVS)}.")
        if len(background) != 3 or not all(0 <= value <= 1 for value in background):
            raise InputError(f"background is {background}; it must be three numbers in [0, 1].")
        if not 0 <= detail <= MAX_SIDE:
            raise InputError(f"detail is {detail}; it is in pixels, from 0 to {MAX_SIDE}.")

    def _environments(self, environments: Environments, cameras: int) -> tuple[list[str], torch.Tensor]:
        """The different roots, and which of them each camera looks into."""
        if self._roots is not None and self._roots[0] is environments and len(self._roots[2]) == cameras:
            return self._roots[1:]
        if isinstance(environments, str):
            roots, looks_into = [environments], torch.zeros(cameras, dtype=torch.int32)
        elif len(environments) == 2 and isinstance(environments[1], torch.Tensor):
            roots, looks_into = list(environments[0]), environments[1]
            if looks_into.shape != (cameras,) or not roots:
                raise InputError(f"environments assigns {tuple(looks_into.shape)} to {len(roots)} paths for {cameras}.")
            # To look into a tensor waits for the device; one that nobody has written to since is not looked into again.
            known, version = self._assigned, 0 if looks_into.is_inference() else looks_into._version
            same = known is not None and known[0] is looks_into and known[1:] == (version, len(roots))
            if not same or looks_into.is_inference():
                low, high = torch.stack(looks_into.aminmax()).tolist()
                if not 0 <= low <= high < len(roots):
                    raise InputError(f"environments assigns paths {low} to {high}; there are {len(roots)}.")
                self._assigned = (looks_into, version, len(roots))
            looks_into = looks_into.to(self._drawer.device, torch.int32, non_blocking=True)
            return roots, looks_into
        else:
            if len(environments) != cameras:
                raise InputError(
                    f"environments names {len(environments)} for {cameras} cameras; give one, or one for each."
                )
            numbers: dict[str, int] = {}
            looks_into = torch.tensor([numbers.setdefault(str(root), len(numbers)) for root in environments])
            roots, looks_into = list(numbers), looks_into.int()
        looks_into = looks_into.to(self._drawer.device)
        # A tuple cannot change behind our back; whoever passes the same one again is not asked again.
        self._roots = (environments, roots, looks_into) if isinstance(environments, str | tuple) else None
        return roots, looks_into

    def _cameras(
        self, cameras: str | Sequence[str] | Cameras, time: float | None, size: tuple[int, int] | None
    ) -> tuple[torch.Tensor, tuple[int, int], list[Sensor | None]]:
        """Rows of cameras, the size of the pictures, and what cameras do that pinholes do not."""
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
            rows = self._drawer.rows(cameras, _NEAR_M, _FAR_M)
            return rows, (width, height), []
        metres = self._index.metres
        rows, sensors = [], []
        for path in [cameras] if isinstance(cameras, str) else cameras:
            prim = self._stage.GetPrimAtPath(path)
            if not prim:
                raise InputError(f"camera {path!r} is no prim of the stage.")
            seen = read_view(prim, time_code(time), width, height, with_sensor=self._drawer.bends)
            pose = _in_metres(seen.camera_to_world, metres)
            poses, lenses = (torch.from_numpy(matrix)[None] for matrix in (np.linalg.inv(pose), seen.intrinsics))
            rows.append(camera_rows(poses, lenses, seen.near * metres, seen.far * metres))
            sensors.append(
                seen.sensor
                and replace(
                    seen.sensor,
                    opened=_in_metres(seen.sensor.opened, metres),
                    closed=_in_metres(seen.sensor.closed, metres),
                )
            )
        return torch.cat(rows), (width, height), sensors

    # ------------------------------------------------------------------------------------------------- drawing

    def _worlds_below(self, roots: Sequence[str], with_labels: bool) -> tuple[list[World], list[Lighting]]:
        """Worlds and lightings of roots, those of the last call where nothing in the stage has changed since."""
        state = (tuple(roots), with_labels, self._index.version, self._index.placement)
        if self._last is None or self._last[0] != state:
            for root in roots:
                if not self._stage.GetPrimAtPath(root):
                    raise InputError(f"environment {root!r} is no prim of the stage.")
            worlds = [self._world(root, with_labels) for root in roots]
            self._last = state, worlds, [self._lighting(root) for root in roots]
        return self._last[1], self._last[2]

    def _world(self, root: str, with_labels: bool) -> World:
        """What is below ``root``, put together again only when the index says that it may differ."""
        known = self._worlds.get((root, with_labels))
        if known is not None and known.version == self._index.version:
            return known
        shown = [rprim for rprim in self._index.below(root) if rprim.shown]
        splats = tuple(rprim for rprim in shown if rprim.drawable.kind == "splats")
        meshes = tuple(rprim for rprim in shown if rprim.drawable.kind == "mesh")
        targets = dict.fromkeys(path for rprim in splats for path in rprim.colliders) if with_labels else {}
        colliders = tuple(r for path in targets for r in self._index.below(path) if r.drawable.kind == "mesh")
        world = World(
            root,
            self._index.version,
            splats,
            meshes,
            MeshBatch.of([self._index.surface_of(rprim) for rprim in meshes]),
            colliders,
            MeshBatch.of([self._index.surface_of(rprim) for rprim in colliders]),
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


def _in_metres(pose: np.ndarray, metres: float) -> np.ndarray:
    moved = pose.copy()
    moved[:3, 3] *= metres
    return moved


def _open_backend(name: str) -> Drawer:
    if name == "cpu":
        return CpuBackend()
    from omni_gen3d.render.gpu.backend import GpuBackend
    from omni_gen3d.render.gpu.library import library_for

    device = torch.device("cuda", torch.cuda.current_device())
    return GpuBackend(device, library_for(device))
