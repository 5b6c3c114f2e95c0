"""Did a film's camera move, and how? Poses that do not explain the film are refused, wherever they come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.video.clip import Clip
from omni_gen3d.video.depth import MAX_DEPTH_M, MIN_DEPTH_M, DepthNetwork, agreeing_depth, estimate_frame_depth
from omni_gen3d.video.odometry import find_poses
from omni_gen3d.video.steadiness import find_agreement, find_steadiness, fitting_scale


@dataclass(frozen=True)
class Survey:
    """A film whose camera moves.

    Attributes:
        camera_to_first: Translation [m], shape ``(N, 4, 4)``.
        depth: Along z [m], shape ``(N, H, W)``.
    """

    camera_to_first: torch.Tensor
    depth: torch.Tensor

    def window(self, start: int, length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Depth of frames from ``start`` on, their poses relative to the first of them, and that one's pose.

        Where the film ends its last frame is repeated.
        """
        chosen = (start + torch.arange(length)).clamp(max=len(self.depth) - 1)
        pose = self.camera_to_first[start]
        return self.depth[chosen], torch.linalg.inv(pose) @ self.camera_to_first[chosen], pose


def survey_film(
    network: DepthNetwork, clip: Clip, fov_x_rad: float, intrinsics: torch.Tensor, poses: np.ndarray | None
) -> tuple[Survey | None, list[str]]:
    """The camera's way, None where it stood still, and sentences on what was assumed.

    Args:
        network: Estimates depth.
        clip: The film.
        fov_x_rad: Horizontal [rad].
        intrinsics: Shape ``(3, 3)``, on the network's device.
        poses: Known ones relative to the first camera, translation [m], shape ``(N, 4, 4)``; None where they are to be
            found out of the film.

    Raises:
        InputError: The camera moved, and no poses explain how.
        MissingDependencyError: The camera moved, no poses are given, and open3d is not installed.
    """
    if poses is None:
        steadiness = find_steadiness(clip.frames)
        if not steadiness.is_known:
            return None, ["the film shows too little texture to tell whether the camera stood still; it was taken to."]
        if steadiness.is_still:
            return None, []
    windows = [clip.window(time, 1).to(intrinsics.device) for time in range(len(clip))]
    depth = torch.cat([estimate_frame_depth(network, frame, fov_x_rad) for frame in windows])
    found = find_poses(clip.frames, depth, intrinsics) if poses is None else poses
    camera_to_first = torch.from_numpy(found).to(depth)
    depth = agreeing_depth(depth, intrinsics, camera_to_first)
    whose = "that odometry finds" if poses is None else "that were given"
    note = f"the camera moves; its poses are those {whose}."
    if poses is not None:
        # Their metres are measured, those of the depth are guessed.
        scale = fitting_scale(clip.frames, depth, intrinsics, camera_to_first)
        depth = agreeing_depth(scale * depth, intrinsics, camera_to_first)
        note += f" They scale the estimated depth by {scale:.2f}."
    depth = depth.clamp(MIN_DEPTH_M, MAX_DEPTH_M)
    agreement = find_agreement(clip.frames, depth, intrinsics, camera_to_first)
    if not agreement.is_known:
        if poses is None:
            raise InputError(
                "the camera moves, and too little of what it shows stays in view to tell how. Give its poses with "
                "--poses, or a part of the film in which it stands still."
            )
        note += " The film shows too little texture to check them."
    elif not agreement.is_still:
        raise InputError(
            f"the camera moves, and the poses {whose} do not explain how: {agreement.moved_share:.0%} of the textured "
            f"picture is elsewhere at some time, by {agreement.shift_px:.1f} pixels of {clip.frames.shape[2]}. Give "
            "poses in metres, and --fov if it is known, or a part of the film in which the camera stands still."
        )
    return Survey(camera_to_first, depth), [note]
