"""One draw of everything that is randomized: a record that can be stored, and replayed to the bit."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from omni_gen3d.envs.entry import Point, Pose
from omni_gen3d.envs.plain import from_plain, to_plain
from omni_gen3d.errors import InputError

if TYPE_CHECKING:
    from omni_gen3d.envs.entry import Entry
    from omni_gen3d.envs.registry import Registry

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """A change of the displayed colours of the splats, in this order.

    Attributes:
        exposure: All channels, in stops.
        warmth: Red against blue, in stops: half of them up and half of them down; positive is warmer.
        tint: Green, in stops.
        hue: Turn about the grey axis from red towards green [rad].
        contrast: Factor on the distance from mid-grey, 0.5.
    """

    exposure: float = 0.0
    warmth: float = 0.0
    tint: float = 0.0
    hue: float = 0.0
    contrast: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Contact:
    """Physics material of the collider."""

    static_friction: float
    dynamic_friction: float
    restitution: float


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where the scene stands in its ``/World``: ``p' = scale * R(yaw) p``; yaw about +Z [rad]."""

    scale: float = 1.0
    yaw: float = 0.0

    def move(self, pose: Pose) -> Pose:
        """A pose of the scene as it was written, in the scene as it is placed; its heading in (-pi, pi]."""
        x, y, z = pose.position
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        position = self.scale * (cos * x - sin * y), self.scale * (sin * x + cos * y), self.scale * z
        return Pose(position, math.remainder(pose.yaw + self.yaw, math.tau))


@dataclass(frozen=True, kw_only=True)
class Motion:
    """What moves, at another pace: at second ``s`` stands what was generated for second ``start + speed * s``.

    Attributes:
        start: Of what is shown at time 0 [s].
        speed: Factor; 0 stands still.
        removed: Numbers of the moving parts that are taken out; those that a scene lacks mean nothing.
    """

    start: float = 0.0
    speed: float = 1.0
    removed: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Light:
    """What shines on meshes; splats have their light baked in.

    Attributes:
        sky: Intensity of a dome, in the unit of USD's dome lights.
        sun: Intensity of a distant light, in the unit of USD's distant lights.
        azimuth: Of the sun, about +Z from +X [rad].
        elevation: Of the sun above the horizon [rad].
        warmth: Red against blue of the sun, in stops, as of ``Appearance``.
    """

    sky: float
    sun: float
    azimuth: float
    elevation: float
    warmth: float = 0.0


@dataclass(frozen=True)
class Thing:
    """Something that was put into the environment: a mesh of a pool, a static obstacle.

    Attributes:
        mesh: Name of its file.
        sha256: Digest of the file.
        position: Of the mesh's origin, in the scene as it was written [m].
        yaw: About +Z [rad].
        scale: Of the mesh.
        color: RGB in [0, 1].
    """

    mesh: str
    sha256: str
    position: Point
    yaw: float
    scale: float
    color: Point


@dataclass(frozen=True, kw_only=True)
class CameraChange:
    """How a camera differs from the one that was designed.

    Attributes:
        focal_scale: Factor on both focal lengths.
        principal_shift: Of the principal point along x and y [picture widths and heights].
        position: Shift in the camera's own frame, x right, y down, z forward [m].
        rotation: Rotation vector in the camera's own frame [rad].
        noise: Standard deviation of the noise of a pixel, where 1 is white.
        latency: Age of a picture when it is handed over [s].
    """

    focal_scale: float = 1.0
    principal_shift: tuple[float, float] = (0.0, 0.0)
    position: Point = (0.0, 0.0, 0.0)
    rotation: Point = (0.0, 0.0, 0.0)
    noise: float = 0.0
    latency: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What was drawn; the same record makes the same world anywhere.

    Attributes:
        schema_version: 1.
        environment: Id of the environment.
        digest: Of its content.
        seed, index: Of the draw.
        appearance: Of the splats.
        contact: Of the collider; None leaves what the environment states.
        placement: Of the whole scene.
        spawn: Where the robot starts, in the placed scene; None where none was asked for or the environment has none.
        camera: Of the robot's camera.
        motion: Of what moves.
        light: On meshes; None leaves what the stage has.
        clutter: What was put into the environment.
    """

    schema_version: int = SCHEMA_VERSION
    environment: str
    digest: str
    seed: int
    index: int
    appearance: Appearance
    contact: Contact | None
    placement: Placement
    spawn: Pose | None
    camera: CameraChange
    motion: Motion = field(default_factory=Motion)
    light: Light | None = None
    clutter: tuple[Thing, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists and scalars."""
        return to_plain(self)

    @classmethod
    def from_dict(cls, values: Any) -> Sample:
        """Inverse of ``to_dict``.

        Raises:
            InputError: A key is missing or unknown, a value is of the wrong type, or the version is another.
        """
        sample = from_plain(cls, values, "the sample")
        if sample.schema_version != SCHEMA_VERSION:
            raise InputError(f"the sample is of version {sample.schema_version}; this release reads {SCHEMA_VERSION}.")
        return sample

    def to_json(self) -> str:
        """One line of JSON; numbers come back as they were."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> Sample:
        """Inverse of ``to_json``.

        Raises:
            InputError: The text is no JSON, or see ``from_dict``.
        """
        try:
            return cls.from_dict(json.loads(text))
        except (ValueError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"the sample is not valid JSON: {error}") from error

    def find(self, registry: Registry) -> Entry:
        """The environment that was drawn.

        Raises:
            InputError: The library does not have it, or has another one under its id.
        """
        entry = registry.get(self.environment)
        if entry.id != self.environment or entry.digest != self.digest:
            raise InputError(f"the library has {entry.id}, but not the environment {self.environment} of the sample.")
        return entry
