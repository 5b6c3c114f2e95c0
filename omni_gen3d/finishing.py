"""The end of every line: a levelled, metric scene gets its collision proxy and preview, and becomes a folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from omni_gen3d.config import Preset
from omni_gen3d.errors import CancelledError
from omni_gen3d.render import render
from omni_gen3d.render.picture import color_to_image
from omni_gen3d.render.threads import side_by_side
from omni_gen3d.render.view import pick_camera, resize_cameras
from omni_gen3d.request import ColliderPlan, Collision, Extent
from omni_gen3d.types import Cameras, CollisionProxy, DynamicScene, Gaussians, GeneratedScene, Provenance, TriMesh
from omni_gen3d.usd import Manifest, package_usdz, write_environment

Progress = Callable[[str, float], None]

_PREVIEW_SCALE = 2


@dataclass(frozen=True)
class GeneratedEnvironment:
    """What ``generate`` and ``convert`` wrote.

    Attributes:
        usd: The root layer, environment.usda.
        environment: The folder.
        num_gaussians: Splats in it.
        timings_s: Seconds per stage.
        notes: Estimates made on the way.
        warnings: What a user must know before relying on the collision proxy.
        usdz: All layers as one package, None where none was asked for.
    """

    usd: Path
    environment: Path
    num_gaussians: int
    timings_s: dict[str, float]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    usdz: Path | None = None


class Stages:
    """Times the stages, reports their progress and stops between steps when asked to."""

    def __init__(self, progress: Progress | None, cancelled: Callable[[], bool] | None) -> None:
        self.timings_s: dict[str, float] = {}
        self._progress = progress or (lambda stage, fraction: None)
        self._cancelled = cancelled or (lambda: False)
        self._stage = ""

    def report(self, fraction: float) -> None:
        """Tell how much of the stage is done.

        Raises:
            CancelledError: The caller asked to stop.
        """
        if self._cancelled():
            raise CancelledError(f"cancelled while the stage '{self._stage}' was running; nothing was written.")
        self._progress(self._stage, fraction)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside as the stage ``name``."""
        self._stage = name
        self.report(0.0)
        began = time.perf_counter()
        yield
        self.timings_s[name] = round(time.perf_counter() - began, 3)
        # Not through report: what is finished is not undone by asking to stop just then.
        self._progress(name, 1.0)


def plan_collider(
    settings: Preset, kind: Collision, robot_radius: float | None, extent: str = Extent.view
) -> ColliderPlan:
    """The collider of a scene that a preset makes; the robot's radius [m] is the preset's where None.

    Raises:
        InputError: There is no such collider, or can be no such robot.
    """
    return ColliderPlan(
        kind,
        settings.robot_radius if robot_radius is None else robot_radius,
        settings.robot_height,
        settings.voxel_size,
        settings.max_room_faces if extent == Extent.room else settings.max_faces,
    )


def finish_environment(
    gaussians: Gaussians | DynamicScene,
    cameras: Cameras,
    target: Path,
    provenance: Provenance,
    stages: Stages,
    collider: ColliderPlan,
    *,
    ground_truth: TriMesh | None = None,
    warnings: tuple[str, ...] = (),
    half: bool = False,
    usdz: bool = False,
) -> GeneratedEnvironment:
    """Build the proxy, render the preview from camera 0 at twice its size, and write the folder.

    Args:
        gaussians: The scene, Z-up, metres, floor at z = 0; of one that moves, the proxy is that of what stands still.
        cameras: That see its free space.
        target: The folder, as ``check_target`` returned it.
        provenance: Where the scene came from.
        stages: Timings land in it, and in the manifest but for the writing itself.
        collider: How the proxy is built.
        ground_truth: The true surface [m]; the proxy's scores against it join the others.
        warnings: Sentences that a user must read, beside the proxy's own.
        half: Half precision.
        usdz: Pack the layers as well.

    Raises:
        InputError: The scene or an argument cannot be used, or the folder not be written.
        CancelledError: The caller asked to stop; nothing was written.
    """
    proxy = None
    still = gaussians.static if isinstance(gaussians, DynamicScene) else gaussians
    if collider.kind != "none":
        from omni_gen3d.mesh.proxy import build_proxy

        with stages.stage("collision proxy"):
            proxy = build_proxy(
                still,
                cameras,
                robot_radius=collider.robot_radius,
                robot_height=collider.robot_height,
                voxel_size=collider.voxel_size,
                max_faces=collider.max_faces,
                convex=collider.kind == "convex",
                progress=stages.report,
            )
            proxy = replace(proxy, warnings=(*warnings, *proxy.warnings))
            if isinstance(gaussians, DynamicScene):
                from omni_gen3d.motion.sweeping import clear_spawn_poses

                proxy = clear_spawn_poses(proxy, gaussians.parts, collider.robot_radius)
        if ground_truth is not None:
            with stages.stage("ground truth"):
                proxy = _score(proxy, ground_truth)
    else:
        # The manifest keeps warnings beside the proxy's scores; without a proxy they are notes.
        provenance = replace(provenance, notes=(*provenance.notes, *warnings))

    with stages.stage("preview"):
        view = pick_camera(cameras, 0)
        large = resize_cameras(view, cameras.width * _PREVIEW_SCALE, cameras.height * _PREVIEW_SCALE)
        film = None
        if isinstance(gaussians, Gaussians):
            first = gaussians
        else:
            from omni_gen3d.motion.scene import gaussians_at

            first = gaussians_at(gaussians, 0)

            def picture(time: int) -> np.ndarray:
                return color_to_image(render(gaussians_at(gaussians, time), view).color[0])

            film = np.stack(side_by_side([partial(picture, time) for time in range(gaussians.num_frames)]))
        preview = color_to_image(render(first, large).color[0])

    scene = GeneratedScene(gaussians, cameras, proxy, preview, provenance, stages.timings_s, film)
    with stages.stage("write"):
        usd = write_environment(scene, target, half=half, collision=collider.kind)
        package = package_usdz(usd.parent) if usdz else None
    return GeneratedEnvironment(
        usd=usd,
        environment=usd.parent,
        num_gaussians=Manifest.read(usd.parent / "environment.yaml").num_gaussians,
        timings_s=stages.timings_s,
        notes=provenance.notes,
        warnings=warnings if proxy is None else proxy.warnings,
        usdz=package,
    )


def _score(proxy: CollisionProxy, truth: TriMesh) -> CollisionProxy:
    from omni_gen3d.mesh.ground_truth import score_against

    return replace(proxy, scores={**proxy.scores, **score_against(proxy.parts, proxy.free_space, truth)})
