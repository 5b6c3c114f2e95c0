"""Checks of what moves: rigid places sampled within the time of the stage, and bodies that follow them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pxr import Usd, UsdGeom, UsdPhysics

from omni_gen3d.usd.collider_checks import is_collider
from omni_gen3d.usd.findings import Finding, error, warning
from omni_gen3d.usd.motion_variants import MOTIONS
from omni_gen3d.usd.moving import part_prims
from omni_gen3d.usd.root_layer import ENVIRONMENT_PATH, MOVING_PATH, select_variants, variants_of
from omni_gen3d.usd.splat_checks import check_sampled_times

_RIGID_TOLERANCE = 1e-3
# Faster than any robot or forklift indoors: a track that jumped from one thing to another.
_MAX_SPEED_M_S = 15.0


def check_moving(stage: Usd.Stage) -> Iterator[Finding]:
    """Check the moving parts of an environment in the variants of motion; nothing to say about one without."""
    moving = stage.GetPrimAtPath(MOVING_PATH)
    if not moving:
        return
    if moving.GetTypeName() != "Xform":
        yield error(MOVING_PATH, f"is a '{moving.GetTypeName()}'; moving parts lie below an Xform.")
        return
    unknown = sorted({*variants_of(stage, "motion")} ^ set(MOTIONS))
    if unknown:
        yield error(ENVIRONMENT_PATH, f"the variants of motion are not {', '.join(MOTIONS)}: see '{unknown[0]}'.")
        return
    select_variants(stage, motion="play")
    for prim in part_prims(moving):
        yield from _check_part(prim)
    select_variants(stage, motion="frozen")
    for prim in part_prims(stage.GetPrimAtPath(MOVING_PATH)):
        if UsdGeom.Xformable(prim).TransformMightBeTimeVarying():
            yield error(prim.GetPath(), "moves in the variant 'frozen' of motion.")
    select_variants(stage, motion="none")
    if stage.GetPrimAtPath(MOVING_PATH).IsActive():
        yield error(MOVING_PATH, "is active in the variant 'none' of motion.")
    select_variants(stage, motion="play")


def _check_part(prim: Usd.Prim) -> Iterator[Finding]:
    path = prim.GetPath()
    if not any(child.GetTypeName() == "ParticleField3DGaussianSplat" for child in prim.GetChildren()):
        yield error(path, "holds no splats; nothing of the moving part is seen.")
    xform = UsdGeom.Xformable(prim)
    times = sorted({time for op in xform.GetOrderedXformOps() for time in op.GetTimeSamples()})
    if not times:
        yield warning(path, "has no samples of its place; it does not move.")
    yield from check_sampled_times(prim, times)
    yield from _check_places(prim, times)
    yield from _check_body(prim)


def _check_places(prim: Usd.Prim, times: list[float]) -> Iterator[Finding]:
    xform = UsdGeom.Xformable(prim)
    codes = [Usd.TimeCode.Default(), *map(Usd.TimeCode, times)]
    matrices = np.stack([np.array(xform.GetLocalTransformation(code)).T for code in codes])
    if not np.isfinite(matrices).all():
        yield error(prim.GetPath(), "has a place that is NaN or infinite.")
        return
    turns = matrices[:, :3, :3]
    off = np.abs(turns @ turns.transpose(0, 2, 1) - np.eye(3)).max()
    if off > _RIGID_TOLERANCE or (np.linalg.det(turns) < 0).any():
        yield error(prim.GetPath(), "is stretched, sheared or mirrored; a body moves rigidly.")
    if len(times) > 1:
        steps = np.linalg.norm(np.diff(matrices[1:, :3, 3], axis=0), axis=1)
        speeds = steps / np.diff(times) * prim.GetStage().GetTimeCodesPerSecond()
        if speeds.max() > _MAX_SPEED_M_S:
            yield warning(prim.GetPath(), f"moves at {speeds.max():.3g} m/s; what it hits will fly.")


def _check_body(prim: Usd.Prim) -> Iterator[Finding]:
    """A collider that moves by samples has to be a kinematic body, or engines leave it where it was or let it fall."""
    colliders = [inner for inner in Usd.PrimRange(prim) if inner.IsA(UsdGeom.Mesh) and is_collider(inner)]
    body = prim.HasAPI(UsdPhysics.RigidBodyAPI)
    if colliders and not body:
        yield error(prim.GetPath(), "has colliders but no RigidBodyAPI; engines would leave them at time 0.")
    if not body:
        return
    rigid = UsdPhysics.RigidBodyAPI(prim)
    if not rigid.GetKinematicEnabledAttr().Get():
        yield error(prim.GetPath(), "is a rigid body that is not kinematic; it would fall instead of moving.")
    if not rigid.GetRigidBodyEnabledAttr().Get():
        yield error(prim.GetPath(), "is a rigid body that is switched off; its colliders would stay at time 0.")
    if not colliders:
        yield warning(prim.GetPath(), "is a rigid body without a collider; nothing bumps into it.")
    for mesh in colliders:
        approximation = UsdPhysics.MeshCollisionAPI(mesh).GetApproximationAttr().Get()
        if approximation != UsdPhysics.Tokens.convexHull:
            yield error(mesh.GetPath(), f"approximation is {approximation}; a body that moves collides by convexHull.")
