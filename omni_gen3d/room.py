"""A whole room around one picture: the anchor moves, every station is decoded to Gaussians, and all become one set.

A Gaussian of a later station stays only where it is new: where it neither repeats nor hides a surface that an earlier
station sees, nor stands in the clearing. So surfaces stay single, the input view stays what it was, and robots have a
place to drive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from omni_gen3d.config import Preset
from omni_gen3d.decoder.ground import settle_on_ground
from omni_gen3d.decoder.mini import MiniDecoder, decode
from omni_gen3d.decoder.pruning import most_shown
from omni_gen3d.finishing import Stages
from omni_gen3d.geometry import pixel_rays, transform_gaussians
from omni_gen3d.render import render
from omni_gen3d.room_floor import missing_floor, survey
from omni_gen3d.room_walls import missing_walls
from omni_gen3d.types import Cameras, Gaussians, Ground, VideoLatents
from omni_gen3d.video.clearing import Clearing, find_clearing
from omni_gen3d.video.exploring import Anchor, explore, known_from, on_floor
from omni_gen3d.video.imagine import VideoModel, draw_noise, follow, latent_of_picture
from omni_gen3d.video.tokenizer import TEMPORAL_COMPRESSION
from omni_gen3d.video.trajectories import TRAJECTORY_NAMES, six_trajectories, trajectory_cameras

# Later stations look behind what stands before them, and at the floor before their feet.
_LATER_TRAJECTORIES = tuple(TRAJECTORY_NAMES.index(name) for name in ("up", "zoom_out"))
# Of their cameras every fourth is kept.
_CAMERA_STRIDE = 4
# A Gaussian repeats a surface unless it lies this share of its depth behind it.
_BEHIND = 1.08
_BORDER_PX = 12
# What is nearer than the floor by more than this factor stands before it.
_BEFORE_FLOOR = 1.3
_MIN_ALPHA = 0.5
# What is this little off the floor of the clearing belongs to it; what the first station sees so near its border stays,
# the foot of a wall for instance [m].
_FLOOR_THICKNESS_M, _FIRST_BORDER_M = 0.005, 0.3


def make_room(
    model: VideoModel,
    decoder: MiniDecoder,
    first: Anchor,
    intrinsics: torch.Tensor,
    text: torch.Tensor,
    metres_per_unit: float,
    settings: Preset,
    generator: torch.Generator,
    steps: int,
    stages: Stages,
) -> tuple[Gaussians, Cameras]:
    """The room in the first camera's frame and scene units, and the cameras that imagined it.

    Args:
        model: The networks that imagine.
        decoder: The network that decodes.
        first: The input picture.
        intrinsics: Shape ``(3, 3)``.
        text: Token vectors, shape ``(1, S, 384)``.
        metres_per_unit: Metres in a scene unit.
        settings: The preset.
        generator: Of the noise, on the networks' device.
        steps: Noise levels of the trajectories.
        stages: Told the progress.
    """
    clearing = find_clearing(first.depth, first.ground, intrinsics, metres_per_unit, settings.clearing_side)
    first = on_floor(first, clearing, intrinsics)
    with stages.stage("exploring"):
        anchors = explore(
            model,
            first,
            clearing,
            intrinsics,
            text,
            metres_per_unit,
            generator,
            candidates=settings.completion_candidates,
            steps=settings.picture_steps,
            guidance=settings.picture_guidance,
            on_step=stages.report,
        )
    with stages.stage("trajectories"):
        room, cameras = Room(intrinsics.cpu(), settings, clearing, metres_per_unit), []
        for i, anchor in enumerate(anchors):

            def report(share: float, done: int = i) -> None:
                stages.report((done + share) / len(anchors))

            gaussians, seen_from = _decode_anchor(
                model, decoder, anchors, i, intrinsics, text, settings, generator, steps, report
            )
            room.add(gaussians, anchor)
            cameras.append(seen_from)
        room.close()
        cameras.append(survey(clearing, first.ground.camera_height, settings.width, settings.height))
    world_to_camera = torch.cat([part.world_to_camera for part in cameras])
    return room.pruned(settings.max_room_gaussians), replace(
        cameras[0], world_to_camera=world_to_camera, intrinsics=torch.cat([part.intrinsics for part in cameras])
    )


def _decode_anchor(
    model: VideoModel,
    decoder: MiniDecoder,
    anchors: Sequence[Anchor],
    index: int,
    intrinsics: torch.Tensor,
    text: torch.Tensor,
    settings: Preset,
    generator: torch.Generator,
    steps: int,
    on_step: Callable[[float], None],
) -> tuple[Gaussians, Cameras]:
    """Gaussians and cameras of one station in the first camera's frame [scene units], on the CPU."""
    anchor, is_first = anchors[index], index == 0
    # The decoder knows scenes whose first frame has the median depth 1.
    unit = float(anchor.depth.median())
    others = [other for i, other in enumerate(anchors) if i != index]
    trajectories = six_trajectories(settings.num_frames, generator, intrinsics.device)
    if not is_first:
        trajectories = trajectories[list(_LATER_TRAJECTORIES)]
    views = len(trajectories)
    in_units = trajectories.clone()
    in_units[..., :3, 3] *= unit
    camera_to_first = anchor.camera_to_first @ in_units
    seen = [known_from([anchor, *others], intrinsics, camera_to_first[v], unit) for v in range(views)]
    latent_frames = (settings.num_frames - 1) // TEMPORAL_COMPRESSION + 1
    imagined = follow(
        model,
        seen,
        latent_of_picture(model, anchor.picture[None]),
        text,
        draw_noise(views, latent_frames, settings.height, settings.width, generator),
        steps,
        lambda i: on_step((i + 1) / (steps + 1)),
    )
    local = trajectory_cameras(trajectories, intrinsics, settings.width, settings.height)
    video = VideoLatents(imagined.latents[0], imagined.cache_depth[0], local, settings.num_frames)
    gaussians = decode(decoder, video, settings.max_gaussians if is_first else settings.max_station_gaussians).to("cpu")
    ground = replace(anchor.ground, camera_height=anchor.ground.camera_height / unit)
    gaussians = settle_on_ground(gaussians, ground, intrinsics.cpu())
    pose = anchor.camera_to_first.cpu()
    gaussians = transform_gaussians(gaussians, pose[:3, :3], pose[:3, 3], unit)
    kept = camera_to_first if is_first else camera_to_first[:, ::_CAMERA_STRIDE]
    return gaussians, trajectory_cameras(kept, intrinsics, settings.width, settings.height).to("cpu")


