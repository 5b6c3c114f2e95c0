"""Where the kinematic bodies of a stage are at each time, for engines that do not follow time samples themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pxr import Usd, UsdGeom, UsdPhysics


@dataclass(frozen=True)
class BodyTrack:
    """A body that moves by itself.

    Attributes:
        path: Of its prim.
        seconds: Ascending times at which its place is known, shape ``(T,)``; at least one.
        to_world: Its place in the stage's world, in metres, rigid, shape ``(T, 4, 4)``.
        present: Whether it is visible from each time on, shape ``(T,)``.
    """

    path: str
    seconds: np.ndarray
    to_world: np.ndarray
    present: np.ndarray


def read_tracks(stage: Usd.Stage, root: str = "/") -> tuple[BodyTrack, ...]:
    """Every active kinematic body at or below a prim, as the stage composes it: retimed, frozen or removed ones too."""
    prims = Usd.PrimRange(stage.GetPrimAtPath(root))
    return tuple(_read_track(prim) for prim in prims if _is_kinematic(prim))


def _is_kinematic(prim: Usd.Prim) -> bool:
    if not prim.HasAPI(UsdPhysics.RigidBodyAPI):
        return False
    body = UsdPhysics.RigidBodyAPI(prim)
    return bool(body.GetKinematicEnabledAttr().Get()) and bool(body.GetRigidBodyEnabledAttr().Get())


def _read_track(prim: Usd.Prim) -> BodyTrack:
    stage, xform = prim.GetStage(), UsdGeom.Xformable(prim)
    shown = UsdGeom.Imageable(prim).GetVisibilityAttr()
    sampled = {time for op in xform.GetOrderedXformOps() for time in op.GetTimeSamples()} | {*shown.GetTimeSamples()}
    codes = list(map(Usd.TimeCode, sorted(sampled))) or [Usd.TimeCode.Default()]
    matrices = np.stack([np.array(xform.ComputeLocalToWorldTransform(code)).T for code in codes])
    # A scale above a body scales its shapes; its place is the rest.
    matrices[:, :3, :3] /= np.cbrt(np.linalg.det(matrices[:, :3, :3]))[:, None, None]
    matrices[:, :3, 3] *= UsdGeom.GetStageMetersPerUnit(stage)
    seconds = np.array([0.0 if code.IsDefault() else code.GetValue() for code in codes]) / stage.GetTimeCodesPerSecond()
    present = np.array([shown.Get(code) != UsdGeom.Tokens.invisible for code in codes])
    return BodyTrack(str(prim.GetPath()), seconds, matrices, present)
