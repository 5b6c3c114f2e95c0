"""Environments on a stage of the host: added, replaced, varied and found again. Plain functions, for scripts too.

Only names of types, schemas and attributes are used for what an environment holds: the host's OpenUSD may not know the
class of a splat prim. Units and up axis are those of the host's stage.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pxr import Gf, Sdf, Usd, UsdGeom

from omni_gen3d.errors import InputError
from omni_gen3d.request import Collision

_USD_KEY, _TITLE_KEY, _VARIATION_KEY = (f"omni_gen3d:{name}" for name in ("usd", "title", "variation"))
_LABELS_SCHEMA = "SemanticsLabelsAPI:"
# What these are applied to can be driven or moved away; it does not keep a place occupied.
_MOVABLE = frozenset(("PhysicsRigidBodyAPI", "PhysicsArticulationRootAPI"))
_PURPOSES = ("default", "render", "proxy", "guide")
_GAP_M = 1.0
# Nothing this flat stands in the way: it is what things stand on.
_GROUND_THICKNESS_M = 0.05


@dataclass(frozen=True)
class PlacedEnvironment:
    """An environment on a stage.

    Attributes:
        path: Of its prim.
        usd: Its root layer.
        title: One line.
        variation: The layer of the sample that is shown, None where it looks as it was made.
    """

    path: str
    usd: str
    title: str
    variation: str | None


class Snapshot:
    """What the layers that are edited say at and below some paths, to put it back."""

    def __init__(self, stage: Usd.Stage, *paths: str) -> None:
        self._stage = stage
        self._kept: list[tuple[Sdf.Layer, Sdf.Path, Sdf.Layer]] = []
        self._missing: list[tuple[Sdf.Layer, Sdf.Path]] = []
        # Layers in memory live as long as somebody holds them.
        self._variations: list[Sdf.Layer | None] = []
        for layer in dict.fromkeys((stage.GetEditTarget().GetLayer(), stage.GetSessionLayer())):
            for path in map(Sdf.Path, paths):
                kept = Sdf.Layer.CreateAnonymous()
                if spec := layer.GetPrimAtPath(path):
                    Sdf.CreatePrimInLayer(kept, path)
                    Sdf.CopySpec(layer, path, kept, path)
                    references = spec.referenceList.prependedItems
                    self._variations += [Sdf.Layer.Find(reference.assetPath) for reference in references]
                self._kept.append((layer, path, kept))
                above = path.GetParentPath().GetPrefixes()
                self._missing += [(layer, prefix) for prefix in reversed(above) if not layer.GetPrimAtPath(prefix)]

    def restore(self) -> None:
        """Put back what was there, and remove what was not; prims that have come beside it since stay."""
        for layer, path, kept in self._kept:
            if kept.GetPrimAtPath(path):
                Sdf.CopySpec(kept, path, layer, path)
            else:
                self._remove(layer, path)
        for layer, path in self._missing:
            spec = layer.GetPrimAtPath(path)
            if spec and not spec.nameChildren and not spec.properties:
                self._remove(layer, path)

    def _remove(self, layer: Sdf.Layer, path: Sdf.Path) -> None:
        if layer.GetPrimAtPath(path):
            with Usd.EditContext(self._stage, layer):
                self._stage.RemovePrim(path)


def environments_on(stage: Usd.Stage) -> list[PlacedEnvironment]:
    """The environments that were added to a stage, in its order."""
    return [_described(prim) for prim in _marked(stage)]


def next_path(stage: Usd.Stage, title: str) -> str:
    """A path for another environment below the default prim, or below ``/World`` where there is none."""
    parent = str(stage.GetDefaultPrim().GetPath()) if stage.HasDefaultPrim() else "/World"
    words = re.findall(r"[A-Za-z0-9]+", title)[:4]
    name = "_".join(word.capitalize() for word in words) or "Environment"
    name = f"_{name}" if name[0].isdigit() else name
    number = 0
    while stage.GetPrimAtPath(path := f"{parent}/{name}{f'_{number}' if number else ''}"):
        number += 1
    return path


def physics_scene_path(stage: Usd.Stage) -> str:
    """Where the stage has its physics scene, or is to have one."""
    scenes = (prim for prim in stage.Traverse() if prim.GetTypeName() == "PhysicsScene")
    found = next(scenes, None)
    return str(found.GetPath()) if found else "/PhysicsScene"


def add_environment(
    stage: Usd.Stage,
    usd: str | Path,
    path: str | None = None,
    *,
    title: str = "",
    position: tuple[float, float, float] | None = None,
    collision: Collision | None = None,
    labels: bool = True,
) -> str:
    """Add an environment as a payload; returns the path of its prim.

    Args:
        stage: Its edit target receives the prims. A stage without a physics scene gets one.
        usd: The environment's root layer, ``environment.usda``.
        path: Of the new prim; see ``next_path`` where None.
        title: For people; the name of the folder where empty.
        position: Of the environment's origin, in the axes and the unit of the stage. Where None it is the stage's
            origin, or the nearest free place along X: where nothing stands but ground and what physics can move.
        collision: Variant of the collider; the environment's own choice where None.
        labels: Keep the semantic labels of floor, walls and objects.

    Raises:
        InputError: The file is no environment, has no such variant, or the path is taken. The stage is as before.
    """
    title = title or Path(usd).parent.name
    path = path or next_path(stage, title)
    if not Sdf.Path.IsValidPathString(path) or not Sdf.Path(path).IsPrimPath() or stage.GetPrimAtPath(path):
        raise InputError(f"'{path}' is no free path of a prim; leave it out to have one chosen.")
    scene = physics_scene_path(stage)
    before = Snapshot(stage, path, scene)
    try:
        parent = str(Sdf.Path(path).GetParentPath())
        if parent != "/" and not stage.GetPrimAtPath(parent):
            stage.DefinePrim(parent, "Xform")
        prim = stage.DefinePrim(path, "Xform")
        _bring_in(prim, Path(usd), title, collision, labels)
        _move(prim, Gf.Vec3d(*position) if position else _free_place(stage, prim))
        if not stage.GetPrimAtPath(scene):
            # Without a direction and a magnitude it is the earth's, whatever the unit and the up axis.
            stage.DefinePrim(scene, "PhysicsScene")
    except BaseException:
        before.restore()
        raise
    return path


def replace_environment(
    stage: Usd.Stage,
    path: str,
    usd: str | Path,
    *,
    title: str = "",
    collision: Collision | None = None,
    labels: bool = True,
) -> None:
    """Put another environment in the place of the one at ``path``; the arguments are those of ``add_environment``.

    Raises:
        InputError: There is no environment at ``path``, or see ``add_environment``. The stage is as before.
    """
    prim = _environment_at(stage, path)
    before = Snapshot(stage, path)
    try:
        hide_variation(stage, path)
        _bring_in(prim, Path(usd), title or Path(usd).parent.name, collision, labels)
    except BaseException:
        before.restore()
        raise


def show_variation(stage: Usd.Stage, path: str, layer: str | Path) -> Sdf.Layer:
    """Lay what a worker wrote for a sample over an environment, in the session layer: nothing is saved with the stage.

    Args:
        stage: The host's.
        path: Of the environment's prim.
        layer: File that the task ``vary`` wrote; may go away afterwards.

    Returns:
        The layer in memory. The stage holds it as long as it shows it; keep it to show it again by undoing.

    Raises:
        InputError: There is no environment at ``path``, or the layer cannot be read.
    """
    _environment_at(stage, path)
    copy = Sdf.Layer.OpenAsAnonymous(str(layer))
    if copy is None:
        raise InputError(f"{layer} is not a readable USD layer.")
    hide_variation(stage, path)
    with Usd.EditContext(stage, stage.GetSessionLayer()):
        prim = stage.OverridePrim(path)
        prim.SetCustomDataByKey(_VARIATION_KEY, str(layer))
    # References are stronger than the payload that holds the environment.
    spec = stage.GetSessionLayer().GetPrimAtPath(path)
    spec.referenceList.prependedItems.insert(0, Sdf.Reference(copy.identifier, "/World"))
    return copy


def hide_variation(stage: Usd.Stage, path: str) -> None:
    """Show an environment as it was made."""
    spec = stage.GetSessionLayer().GetPrimAtPath(path)
    if not spec or _VARIATION_KEY.split(":")[0] not in spec.customData:
        return
    items = spec.referenceList.prependedItems
    for reference in [item for item in items if Sdf.Layer.IsAnonymousLayerIdentifier(item.assetPath)]:
        items.remove(reference)
    with Usd.EditContext(stage, stage.GetSessionLayer()):
        stage.GetPrimAtPath(path).ClearCustomDataByKey(_VARIATION_KEY)


def place_in_metres(stage: Usd.Stage, prim: Usd.Prim) -> tuple[float, ...]:
    """From a prim to the stage's axes in metres, for row vectors, 16 numbers row by row."""
    world = UsdGeom.XformCache().GetLocalToWorldTransform(prim)
    scaled = world * Gf.Matrix4d(1.0).SetScale(UsdGeom.GetStageMetersPerUnit(stage))
    return tuple(float(scaled[i][j]) for i in range(4) for j in range(4))


