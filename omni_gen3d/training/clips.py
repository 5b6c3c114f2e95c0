"""Training material: clips along Lyra's trajectories through procedural worlds, and a pool of them on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from omni_gen3d.geometry import intrinsics_from_focal
from omni_gen3d.training.captions import describe
from omni_gen3d.training.raycast import first_hit, ray_directions
from omni_gen3d.training.worlds import Worlds, distance_to_nearest, render_worlds, sample_worlds, start_cameras
from omni_gen3d.video.trajectories import TRAJECTORY_NAMES, centre_facing, sample_distances, trajectory_positions

# Focal lengths over the image width: 85 to 49 degrees. Text-made pictures are all taken with the middle one.
FOCAL_RANGE = (0.55, 1.1)
TEXT_FOCAL = 0.75
# A trajectory that comes nearer to anything than this is shortened.
_CLEARANCE_M = 0.25
# Pixels between the rays that measure the median depth.
_GLANCE_PX = 8


@dataclass(frozen=True)
class Views:
    """Worlds and a camera in each, before any trajectory.

    Attributes:
        worlds: B worlds.
        camera_to_world: The start cameras, shape ``(B, 4, 4)``.
        focal_px: Shape ``(B,)``.
        median_depth: Of what the start camera sees [m], shape ``(B,)``.
    """

    worlds: Worlds
    camera_to_world: torch.Tensor
    focal_px: torch.Tensor
    median_depth: torch.Tensor

    def __getitem__(self, index: slice) -> Views:
        """A part of the batch."""
        return Views(self.worlds[index], self.camera_to_world[index], self.focal_px[index], self.median_depth[index])


@dataclass(frozen=True)
class Clips:
    """Rendered clips with their ground truth.

    Attributes:
        rgb: In [0, 1], shape ``(B, 3, L, H, W)``.
        depth: Along z [m], shape ``(B, L, H, W)``.
        surface: Index of the surface at each pixel, shape ``(B, L, H, W)``.
        camera_to_first: Metres, shape ``(B, L, 4, 4)``.
        intrinsics: Shape ``(B, 3, 3)``.
    """

    rgb: torch.Tensor
    depth: torch.Tensor
    surface: torch.Tensor
    camera_to_first: torch.Tensor
    intrinsics: torch.Tensor

    def __getitem__(self, index: slice) -> Clips:
        """A part of the batch."""
        return Clips(
            self.rgb[index], self.depth[index], self.surface[index], self.camera_to_first[index], self.intrinsics[index]
        )


def sample_views(
    count: int, width: int, height: int, generator: torch.Generator, focal_range: tuple[float, float] = FOCAL_RANGE
) -> Views:
    """Draw worlds, start cameras and focal lengths (times the image width) from the generator's device."""
    return views_of(sample_worlds(count, generator, generator.device), width, height, generator, focal_range)


def views_of(
    worlds: Worlds, width: int, height: int, generator: torch.Generator, focal_range: tuple[float, float] = FOCAL_RANGE
) -> Views:
    """Draw start cameras and focal lengths for given worlds."""
    count, device = len(worlds), generator.device
    camera_to_world = start_cameras(worlds, generator)
    low, high = focal_range
    focal_px = width * (low + (high - low) * torch.rand(count, generator=generator, device=device))
    rows = torch.arange(_GLANCE_PX / 2, height, _GLANCE_PX, device=device) - height / 2
    columns = torch.arange(_GLANCE_PX / 2, width, _GLANCE_PX, device=device) - width / 2
    directions = ray_directions(
        camera_to_world[:, None, :3, :3], torch.cartesian_prod(rows, columns).flip(-1), focal_px
    )
    depth, _ = first_hit(worlds.solids, camera_to_world[:, None, :3, 3], directions)
    return Views(worlds, camera_to_world, focal_px, depth.flatten(1).median(-1).values)


