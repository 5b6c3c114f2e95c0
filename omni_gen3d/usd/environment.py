"""The environment folder on disk: written whole or not at all, and read back.

::

    environment.usda   Z-up, metres; /World (assembly) over /World/Environment (component), which composes by reference
                       under any prim: Splats, Collision and Cameras are payloads, variants choose among colliders
    splats.usdc cameras.usdc collision.usdc collision_convex.usdc   splats.0000.usdc ... where a count changes
    moving.usdc moving_collision.usdc residual.usdc residual.0000.usdc ... where things move
    preview.png environment.yaml   preview.webp where something moves
"""

from __future__ import annotations

import platform
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pxr import Usd

import omni_gen3d
from omni_gen3d.errors import InputError
from omni_gen3d.request import COLLISIONS, Collision
from omni_gen3d.types import (
    Cameras,
    DynamicScene,
    Gaussians,
    GaussianSequence,
    GeneratedScene,
    MovingPart,
    ProxyPart,
)
from omni_gen3d.usd.appearance import Appearance
from omni_gen3d.usd.cameras import author_cameras, read_cameras
from omni_gen3d.usd.collision import author_collision, author_convex_collision, read_parts
from omni_gen3d.usd.manifest import SCHEMA_VERSION, FileDigest, Manifest, Point
from omni_gen3d.usd.motion_variants import Motion
from omni_gen3d.usd.moving import gaussians_of_stage, moving_extent, read_moving, write_moving
from omni_gen3d.usd.root_layer import (
    CAMERAS_PATH,
    COLLISION_PATH,
    ENVIRONMENT_PATH,
    MOVING_PATH,
    SPLATS_PATH,
    select_variants,
    write_root,
)
from omni_gen3d.usd.sequence import sequence_extent, write_sequence
from omni_gen3d.usd.splats import author_splats, gaussians_extent
from omni_gen3d.usd.stage import new_stage, open_stage, reading, save_stage
from omni_gen3d.usd.target import (
    CAMERAS_NAME,
    COLLISION_NAME,
    CONVEX_NAME,
    FILM_NAME,
    MANIFEST_NAME,
    PREVIEW_NAME,
    ROOT_NAME,
    SPLATS_NAME,
    replacing,
)


@dataclass(frozen=True)
class Environment:
    """An environment folder in memory, in the frame of its ``/World``; no parts where no collider is selected.

    Attributes:
        moving: Rigid parts of a scene that moves; their Gaussians are among ``gaussians``, where they are at its time.
    """

    directory: Path
    manifest: Manifest
    gaussians: Gaussians
    cameras: Cameras
    parts: tuple[ProxyPart, ...]
    moving: tuple[MovingPart, ...] = ()


def write_environment(
    scene: GeneratedScene, directory: Path | str, *, half: bool = False, collision: Collision = "mesh"
) -> Path:
    """Write ``scene`` as the folder ``directory`` and return the path of its ``environment.usda``.

    The same scene gives the same bytes in every file. Without a proxy the only variant of ``collision`` is ``none``;
    without convex pieces ``convex`` is the same as ``mesh``.

    Args:
        scene: What to write.
        directory: The folder, see ``check_target``.
        half: Half the size: half precision for what it is fit for (see ``quantities_fit_for_half``).
        collision: The variant of the collider that is selected when the environment is opened.

    Raises:
        InputError: The folder cannot be written (see ``check_target``), or a value of the scene is out of range.
    """
    if collision not in COLLISIONS:
        raise InputError(f"collision is '{collision}'; allowed are {', '.join(COLLISIONS)}.")
    # Compressing the picture and digesting the files leave the interpreter to others.
    with replacing(directory) as folder, ThreadPoolExecutor() as pool:
        preview = pool.submit(_write_preview, scene, folder)
        _write_splats(scene, folder, half)
        colliders = _write_collision(scene, folder)
        _write_cameras(scene, folder / CAMERAS_NAME)
        _write_root(scene, folder / ROOT_NAME, colliders, collision)
        preview.result()
        files = sorted(folder.iterdir())
        digests = dict(zip((file.name for file in files), pool.map(FileDigest.of, files), strict=True))
        _describe(scene, digests).write(folder / MANIFEST_NAME)
    return Path(directory).expanduser().resolve() / ROOT_NAME


