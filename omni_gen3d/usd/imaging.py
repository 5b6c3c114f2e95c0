"""What of a stage is drawn, where, and what about it changed: the part that OpenUSD calls UsdImaging."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from pxr import Gf, Sdf, Tf, Usd, UsdGeom, UsdSemantics, UsdVol

from omni_gen3d.errors import InputError
from omni_gen3d.usd.collision import LABEL_TAXONOMY
from omni_gen3d.usd.lights import is_light
from omni_gen3d.usd.root_layer import COLLIDER_RELATION
from omni_gen3d.usd.splats import QUANTITIES
from omni_gen3d.usd.surfaces import base_colors
from omni_gen3d.usd.textures import TextureSource

Kind = Literal["splats", "mesh"]
# A hostile PointInstancer must not fill the memory.
MAX_INSTANCES = 1 << 16

_MESH_ATTRIBUTES = (
    "points",
    "faceVertexCounts",
    "faceVertexIndices",
    "normals",
    "primvars:normals",
    "primvars:displayColor",
    "primvars:displayColor:indices",
    "holeIndices",
    "orientation",
    "subdivisionScheme",
)
_SPLAT_ATTRIBUTES = (
    *(quantity.name(half) for quantity in QUANTITIES.values() for half in (False, True)),
    "radiance:sphericalHarmonicsDegree",
)
GEOMETRY_NAMES = frozenset((*_MESH_ATTRIBUTES, *_SPLAT_ATTRIBUTES))


@dataclass(frozen=True)
class Drawable:
    """A splat set or a mesh at one place.

    Attributes:
        prim: Where its geometry is read; a proxy inside an instance.
        kind: What it is.
        instance: Its number among the instances of a PointInstancer or of an instanced prim, 0 where there is one.
        placement: From the prim's frame to that of ``anchor``.
        anchor: The prim that moves it: itself, or the PointInstancer.
    """

    prim: Usd.Prim
    kind: Kind
    instance: int
    placement: Gf.Matrix4d
    anchor: Usd.Prim


@dataclass
class Changes:
    """What happened to a stage since it was last asked.

    Attributes:
        resynced: Paths below which prims may have come, gone or been composed anew.
        changed: Names of the properties that changed, by path of their prim.
        reloaded: Identifiers of the layers that were read again from their file.
    """

    resynced: set[str] = field(default_factory=set)
    changed: dict[str, set[str]] = field(default_factory=dict)
    reloaded: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.resynced or self.changed or self.reloaded)


class StageListener:
    """Collects the notices of one stage; ``take`` hands them over."""

    def __init__(self, stage: Usd.Stage) -> None:
        self._changes = Changes()
        self._keys = [
            Tf.Notice.Register(Usd.Notice.ObjectsChanged, self._on_objects, stage),
            Tf.Notice.RegisterGlobally(Sdf.Notice.LayerDidReloadContent, self._on_reload),
        ]

    def take(self) -> Changes:
        """All changes since the last call."""
        changes, self._changes = self._changes, Changes()
        return changes

    def close(self) -> None:
        """Stop listening."""
        for key in self._keys:
            key.Revoke()
        self._keys.clear()

    def _on_objects(self, notice: Usd.Notice.ObjectsChanged, stage: Usd.Stage) -> None:
        for path in (*notice.GetResyncedPaths(), *notice.GetResolvedAssetPathsResyncedPaths()):
            self._note(path, resync=True)
        for path in notice.GetChangedInfoOnlyPaths():
            self._note(path, resync=False)

    def _note(self, path: Sdf.Path, resync: bool) -> None:
        if path.IsPropertyPath():
            self._changes.changed.setdefault(str(path.GetPrimPath()), set()).add(path.name)
        elif resync:
            self._changes.resynced.add(str(path))

    def _on_reload(self, notice: Sdf.Notice.LayerDidReloadContent, layer: Sdf.Layer) -> None:
        self._changes.reloaded.add(layer.identifier)


def walk(root: Usd.Prim, time: Usd.TimeCode) -> Iterator[Drawable | Usd.Prim]:
    """Every drawable at or below ``root``; lights and PointInstancers as the prims they are; in the order of the stage.

    The copies that a PointInstancer makes are those at the time.

    Raises:
        InputError: A PointInstancer asks for more than ``MAX_INSTANCES`` copies.
    """
    ordinals: dict[str, int] = {}
    prims = iter(Usd.PrimRange(root, Usd.TraverseInstanceProxies()))
    for prim in prims:
        if prim.IsA(UsdGeom.PointInstancer):
            prims.PruneChildren()
            yield prim
            yield from _instances(prim, time)
        elif (kind := kind_of(prim)) is not None:
            yield Drawable(prim, kind, _ordinal(prim, ordinals), Gf.Matrix4d(1), prim)
        elif is_light(prim):
            yield prim


def time_code(time: float | None) -> Usd.TimeCode:
    """A time code of the stage; where there is none, the earliest, which also finds what has no samples."""
    return Usd.TimeCode.EarliestTime() if time is None else Usd.TimeCode(time)


def plain_time(prim: Usd.Prim, time: float | None) -> float | None:
    """The time at which ``read_stored_splats`` finds the splats of ``prim`` even where only samples are authored."""
    if time is not None:
        return time
    positions = [prim.GetAttribute(QUANTITIES["means"].name(half)) for half in (False, True)]
    samples = [attribute.GetTimeSamples() for attribute in positions if attribute and attribute.GetTimeSamples()]
    return samples[0][0] if samples else None


def metres_per_unit(stage: Usd.Stage) -> float:
    """Length of the stage's unit [m]."""
    return UsdGeom.GetStageMetersPerUnit(stage)


