"""What moves in a scene as USD: a prim for each rigid part, its place sampled in time, and one for the rest.

::

    /Moving                 Xform, the default prim of moving.usdc, and of moving_collision.usdc with the colliders
    /Moving/part_00         Xform: translate and orient at every time, visibility where it comes or goes; labelled
                            "object"; with colliders a kinematic rigid body
    /Moving/part_00/Splats  the part in its own frame, once
    /Moving/part_00/Collision/hull_00   Mesh of purpose guide
    /Moving/Residual        what is not rigid: one value clip a time, residual.0000.usdc and so on

Time ``i`` is time code ``i``. Everything is there without a time as well, as at time 0.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pxr import Gf, Sdf, Usd, UsdGeom, UsdPhysics, UsdSemantics

from omni_gen3d.errors import InputError
from omni_gen3d.geometry import matrix_to_quat, quat_to_matrix, transform_gaussians
from omni_gen3d.types import DynamicScene, Gaussians, GaussianSequence, MovingPart, ProxyPart
from omni_gen3d.usd.collision import LABEL_TAXONOMY, author_hulls, read_parts
from omni_gen3d.usd.motion_variants import RESIDUAL, author_place
from omni_gen3d.usd.sequence import write_sequence
from omni_gen3d.usd.splats import author_splats, gaussians_extent, read_splats
from omni_gen3d.usd.stage import new_stage, save_stage
from omni_gen3d.usd.target import MOVING_COLLISION_NAME, MOVING_NAME, RESIDUAL_NAME

ROOT = "/Moving"
LABEL = "object"


def write_moving(scene: DynamicScene, folder: Path, *, half: bool = False) -> None:
    """Write moving.usdc, where the scene has colliders moving_collision.usdc, and the layers of the rest.

    Raises:
        InputError: A value is out of range, or a part's name is no identifier.
    """
    stage = new_stage("Moving", frames_per_second=scene.frames_per_second, num_frames=scene.num_frames)
    for part in scene.parts:
        path = _path(part)
        _author_motion(UsdGeom.Xform.Define(stage, path), part)
        UsdSemantics.LabelsAPI.Apply(stage.GetPrimAtPath(path), LABEL_TAXONOMY).CreateLabelsAttr([LABEL])
        author_splats(stage, f"{path}/Splats", part.gaussians, half=half)
    residual = _sequence_of_rest(scene)
    if residual is not None:
        rest = stage.DefinePrim(f"{ROOT}/{RESIDUAL}", "ParticleField3DGaussianSplat")
        rest.GetPayloads().AddPayload(f"./{RESIDUAL_NAME}")
        write_sequence(residual, folder, half=half, name=RESIDUAL_NAME, held=True)
    save_stage(stage, folder / MOVING_NAME)
    if any(part.hulls for part in scene.parts):
        save_stage(_collision_stage(scene), folder / MOVING_COLLISION_NAME)


def read_moving(prim: Usd.Prim) -> tuple[MovingPart, ...]:
    """The parts below a prim that is composed of what ``write_moving`` wrote, at the times at which they are sampled.

    A part that stands still in the selected variant has one time.

    Raises:
        InputError: A part cannot be read.
    """
    return tuple(map(_read_part, part_prims(prim)))


def part_prims(prim: Usd.Prim) -> list[Usd.Prim]:
    """The prims of the rigid parts below ``Moving``, in the order of the stage."""
    return [child for child in prim.GetChildren() if child.GetTypeName() == "Xform"]


def splat_prims(environment: Usd.Prim) -> list[Usd.Prim]:
    """Every prim of splats below a prim: its own children first, then what moves in the order of the stage."""
    found = [prim for prim in Usd.PrimRange(environment) if prim.GetTypeName() == "ParticleField3DGaussianSplat"]
    return sorted(found, key=lambda prim: prim.GetParent() != environment)


def moving_extent(scene: DynamicScene) -> tuple[np.ndarray, np.ndarray]:
    """Low and high corner of a box around every Gaussian at every time [m]."""
    lows, highs = (list(corner) for corner in zip(gaussians_extent(scene.static), strict=True))
    for part in scene.parts:
        low, high = gaussians_extent(part.gaussians)
        corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
        for matrix in part.to_world[part.present]:
            placed = corners @ matrix[:3, :3].T + matrix[:3, 3]
            lows.append(placed.min(0).astype(np.float32))
            highs.append(placed.max(0).astype(np.float32))
    for rest in scene.residual or ():
        if len(rest):
            low, high = gaussians_extent(rest)
            lows.append(low)
            highs.append(high)
    return np.min(lows, axis=0), np.max(highs, axis=0)


def _path(part: MovingPart) -> str:
    if not Sdf.Path.IsValidIdentifier(part.name) or part.name == RESIDUAL:
        raise InputError(
            f"the moving part's name '{part.name}' cannot be used; it holds letters, digits and '_' only, does not "
            f"start with a digit and is not '{RESIDUAL}'."
        )
    return f"{ROOT}/{part.name}"


def _author_motion(xform: UsdGeom.Xform, part: MovingPart) -> None:
    xform.AddTranslateOp()
    xform.AddOrientOp()
    author_place(xform.GetPrim(), part.to_world, part.present, list(map(float, range(len(part.to_world)))))


def _sequence_of_rest(scene: DynamicScene) -> GaussianSequence | None:
    if scene.residual is None:
        return None
    some = next(rest for rest in scene.residual if len(rest))
    # The schema wants a particle at every time; a transparent one is nothing to see.
    nothing = replace(some[slice(0, 1)], opacities=torch.zeros(1))
    return GaussianSequence(tuple(rest if len(rest) else nothing for rest in scene.residual), scene.frames_per_second)


def _collision_stage(scene: DynamicScene) -> Usd.Stage:
    stage = new_stage("Moving")
    bodies = {
        _path(part): tuple(ProxyPart(f"hull_{i:02}", LABEL, hull) for i, hull in enumerate(part.hulls))
        for part in scene.parts
        if part.hulls
    }
    for path, hulls in bodies.items():
        body = UsdPhysics.RigidBodyAPI.Apply(UsdGeom.Xform.Define(stage, path).GetPrim())
        body.CreateKinematicEnabledAttr(True)
        collision = UsdGeom.Xform.Define(stage, f"{path}/Collision")
        collision.CreatePurposeAttr(UsdGeom.Tokens.guide)
        author_hulls(stage, f"{path}/Collision", hulls, material_at=ROOT)
    return stage


def _read_part(prim: Usd.Prim) -> MovingPart:
    xform = UsdGeom.Xformable(prim)
    sampled = sorted({time for op in xform.GetOrderedXformOps() for time in op.GetTimeSamples()})
    times = list(map(Usd.TimeCode, sampled)) or [Usd.TimeCode.Default()]
    splats = prim.GetChild("Splats")
    if not splats:
        raise InputError(f"{prim.GetPath()} has no splats; it is no moving part.")
    matrices = np.stack([np.array(xform.GetLocalTransformation(time)).T for time in times])
    # A quaternion of floats is off unit length by a few millionths.
    quats = matrix_to_quat(torch.from_numpy(matrices[:, :3, :3].copy()))
    matrices[:, :3, :3] = quat_to_matrix(quats).numpy()
    shown = [UsdGeom.Imageable(prim).GetVisibilityAttr().Get(time) != UsdGeom.Tokens.invisible for time in times]
    colliders = prim.GetChild("Collision")
    hulls = tuple(part.mesh for part in read_parts(colliders)) if colliders else ()
    return MovingPart(prim.GetName(), read_splats(splats), matrices, np.array(shown), hulls)


def gaussians_of_stage(environment: Usd.Prim, time: float | None) -> Gaussians:
    """All visible splats below a prim at a time code, joined, in the frame of the prim's parent.

    Raises:
        InputError: A splat prim cannot be read.
    """
    when = Usd.TimeCode.Default() if time is None else Usd.TimeCode(time)
    outside = UsdGeom.XformCache(when)
    sets = []
    for prim in splat_prims(environment):
        if UsdGeom.Imageable(prim).ComputeVisibility(when) == UsdGeom.Tokens.invisible:
            continue
        gaussians = read_splats(prim, time)
        matrix, _ = outside.ComputeRelativeTransform(prim, environment.GetParent())
        if matrix != Gf.Matrix4d(1):
            placed = torch.from_numpy(np.array(matrix).T.copy())
            turn = quat_to_matrix(matrix_to_quat(placed[:3, :3]))
            gaussians = transform_gaussians(gaussians, turn, placed[:3, 3])
        sets.append(gaussians)
    return sets[0] if len(sets) == 1 else Gaussians.joined(sets)
