"""The render index: what of a stage is drawn, kept up to date by touching only what changed.

The words are Hydra's: an rprim is a splat set or a mesh at one place; a change marks bits dirty; ``sync`` reads again
what the bits name. Shapes are kept by where they come from, so that copies of one asset share theirs, and a prim that
is composed anew from the same layers keeps its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import Any, Protocol

import numpy as np

from omni_gen3d.errors import InputError
from omni_gen3d.render.aovs import Tags
from omni_gen3d.types import Gaussians
from omni_gen3d.usd import imaging
from omni_gen3d.usd.appearance import EXPOSURE, TINT, read_gain
from omni_gen3d.usd.lights import Light, read_light
from omni_gen3d.usd.root_layer import COLLIDER_RELATION
from omni_gen3d.usd.splats import read_stored_splats
from omni_gen3d.usd.surfaces import Surface, read_surface


class Dirty(Flag):
    """What of an rprim has to be read again."""

    CLEAN = 0
    TRANSFORM = auto()
    VISIBILITY = auto()
    GEOMETRY = auto()
    GAIN = auto()
    LABEL = auto()
    ALL = TRANSFORM | VISIBILITY | GEOMETRY | GAIN | LABEL


@dataclass
class Rprim:
    """A splat set or a mesh at one place, as last synced."""

    path: str
    drawable: imaging.Drawable
    prim_id: int
    dirty: Dirty = Dirty.ALL
    timed: Dirty = Dirty.CLEAN
    to_world: np.ndarray = field(default_factory=lambda: np.eye(4))
    shown: bool = False
    source: str = ""
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    semantic_id: int = 1
    colliders: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, int]:
        return self.path, self.drawable.instance

    @property
    def tags(self) -> Tags:
        return Tags(self.prim_id, self.drawable.instance, self.semantic_id)


class Shape(Protocol):
    """What a backend keeps of a set of Gaussians."""

    @property
    def nbytes(self) -> int: ...


@dataclass
class SyncCounts:
    """How often what was read again, since the index was made."""

    syncs: int = 0
    walks: int = 0
    transforms: int = 0
    visibilities: int = 0
    splats_loaded: int = 0
    meshes_loaded: int = 0


class RenderIndex:
    """All rprims and lights of a stage.

    Attributes:
        rprims: By path of prim and number of instance.
        counts: What syncing has cost.
        prim_paths: Path of the prim with each id; ids are never given twice.
        labels: Semantic label with each id.
        metres: Length of the unit of the stage [m].
        version: Rises when rprims come, go, appear, vanish or change their shape.
        placement: Rises when one moves or changes its look or its label, or a light changes.
    """

    def __init__(self, stage, purposes: Iterable[str], keep: Callable[[Gaussians], Shape]) -> None:
        """Walk a stage; ``keep`` makes of a set of Gaussians what is kept of it."""
        self._stage = stage
        self._keep = keep
        self._purposes = frozenset(purposes)
        self._listener = imaging.StageListener(stage)
        self._lights: dict[str, object] = {}
        self._read_lights: list[tuple[str, Light]] | None = None
        self._below: dict[str, dict[tuple[str, int], None]] = {}
        self._shapes: dict[str, Shape] = {}
        self._shapes_may_be_unused = False
        self._time: float | None = None
        self.rprims: dict[tuple[str, int], Rprim] = {}
        self.counts = SyncCounts()
        self.prim_paths: list[str] = []
        self._prim_ids: dict[str, int] = {}
        self.labels: list[str] = ["BACKGROUND", "UNLABELLED"]
        self.version = 0
        self.placement = 0
        self.metres = imaging.metres_per_unit(stage)
        self._dirty: dict[tuple[str, int], None] = {}
        self._rearranged: set[str] = set()
        self._walk("/")

    def close(self) -> None:
        """Stop listening to the stage."""
        self._listener.close()

    def sync(self, time: float | None) -> None:
        """Read again what changed since the last call, or depends on the time.

        Raises:
            InputError: A shape cannot be read; the rprim stays dirty, so that the next call says so again.
        """
        self.counts.syncs += 1
        changes = self._listener.take()
        if changes:
            self._apply(changes)
        if time != self._time:
            self._time = time
            self._forget_lights()
            for path in sorted(self._rearranged):
                self._walk(path)
            for key, rprim in self.rprims.items():
                if rprim.timed:
                    self._mark(key, rprim.timed)
        for key in list(self._dirty):
            self._sync(self.rprims[key])
            del self._dirty[key]
        if changes or self._shapes_may_be_unused:
            used = {rprim.source for rprim in self.rprims.values()}
            self._shapes = {source: shape for source, shape in self._shapes.items() if source in used}
            self._shapes_may_be_unused = False

    def below(self, root: str) -> Iterator[Rprim]:
        """Rprims at or below a path."""
        return (self.rprims[key] for key in self._below.get(root, ()))

    def places(self) -> dict[tuple[str, int], np.ndarray]:
        """Where every rprim is."""
        return {key: rprim.to_world for key, rprim in self.rprims.items()}

    def splats_of(self, rprim: Rprim) -> Any:
        """What the backend keeps of a splat rprim, read when it is first wanted."""
        return self._shape_of(rprim)

    def surface_of(self, rprim: Rprim) -> Surface:
        """The shape of a mesh rprim, read when it is first wanted."""
        shape = self._shape_of(rprim)
        assert isinstance(shape, Surface)
        return shape

    def lights(self) -> list[tuple[str, Light]]:
        """Visible lights and their paths."""
        if self._read_lights is None:
            when = imaging.time_code(self._time)
            found = [(path, read_light(prim, when)) for path, prim in self._lights.items()]
            self._read_lights = [(path, light) for path, light in found if light is not None]
        return self._read_lights

    def shape_bytes(self) -> int:
        """Memory of all shapes that are loaded."""
        return sum(shape.nbytes for shape in self._shapes.values())

    # ------------------------------------------------------------------------------------------------- changes

    def _apply(self, changes: imaging.Changes) -> None:
        roots = set(changes.resynced)
        if changes.reloaded:
            self._shapes.clear()
            self.version += 1
            for key in self.rprims:
                self._mark(key, Dirty.GEOMETRY)
        for path, names in changes.changed.items():
            if path in self._lights or any(light.startswith(path + "/") for light in self._lights):
                self._forget_lights()
            if any(name.startswith(("inputs:", "material:binding")) for name in names) and path not in self._lights:
                for key, rprim in self.rprims.items():
                    if rprim.drawable.kind == "mesh":
                        self._mark(key, Dirty.GEOMETRY)
            for key in self._below.get(path, ()):
                rprim = self.rprims[key]
                anchor = imaging.path_of(rprim.drawable.anchor)
                if anchor != rprim.path:
                    roots.add(anchor)
                else:
                    self._edit(key, _dirt(names, path == rprim.path))
        if any(path.startswith("/__Prototype") for path in (*roots, *changes.changed)):
            roots = {"/"}
        for path in roots:
            self._walk(path)

    def _forget_lights(self) -> None:
        self._read_lights = None
        self.placement += 1

    def _mark(self, key: tuple[str, int], dirt: Dirty) -> None:
        if dirt:
            self.rprims[key].dirty |= dirt
            self._dirty[key] = None

    def _edit(self, key: tuple[str, int], dirt: Dirty) -> None:
        """Mark what somebody wrote to; a shape is forgotten, whatever is said of its source."""
        if dirt & Dirty.GEOMETRY and self._shapes.pop(self.rprims[key].source, None) is not None:
            self.version += 1
        self._mark(key, dirt)

    def _walk(self, path: str) -> None:
        """Find anew what is drawn at or below ``path``."""
        self.counts.walks += 1
        root = imaging.outermost_instancer(self._stage, path)
        path = path if root is None else imaging.path_of(root)
        for key in list(self._below.get(path, ())):
            self._forget(key)
        for light in [light for light in self._lights if light == path or light.startswith(path.rstrip("/") + "/")]:
            del self._lights[light]
        self._forget_lights()
        self.version += 1
        self._shapes_may_be_unused = True
        self._rearranged = {at for at in self._rearranged if at != path and not at.startswith(path.rstrip("/") + "/")}
        for found in imaging.walk(root, imaging.time_code(self._time)) if root is not None else ():
            if isinstance(found, imaging.Drawable):
                self._add(found)
            elif imaging.is_instancer(found):
                self._rearranged |= {imaging.path_of(found)} if imaging.rearranges(found) else set()
            else:
                self._lights[imaging.path_of(found)] = found

    def _add(self, drawable: imaging.Drawable) -> None:
        path = imaging.path_of(drawable.prim)
        if path not in self._prim_ids:
            self._prim_ids[path] = len(self.prim_paths)
            self.prim_paths.append(path)
        key = (path, drawable.instance)
        rprim = Rprim(path, drawable, self._prim_ids[path])
        rprim.timed = (
            (Dirty.TRANSFORM if imaging.moves(drawable.anchor) else Dirty.CLEAN)
            | (Dirty.VISIBILITY if imaging.appears(drawable.prim) else Dirty.CLEAN)
            | (Dirty.GEOMETRY if imaging.geometry_varies(drawable) else Dirty.CLEAN)
        )
        self.rprims[key] = rprim
        self._dirty[key] = None
        for ancestor in _ancestors(rprim):
            self._below.setdefault(ancestor, {})[key] = None

    def _forget(self, key: tuple[str, int]) -> None:
        rprim = self.rprims.pop(key)
        self._dirty.pop(key, None)
        for ancestor in _ancestors(rprim):
            keys = self._below[ancestor]
            del keys[key]
            if not keys:
                del self._below[ancestor]

    # ------------------------------------------------------------------------------------------------- reading

    def _sync(self, rprim: Rprim) -> None:
        when, drawable, dirt = imaging.time_code(self._time), rprim.drawable, rprim.dirty
        self.placement += 1
        if dirt & Dirty.TRANSFORM:
            self.counts.transforms += 1
            matrix = imaging.world_matrix(drawable, when)
            matrix[:3] *= self.metres
            if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-24:
                raise InputError(f"{rprim.path} is placed by a matrix that has no inverse: {matrix.tolist()}.")
            rprim.to_world = matrix
        if dirt & Dirty.VISIBILITY:
            self.counts.visibilities += 1
            shown = imaging.is_shown(drawable, self._purposes, when)
            self.version += shown != rprim.shown
            rprim.shown = shown
        if dirt & Dirty.GEOMETRY:
            source = imaging.geometry_source(drawable)
            source = f"{source}@{self._time}" if rprim.timed & Dirty.GEOMETRY else source
            self.version += source != rprim.source
            self._shapes_may_be_unused |= source != rprim.source
            rprim.source = source
        if drawable.kind == "splats" and dirt & Dirty.GAIN:
            rprim.gain = read_gain(drawable.prim).factors
        if dirt & Dirty.LABEL:
            label = imaging.label_of(drawable.prim) or self.labels[1]
            if label not in self.labels:
                self.labels.append(label)
            rprim.semantic_id = self.labels.index(label)
            rprim.colliders = imaging.colliders_of(drawable.prim) if drawable.kind == "splats" else ()
        rprim.dirty = Dirty.CLEAN

    def _shape_of(self, rprim: Rprim) -> Shape:
        shape = self._shapes.get(rprim.source)
        if shape is None:
            prim = rprim.drawable.prim
            if rprim.drawable.kind == "splats":
                gaussians = read_stored_splats(prim, imaging.plain_time(prim, self._time))
                gaussians.validate()
                shape = self._keep(gaussians)
                self.counts.splats_loaded += 1
            else:
                shape = read_surface(prim, imaging.time_code(self._time))
                self.counts.meshes_loaded += 1
            self._shapes[rprim.source] = shape
        return shape


def _ancestors(rprim: Rprim) -> Iterator[str]:
    """Every path at whose change the rprim may change: its prim's, its instancer's and all above them, each once."""
    paths = {"/": None}
    for path in (rprim.path, imaging.path_of(rprim.drawable.anchor)):
        while path and path != "/":
            paths[path] = None
            path = path.rpartition("/")[0]
    return iter(paths)


def _dirt(names: set[str], own: bool) -> Dirty:
    """What changed properties of a prim mean for the rprims below it, or for its ``own``."""
    dirt = Dirty.CLEAN
    for name in names:
        if name.startswith("xformOp"):
            dirt |= Dirty.TRANSFORM
        elif name in ("visibility", "purpose"):
            dirt |= Dirty.VISIBILITY
        elif name.startswith("semantics:labels"):
            dirt |= Dirty.LABEL
        elif own and name in (EXPOSURE, TINT):
            dirt |= Dirty.GAIN
        elif own and name == COLLIDER_RELATION:
            dirt |= Dirty.LABEL
        elif own and (name in imaging.GEOMETRY_NAMES or name.startswith("primvars:")):
            dirt |= Dirty.GEOMETRY
    return dirt
