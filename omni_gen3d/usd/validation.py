"""Is this file, or this environment folder, fit for simulation?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from pxr import Usd, UsdGeom, UsdPhysics, UsdVol

from omni_gen3d.errors import InputError
from omni_gen3d.usd.collider_checks import check_collider, is_collider
from omni_gen3d.usd.environment import ENVIRONMENT_PATH, PAYLOADS
from omni_gen3d.usd.findings import Finding, error, warning
from omni_gen3d.usd.layer_checks import check_layers
from omni_gen3d.usd.manifest import Manifest
from omni_gen3d.usd.splat_checks import check_splats
from omni_gen3d.usd.splats import read_splats
from omni_gen3d.usd.stage import open_stage, reading
from omni_gen3d.usd.target import ENVIRONMENT_FILES, MANIFEST_NAME, PREVIEW_NAME, ROOT_NAME

__all__ = ["Finding", "validate"]


def validate(path: Path | str) -> list[Finding]:
    """Check an environment folder, or one USD file with the layers that it reaches.

    A folder is checked for everything an environment promises: manifest, digests, layers, splats, colliders. A lone
    file is checked for what it holds. A file that cannot be read is a finding.

    Raises:
        InputError: ``path`` does not exist.
    """
    path = Path(path)
    if path.is_dir():
        return list(_check_folder(path))
    if path.is_file():
        return list(_check_usd(path))
    raise InputError(f"{path} does not exist; give a USD file or an environment folder.")


def _check_folder(folder: Path) -> Iterator[Finding]:
    missing = [name for name in ENVIRONMENT_FILES if not (folder / name).is_file()]
    for name in missing:
        yield error(name, "is missing.")
    manifest: Manifest | None = None
    if MANIFEST_NAME not in missing:
        try:
            manifest = Manifest.read(folder / MANIFEST_NAME)
        except InputError as broken:
            yield error(MANIFEST_NAME, str(broken))
    if PREVIEW_NAME not in missing:
        yield from _check_preview(folder / PREVIEW_NAME)
    changed = manifest.changed_files(folder) if manifest else []
    for name in changed:
        yield error(name, "differs from its digest in the manifest; it was changed after it was written.")
    # OpenUSD aborts the whole process over some damaged binary layers, so a changed one is not opened.
    if ROOT_NAME not in missing and not any(name.endswith(".usdc") for name in changed):
        yield from _check_usd(folder / ROOT_NAME, manifest, is_environment=True)


def _check_preview(path: Path) -> Iterator[Finding]:
    try:
        with Image.open(path, formats=("PNG",)) as image:
            image.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as broken:
        yield error(path.name, f"is not a readable PNG: {broken}")


def _check_usd(path: Path, manifest: Manifest | None = None, is_environment: bool = False) -> Iterator[Finding]:
    findings = list(check_layers(path))
    yield from findings
    # Composing would open files outside the folder, or stumble over a broken one.
    if any(finding.severity == "error" for finding in findings):
        return
    try:
        with reading(path):
            stage = open_stage(path)
            yield from _check_stage(stage, is_environment)
            if is_environment:
                yield from _check_environment(stage, manifest)
    except InputError as broken:
        yield error(path.name, f"cannot be read: {broken}")


def _check_stage(stage: Usd.Stage, is_environment: bool) -> Iterator[Finding]:
    for problem in stage.GetCompositionErrors():
        yield error(stage.GetRootLayer().GetDisplayName(), f"does not compose: {problem}")
    num_splats = num_colliders = 0
    for prim in stage.Traverse():
        if prim.IsA(UsdVol.ParticleField3DGaussianSplat):
            num_splats += 1
            yield from check_splats(prim)
        if prim.IsA(UsdGeom.Mesh) and is_collider(prim):
            num_colliders += 1
            yield from check_collider(prim)
        if prim.IsA(UsdPhysics.Scene):
            yield error(prim.GetPath(), "is a PhysicsScene; the stage that an environment is put into brings its own.")
    complain = error if is_environment else warning
    if num_splats == 0:
        yield complain("/", "holds no ParticleField3DGaussianSplat; there is nothing to see.")
    if num_colliders == 0:
        yield complain("/", "holds no Mesh with an enabled CollisionAPI; bodies fall through.")


def _check_environment(stage: Usd.Stage, manifest: Manifest | None) -> Iterator[Finding]:
    for name, (prim_type, _) in PAYLOADS.items():
        prim = stage.GetPrimAtPath(f"{ENVIRONMENT_PATH}/{name}")
        if not prim or prim.GetTypeName() != prim_type:
            found = prim.GetTypeName() if prim else "missing"
            yield error(
                f"{ENVIRONMENT_PATH}/{name}", f"is {found}; an environment holds a prim of type {prim_type} here."
            )
            return
    collider = stage.GetPrimAtPath(f"{ENVIRONMENT_PATH}/Splats").GetRelationship("omni_gen3d:collider")
    targets = collider.GetTargets() if collider else []
    if not targets or not all(stage.GetPrimAtPath(target) for target in targets):
        yield error(f"{ENVIRONMENT_PATH}/Splats", "names no collider in omni_gen3d:collider.")
    splats = read_splats(stage.GetPrimAtPath(f"{ENVIRONMENT_PATH}/Splats"))
    if manifest and manifest.num_gaussians != len(splats):
        yield error(MANIFEST_NAME, f"num_gaussians is {manifest.num_gaussians}, but there are {len(splats)}.")
