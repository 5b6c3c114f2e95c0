"""Plays the moving parts of environments in engines that do not follow time samples: they push what they meet.

An engine is stepped as ever; before each step the player moves every kinematic body to where it is at the end of it::

    player = NewtonPlayer(model, read_tracks(stage))
    player.move(state, seconds, dt)          # then collide and step

A part that is not in the scene waits far below the floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from omni_gen3d.errors import InputError

if TYPE_CHECKING:
    from omni_gen3d.usd.bodies import BodyTrack

# Where absent bodies wait, below their place [m].
_BELOW_M = 1000.0
# Between two steps nothing moves farther than this, unless it comes or goes [m]; then it is put there at rest.
_JUMP_M = 100.0


def pose_at(track: BodyTrack, seconds: float, period: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Position [m] ``(3,)`` and rotation xyzw ``(4,)`` of a body; before its first and after its last time it stays.

    Args:
        track: Of the body.
        seconds: Time.
        period: Begin again after so many seconds; None plays once.
    """
    if period is not None:
        seconds = seconds % period
    seconds = float(np.clip(seconds, track.seconds[0], track.seconds[-1]))
    position = np.array([np.interp(seconds, track.seconds, track.to_world[:, axis, 3]) for axis in range(3)])
    turns = Rotation.from_matrix(track.to_world[:, :3, :3])
    turn = Slerp(track.seconds, turns)(seconds) if len(track.seconds) > 1 else turns[0]
    if not track.present[np.searchsorted(track.seconds, seconds, side="right") - 1]:
        position[2] -= _BELOW_M
    return position, turn.as_quat()


class NewtonPlayer:
    """Moves the bodies of a Newton model, with the velocities that carry and push what touches them."""

    def __init__(self, model: Any, tracks: Sequence[BodyTrack], period: float | None = None) -> None:
        """Find the bodies.

        Args:
            model: A finalized ``newton.Model`` that was built of the stage of the tracks.
            tracks: See ``usd.bodies.read_tracks``.
            period: See ``pose_at``.

        Raises:
            InputError: The model lacks a body.
        """
        self._tracks, self._period = tuple(tracks), period
        labels = {label: index for index, label in enumerate(model.body_label)}
        missing = [track.path for track in tracks if track.path not in labels]
        if missing:
            raise InputError(f"the model has no body {missing[0]}; build it of the stage that the tracks were read of.")
        self._indices = [labels[track.path] for track in tracks]
        self._centres = model.body_com.numpy()[self._indices] if tracks else np.zeros((0, 3))

    def move(self, state: Any, seconds: float, dt: float) -> None:
        """Put every body where it is at ``seconds + dt``, moving as it does in between.

        Args:
            state: The ``newton.State`` that is stepped from.
            seconds: Time before the step.
            dt: Length of the step [s].
        """
        if not self._tracks:
            return
        poses, velocities = state.body_q.numpy(), state.body_qd.numpy()
        for track, index, centre in zip(self._tracks, self._indices, self._centres, strict=True):
            before = pose_at(track, seconds, self._period)
            after = pose_at(track, seconds + dt, self._period)
            poses[index] = np.concatenate(after)
            velocities[index] = _velocity(before, after, centre, dt)
        state.body_q.assign(poses)
        state.body_qd.assign(velocities)


class PhysxPlayer:
    """Moves the bodies of a running ovphysx simulation by kinematic targets, on the CPU or with CPU readback."""

    def __init__(self, physx: Any, tracks: Sequence[BodyTrack], period: float | None = None) -> None:
        """Take over the bodies.

        Args:
            physx: An ``ovphysx.PhysX`` with the stage of the tracks attached.
            tracks: See ``usd.bodies.read_tracks``.
            period: See ``pose_at``.
        """
        self._physx, self._tracks, self._period = physx, tuple(tracks), period
        self._last: dict[str, np.ndarray] = {}

    def move(self, seconds: float, dt: float) -> None:
        """Have every body be where it is at ``seconds + dt`` after the next step.

        Args:
            seconds: Time before the step.
            dt: Length of the step [s].
        """
        for track in self._tracks:
            position, turn = pose_at(track, seconds + dt, self._period)
            last = self._last.get(track.path)
            if last is None or np.linalg.norm(position - last) > _JUMP_M:
                self._write("position", track.path, pose_at(track, seconds, self._period)[0])
                self._write("orientation", track.path, pose_at(track, seconds, self._period)[1])
            self._write("kinematicTargetPosition", track.path, position)
            self._write("kinematicTargetOrientation", track.path, turn)
            self._last[track.path] = position

    def _write(self, attribute: str, path: str, value: np.ndarray) -> None:
        from ovphysx.types import SimObjectType

        with self._physx.write_sync(SimObjectType.RIGID_BODY, [attribute], pattern=path) as session:
            for group in session.groups:
                if group.tensors:
                    group.tensors[0].assign(np.tile(value.astype(np.float32), (group.prim_count, 1)))
                    session.commit_sync(group)


def _velocity(
    before: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray], centre: np.ndarray, dt: float
) -> np.ndarray:
    """Linear velocity of the centre of mass [m/s] and angular velocity [rad/s] between two poses, ``(6,)``."""
    start, end = Rotation.from_quat(before[1]), Rotation.from_quat(after[1])
    shift = after[0] + end.apply(centre) - before[0] - start.apply(centre)
    if np.linalg.norm(shift) > _JUMP_M:
        return np.zeros(6)
    return np.concatenate([shift, (end * start.inv()).as_rotvec()]) / dt
