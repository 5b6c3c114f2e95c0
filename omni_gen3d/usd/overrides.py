"""Another environment, look, material, place, light or clutter, in the session layer: no file is touched.

Every function replaces what an earlier call of it authored.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pxr import Gf, Sdf, Usd, UsdGeom, UsdLux, UsdPhysics, UsdVol

from omni_gen3d.errors import InputError
from omni_gen3d.geometry import recolor_sh
from omni_gen3d.types import ProxyPart, TriMesh
from omni_gen3d.usd.appearance import EXPOSURE, TINT, Gain, author_gain
from omni_gen3d.usd.collision import MATERIAL_NAME, author_obstacles
from omni_gen3d.usd.motion_variants import RESIDUAL, author_place, retime_clips
from omni_gen3d.usd.moving import part_prims, splat_prims
from omni_gen3d.usd.root_layer import COLLISION_PATH, DOME_PATH, ENVIRONMENT_PATH, MOVING_PATH, SPLATS_PATH
from omni_gen3d.usd.splats import COLOR_SPACE, QUANTITIES, read_splats, set_quantity

_WORLD = "/World"
# What a sample adds; no file holds prims of these names.
_CLUTTER_PATH, _LIGHT_PATH = f"{ENVIRONMENT_PATH}/Clutter", f"{ENVIRONMENT_PATH}/Light"
_PLACEMENT = "omni_gen3d"
_PLACES = ("xformOp:translate", "xformOp:orient", "visibility")
_FRICTIONS = ("physics:staticFriction", "physics:dynamicFriction", "physics:restitution")


def override_environment(stage: Usd.Stage, root: str, usd: Path | str) -> None:
    """Show an environment at ``root``, in the place of the one that is there; what was overridden of that is forgotten.

    Args:
        stage: Z-up, in metres.
        root: The prim that is to refer to the environment; it is made where there is none.
        usd: Its ``environment.usda``.

    Raises:
        InputError: The stage has other units or another up axis, or ``root`` is no path of a prim.
    """
    metres, axis = UsdGeom.GetStageMetersPerUnit(stage), UsdGeom.GetStageUpAxis(stage)
    if not math.isclose(metres, 1.0) or axis != UsdGeom.Tokens.z:
        raise InputError(
            f"the stage is {axis}-up in units of {metres:g} m; it must be Z-up in metres to show environments."
        )
    path, session, shown = _below(root, _WORLD), stage.GetSessionLayer(), [Sdf.Reference(str(usd))]
    with Usd.EditContext(stage, session):
        prim = stage.GetPrimAtPath(path) or stage.DefinePrim(path, "Xform")
        spec = session.GetPrimAtPath(path)
        if spec and list(spec.referenceList.explicitItems) == shown:
            return
        for child in list(spec.nameChildren) if spec else ():
            del spec.nameChildren[child.name]
        prim.GetReferences().SetReferences(shown)
        prim.Load()


def override_colors(stage: Usd.Stage, root: str, change: tuple[torch.Tensor, torch.Tensor] | None) -> None:
    """Show the splats in other colours: ``matrix @ colour + offset`` of those that the stage shows without it.

    The selected variant of appearance is worked in, and its two attributes are set to no change.

    Args:
        stage: Holds the environment.
        root: The prim that is, or references, ``/World`` of the environment.
        change: Matrix ``(3, 3)`` and offset ``(3,)`` on displayed RGB; None for the colours as they are.

    Raises:
        InputError: There are no readable splats at ``root``, or they belong to an instance.
    """
    _prim(stage, root, SPLATS_PATH)
    for prim in splat_prims(_prim(stage, root, ENVIRONMENT_PATH)):
        _recolor(stage, prim, change)


def _recolor(stage: Usd.Stage, prim: Usd.Prim, change: tuple[torch.Tensor, torch.Tensor] | None) -> None:
    harmonics = QUANTITIES["sh"]
    _forget(stage, prim, (harmonics.name(half=False), EXPOSURE, TINT))
    if change is None:
        return
    samples = {t for half in (False, True) for t in prim.GetAttribute(harmonics.name(half)).GetTimeSamples()}
    times = [None, *sorted(samples)]
    shown = [read_splats(prim, time) for time in times]
    with timed_session(stage):
        attribute = UsdVol.ParticleField3DGaussianSplat(prim).CreateRadianceSphericalHarmonicsCoefficientsAttr()
        attribute.SetColorSpace(COLOR_SPACE)
        attribute.SetMetadata("elementSize", shown[0].sh.shape[1])
        attribute.SetMetadata("interpolation", UsdGeom.Tokens.vertex)
        for time, gaussians in zip(times, shown, strict=True):
            changed = replace(gaussians, sh=recolor_sh(gaussians.sh, *change))
            code = Usd.TimeCode.Default() if time is None else Usd.TimeCode(time)
            set_quantity(prim, "sh", changed, False, [code])
        author_gain(prim, Gain())


def override_material(stage: Usd.Stage, root: str, values: tuple[float, float, float] | None) -> None:
    """Set the physics material of the collider; where none is selected there is nothing to set.

    Args:
        stage: Holds the environment.
        root: As ``override_colors``.
        values: Static friction, dynamic friction, restitution; None for those of the file.

    Raises:
        InputError: There is no environment at ``root``, or it is an instance.
    """
    _prim(stage, root, ENVIRONMENT_PATH)
    for parent in (COLLISION_PATH, MOVING_PATH, _CLUTTER_PATH):
        prim = stage.GetPrimAtPath(_below(root, f"{parent}/{MATERIAL_NAME}"))
        if not prim:
            continue
        _forget(stage, prim, _FRICTIONS)
        if values is None:
            continue
        material = UsdPhysics.MaterialAPI(prim)
        with Usd.EditContext(stage, stage.GetSessionLayer()):
            material.CreateStaticFrictionAttr(values[0])
            material.CreateDynamicFrictionAttr(values[1])
            material.CreateRestitutionAttr(values[2])


def override_placement(stage: Usd.Stage, root: str, yaw: float, scale: float) -> None:
    """Turn the environment about its origin and scale it, inside whatever transform it has.

    Args:
        stage: Holds the environment.
        root: As ``override_colors``.
        yaw: About +Z [rad].
        scale: Uniform.

    Raises:
        InputError: There is no environment at ``root``, or it is an instance.
    """
    prim = _prim(stage, root, ENVIRONMENT_PATH)
    xformable = UsdGeom.Xformable(prim)
    name = f"xformOp:transform:{_PLACEMENT}"
    turn = Gf.Matrix4d(1.0).SetRotate(Gf.Rotation(Gf.Vec3d(0, 0, 1), math.degrees(yaw)))
    matrix = Gf.Matrix4d(1.0).SetScale(scale) * turn
    with Usd.EditContext(stage, stage.GetSessionLayer()):
        found = [op for op in xformable.GetOrderedXformOps() if op.GetOpName() == name]
        operation = found[0] if found else xformable.AddTransformOp(opSuffix=_PLACEMENT)
        operation.Set(matrix)


def override_light(
    stage: Usd.Stage,
    root: str,
    light: tuple[float, float, tuple[float, float, float], tuple[float, float, float]] | None,
) -> None:
    """Light the meshes of a stage by a sky and a sun that belong to the environment; its own dome is switched off.

    Args:
        stage: Holds the environment.
        root: As ``override_colors``.
        light: Intensity of the dome, intensity of the distant light, unit direction to it in the environment's frame,
            and its RGB colour; None for the lights that are there without it.

    Raises:
        InputError: There is no environment at ``root``, or it is an instance.
    """
    _prim(stage, root, ENVIRONMENT_PATH)
    _remove(stage, _below(root, _LIGHT_PATH))
    dome = stage.GetPrimAtPath(_below(root, DOME_PATH))
    with Usd.EditContext(stage, stage.GetSessionLayer()):
        if dome:
            dome.ClearActive() if light is None else dome.SetActive(False)
        if light is None:
            return
        sky, sun, toward, color = light
        place = _below(root, _LIGHT_PATH)
        UsdGeom.Xform.Define(stage, place)
        UsdLux.DomeLight.Define(stage, f"{place}/Sky").CreateIntensityAttr(sky)
        distant = UsdLux.DistantLight.Define(stage, f"{place}/Sun")
        distant.CreateIntensityAttr(sun)
        distant.CreateColorAttr(Gf.Vec3f(*color))
        # It shines along its own -z.
        turn = Gf.Matrix4d(1.0).SetRotate(Gf.Rotation(Gf.Vec3d(0, 0, 1), Gf.Vec3d(*toward)))
        distant.AddTransformOp().Set(turn)


def override_clutter(stage: Usd.Stage, root: str, things: Sequence[tuple[TriMesh, tuple[float, float, float]]]) -> None:
    """Put static obstacles into the environment, labelled ``object`` and of a physics material of their own.

    Args:
        stage: Holds the environment.
        root: As ``override_colors``.
        things: Meshes in the environment's frame [m], and their RGB colours.

    Raises:
        InputError: There is no environment at ``root``, it is an instance, or a mesh holds no triangle.
    """
    _prim(stage, root, ENVIRONMENT_PATH)
    place = _below(root, _CLUTTER_PATH)
    _remove(stage, place)
    if not things:
        return
    parts = tuple(ProxyPart(f"thing_{i:02}", "object", mesh) for i, (mesh, _) in enumerate(things))
    with Usd.EditContext(stage, stage.GetSessionLayer()):
        UsdGeom.Xform.Define(stage, place)
        author_obstacles(stage, place, parts)
        for part, (_, color) in zip(parts, things, strict=True):
            mesh = UsdGeom.Mesh.Get(stage, f"{place}/{part.name}")
            mesh.CreateDisplayColorAttr([Gf.Vec3f(*color)])


def is_clutter(path: str) -> bool:
    """Whether a prim is one of the things of ``override_clutter``."""
    return _CLUTTER_PATH.removeprefix(_WORLD) + "/" in path


def override_motion(
    stage: Usd.Stage, root: str, start: float = 0.0, speed: float = 1.0, removed: Collection[int] = ()
) -> None:
    """Show what moves at another pace, standing still, or not at all.

    At second ``s`` of the stage stands what was generated for second ``start + speed * s``; before its first and after
    its last time it stays. A scene that does not move in parts is left alone.

    Args:
        stage: Holds the environment; its variant of motion must be ``play``.
        root: As ``override_colors``.
        start: At the stage's time 0 [s].
        speed: At least 0; 0 stands still.
        removed: Numbers of the parts to take out, from 0; a number without a part is ignored.

    Raises:
        InputError: There is no environment at ``root``, or it is an instance; or ``speed`` is negative.
    """
    _prim(stage, root, ENVIRONMENT_PATH)
    if not (math.isfinite(start) and math.isfinite(speed) and speed >= 0):
        raise InputError(f"start is {start} and speed {speed}; both must be finite, and the speed at least 0.")
    moving = stage.GetPrimAtPath(_below(root, MOVING_PATH))
    if not moving:
        return
    moving = _prim(stage, root, MOVING_PATH)
    with timed_session(stage) as session:
        edited = session.GetPrimAtPath(moving.GetPath())
        for spec in edited.nameChildren if edited else ():
            spec.ClearInfo("active")
            spec.ClearInfo("clips")
            for name in _PLACES:
                if name in spec.properties:
                    spec.RemoveProperty(spec.properties[name])
        parts = part_prims(moving)
        for number, prim in enumerate(parts):
            if number in removed:
                prim.SetActive(False)
            elif (start, speed) != (0.0, 1.0):
                _retime_part(prim, start * stage.GetTimeCodesPerSecond(), speed)
        rest = moving.GetChild(RESIDUAL)
        if rest and (start, speed) != (0.0, 1.0):
            _retime_rest(rest, start * stage.GetTimeCodesPerSecond(), speed)


def _retime_part(prim: Usd.Prim, start: float, speed: float) -> None:
    xform = UsdGeom.Xformable(prim)
    shown = UsdGeom.Imageable(prim).GetVisibilityAttr()
    samples = sorted({time for op in xform.GetOrderedXformOps() for time in op.GetTimeSamples()})
    sources = [start, *(time for time in samples if time > start)] if speed > 0 else [start]
    matrices = np.stack([np.array(xform.GetLocalTransformation(Usd.TimeCode(time))).T for time in sources])
    present = np.array([shown.Get(Usd.TimeCode(time)) != UsdGeom.Tokens.invisible for time in sources])
    times = None if speed == 0 else [(time - start) / speed for time in sources]
    author_place(prim, matrices, present, times)


def _retime_rest(prim: Usd.Prim, start: float, speed: float) -> None:
    samples = sorted({time for half in (False, True) for time in _positions(prim, half).GetTimeSamples()})
    before = sum(time <= start for time in samples)
    first = max(before - 1, 0)
    schedule = [(0.0, first)]
    if speed > 0:
        schedule += [((samples[i] - start) / speed, i) for i in range(before, len(samples)) if samples[i] > start]
    retime_clips(prim, schedule)


def _positions(prim: Usd.Prim, half: bool) -> Usd.Attribute:
    return prim.GetAttribute(QUANTITIES["means"].name(half))


@contextmanager
def timed_session(stage: Usd.Stage) -> Iterator[Sdf.Layer]:
    """Edit the session layer of a stage, whose time codes are then those of the stage."""
    session = stage.GetSessionLayer()
    if not session.HasTimeCodesPerSecond():
        # Its times would be taken for those of 24 a second, and be scaled.
        session.timeCodesPerSecond = stage.GetTimeCodesPerSecond()
    with Usd.EditContext(stage, session):
        yield session


def _remove(stage: Usd.Stage, path: str) -> None:
    """Take a prim that the session layer alone defines out of it."""
    session = stage.GetSessionLayer()
    spec = session.GetPrimAtPath(path)
    if spec:
        del spec.nameParent.nameChildren[spec.name]


def _prim(stage: Usd.Stage, root: str, path: str) -> Usd.Prim:
    """The prim at ``path`` of an environment that is composed at ``root``."""
    place = _below(root, path)
    prim = stage.GetPrimAtPath(place)
    if not prim:
        raise InputError(f"the stage has no prim {place}; name the prim that references the environment's root layer.")
    if prim.IsInstanceProxy():
        raise InputError(f"{place} belongs to an instance; make its reference not instanceable to change one of them.")
    return prim


def _below(root: str, path: str) -> str:
    if not Sdf.Path.IsValidPathString(root) or not Sdf.Path(root).IsAbsoluteRootOrPrimPath():
        raise InputError(f"'{root}' is no path of a prim, such as {_WORLD}.")
    return str(Sdf.Path(path).ReplacePrefix(_WORLD, root))


def _forget(stage: Usd.Stage, prim: Usd.Prim, names: tuple[str, ...]) -> None:
    """Remove what the session layer says about attributes of a prim."""
    spec = stage.GetSessionLayer().GetPrimAtPath(prim.GetPath())
    for name in names if spec else ():
        if name in spec.properties:
            spec.RemoveProperty(spec.properties[name])