class Room:
    """The Gaussians of all stations so far, and the depth of the first surface that each station sees.

    Args:
        intrinsics: Of every station's camera, shape ``(3, 3)``.
        settings: The preset; the size of the pictures.
        clearing: Where nothing stands.
        metres_per_unit: Metres in a scene unit.
    """

    def __init__(self, intrinsics: torch.Tensor, settings: Preset, clearing: Clearing, metres_per_unit: float) -> None:
        self._lens, self._width, self._height = intrinsics, settings.width, settings.height
        self._clearing = clearing
        self._floor_thickness = _FLOOR_THICKNESS_M / metres_per_unit
        self._first_border = _FIRST_BORDER_M / metres_per_unit
        self._parts: list[Gaussians] = []
        self._stations: list[tuple[torch.Tensor, torch.Tensor]] = []

    def add(self, gaussians: Gaussians, anchor: Anchor) -> None:
        """Take in what is new of a station's Gaussians, all in the first camera's frame."""
        world_to_camera = torch.linalg.inv(anchor.camera_to_first).cpu()
        border = 0.0 if self._parts else self._first_border
        gaussians = gaussians[~self._clearing.holds(gaussians.means, self._floor_thickness, border)]
        if self._parts:
            own = world_to_camera, self._depth_from(world_to_camera, anchor.ground)
            for station in (*self._stations, own):
                gaussians = gaussians[~self._repeats(gaussians, *station)]
        self._parts.append(gaussians)
        self._stations.append((world_to_camera, self._depth_from(world_to_camera, anchor.ground)))

    def close(self) -> None:
        """Lay the floor of the clearing, and build the walls around it, where no picture showed them."""
        self._parts.append(missing_floor(Gaussians.joined(self._parts), self._clearing, self._floor_thickness))
        self._parts.append(missing_walls(Gaussians.joined(self._parts), self._clearing))

    def pruned(self, count: int) -> Gaussians:
        """The ``count`` Gaussians that the stations show most of; ties go to the more opaque."""
        joined = Gaussians.joined(self._parts)
        if len(joined) <= count:
            return joined
        poses = torch.stack([world_to_camera for world_to_camera, _ in self._stations])
        lens = self._lens.expand(len(poses), 3, 3).contiguous()
        return joined[most_shown(joined, Cameras(poses, lens, self._width, self._height), count)]

    def _depth_from(self, world_to_camera: torch.Tensor, ground: Ground) -> torch.Tensor:
        """Depth of the first surface [scene units], 0 where there is none, shape ``(H, W)``.

        A Gaussian has the depth of its centre all over its footprint, so that the floor's, seen at a grazing angle,
        comes out too near by a tenth and more: where the picture shows the floor its plane speaks.
        """
        camera = Cameras(world_to_camera[None], self._lens[None], self._width, self._height)
        view = render(Gaussians.joined(self._parts), camera, backend="cpu")
        assert view.median_depth is not None, "the cpu backend computes median depth"
        depth = torch.where(view.alpha[0] >= _MIN_ALPHA, view.median_depth[0], 0.0)
        on_plane = -ground.camera_height / (pixel_rays(self._lens, self._height, self._width) @ ground.up)
        return torch.where(ground.pixels & (depth > on_plane / _BEFORE_FLOOR), on_plane, depth)

    def _repeats(self, gaussians: Gaussians, world_to_camera: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        """Which Gaussians lie on or before the first surface that a station sees, shape ``(N,)``, bool."""
        x, y, z = (gaussians.means @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]).unbind(-1)
        column = (x / z * self._lens[0, 0] + self._lens[0, 2]).floor().long()
        row = (y / z * self._lens[1, 1] + self._lens[1, 2]).floor().long()
        inside = (z > 0) & (column >= -_BORDER_PX) & (column < self._width + _BORDER_PX)
        inside &= (row >= -_BORDER_PX) & (row < self._height + _BORDER_PX)
        # Just outside a picture its border speaks: what lies there reaches into it.
        surface = depth[row.clamp(0, self._height - 1), column.clamp(0, self._width - 1)]
        return inside & (surface > 0) & (z < _BEHIND * surface)
