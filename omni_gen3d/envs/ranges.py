"""What may vary and how far: ranges, typed, and the YAML files that hold them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni_gen3d.envs.entry import Filter
from omni_gen3d.envs.plain import from_plain
from omni_gen3d.errors import InputError

if TYPE_CHECKING:
    import numpy as np

_MAX_CONFIG_BYTES = 2**20
# As many moving parts as a generated scene has.
MAX_PARTS = 16
MAX_THINGS = 64
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


def _expect_within(name: str, values: Range, low: float, high: float) -> None:
    if not low <= values.low <= values.high <= high:
        raise InputError(f"{name} is [{values.low:g}, {values.high:g}]; it must lie between {low:g} and {high:g}.")
