"""What may vary and how far, and pure draws from it: the same ranges, environments, seed and index, the same sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni_gen3d.envs.entry import Description, Entry, Filter, Pose
from omni_gen3d.envs.plain import from_plain
from omni_gen3d.envs.sample import Appearance, CameraChange, Contact, Light, Motion, Placement, Sample, Thing
from omni_gen3d.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from omni_gen3d.envs.clutter import Pool
    from omni_gen3d.types import FreeSpace

_MAX_CONFIG_BYTES = 2**20
# As many moving parts as a generated scene has.
MAX_PARTS = 16
MAX_THINGS = 64
# Numbers of the streams of random numbers that a sample is drawn from.
_CHOICE, _SPAWN, _APPEARANCE, _CONTACT, _PLACEMENT, _CAMERA, _MOTION, _LIGHT, _CLUTTER, _SHARE = range(10)
# As far as a stop may go: USD's exposure and a float32 colour both bear it.
_STOPS = (-16.0, 16.0)


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, each as likely; in YAML ``[low, high]``, or one number that is fixed."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise InputError(f"the range [{self.low}, {self.high}] must have two finite ends, the lower one first.")

    @classmethod
    def from_plain(cls, value: Any, where: str) -> Range:
        """Read ``[low, high]`` or a number.

        Raises:
            InputError: It is neither.
        """
        ends = value if isinstance(value, list | tuple) else (value, value)
        if len(ends) != 2 or not all(type(end) in (int, float) and math.isfinite(end) for end in ends):
            raise InputError(f"{where} is {value!r}; write [low, high] or one number.")
        return cls(float(ends[0]), float(ends[1]))

    def to_plain(self) -> list[float]:
        """Inverse of ``from_plain``."""
        return [self.low, self.high]

    def draw(self, rng: np.random.Generator) -> float:
        """A number in the range; advances ``rng`` by one number even where the range is a point."""
        return min(self.low + (self.high - self.low) * float(rng.random()), self.high)


_ZERO, _ONE, _UNIT = Range(0.0, 0.0), Range(1.0, 1.0), Range(0.0, 1.0)
_FULL_TURN, _HALF_UP = Range(-math.pi, math.pi), Range(math.pi / 4, math.pi / 4)
# What the lights of a new stage have.
_INTENSITY = Range(1000.0, 1000.0)
# What the collider is written with, see usd.collision.
_STATIC_FRICTION, _DYNAMIC_SHARE = Range(0.8, 0.8), Range(0.75, 0.75)


@dataclass(frozen=True, kw_only=True)
class AppearanceRanges:
    """See ``sample.Appearance``."""

    exposure: Range = _ZERO
    warmth: Range = _ZERO
    tint: Range = _ZERO
    hue: Range = _ZERO
    contrast: Range = _ONE

    def __post_init__(self) -> None:
        for name in ("exposure", "warmth", "tint"):
            _expect_within(f"appearance.{name}", getattr(self, name), *_STOPS)
        _expect_within("appearance.contrast", self.contrast, 0.0, 16.0)


@dataclass(frozen=True, kw_only=True)
class ContactRanges:
    """Physics material of the collider; the dynamic friction is a share of the static one, which it cannot exceed."""

    static_friction: Range = _STATIC_FRICTION
    dynamic_share: Range = _DYNAMIC_SHARE
    restitution: Range = _ZERO

    def __post_init__(self) -> None:
        _expect_within("contact.static_friction", self.static_friction, 0.0, 100.0)
        _expect_within("contact.dynamic_share", self.dynamic_share, 0.0, 1.0)
        _expect_within("contact.restitution", self.restitution, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class PlacementRanges:
    """See ``sample.Placement``."""

    scale: Range = _ONE
    yaw: Range = _ZERO

    def __post_init__(self) -> None:
        _expect_within("placement.scale", self.scale, 0.01, 100.0)


@dataclass(frozen=True, kw_only=True)
class CameraRanges:
    """See ``sample.CameraChange``; shifts and rotations are drawn for each axis on its own."""

    focal_scale: Range = _ONE
    principal_shift: Range = _ZERO
    position: Range = _ZERO
    rotation: Range = _ZERO
    noise: Range = _ZERO
    latency: Range = _ZERO

    def __post_init__(self) -> None:
        _expect_within("camera.focal_scale", self.focal_scale, 0.01, 100.0)
        _expect_within("camera.noise", self.noise, 0.0, math.inf)
        _expect_within("camera.latency", self.latency, 0.0, math.inf)


@dataclass(frozen=True, kw_only=True)
class MotionRanges:
    """See ``sample.Motion``.

    Attributes:
        start, speed: Ranges.
        freeze: Probability that everything stands still, at its start.
        remove: Probability of each moving part to be taken out.
    """

    start: Range = _ZERO
    speed: Range = _ONE
    freeze: float = 0.0
    remove: float = 0.0

    def __post_init__(self) -> None:
        _expect_within("motion.speed", self.speed, 0.0, 100.0)
        for name in ("freeze", "remove"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"motion.{name} is {getattr(self, name):g}; a probability lies between 0 and 1.")


@dataclass(frozen=True, kw_only=True)
class LightRanges:
    """See ``sample.Light``."""

    sky: Range = _INTENSITY
    sun: Range = _INTENSITY
    azimuth: Range = _ZERO
    elevation: Range = _HALF_UP
    warmth: Range = _ZERO

    def __post_init__(self) -> None:
        for name in ("sky", "sun"):
            _expect_within(f"light.{name}", getattr(self, name), 0.0, 1e9)
        _expect_within("light.elevation", self.elevation, -math.pi / 2, math.pi / 2)
        _expect_within("light.warmth", self.warmth, *_STOPS)


@dataclass(frozen=True, kw_only=True)
class ClutterRanges:
    """Things of a pool that are put into free space; see ``sample.Thing``.

    Attributes:
        count: How many are wanted, rounded; those that fit nowhere are left out.
        scale, yaw: Of each.
        brightness: Of each channel of its colour.
        clearance: How far from the spawn pose, and from the goal of an episode, they stay [m].
        pool: Folder of the meshes, see ``clutter.Pool``; in a YAML file relative to it. A pool that is passed counts
            instead.
    """

    count: Range
    scale: Range = _ONE
    yaw: Range = _FULL_TURN
    brightness: Range = _UNIT
    clearance: float = 0.6
    pool: str = ""

    def __post_init__(self) -> None:
        _expect_within("clutter.count", self.count, 0, MAX_THINGS)
        _expect_within("clutter.scale", self.scale, 0.01, 100.0)
        _expect_within("clutter.brightness", self.brightness, 0.0, 1.0)
        if not 0 <= self.clearance < math.inf:
            raise InputError(f"clutter.clearance is {self.clearance:g}; it must be at least 0.")


@dataclass(frozen=True, kw_only=True)
class Randomization:
    """What varies; what is not stated stays as it is.

    Attributes:
        environments: Which environments may be drawn.
        spawn: Draw one of the environment's spawn poses.
        share: Probability that what follows varies; other samples are of environments as they are.
        appearance, contact, placement, camera, motion: Ranges; without ``contact`` the collider keeps its material.
        light: Ranges; without it the lights of the stage stay.
        clutter: Ranges; without it nothing is put into the environment.
    """

    environments: Filter = field(default_factory=Filter)
    spawn: bool = True
    share: float = 1.0
    appearance: AppearanceRanges = field(default_factory=AppearanceRanges)
    contact: ContactRanges | None = None
    placement: PlacementRanges = field(default_factory=PlacementRanges)
    camera: CameraRanges = field(default_factory=CameraRanges)
    motion: MotionRanges = field(default_factory=MotionRanges)
    light: LightRanges | None = None
    clutter: ClutterRanges | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InputError(f"share is {self.share}; it is a probability, from 0 to 1.")


def load_randomization(path: Path | str) -> Randomization:
    """Read a YAML file with any of the fields of ``Randomization``.

    Raises:
        InputError: The file cannot be read, is larger than 1 MiB or no YAML, or holds a key or value that is unknown.
    """
    import yaml

    file = Path(path).expanduser()
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_CONFIG_BYTES + 1)
        if len(content) > _MAX_CONFIG_BYTES:
            raise InputError(f"{file} is larger than {_MAX_CONFIG_BYTES} bytes.")
        values = yaml.safe_load(content.decode("utf-8"))
        ranges = from_plain(Randomization, {} if values is None else values, file.name)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{file} is not valid YAML: {error}") from error
    if ranges.clutter is None or not ranges.clutter.pool:
        return ranges
    folder = file.parent / Path(ranges.clutter.pool).expanduser()
    return replace(ranges, clutter=replace(ranges.clutter, pool=str(folder)))


def pool_of(ranges: Randomization, pool: Pool | None = None) -> Pool | None:
    """The pool that was passed, else the one that ``ranges`` name, read once; None where no clutter is wanted.

    Raises:
        InputError: Clutter is wanted and there is no pool, or it cannot be read.
    """
    if ranges.clutter is None or pool is not None:
        return pool
    if not ranges.clutter.pool:
        raise InputError("clutter is wanted, but no meshes are named; set clutter.pool to their folder or pass a pool.")
    return _read_pool(ranges.clutter.pool)


@lru_cache(maxsize=8)
def _read_pool(folder: str) -> Pool:
    from omni_gen3d.envs.clutter import Pool

    return Pool.read(folder)


def draw(
    ranges: Randomization, environments: Sequence[Description], *, seed: int, index: int = 0, pool: Pool | None = None
) -> Sample:
    """Draw sample ``index`` of the series that ``seed`` begins; no other sample need be drawn for it.

    Args:
        ranges: What varies.
        environments: As ``Registry.entries`` returned them, in any order; those that ``ranges`` wants may be drawn.
        seed: At least 0.
        index: At least 0.
        pool: Of the clutter, where ``ranges`` want any; where None the one that they name.

    Raises:
        InputError: No environment is wanted, a number is negative, or clutter is wanted without a pool or in an
            environment without a floor.
    """
    return draw_among(ranges, eligible(ranges, environments), seed=seed, index=index, pool=pool)


def eligible(ranges: Randomization, environments: Sequence[Description]) -> list[Any]:
    """The environments that ``ranges`` wants, in the order that draws refer to.

    Raises:
        InputError: There is none.
    """
    wanted = sorted((entry for entry in environments if ranges.environments.accepts(entry)), key=lambda entry: entry.id)
    if not wanted:
        raise InputError(
            f"none of {len(environments)} environments is wanted by {ranges.environments}; add some to the library or "
            "ask for less."
        )
    return wanted


def draw_among(
    ranges: Randomization, wanted: Sequence[Description], *, seed: int, index: int, pool: Pool | None = None
) -> Sample:
    """What ``draw`` draws, from environments that ``eligible`` returned: for many draws from the same ones.

    Raises:
        InputError: A number is negative, or clutter is wanted and cannot be drawn.
    """
    if seed < 0 or index < 0:
        raise InputError(f"the seed is {seed} and the index {index}; both must be at least 0.")
    stream, ranges = partial(_stream, seed, index), _varied(ranges, seed, index)
    entry = wanted[int(stream(_CHOICE).integers(len(wanted)))]
    start = _draw_spawn(entry, stream(_SPAWN)) if ranges.spawn else None
    clear = () if start is None else (start.position[:2],)
    placed = Placement() if ranges.placement == _STILL else _draw_placement(ranges.placement, stream(_PLACEMENT))
    return Sample(
        environment=entry.id,
        digest=entry.digest,
        seed=seed,
        index=index,
        appearance=(
            Appearance() if ranges.appearance == _AS_IS else _draw_appearance(ranges.appearance, stream(_APPEARANCE))
        ),
        contact=None if ranges.contact is None else _draw_contact(ranges.contact, stream(_CONTACT)),
        placement=placed,
        spawn=None if start is None else placed.move(start),
        camera=CameraChange() if ranges.camera == _AS_BUILT else _draw_camera(ranges.camera, stream(_CAMERA)),
        motion=Motion() if ranges.motion == _AS_FILMED else _draw_motion(ranges.motion, stream(_MOTION)),
        light=None if ranges.light is None else _draw_light(ranges.light, stream(_LIGHT)),
        clutter=draw_clutter(ranges, entry, clear, seed=seed, index=index, pool=pool),
    )


def draw_clutter(
    ranges: Randomization,
    entry: Description,
    clear: Sequence[tuple[float, float]],
    *,
    seed: int,
    index: int,
    pool: Pool | None = None,
) -> tuple[Thing, ...]:
    """The clutter of sample ``index`` of the series of ``seed``, for whoever decides later where a robot goes.

    Args:
        ranges: What varies; without clutter there is none.
        entry: The environment of the sample, from a library.
        clear: Places that stay free, in the scene as it was written [m].
        seed, index, pool: As of ``draw``.

    Raises:
        InputError: Clutter is wanted, but there is no pool or the environment has no floor.
    """
    from omni_gen3d.envs.clutter import strew

    ranges = _varied(ranges, seed, index)
    meshes, clutter = pool_of(ranges, pool), ranges.clutter
    if clutter is None or meshes is None:
        return ()
    if not isinstance(entry, Entry):
        raise InputError(f"clutter needs the files of {entry.id}; draw from the entries of a library.")
    space, floor = _free_space(entry.folder, entry.digest)
    rng, shade = _stream(seed, index, _CLUTTER), clutter.brightness
    wanted = [
        (clutter.scale.draw(rng), clutter.yaw.draw(rng), (shade.draw(rng), shade.draw(rng), shade.draw(rng)))
        for _ in range(round(clutter.count.draw(rng)))
    ]
    return strew(meshes, space, floor, wanted, rng, [(x, y, clutter.clearance) for x, y in clear])


def _varied(ranges: Randomization, seed: int, index: int) -> Randomization:
    """What varies in a sample: ``ranges``, or with the rest of their share nothing."""
    if ranges.share == 1 or _stream(seed, index, _SHARE).random() < ranges.share:
        return ranges
    return Randomization(environments=ranges.environments, spawn=ranges.spawn)


def _stream(seed: int, index: int, part: int) -> np.random.Generator:
    """A stream for each part, made where it is used: a range that is added to one leaves the others' draws alone."""
    import numpy as np

    return np.random.default_rng(np.random.SeedSequence((seed, index), spawn_key=(part,)))


