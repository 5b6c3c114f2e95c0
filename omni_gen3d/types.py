"""The types through which the stages meet. Frozen; shapes are checked when built, values by ``validate``.

Conventions (docs/conventions.md): metres, Z-up, OpenCV cameras, quaternions wxyz, linear scales and opacities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch

from omni_gen3d.errors import InputError

PartLabel = Literal["floor", "wall", "ceiling", "object"]
PART_LABELS: tuple[PartLabel, ...] = ("floor", "wall", "ceiling", "object")


def _expect_shape(name: str, value: torch.Tensor | np.ndarray, shape: tuple[int | None, ...]) -> None:
    actual = tuple(value.shape)
    if len(actual) != len(shape) or any(want not in (None, got) for want, got in zip(shape, actual, strict=True)):
        wanted = "(" + ", ".join("*" if n is None else str(n) for n in shape) + ")"
        raise InputError(f"{name} has shape {actual}; expected {wanted}.")


def _expect_finite(name: str, value: torch.Tensor) -> None:
    # A sum is finite only if every term is; it takes no memory, which the exact check does.
    if not torch.isfinite(value.sum()) and not torch.isfinite(value).all():
        bad = int((~torch.isfinite(value)).flatten(1).any(1).sum())
        raise InputError(f"{name} holds NaN or infinite values in {bad} of {len(value)} rows; all must be finite.")


@dataclass(frozen=True)
class Cameras:
    """Pinhole cameras of one image size.

    Attributes:
        world_to_camera: OpenCV camera frames (x right, y down, z forward), translation [m], shape ``(C, 4, 4)``.
        intrinsics: ``[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]`` [pixels], pixel centres at ``i + 0.5``,
            shape ``(C, 3, 3)``.
        width: Image width [pixels].
        height: Image height [pixels].
    """

    world_to_camera: torch.Tensor
    intrinsics: torch.Tensor
    width: int
    height: int

    def __post_init__(self) -> None:
        _expect_shape("world_to_camera", self.world_to_camera, (None, 4, 4))
        _expect_shape("intrinsics", self.intrinsics, (len(self.world_to_camera), 3, 3))
        if self.width < 1 or self.height < 1:
            raise InputError(f"image size is {self.width}x{self.height}; both sides must be at least 1 pixel.")

    def __len__(self) -> int:
        return len(self.world_to_camera)

    def __getitem__(self, index: slice | list[int] | torch.Tensor) -> Cameras:
        return replace(self, world_to_camera=self.world_to_camera[index], intrinsics=self.intrinsics[index])

    @property
    def camera_to_world(self) -> torch.Tensor:
        """Inverse of ``world_to_camera``, shape ``(C, 4, 4)``."""
        return torch.linalg.inv(self.world_to_camera)

    @property
    def positions(self) -> torch.Tensor:
        """Camera centres in the world [m], shape ``(C, 3)``."""
        return self.camera_to_world[:, :3, 3]

    def to(self, device: torch.device | str) -> Cameras:
        return replace(self, world_to_camera=self.world_to_camera.to(device), intrinsics=self.intrinsics.to(device))


@dataclass(frozen=True)
class VideoLatents:
    """What the video model imagined: latents of V trajectories that share their first frame.

    Attributes:
        latents: Raw tokenizer domain, shape ``(V, 16, T, h, w)``.
        cache_depth: Depth along z of the 3D cache at the last video frame of each latent frame [scene units], 0 where
            the cache sees nothing, shape ``(V, T, 4h, 4w)``.
        cameras: One trajectory after the other, frame after frame, ``V * num_frames`` cameras in the first camera's
            frame. The scene unit is the median depth of the first frame.
        num_frames: Frames of each trajectory, ``8 * (T - 1) + 1``.
    """

    latents: torch.Tensor
    cache_depth: torch.Tensor
    cameras: Cameras
    num_frames: int

    def __post_init__(self) -> None:
        _expect_shape("latents", self.latents, (None, 16, None, None, None))
        views, _, latent_frames, height, width = self.latents.shape
        _expect_shape("cache_depth", self.cache_depth, (views, latent_frames, 4 * height, 4 * width))
        if self.num_frames != 8 * (latent_frames - 1) + 1 or len(self.cameras) != views * self.num_frames:
            raise InputError(
                f"{views} trajectories of {latent_frames} latent frames need {views} x {8 * (latent_frames - 1) + 1} "
                f"cameras; got {len(self.cameras)} for num_frames={self.num_frames}."
            )


@dataclass(frozen=True)
class MovingCache:
    """A filmed scene at S times, as the cameras of its ``VideoLatents`` see it: every time from its own input frame.

    Attributes:
        times: Share of the clip that has passed, in [0, 1], shape ``(S,)``.
        depth: Depth along z [scene units] at the last video frame of each latent frame, 0 where the input frame of
            that time shows nothing, shape ``(S, V, T, 4h, 4w)``.
        rgb: Colours in [0, 1], 0 where nothing is known, shape ``(S, V, T, 3, 4h, 4w)``.
    """

    times: torch.Tensor
    depth: torch.Tensor
    rgb: torch.Tensor

    def __post_init__(self) -> None:
        _expect_shape("times", self.times, (None,))
        _expect_shape("depth", self.depth, (len(self.times), None, None, None, None))
        views, latent_frames, height, width = self.depth.shape[1:]
        _expect_shape("rgb", self.rgb, (len(self.times), views, latent_frames, 3, height, width))


@dataclass(frozen=True)
class Ground:
    """The floor before the first camera, in that camera's frame: the points with ``up @ p = -camera_height``.

    Attributes:
        up: Unit normal, away from the ground, shape ``(3,)``.
        camera_height: Of the camera above the floor [unit of the depth it was found in].
        pixels: True where the camera sees the floor, shape ``(H, W)``, bool.
    """

    up: torch.Tensor
    camera_height: float
    pixels: torch.Tensor


@dataclass(frozen=True)
class Gaussians:
    """A set of 3D Gaussians.

    Attributes:
        means: Centres [m], shape ``(N, 3)``.
        quats: Unit rotations wxyz, shape ``(N, 4)``.
        scales: Standard deviations along the local axes [m], linear, shape ``(N, 3)``.
        opacities: Linear, in [0, 1], shape ``(N,)``.
        sh: Spherical-harmonics coefficients, coefficient-major, K = (degree + 1)^2, shape ``(N, K, 3)``.
    """

    means: torch.Tensor
    quats: torch.Tensor
    scales: torch.Tensor
    opacities: torch.Tensor
    sh: torch.Tensor

    def __post_init__(self) -> None:
        n = len(self.means)
        _expect_shape("means", self.means, (None, 3))
        _expect_shape("quats", self.quats, (n, 4))
        _expect_shape("scales", self.scales, (n, 3))
        _expect_shape("opacities", self.opacities, (n,))
        _expect_shape("sh", self.sh, (n, None, 3))
        if self.sh.shape[1] not in (1, 4, 9, 16):
            raise InputError(f"sh has {self.sh.shape[1]} coefficients; allowed are 1, 4, 9, 16 (degree 0 to 3).")

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, index: slice | torch.Tensor) -> Gaussians:
        return Gaussians(
            self.means[index], self.quats[index], self.scales[index], self.opacities[index], self.sh[index]
        )

    @property
    def sh_degree(self) -> int:
        return {1: 0, 4: 1, 9: 2, 16: 3}[self.sh.shape[1]]

    @classmethod
    def joined(cls, sets: Sequence[Gaussians]) -> Gaussians:
        """All of at least one set as one, in their order; harmonics are filled up to the highest degree."""
        count = max(item.sh.shape[1] for item in sets)
        sh = [torch.nn.functional.pad(item.sh, (0, 0, 0, count - item.sh.shape[1])) for item in sets]
        return cls(
            torch.cat([item.means for item in sets]),
            torch.cat([item.quats for item in sets]),
            torch.cat([item.scales for item in sets]),
            torch.cat([item.opacities for item in sets]),
            torch.cat(sh),
        )

    def to(self, device: torch.device | str) -> Gaussians:
        return Gaussians(
            self.means.to(device),
            self.quats.to(device),
            self.scales.to(device),
            self.opacities.to(device),
            self.sh.to(device),
        )

    def validate(self) -> None:
        """Check the values.

        Raises:
            InputError: The set is empty, a value is not finite, a scale is not positive, an opacity leaves [0, 1]
                or a quaternion is not of unit length (tolerance 1e-3).
        """
        if len(self) == 0:
            raise InputError("the scene holds 0 Gaussians; at least 1 is needed.")
        for name in ("means", "quats", "scales", "opacities", "sh"):
            _expect_finite(name, getattr(self, name).reshape(len(self), -1))
        if float(self.scales.min()) <= 0:
            raise InputError(f"scales reach {float(self.scales.min()):.3g}; all must be positive (linear, in metres).")
        low, high = map(float, self.opacities.aminmax())
        if low < 0 or high > 1:
            raise InputError(f"opacities range over [{low:.3g}, {high:.3g}]; they are linear and lie in [0, 1].")
        # A product with ones sums the rows; it is the quickest way to.
        shortest, longest = map(float, ((self.quats * self.quats) @ self.quats.new_ones(4)).aminmax())
        worst = max(1 - math.sqrt(shortest), math.sqrt(longest) - 1)
        if worst > 1e-3:
            raise InputError(f"quats are off unit length by up to {worst:.3g}; normalise them.")


@dataclass(frozen=True)
class GaussianSequence:
    """A scene that moves: one set of Gaussians a time. A renderer shows each from its time until the next.

    Attributes:
        frames: The sets, at least one, of one spherical-harmonics degree; the count may change.
        frames_per_second: Of the sequence; frame ``i`` belongs to time ``i / frames_per_second`` [s].
    """

    frames: tuple[Gaussians, ...]
    frames_per_second: float

    def __post_init__(self) -> None:
        if not self.frames:
            raise InputError("the sequence holds 0 frames; at least 1 is needed.")
        degrees = sorted({frame.sh_degree for frame in self.frames})
        if len(degrees) > 1:
            raise InputError(f"the sequence mixes the spherical-harmonics degrees {degrees}; all frames need the same.")
        if not (math.isfinite(self.frames_per_second) and self.frames_per_second > 0):
            raise InputError(f"frames_per_second is {self.frames_per_second}; it must be positive and finite.")

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True)
class TriMesh:
    """A triangle mesh.

    Attributes:
        vertices: Positions [m], shape ``(V, 3)``, float32.
        faces: Vertex indices, counter-clockwise seen from outside, shape ``(F, 3)``, int32.
    """

    vertices: np.ndarray
    faces: np.ndarray

    def __post_init__(self) -> None:
        _expect_shape("vertices", self.vertices, (None, 3))
        _expect_shape("faces", self.faces, (None, 3))
        if len(self.faces) and (self.faces.min() < 0 or self.faces.max() >= len(self.vertices)):
            raise InputError(
                f"faces index {int(self.faces.min())}..{int(self.faces.max())}, but there are "
                f"{len(self.vertices)} vertices."
            )


@dataclass(frozen=True)
class MovingPart:
    """A rigid thing that moves.

    Attributes:
        name: A USD identifier, unique in its scene.
        gaussians: In the part's own frame, the same at all times.
        to_world: From the part's frame to the world at each time, rigid, translation [m], shape ``(T, 4, 4)``, float64.
        present: Whether it is in the scene at each time, shape ``(T,)``, bool; while it is not, ``to_world`` holds
            where it was last or will be first.
        hulls: Closed convex meshes in the part's frame that together are its collider; none where it has no volume.
    """

    name: str
    gaussians: Gaussians
    to_world: np.ndarray
    present: np.ndarray
    hulls: tuple[TriMesh, ...]

    def __post_init__(self) -> None:
        _expect_shape(f"to_world of {self.name}", self.to_world, (None, 4, 4))
        _expect_shape(f"present of {self.name}", self.present, (len(self.to_world),))
        turns = self.to_world[:, :3, :3]
        rigid = np.allclose(turns @ turns.transpose(0, 2, 1), np.eye(3), atol=1e-4) and (np.linalg.det(turns) > 0).all()
        if not (np.isfinite(self.to_world).all() and rigid):
            raise InputError(f"to_world of {self.name} holds a matrix that is no rigid motion.")


@dataclass(frozen=True)
class DynamicScene:
    """A scene that moves, taken apart: what stands still is stored once, what is rigid is moved, the rest is replaced.

    Attributes:
        static: The same at all times.
        parts: What moves as a whole.
        residual: What moves otherwise, one set a time, None where nothing does; a set may be empty.
        frames_per_second: Time ``i`` is at ``i / frames_per_second`` [s].
        num_frames: How many times there are.
    """

    static: Gaussians
    parts: tuple[MovingPart, ...]
    residual: tuple[Gaussians, ...] | None
    frames_per_second: float
    num_frames: int

    def __post_init__(self) -> None:
        if self.num_frames < 1 or not (math.isfinite(self.frames_per_second) and self.frames_per_second > 0):
            raise InputError(
                f"the scene has {self.num_frames} times at {self.frames_per_second} a second; at least 1 time and a "
                "positive, finite rate are needed."
            )
        lengths = {part.name: len(part.to_world) for part in self.parts}
        if self.residual is not None:
            lengths["the residual"] = len(self.residual)
        for name, length in lengths.items():
            if length != self.num_frames:
                raise InputError(f"{name} has {length} times; the scene has {self.num_frames}.")
        if len({part.name for part in self.parts}) != len(self.parts):
            raise InputError(f"names of moving parts repeat: {', '.join(part.name for part in self.parts)}.")

    def __len__(self) -> int:
        return self.num_frames


@dataclass(frozen=True)
class ProxyPart:
    """One labelled piece of a collision proxy."""

    name: str
    label: PartLabel
    mesh: TriMesh


@dataclass(frozen=True)
class FreeSpace:
    """Which voxels are known to be empty.

    Attributes:
        free: True where a camera ray passed and nothing solid is, shape ``(X, Y, Z)``, bool.
        origin: World position of the low corner of voxel (0, 0, 0) [m], shape ``(3,)``.
        voxel_size: Edge of a voxel [m].
    """

    free: np.ndarray
    origin: np.ndarray
    voxel_size: float


@dataclass(frozen=True)
class SpawnPose:
    """Where a robot can stand: a point on the floor and a heading.

    Attributes:
        position: Point on the floor [m], shape ``(3,)`` as a tuple.
        yaw: Heading about +Z, 0 along +X [rad].
    """

    position: tuple[float, float, float]
    yaw: float


@dataclass(frozen=True)
class CollisionProxy:
    """What robots collide with, where they may start, and how good it is.

    Attributes:
        parts: Labelled meshes; together they are the collider.
        convex_parts: Convex pieces that stand in for the parts labelled ``object`` where convex colliders are wanted.
        free_space: Voxels known to be empty.
        spawn_poses: Up to 32 poses over the traversable floor; empty when no floor was seen.
        scores: Named figures as stored in the manifest (faces, floor_height_m, depth_agreement_mean_mm, ...).
        warnings: Sentences a user must read.
    """

    parts: tuple[ProxyPart, ...]
    free_space: FreeSpace
    spawn_poses: tuple[SpawnPose, ...]
    scores: dict[str, float | int | bool | None]
    warnings: tuple[str, ...] = ()
    convex_parts: tuple[ProxyPart, ...] = ()


@dataclass(frozen=True)
class Provenance:
    """Where a scene came from; everything the manifest needs to make it again.

    Attributes:
        kind: ``static`` or ``dynamic``.
        prompt: The text, or None.
        input_sha256: Digest of the input picture, video or splat file, or None.
        seed: The seed of every random draw.
        model: Name of the model family (``mini``, ``lyra``), ``file`` for a scene read from one.
        model_sha256: Digest over the weight files.
        notes: Sentences about estimates made on the way ("field of view estimated: 61 degrees").
        title: One line for a list of environments; None to take it from the prompt or the input.
    """

    kind: Literal["static", "dynamic"]
    prompt: str | None
    input_sha256: str | None
    seed: int | None
    model: str
    model_sha256: str | None
    notes: tuple[str, ...] = ()
    title: str | None = None


@dataclass(frozen=True)
class GeneratedScene:
    """A finished scene, levelled and metric, ready to be written.

    Attributes:
        gaussians: The splats, at one time or at several.
        cameras: The generating cameras; camera 0 is the input camera.
        proxy: The collision proxy, None where none is wanted.
        preview: What a person sees first, shape ``(H, W, 3)``, uint8 RGB.
        provenance: Where it came from.
        timings_s: Seconds per stage.
        film: The preview at every time of a scene that moves, shape ``(T, H, W, 3)``, uint8 RGB, or None.
    """

    gaussians: Gaussians | GaussianSequence | DynamicScene
    cameras: Cameras
    proxy: CollisionProxy | None
    preview: np.ndarray
    provenance: Provenance
    timings_s: dict[str, float] = field(default_factory=dict)
    film: np.ndarray | None = None