def read_environment(
    directory: Path | str,
    *,
    collision: Collision | None = None,
    appearance: Appearance | None = None,
    motion: Motion | None = None,
    time: float | None = None,
) -> Environment:
    """Read an environment folder back.

    Args:
        directory: The folder.
        collision: Variant of the collider to read, the selected one where None.
        appearance: Variant of the look to read, the selected one where None.
        motion: Variant of what moves, the selected one where None.
        time: Frame of a scene that moves, its first where None.

    Raises:
        InputError: A file is missing, unreadable or damaged, or does not hold what an environment holds; or a variant
            does not exist.
    """
    folder = Path(directory).expanduser().resolve()
    manifest = Manifest.read(folder / MANIFEST_NAME)
    damaged = [name for name in manifest.changed_files(folder) if name.endswith(".usdc")]
    if damaged:
        raise InputError(
            f"{folder / damaged[0]} differs from its digest in the manifest; restore or generate it again."
        )
    stage = open_stage(folder / ROOT_NAME)
    for path in (SPLATS_PATH, CAMERAS_PATH):
        if not stage.GetPrimAtPath(path):
            raise InputError(f"{folder / ROOT_NAME} has no prim {path}; generate it again.")
    with reading(folder / ROOT_NAME):
        select_variants(stage, collision=collision, appearance=appearance, motion=motion)
        colliders, moving = stage.GetPrimAtPath(COLLISION_PATH), stage.GetPrimAtPath(MOVING_PATH)
        return Environment(
            directory=folder,
            manifest=manifest,
            gaussians=gaussians_of_stage(stage.GetPrimAtPath(ENVIRONMENT_PATH), time),
            cameras=read_cameras(stage.GetPrimAtPath(CAMERAS_PATH)),
            parts=read_parts(colliders) if colliders else (),
            moving=read_moving(moving) if moving else (),
        )


def _write_splats(scene: GeneratedScene, folder: Path, half: bool) -> None:
    if isinstance(scene.gaussians, GaussianSequence):
        write_sequence(scene.gaussians, folder, half=half)
        return
    static = scene.gaussians
    if isinstance(static, DynamicScene):
        write_moving(static, folder, half=half)
        static = static.static
    stage = new_stage("Splats")
    author_splats(stage, "/Splats", static, half=half)
    save_stage(stage, folder / SPLATS_NAME)


def _write_collision(scene: GeneratedScene, folder: Path) -> dict[Collision, str]:
    """Write the layers of colliders; name the one of each variant."""
    proxy = scene.proxy
    if proxy is None:
        return {}
    stage = new_stage("Collision")
    author_collision(stage, "/Collision", proxy.parts)
    save_stage(stage, folder / COLLISION_NAME)
    if not proxy.convex_parts:
        return {"mesh": COLLISION_NAME, "convex": COLLISION_NAME}
    stage = new_stage("Collision")
    author_convex_collision(stage, "/Collision", f"./{COLLISION_NAME}", proxy.parts, proxy.convex_parts)
    save_stage(stage, folder / CONVEX_NAME)
    return {"mesh": COLLISION_NAME, "convex": CONVEX_NAME}


def _write_cameras(scene: GeneratedScene, path: Path) -> None:
    stage = new_stage("Cameras", frames_per_second=_frames_per_second(scene))
    author_cameras(stage, "/Cameras", scene.cameras)
    save_stage(stage, path)


def _write_root(scene: GeneratedScene, path: Path, colliders: dict[Collision, str], collision: Collision) -> None:
    gaussians = scene.gaussians
    write_root(
        path,
        colliders,
        collision if collision in colliders else "none",
        _frames_per_second(scene),
        None if isinstance(gaussians, Gaussians) else len(gaussians),
        gaussians if isinstance(gaussians, DynamicScene) else None,
    )