def selected_variants(stage: Usd.Stage, path: str) -> dict[str, str]:
    """Selections of the variant sets of an environment."""
    sets = stage.GetPrimAtPath(f"{path}/Environment").GetVariantSets()
    return {name: sets.GetVariantSelection(name) for name in sets.GetNames()}


def _bring_in(prim: Usd.Prim, usd: Path, title: str, collision: str | None, labels: bool) -> None:
    """Have a prim hold an environment, and nothing else."""
    if not usd.is_file():
        raise InputError(f"{usd} is not a file; name the environment.usda of an environment.")
    prim.GetPayloads().SetPayloads([Sdf.Payload(str(usd))])
    prim.Load()
    inside = prim.GetStage().GetPrimAtPath(f"{prim.GetPath()}/Environment")
    if not inside or not inside.GetChild("Splats"):
        raise InputError(f"{usd} is no environment: it has no /World/Environment/Splats.")
    prim.SetCustomDataByKey(_USD_KEY, str(usd))
    prim.SetCustomDataByKey(_TITLE_KEY, title)
    if collision is not None:
        variants = inside.GetVariantSet("collision")
        if collision not in variants.GetVariantNames():
            allowed = ", ".join(variants.GetVariantNames())
            raise InputError(f"the environment has no collision '{collision}'; it has {allowed}.")
        variants.SetVariantSelection(collision)
    for part in () if labels else list(Usd.PrimRange(inside)):
        for schema in part.GetAppliedSchemas():
            if schema.startswith(_LABELS_SCHEMA):
                part.RemoveAppliedSchema(schema)


