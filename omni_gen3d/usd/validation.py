"""Is this file, or this environment folder, fit for simulation?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from pxr import Usd, UsdGeom, UsdPhysics, UsdVol

from omni_gen3d.errors import InputError
from omni_gen3d.usd.collider_checks import check_collider, is_collider
from omni_gen3d.usd.findings import Finding, error, warning
from omni_gen3d.usd.layer_checks import check_layers
from omni_gen3d.usd.manifest import Manifest
from omni_gen3d.usd.moving import splat_prims
from omni_gen3d.usd.moving_checks import check_moving
from omni_gen3d.usd.package import member_digests, unpacked
from omni_gen3d.usd.root_layer import ENVIRONMENT_PATH
from omni_gen3d.usd.splat_checks import check_splats, check_times, count_particles
from omni_gen3d.usd.stage import open_stage, reading
from omni_gen3d.usd.target import (
    FILM_NAME,
    MANIFEST_NAME,
    PACKAGE_NAME,
    PREVIEW_NAME,
    REQUIRED_FILES,
    ROOT_NAME,
    is_described_file,
)
from omni_gen3d.usd.variant_checks import check_environment, stage_errors

__all__ = ["Finding", "validate"]


def validate(path: Path | str) -> list[Finding]:
    """Check an environment folder, or one USD file with the layers that it reaches, or a usdz package.

    A folder is checked for everything an environment promises: manifest, digests, layers, splats, and the colliders and
    looks of all its variants. A lone file is checked for what it holds, as selected. A file that cannot be read is a
    finding.

    Raises:
        InputError: ``path`` does not exist.
    """
    path = Path(path)
    if path.is_dir():
        return list(_check_folder(path))
    if path.is_file():
        return list(_check_package(path) if path.suffix.lower() == ".usdz" else _check_usd(path))
    raise InputError(f"{path} does not exist; give a USD file or an environment folder.")


def _check_folder(folder: Path) -> Iterator[Finding]:
    manifest: Manifest | None = None
    if (folder / MANIFEST_NAME).is_file():
        try:
            manifest = Manifest.read(folder / MANIFEST_NAME)
        except InputError as broken:
            yield error(MANIFEST_NAME, str(broken))
    described = {*REQUIRED_FILES, *(manifest.files if manifest else ())}
    missing = sorted(name for name in described if not (folder / name).is_file())
    for name in missing:
        yield error(name, "is missing.")
    if PREVIEW_NAME not in missing:
        yield from _check_preview(folder / PREVIEW_NAME)
    changed = manifest.changed_files(folder) if manifest else []
    for name in changed:
        yield error(name, "differs from its digest in the manifest; it was changed after it was written.")
    if manifest:
        for name in sorted(file.name for file in folder.iterdir()):
            if is_described_file(name) and name not in manifest.files:
                yield error(name, "is not described in the manifest; it belongs to another environment.")
        if (folder / PACKAGE_NAME).is_file():
            yield from _compare_package(folder / PACKAGE_NAME, manifest)
    # OpenUSD aborts the whole process over some damaged binary layers, so a changed one is not opened.
    if ROOT_NAME not in missing and not any(name.endswith(".usdc") for name in changed):
        yield from _check_usd(folder / ROOT_NAME, manifest, is_environment=True)


def _check_preview(path: Path) -> Iterator[Finding]:
    try:
        with Image.open(path, formats=("PNG",)) as image:
            image.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as broken:
        yield error(path.name, f"is not a readable PNG: {broken}")


def _check_package(path: Path) -> Iterator[Finding]:
    try:
        with unpacked(path) as root:
            yield from _check_usd(root)
    except InputError as broken:
        yield error(path.name, str(broken))


def _compare_package(path: Path, manifest: Manifest) -> Iterator[Finding]:
    """A package beside the layers holds the same layers."""
    try:
        packed = member_digests(path)
    except InputError as broken:
        yield error(path.name, str(broken))
        return
    layers = {name: digest for name, digest in manifest.files.items() if name not in (PREVIEW_NAME, FILM_NAME)}
    if packed != layers:
        differing = sorted(name for name in {*packed, *layers} if packed.get(name) != layers.get(name))
        yield error(path.name, f"holds another '{differing[0]}' than the folder; package the environment again.")


def _check_usd(path: Path, manifest: Manifest | None = None, is_environment: bool = False) -> Iterator[Finding]:
    findings = list(check_layers(path, trusted=manifest is not None))
    yield from findings
    # Composing would open files outside the folder, or stumble over a broken one.
    if any(finding.severity == "error" for finding in findings):
        return
    try:
        with reading(path):
            stage = open_stage(path)
            yield from _check_stage(stage, is_environment)
            if not is_environment:
                yield from _check_selected_colliders(stage)
                return
            if manifest:
                yield from _check_count(stage, manifest)
            yield from check_moving(stage)
            yield from check_environment(stage)
    except (InputError, TypeError, ValueError) as broken:  # a value of another type than its attribute's
        yield error(path.name, f"cannot be read: {broken}")


def _check_stage(stage: Usd.Stage, is_environment: bool) -> Iterator[Finding]:
    yield from stage_errors(stage)
    num_splats = 0
    for prim in stage.Traverse():
        if prim.IsA(UsdVol.ParticleField3DGaussianSplat):
            num_splats += 1
            yield from check_splats(prim)
            yield from check_times(prim)
        if prim.IsA(UsdPhysics.Scene):
            yield error(prim.GetPath(), "is a PhysicsScene; the stage that an environment is put into brings its own.")
    if num_splats == 0:
        complain = error if is_environment else warning
        yield complain("/", "holds no ParticleField3DGaussianSplat; there is nothing to see.")


def _check_selected_colliders(stage: Usd.Stage) -> Iterator[Finding]:
    colliders = [prim for prim in stage.Traverse() if prim.IsA(UsdGeom.Mesh) and is_collider(prim)]
    for prim in colliders:
        yield from check_collider(prim)
    if not colliders:
        yield warning("/", "holds no Mesh with an enabled CollisionAPI; bodies fall through.")


def _check_count(stage: Usd.Stage, manifest: Manifest) -> Iterator[Finding]:
    environment = stage.GetPrimAtPath(ENVIRONMENT_PATH)
    found = sum(map(count_particles, splat_prims(environment))) if environment else 0
    if found and manifest.num_gaussians != found:
        yield error(MANIFEST_NAME, f"num_gaussians is {manifest.num_gaussians}, but there are {found}.")
