"""The environment folder on disk: written whole or not at all, and read back.

::

    environment.usda   Z-up, metres; /World (assembly) over /World/Environment (component), which composes by reference
                       under any prim: Splats, Collision and Cameras are payloads
    splats.usdc collision.usdc cameras.usdc   preview.png   environment.yaml
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pxr import Kind, Usd, UsdGeom

import omni_gen3d
from omni_gen3d.errors import InputError
from omni_gen3d.types import Cameras, Gaussians, GeneratedScene, ProxyPart
from omni_gen3d.usd.cameras import author_cameras, read_cameras
from omni_gen3d.usd.collision import author_collision, read_parts
from omni_gen3d.usd.manifest import DESCRIBED_FILES, SCHEMA_VERSION, FileDigest, Manifest, Point
from omni_gen3d.usd.splats import author_splats, gaussians_extent, read_splats
from omni_gen3d.usd.stage import new_stage, open_stage, reading, save_stage
from omni_gen3d.usd.target import (
    CAMERAS_NAME,
    COLLISION_NAME,
    MANIFEST_NAME,
    PREVIEW_NAME,
    ROOT_NAME,
    SPLATS_NAME,
    replacing,
)

ENVIRONMENT_PATH = "/World/Environment"
# Prim below /World/Environment -> its type and the layer that a payload brings.
PAYLOADS = {
    "Splats": ("ParticleField3DGaussianSplat", SPLATS_NAME),
    "Collision": ("Xform", COLLISION_NAME),
    "Cameras": ("Xform", CAMERAS_NAME),
}


@dataclass(frozen=True)
class Environment:
    """An environment folder in memory, in the frame of its ``/World``."""

    directory: Path
    manifest: Manifest
    gaussians: Gaussians
    cameras: Cameras
    parts: tuple[ProxyPart, ...]


def write_environment(scene: GeneratedScene, directory: Path | str) -> Path:
    """Write ``scene`` as the folder ``directory`` and return the path of its ``environment.usda``.

    The same scene gives the same bytes in every file.

    Raises:
        InputError: The folder cannot be written (see ``check_target``), or a value of the scene is out of range.
    """
    with replacing(directory) as folder:
        _write_splats(scene, folder / SPLATS_NAME)
        _write_collision(scene, folder / COLLISION_NAME)
        _write_cameras(scene, folder / CAMERAS_NAME)
        _write_root(folder / ROOT_NAME)
        _write_preview(scene, folder / PREVIEW_NAME)
        files = {name: FileDigest.of(folder / name) for name in DESCRIBED_FILES}
        _describe(scene, files).write(folder / MANIFEST_NAME)
    return Path(directory).expanduser().resolve() / ROOT_NAME


def read_environment(directory: Path | str) -> Environment:
    """Read an environment folder back.

    Raises:
        InputError: A file is missing, unreadable or damaged, or does not hold what an environment holds.
    """
    folder = Path(directory).expanduser().resolve()
    manifest = Manifest.read(folder / MANIFEST_NAME)
    damaged = [name for name in manifest.changed_files(folder) if name.endswith(".usdc")]
    if damaged:
        raise InputError(
            f"{folder / damaged[0]} differs from its digest in the manifest; restore or generate it again."
        )
    stage = open_stage(folder / ROOT_NAME)
    splats, collision, cameras = (stage.GetPrimAtPath(f"{ENVIRONMENT_PATH}/{name}") for name in PAYLOADS)
    for name, prim in zip(PAYLOADS, (splats, collision, cameras), strict=True):
        if not prim:
            raise InputError(f"{folder / ROOT_NAME} has no prim {ENVIRONMENT_PATH}/{name}; generate it again.")
    with reading(folder / ROOT_NAME):
        return Environment(folder, manifest, read_splats(splats), read_cameras(cameras), read_parts(collision))


def _write_splats(scene: GeneratedScene, path: Path) -> None:
    stage = new_stage("Splats")
    author_splats(stage, "/Splats", scene.gaussians)
    save_stage(stage, path)


def _write_collision(scene: GeneratedScene, path: Path) -> None:
    stage = new_stage("Collision")
    author_collision(stage, "/Collision", scene.proxy.parts)
    save_stage(stage, path)


def _write_cameras(scene: GeneratedScene, path: Path) -> None:
    stage = new_stage("Cameras")
    author_cameras(stage, "/Cameras", scene.cameras)
    save_stage(stage, path)


def _write_root(path: Path) -> None:
    stage = new_stage("World")
    Usd.ModelAPI(stage.GetDefaultPrim()).SetKind(Kind.Tokens.assembly)
    environment = UsdGeom.Xform.Define(stage, ENVIRONMENT_PATH).GetPrim()
    Usd.ModelAPI(environment).SetKind(Kind.Tokens.component)
    for name, (prim_type, layer) in PAYLOADS.items():
        stage.DefinePrim(f"{ENVIRONMENT_PATH}/{name}", prim_type).GetPayloads().AddPayload(f"./{layer}")
    collider = stage.GetPrimAtPath(f"{ENVIRONMENT_PATH}/Splats").CreateRelationship("omni_gen3d:collider")
    collider.SetTargets([f"{ENVIRONMENT_PATH}/Collision"])
    save_stage(stage, path)


def _write_preview(scene: GeneratedScene, path: Path) -> None:
    preview = scene.preview
    if preview.dtype != np.uint8 or preview.ndim != 3 or preview.shape[2] != 3 or preview.size == 0:
        raise InputError(f"preview is {preview.dtype} of shape {preview.shape}; expected uint8 of shape (H, W, 3).")
    Image.fromarray(preview).save(path, format="PNG")


def _describe(scene: GeneratedScene, files: dict[str, FileDigest]) -> Manifest:
    provenance, proxy = scene.provenance, scene.proxy
    splats_low, splats_high = gaussians_extent(scene.gaussians)
    vertices = np.concatenate([part.mesh.vertices for part in proxy.parts])
    low, high = np.minimum(splats_low, vertices.min(axis=0)), np.maximum(splats_high, vertices.max(axis=0))
    floor_height = proxy.scores.get("floor_height_m")
    return Manifest(
        schema_version=SCHEMA_VERSION,
        title=_title(scene),
        kind=provenance.kind,
        prompt=provenance.prompt,
        input_sha256=provenance.input_sha256,
        seed=provenance.seed,
        model=provenance.model,
        model_sha256=provenance.model_sha256,
        num_gaussians=len(scene.gaussians),
        bounds_m=(_point(low), _point(high)),
        floor_height_m=None if floor_height is None else float(floor_height),
        spawn_poses=proxy.spawn_poses,
        proxy={name: score.item() if isinstance(score, np.generic) else score for name, score in proxy.scores.items()},
        warnings=proxy.warnings,
        notes=provenance.notes,
        files=files,
        tool_versions={
            "omni_gen3d": omni_gen3d.__version__,
            "openusd": ".".join(map(str, Usd.GetVersion()[1:])),
            "python": platform.python_version(),
            "torch": str(torch.__version__),
        },
        timings_s=dict(scene.timings_s),
        free_space=proxy.free_space,
    )


def _point(values: np.ndarray) -> Point:
    x, y, z = (float(value) for value in values)
    return x, y, z


def _title(scene: GeneratedScene) -> str:
    provenance = scene.provenance
    if provenance.prompt:
        return " ".join(provenance.prompt.split())
    return f"From a picture ({provenance.input_sha256[:12]})" if provenance.input_sha256 else "Untitled"