def _move(prim: Usd.Prim, position: Gf.Vec3d) -> None:
    """Stand an environment upright, in metres, with its origin at a point of the stage."""
    stage = prim.GetStage()
    turn = Gf.Rotation(Gf.Vec3d(1, 0, 0), -90.0 if UsdGeom.GetStageUpAxis(stage) == UsdGeom.Tokens.y else 0.0)
    world = Gf.Matrix4d(1.0).SetScale(1.0 / UsdGeom.GetStageMetersPerUnit(stage)) * Gf.Matrix4d(turn, position)
    above = UsdGeom.XformCache().GetLocalToWorldTransform(prim.GetParent())
    local = Gf.Transform(world * above.GetInverse())
    xformable = UsdGeom.Xformable(prim)
    xformable.ClearXformOpOrder()
    xformable.AddTranslateOp().Set(local.GetTranslation())
    xformable.AddOrientOp(UsdGeom.XformOp.PrecisionDouble).Set(local.GetRotation().GetQuat())
    xformable.AddScaleOp(UsdGeom.XformOp.PrecisionDouble).Set(local.GetScale())


def _free_place(stage: Usd.Stage, prim: Usd.Prim) -> Gf.Vec3d:
    """The stage's origin, or the first place along X where the environment meets nothing."""
    _move(prim, Gf.Vec3d(0.0))
    own, others = _box(prim), list(_obstacles(stage, prim))
    gap = _GAP_M / UsdGeom.GetStageMetersPerUnit(stage)
    shifts = sorted([0.0, *(other.GetMax()[0] + gap - own.GetMin()[0] for other in others)])
    for shift in (shift for shift in shifts if shift >= 0):
        moved = Gf.Range3d(own.GetMin() + Gf.Vec3d(shift, 0, 0), own.GetMax() + Gf.Vec3d(shift, 0, 0))
        if not any(_overlap(moved, other) for other in others):
            return Gf.Vec3d(shift, 0, 0)
    return Gf.Vec3d(0.0)