def path_of(prim: Usd.Prim) -> str:
    """Path of a prim as text."""
    return str(prim.GetPath())


def outermost_instancer(stage: Usd.Stage, path: str) -> Usd.Prim | None:
    """The outermost PointInstancer at or above a path, else the prim there; None where there is neither."""
    found = prim = stage.GetPrimAtPath(path)
    if not prim or not prim.IsActive() or not prim.IsDefined() or prim.IsAbstract():
        return None if path != "/" else stage.GetPseudoRoot()
    while prim and not prim.IsPseudoRoot():
        if prim.IsA(UsdGeom.PointInstancer):
            found = prim
        prim = prim.GetParent()
    return found


def kind_of(prim: Usd.Prim) -> Kind | None:
    """What the prim is drawn as; None where it is not drawn itself."""
    if prim.IsA(UsdVol.ParticleField3DGaussianSplat):
        return "splats"
    return "mesh" if prim.IsA(UsdGeom.Mesh) else None


def _ordinal(prim: Usd.Prim, ordinals: dict[str, int]) -> int:
    """Number of a prim among those that share one prim of a prototype."""
    if not prim.IsInstanceProxy():
        return 0
    shared = str(prim.GetPrimInPrototype().GetPath())
    ordinals[shared] = ordinals.get(shared, -1) + 1
    return ordinals[shared]


def _instances(prim: Usd.Prim, when: Usd.TimeCode) -> Iterator[Drawable]:
    """The copies that a PointInstancer makes of what lies below its prototypes."""
    instancer = UsdGeom.PointInstancer(prim)
    indices = instancer.GetProtoIndicesAttr().Get(when) or []
    if len(indices) > MAX_INSTANCES:
        raise InputError(f"{prim.GetPath()} makes {len(indices)} instances; at most {MAX_INSTANCES} are drawn.")
    prototypes = [prim.GetStage().GetPrimAtPath(path) for path in instancer.GetPrototypesRel().GetForwardedTargets()]
    transforms = instancer.ComputeInstanceTransformsAtTime(when, when) or []
    mask = instancer.ComputeMaskAtTime(when) or [True] * len(indices)
    for number, (index, keep) in enumerate(zip(indices, mask, strict=True)):
        if not keep or not 0 <= index < len(prototypes) or number >= len(transforms) or not prototypes[index]:
            continue
        prototype = prototypes[index]
        # The transforms hold the prototype's own.
        outside = UsdGeom.Xformable(prototype).ComputeLocalToWorldTransform(when).GetInverse()
        for inner in Usd.PrimRange(prototype, Usd.TraverseInstanceProxies()):
            kind = kind_of(inner)
            if kind is not None:
                local = UsdGeom.Xformable(inner).ComputeLocalToWorldTransform(when) * outside
                yield Drawable(inner, kind, number, local * transforms[number], prim)


def is_instancer(prim: Usd.Prim) -> bool:
    """Whether the prim makes copies of others."""
    return prim.IsA(UsdGeom.PointInstancer)


def rearranges(instancer: Usd.Prim) -> bool:
    """Whether the copies that a PointInstancer makes depend on the time."""
    # Those of its prototypes are in the places of the copies.
    prototypes = UsdGeom.PointInstancer(instancer).GetPrototypesRel().GetForwardedTargets()
    own = [
        attribute for attribute in instancer.GetAuthoredAttributes() if not attribute.GetName().startswith("xformOp")
    ]
    return any(attribute.ValueMightBeTimeVarying() for attribute in own) or any(
        prim.IsA(UsdGeom.Xformable) and UsdGeom.Xformable(prim).TransformMightBeTimeVarying()
        for path in prototypes
        for prim in Usd.PrimRange(instancer.GetStage().GetPrimAtPath(path))
    )


