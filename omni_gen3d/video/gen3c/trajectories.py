"""The six trajectories of the Lyra release to the letter, with what its checkpoints were trained on by accident.

They differ from the mini model's in two ways. The straight ones end one frame before their full distance, and a camera
at ``p`` with rotation R has the world-to-camera translation ``-p`` where ``-R p`` would be right, so that it stands at
``R^T p``. Rotations are small, and so is the difference; what matters is that the decoder has seen it so.
"""

from __future__ import annotations

import torch

from omni_gen3d.video.trajectories import centre_facing, sample_distances, trajectory_positions

# The release's decoder takes the spiral first: its frame 0 is the reference camera.
DECODER_ORDER = (5, 0, 1, 2, 3, 4)
_STRAIGHT = 5


def release_trajectories(num_frames: int, generator: torch.Generator) -> torch.Tensor:
    """Camera to first camera in the order of ``TRAJECTORY_NAMES``, lengths in centre depths, shape ``(6, L, 4, 4)``."""
    device = generator.device
    positions = trajectory_positions(sample_distances(1, generator, device)[0], num_frames)
    positions[:_STRAIGHT] *= (num_frames - 1) / num_frames
    return release_cameras(positions)


def release_cameras(positions: torch.Tensor) -> torch.Tensor:
    """Cameras that face the centre from ``positions (..., 3)``, as the release places them, ``(..., 4, 4)``."""
    camera_to_first = centre_facing(positions)
    rotation = camera_to_first[..., :3, :3]
    camera_to_first[..., :3, 3] = (rotation @ positions[..., None])[..., 0]
    return camera_to_first