def _obstacles(stage: Usd.Stage, own: Usd.Prim) -> Iterator[Gf.Range3d]:
    """World boxes of what keeps a place occupied."""
    up = 1 if UsdGeom.GetStageUpAxis(stage) == UsdGeom.Tokens.y else 2
    flat = _GROUND_THICKNESS_M / UsdGeom.GetStageMetersPerUnit(stage)
    cache = UsdGeom.BBoxCache(Usd.TimeCode.Default(), _PURPOSES)
    prims = iter(Usd.PrimRange(stage.GetPseudoRoot()))
    for prim in prims:
        if prim == own or _MOVABLE & set(prim.GetAppliedSchemas()):
            prims.PruneChildren()
            continue
        if _is_marked(prim):
            prims.PruneChildren()
            box = _box(prim)
        elif prim.IsA(UsdGeom.Boundable):
            prims.PruneChildren()
            box = cache.ComputeWorldBound(prim).ComputeAlignedRange()
        else:
            continue
        if not box.IsEmpty() and box.GetSize()[up] > flat:
            yield box


def _box(prim: Usd.Prim) -> Gf.Range3d:
    """World box of all extents at and below a prim, those of types that this OpenUSD does not know included."""
    places, box = UsdGeom.XformCache(), Gf.Range3d()
    for part in Usd.PrimRange(prim):
        extent = part.GetAttribute("extent").Get() if part.HasAttribute("extent") else None
        if extent and len(extent) == 2:
            corners = Gf.Range3d(Gf.Vec3d(extent[0]), Gf.Vec3d(extent[1]))
            box.UnionWith(Gf.BBox3d(corners, places.GetLocalToWorldTransform(part)).ComputeAlignedRange())
    return box


def _overlap(a: Gf.Range3d, b: Gf.Range3d) -> bool:
    return all(a.GetMin()[i] < b.GetMax()[i] and b.GetMin()[i] < a.GetMax()[i] for i in range(3))


def _environment_at(stage: Usd.Stage, path: str) -> Usd.Prim:
    prim = stage.GetPrimAtPath(path) if Sdf.Path.IsValidPathString(path) else None
    if not prim or not _is_marked(prim):
        found = ", ".join(environment.path for environment in environments_on(stage)) or "none"
        raise InputError(f"there is no environment at '{path}'; on the stage there is {found}.")
    return prim


def _is_marked(prim: Usd.Prim) -> bool:
    return bool(prim.GetCustomDataByKey(_USD_KEY))


def _marked(stage: Usd.Stage) -> Iterator[Usd.Prim]:
    prims = iter(Usd.PrimRange(stage.GetPseudoRoot()))
    for prim in prims:
        if _is_marked(prim):
            prims.PruneChildren()
            yield prim


def _described(prim: Usd.Prim) -> PlacedEnvironment:
    values: list[Any] = [prim.GetCustomDataByKey(key) for key in (_USD_KEY, _TITLE_KEY, _VARIATION_KEY)]
    return PlacedEnvironment(str(prim.GetPath()), str(values[0]), str(values[1] or prim.GetName()), values[2] or None)
