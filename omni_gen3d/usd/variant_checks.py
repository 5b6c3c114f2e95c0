"""Checks of the parts of an environment, in each of its variants."""

from __future__ import annotations

from collections.abc import Iterator

from pxr import Usd, UsdGeom

from omni_gen3d.request import COLLISIONS
from omni_gen3d.usd.appearance import stated_gain
from omni_gen3d.usd.collider_checks import check_collider, is_collider
from omni_gen3d.usd.findings import Finding, error
from omni_gen3d.usd.moving import splat_prims
from omni_gen3d.usd.root_layer import (
    CAMERAS_PATH,
    COLLIDER_RELATION,
    COLLISION_PATH,
    ENVIRONMENT_PATH,
    SPLATS_PATH,
    select_variants,
    variants_of,
)

_PRIMS = {SPLATS_PATH: "ParticleField3DGaussianSplat", CAMERAS_PATH: "Xform"}
_NEEDED_VARIANTS = {"collision": ["none"], "appearance": ["neutral"], "lighting": ["none"]}


def check_environment(stage: Usd.Stage) -> Iterator[Finding]:
    """Check that an environment holds its prims, and that every variant holds what its name says."""
    for path, prim_type in _PRIMS.items():
        prim = stage.GetPrimAtPath(path)
        if not prim or prim.GetTypeName() != prim_type:
            found = prim.GetTypeName() if prim else "missing"
            yield error(path, f"is {found}; an environment holds a prim of type {prim_type} here.")
            return
    for name, needed in _NEEDED_VARIANTS.items():
        present = variants_of(stage, name)
        missing = [variant for variant in needed if variant not in present]
        if missing:
            yield error(ENVIRONMENT_PATH, f"has no variant '{missing[0]}' of {name}.")
            return
    environment = stage.GetPrimAtPath(ENVIRONMENT_PATH)
    for name in _NEEDED_VARIANTS:
        selected = environment.GetVariantSet(name).GetVariantSelection()
        if selected not in variants_of(stage, name):
            yield error(ENVIRONMENT_PATH, f"selects the variant '{selected}' of {name}, which does not exist.")
    colliders = (finding for variant in variants_of(stage, "collision") for finding in _check_collision(stage, variant))
    yield from dict.fromkeys(colliders)  # the shell is the same in two of them
    select_variants(stage, collision="none")
    for variant in variants_of(stage, "appearance"):
        select_variants(stage, appearance=variant)
        for prim in splat_prims(environment):
            problem = stated_gain(prim).problem()
            if problem is not None:
                yield error(prim.GetPath(), f"in the appearance '{variant}' {problem}")
    yield from stage_errors(stage)


def stage_errors(stage: Usd.Stage) -> Iterator[Finding]:
    """What OpenUSD itself could not compose."""
    for problem in stage.GetCompositionErrors():
        yield error(stage.GetRootLayer().GetDisplayName(), f"does not compose: {problem}")


def _check_collision(stage: Usd.Stage, variant: str) -> Iterator[Finding]:
    if variant not in COLLISIONS:
        yield error(ENVIRONMENT_PATH, f"has a variant '{variant}' of collision; allowed are {', '.join(COLLISIONS)}.")
        return
    select_variants(stage, collision=variant)
    yield from stage_errors(stage)
    meshes = [prim for prim in stage.Traverse() if prim.IsA(UsdGeom.Mesh) and is_collider(prim)]
    relation = stage.GetPrimAtPath(SPLATS_PATH).GetRelationship(COLLIDER_RELATION)
    targets = relation.GetTargets() if relation else []
    dangling = [target for target in targets if not stage.GetPrimAtPath(target)]
    if dangling:
        yield error(SPLATS_PATH, f"names {dangling[0]} in {COLLIDER_RELATION}, which the variant '{variant}' lacks.")
    if variant == "none":
        if meshes:
            yield error(meshes[0].GetPath(), "is a collider in the variant 'none' of collision.")
        return
    if not targets:
        yield error(SPLATS_PATH, f"names no collider in {COLLIDER_RELATION} in the variant '{variant}' of collision.")
    if not meshes:
        yield error(COLLISION_PATH, f"has no Mesh with an enabled CollisionAPI in the variant '{variant}'.")
    for mesh in meshes:
        yield from check_collider(mesh)