def along_trajectories(
    views: Views, trajectory: torch.Tensor, num_frames: int, generator: torch.Generator
) -> torch.Tensor:
    """Camera to first camera [m], shape ``(B, L, 4, 4)``, along each view's trajectory of index ``trajectory (B,)``.

    Lengths are Lyra's times the median depth, halved until nothing is nearer than 25 cm.
    """
    count = len(trajectory)
    distances = sample_distances(count, generator, trajectory.device)
    item = torch.arange(count, device=trajectory.device)
    positions = trajectory_positions(distances, num_frames)[item, trajectory]
    rotation, start = views.camera_to_world[:, None, :3, :3], views.camera_to_world[:, None, :3, 3]
    for _ in range(3):
        metres = positions * views.median_depth[:, None, None]
        in_world = (rotation @ metres[..., None])[..., 0] + start
        clear = distance_to_nearest(views.worlds, in_world).amin(1) > _CLEARANCE_M
        positions = torch.where(clear[:, None, None], positions, 0.5 * positions)
    cameras = centre_facing(positions)
    cameras[..., :3, 3] *= views.median_depth[:, None, None]
    return cameras


def render_clips(views: Views, camera_to_first: torch.Tensor, height: int, width: int) -> Clips:
    """Render the views along ``camera_to_first (B, L, 4, 4)``."""
    camera_to_world = views.camera_to_world[:, None] @ camera_to_first
    frames = render_worlds(views.worlds, camera_to_world, views.focal_px, height, width)
    intrinsics = torch.stack([intrinsics_from_focal(float(f), width, height) for f in views.focal_px])
    return Clips(frames.rgb, frames.depth, frames.surface, camera_to_first, intrinsics.to(views.focal_px))


def sample_clips(count: int, height: int, width: int, num_frames: int, generator: torch.Generator) -> Clips:
    """Fresh clips, one random trajectory each."""
    views = sample_views(count, width, height, generator)
    trajectory = torch.randint(len(TRAJECTORY_NAMES), (count,), generator=generator, device=generator.device)
    return render_clips(views, along_trajectories(views, trajectory, num_frames, generator), height, width)


def sample_pictures(
    count: int, height: int, width: int, generator: torch.Generator, focal_range: tuple[float, float] = FOCAL_RANGE
) -> tuple[Views, Clips]:
    """Fresh first frames: clips of one frame."""
    views = sample_views(count, width, height, generator, focal_range)
    here = torch.eye(4, device=generator.device).repeat(count, 1, 1, 1)
    return views, render_clips(views, here, height, width)


def caption_pictures(views: Views, clips: Clips, rng: np.random.Generator) -> list[str]:
    """One caption for each clip's first frame."""
    return describe(views.worlds, clips.surface[:, 0], rng)


class Pool:
    """A ring of items on the device; each item is a row of several tensors.

    Args:
        capacity: Rows.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.size = 0
        self._next = 0
        self._rows: dict[str, torch.Tensor] = {}

    def add(self, **rows: torch.Tensor) -> None:
        """Write rows, oldest first over the ring; every call names the same tensors."""
        count = len(next(iter(rows.values())))
        if not self._rows:
            self._rows = {
                name: torch.empty(self.capacity, *value.shape[1:], dtype=value.dtype, device=value.device)
                for name, value in rows.items()
            }
        first = next(iter(self._rows.values()))
        index = (torch.arange(count, device=first.device) + self._next) % self.capacity
        for name, value in rows.items():
            self._rows[name][index] = value
        self._next = (self._next + count) % self.capacity
        self.size = min(self.size + count, self.capacity)

    def draw(self, count: int) -> dict[str, torch.Tensor]:
        """Random rows, with replacement."""
        first = next(iter(self._rows.values()))
        index = torch.randint(self.size, (count,), device=first.device)
        return {name: value[index] for name, value in self._rows.items()}


def to_bytes(rgb: torch.Tensor) -> torch.Tensor:
    """[0, 1] to uint8."""
    return (rgb.clamp(0, 1) * 255 + 0.5).to(torch.uint8)


def to_signed(rgb: torch.Tensor) -> torch.Tensor:
    """uint8 to float32 in [-1, 1]."""
    return rgb.float() / 127.5 - 1