def _frames_per_second(scene: GeneratedScene) -> float | None:
    return None if isinstance(scene.gaussians, Gaussians) else scene.gaussians.frames_per_second


def _write_preview(scene: GeneratedScene, folder: Path) -> None:
    preview, film = scene.preview, scene.film
    if preview.dtype != np.uint8 or preview.ndim != 3 or preview.shape[2] != 3 or preview.size == 0:
        raise InputError(f"preview is {preview.dtype} of shape {preview.shape}; expected uint8 of shape (H, W, 3).")
    Image.fromarray(preview).save(folder / PREVIEW_NAME, format="PNG")
    if film is None:
        return
    if film.dtype != np.uint8 or film.ndim != 4 or film.shape[3] != 3 or film.size == 0:
        raise InputError(f"film is {film.dtype} of shape {film.shape}; expected uint8 of shape (T, H, W, 3).")
    pictures = [Image.fromarray(picture) for picture in film]
    duration = round(1000 / (_frames_per_second(scene) or 1))
    pictures[0].save(
        folder / FILM_NAME, format="WEBP", save_all=True, append_images=pictures[1:], duration=duration, loop=0
    )


def _describe(scene: GeneratedScene, files: dict[str, FileDigest]) -> Manifest:
    provenance, proxy = scene.provenance, scene.proxy
    scores = {} if proxy is None else proxy.scores
    floor_height = scores.get("floor_height_m")
    return Manifest(
        schema_version=SCHEMA_VERSION,
        title=_title(scene),
        kind=provenance.kind,
        prompt=provenance.prompt,
        input_sha256=provenance.input_sha256,
        seed=provenance.seed,
        model=provenance.model,
        model_sha256=provenance.model_sha256,
        num_gaussians=_count(scene.gaussians),
        bounds_m=_bounds(scene),
        floor_height_m=None if floor_height is None else float(floor_height),
        spawn_poses=() if proxy is None else proxy.spawn_poses,
        proxy={name: score.item() if isinstance(score, np.generic) else score for name, score in scores.items()},
        warnings=() if proxy is None else proxy.warnings,
        notes=provenance.notes,
        files=files,
        tool_versions={
            "omni_gen3d": omni_gen3d.__version__,
            "openusd": ".".join(map(str, Usd.GetVersion()[1:])),
            "python": platform.python_version(),
            "torch": str(torch.__version__),
        },
        timings_s=dict(scene.timings_s),
        free_space=None if proxy is None else proxy.free_space,
    )


def _count(gaussians: Gaussians | GaussianSequence | DynamicScene) -> int:
    if isinstance(gaussians, DynamicScene):
        rest = max(max(map(len, gaussians.residual)), 1) if gaussians.residual else 0
        return len(gaussians.static) + sum(len(part.gaussians) for part in gaussians.parts) + rest
    return max(map(len, gaussians.frames)) if isinstance(gaussians, GaussianSequence) else len(gaussians)


def _bounds(scene: GeneratedScene) -> tuple[Point, Point]:
    gaussians = scene.gaussians
    if isinstance(gaussians, DynamicScene):
        low, high = moving_extent(gaussians)
    elif isinstance(gaussians, GaussianSequence):
        low, high = sequence_extent(gaussians)
    else:
        low, high = gaussians_extent(gaussians)
    if scene.proxy is not None:
        vertices = np.concatenate([part.mesh.vertices for part in (*scene.proxy.parts, *scene.proxy.convex_parts)])
        low, high = np.minimum(low, vertices.min(axis=0)), np.maximum(high, vertices.max(axis=0))
    return _point(low), _point(high)


def _point(values: np.ndarray) -> Point:
    x, y, z = (float(value) for value in values)
    return x, y, z


def _title(scene: GeneratedScene) -> str:
    provenance = scene.provenance
    words = " ".join((provenance.title or provenance.prompt or "").split())
    if words or not provenance.input_sha256:
        return words or "Untitled"
    source = "file" if provenance.model == "file" else "video" if provenance.kind == "dynamic" else "picture"
    return f"From a {source} ({provenance.input_sha256[:12]})"