def world_matrix(drawable: Drawable, time: Usd.TimeCode) -> np.ndarray:
    """From the drawable's frame to the stage's, column vectors, shape ``(4, 4)``, float64."""
    anchor = UsdGeom.Xformable(drawable.anchor).ComputeLocalToWorldTransform(time)
    return np.array(drawable.placement * anchor).T


def moves(prim: Usd.Prim) -> bool:
    """Whether the place of a prim may depend on the time."""
    while prim and not prim.IsPseudoRoot():
        if prim.IsA(UsdGeom.Xformable) and UsdGeom.Xformable(prim).TransformMightBeTimeVarying():
            return True
        prim = prim.GetParent()
    return False


def is_shown(drawable: Drawable, purposes: frozenset[str], time: Usd.TimeCode) -> bool:
    """Whether visibility and purpose let it be drawn."""
    imageable = UsdGeom.Imageable(drawable.prim)
    if imageable.ComputePurpose() not in purposes:
        return False
    shown = imageable.ComputeVisibility(time) != UsdGeom.Tokens.invisible
    return shown and UsdGeom.Imageable(drawable.anchor).ComputeVisibility(time) != UsdGeom.Tokens.invisible


def appears(prim: Usd.Prim) -> bool:
    """Whether the visibility of a prim may depend on the time."""
    while prim and not prim.IsPseudoRoot():
        imageable = UsdGeom.Imageable(prim)
        if imageable and imageable.GetVisibilityAttr().ValueMightBeTimeVarying():
            return True
        prim = prim.GetParent()
    return False


def label_of(prim: Usd.Prim) -> str | None:
    """The first semantic label of the prim, or of the nearest prim above that has one."""
    while prim and not prim.IsPseudoRoot():
        if prim.HasAPI(UsdSemantics.LabelsAPI, LABEL_TAXONOMY):
            labels = UsdSemantics.LabelsAPI(prim, LABEL_TAXONOMY).GetLabelsAttr().Get()
            if labels:
                return str(labels[0])
        prim = prim.GetParent()
    return None


def colliders_of(prim: Usd.Prim) -> tuple[str, ...]:
    """Paths of what stands for a splat set in a collision, and knows what its parts are."""
    relation = prim.GetRelationship(COLLIDER_RELATION)
    return tuple(map(str, relation.GetForwardedTargets())) if relation else ()


def geometry_attributes(drawable: Drawable) -> list[Usd.Attribute]:
    """The attributes that hold the shape of a drawable."""
    names = _SPLAT_ATTRIBUTES if drawable.kind == "splats" else _MESH_ATTRIBUTES
    found = [drawable.prim.GetAttribute(name) for name in names]
    if drawable.kind == "mesh":
        for _, look in base_colors(drawable.prim, Usd.TimeCode.EarliestTime()):
            if isinstance(look, TextureSource):
                primvar = UsdGeom.PrimvarsAPI(drawable.prim).FindPrimvarWithInheritance(look.primvar)
                found += [primvar.GetAttr(), primvar.GetIndicesAttr()] if primvar else []
    return [attribute for attribute in found if attribute and attribute.HasAuthoredValue()]


def geometry_varies(drawable: Drawable) -> bool:
    """Whether the shape depends on the time."""
    return any(attribute.ValueMightBeTimeVarying() for attribute in geometry_attributes(drawable))


def geometry_source(drawable: Drawable) -> str:
    """Digest of where the shape comes from: equal for copies of one asset, and as long as nobody edits it.

    Files are named by layer, layers in memory and edited ones by their values.
    """
    digest = hashlib.blake2b(drawable.kind.encode(), digest_size=16)
    for attribute in geometry_attributes(drawable):
        digest.update(attribute.GetName().encode())
        # Clips may hold other samples than the layers that the property stack names.
        in_memory = "clips" in drawable.prim.GetAllAuthoredMetadata()
        for spec, offset in attribute.GetPropertyStackWithLayerOffsets(Usd.TimeCode.EarliestTime()):
            in_memory |= spec.layer.anonymous or spec.layer.dirty
            digest.update(f"{spec.layer.identifier}{spec.path}{offset.offset}{offset.scale}".encode())
        if in_memory:
            times = attribute.GetTimeSamples() or [Usd.TimeCode.Default()]
            for time in (times[0], times[-1]):
                digest.update(f"{time}".encode())
                value = attribute.Get(time)
                digest.update(
                    np.ascontiguousarray(value).tobytes() if hasattr(value, "__len__") else str(value).encode()
                )
    if drawable.kind == "mesh":
        digest.update(repr(base_colors(drawable.prim, Usd.TimeCode.EarliestTime())).encode())
    return digest.hexdigest()