def _draw_placement(ranges: PlacementRanges, rng: np.random.Generator) -> Placement:
    return Placement(scale=ranges.scale.draw(rng), yaw=ranges.yaw.draw(rng))


def _draw_appearance(ranges: AppearanceRanges, rng: np.random.Generator) -> Appearance:
    return Appearance(
        exposure=ranges.exposure.draw(rng),
        warmth=ranges.warmth.draw(rng),
        tint=ranges.tint.draw(rng),
        hue=ranges.hue.draw(rng),
        contrast=ranges.contrast.draw(rng),
    )


def _draw_contact(ranges: ContactRanges, rng: np.random.Generator) -> Contact:
    static = ranges.static_friction.draw(rng)
    return Contact(
        static_friction=static,
        dynamic_friction=static * ranges.dynamic_share.draw(rng),
        restitution=ranges.restitution.draw(rng),
    )


def _draw_spawn(entry: Description, rng: np.random.Generator) -> Pose | None:
    """In the scene as it was written."""
    return entry.spawn_poses[int(rng.integers(len(entry.spawn_poses)))] if entry.spawn_poses else None


def _draw_camera(ranges: CameraRanges, rng: np.random.Generator) -> CameraChange:
    shift, position, rotation = ranges.principal_shift, ranges.position, ranges.rotation
    return CameraChange(
        focal_scale=ranges.focal_scale.draw(rng),
        principal_shift=(shift.draw(rng), shift.draw(rng)),
        position=(position.draw(rng), position.draw(rng), position.draw(rng)),
        rotation=(rotation.draw(rng), rotation.draw(rng), rotation.draw(rng)),
        noise=ranges.noise.draw(rng),
        latency=ranges.latency.draw(rng),
    )


