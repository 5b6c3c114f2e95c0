"""How movers move: planar poses of links over a clip, in closed form.

A pose is ``(yaw, x, y, z)`` [rad, m]: a turn about +Z, then a shift.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from omni_gen3d.training.movers import LINKS


class Amounts(NamedTuple):
    """What one mover does during a clip; all shapes are ``(...)``.

    Attributes:
        scale: Of its size.
        travel: Way of the foot [m], negative for backwards.
        turn: Of the foot on the way [rad].
        shoulder, elbow: Turns of the links [rad].
        shoulder_from, elbow_from: Where those turns begin [rad].
        lift, belt: Ways of the links [m].
    """

    scale: torch.Tensor
    travel: torch.Tensor
    turn: torch.Tensor
    shoulder: torch.Tensor
    elbow: torch.Tensor
    shoulder_from: torch.Tensor
    elbow_from: torch.Tensor
    lift: torch.Tensor
    belt: torch.Tensor


def compose(outer: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    """The pose of something at ``inner`` in a frame at ``outer``; both ``(..., 4)``."""
    cos, sin = outer[..., 0].cos(), outer[..., 0].sin()
    return torch.stack(
        [
            outer[..., 0] + inner[..., 0],
            outer[..., 1] + inner[..., 1] * cos - inner[..., 2] * sin,
            outer[..., 2] + inner[..., 1] * sin + inner[..., 2] * cos,
            outer[..., 3] + inner[..., 3],
        ],
        -1,
    )


def pose_matrix(pose: torch.Tensor) -> torch.Tensor:
    """``(..., 4)`` as homogeneous matrices ``(..., 4, 4)``."""
    cos, sin, zero, one = pose[..., 0].cos(), pose[..., 0].sin(), torch.zeros_like(pose[..., 0]), pose[..., 0] * 0 + 1
    x, y, z = pose[..., 1:].unbind(-1)
    rows = [cos, -sin, zero, x, sin, cos, zero, y, zero, zero, one, z, zero, zero, zero, one]
    return torch.stack(rows, -1).unflatten(-1, (4, 4))


def link_poses(amounts: Amounts, middle: torch.Tensor, elbow_at: torch.Tensor, phase: torch.Tensor) -> torch.Tensor:
    """Poses of all ``LINKS`` in the world.

    Args:
        amounts: Of shape ``(...)`` each.
        middle: Pose of the foot halfway, shape ``(..., 4)``.
        elbow_at: x of the elbow's axis [m, before scaling], shape ``(...)``.
        phase: Share of the motion that is done, in [0, 1], shape ``(..., T)``.

    Returns:
        Shape ``(..., T, 5, 4)``.
    """
    along, zero = phase - 0.5, torch.zeros_like(phase)
    travel, turn = amounts.travel[..., None], amounts.turn[..., None] * along
    # An arc of constant curvature; sinc keeps the straight line in its limit.
    ahead = travel * along * torch.sinc(turn / torch.pi)
    aside = travel * along * (turn / 2).sin() * torch.sinc(turn / (2 * torch.pi))
    foot = compose(middle[..., None, :], torch.stack([turn, ahead, aside, zero], -1))

    def turning(begin: torch.Tensor, amount: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        yaw = begin[..., None] + amount[..., None] * phase
        return torch.stack([yaw, x[..., None].expand_as(yaw), zero, zero], -1)

    shoulder = compose(foot, turning(amounts.shoulder_from, amounts.shoulder, torch.zeros_like(elbow_at)))
    elbow = compose(shoulder, turning(amounts.elbow_from, amounts.elbow, elbow_at * amounts.scale))
    lift = compose(foot, torch.stack([zero, zero, zero, amounts.lift[..., None] * phase], -1))
    belt = compose(foot, torch.stack([zero, amounts.belt[..., None] * phase, zero, zero], -1))
    poses = {"foot": foot, "shoulder": shoulder, "elbow": elbow, "lift": lift, "belt": belt}
    return torch.stack([poses[name] for name in LINKS], -2)


def rolling_turns(center: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """Rotations of a ball that rolls without slipping over a level floor.

    Args:
        center: Positions over time [m], shape ``(B, T, 3)``.
        radius: [m], shape ``(B,)``.

    Returns:
        Body to world, shape ``(B, T, 3, 3)``; the first is the identity.
    """
    step = torch.diff(center[..., :2], dim=1)
    axis = torch.stack([-step[..., 1], step[..., 0], torch.zeros_like(step[..., 0])], -1)
    angles = axis / radius.clamp(min=1e-3)[:, None, None]
    x, y, z = angles.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    turns = [torch.eye(3, device=center.device).expand(len(center), 3, 3)]
    for turn in torch.linalg.matrix_exp(skew).unbind(1):
        turns.append(turn @ turns[-1])
    return torch.stack(turns, 1)