def _draw_motion(ranges: MotionRanges, rng: np.random.Generator) -> Motion:
    start, speed, stands = ranges.start.draw(rng), ranges.speed.draw(rng), rng.random() < ranges.freeze
    gone = rng.random(MAX_PARTS) < ranges.remove
    return Motion(
        start=start, speed=0.0 if stands else speed, removed=tuple(i for i, is_gone in enumerate(gone) if is_gone)
    )


def _draw_light(ranges: LightRanges, rng: np.random.Generator) -> Light:
    return Light(
        sky=ranges.sky.draw(rng),
        sun=ranges.sun.draw(rng),
        azimuth=ranges.azimuth.draw(rng),
        elevation=ranges.elevation.draw(rng),
        warmth=ranges.warmth.draw(rng),
    )


@lru_cache(maxsize=64)
def _free_space(folder: Path, digest: str) -> tuple[FreeSpace, float]:
    """The free space of an environment and the height of its floor [m]; ``digest`` tells contents apart."""
    from omni_gen3d.usd.manifest import Manifest
    from omni_gen3d.usd.target import MANIFEST_NAME

    manifest = Manifest.read(folder / MANIFEST_NAME)
    if manifest.free_space is None or manifest.floor_height_m is None:
        raise InputError(f"clutter cannot be put into {folder.name}: it has no floor that was seen, or no collider.")
    return manifest.free_space, manifest.floor_height_m


def _expect_within(name: str, values: Range, low: float, high: float) -> None:
    if not low <= values.low <= values.high <= high:
        raise InputError(f"{name} is [{values.low:g}, {values.high:g}]; it must lie between {low:g} and {high:g}.")


# Ranges that leave a part as it is: nothing need be drawn.
_AS_IS, _STILL, _AS_BUILT, _AS_FILMED = AppearanceRanges(), PlacementRanges(), CameraRanges(), MotionRanges()
