"""Where the camera of a film was: read from a file of poses, asked for at any time.

Two kinds of file: the text of the TUM RGB-D benchmark (Sturm et al. 2012), and JSON. Both hold camera to world, OpenCV
axes (x right, y down, z forward), in metres; the first pose belongs to the film's first frame. The file is untrusted.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from omni_gen3d.errors import InputError

# A pose for each of 30 frames a second, for an hour.
MAX_POSES = 108_000
_MAX_BYTES = 64_000_000
_KEYS = ("camera_to_world", "seconds", "frames_per_second")
# A rotation is one up to this much in any entry of R^T R.
_ROUNDING = 1e-3
# A film may outlast its poses by this, a frame at 10 a second: the last pose holds [s].
_LATE_S = 0.1


@dataclass(frozen=True)
class CameraPath:
    """Poses of a camera that moves.

    Attributes:
        seconds: Since the first pose, ascending from 0, shape ``(N,)``.
        camera_to_world: OpenCV axes, translation [m], shape ``(N, 4, 4)``, float64.
    """

    seconds: np.ndarray
    camera_to_world: np.ndarray

    def camera_to_first(self, seconds: np.ndarray) -> np.ndarray:
        """Poses relative to the first one, evenly between those that are known, ``(M,)`` to ``(M, 4, 4)``.

        Raises:
            InputError: A time lies more than a tenth of a second after the last pose.
        """
        last = float(self.seconds[-1])
        if seconds.max() > last + _LATE_S:
            raise InputError(f"the poses end after {last:.3g} s, the film is used up to {seconds.max():.3g} s.")
        when = np.minimum(seconds, last)
        poses = np.linalg.inv(self.camera_to_world[0]) @ self.camera_to_world
        between = np.tile(np.eye(4), (len(when), 1, 1))
        between[:, :3, :3] = Slerp(self.seconds, Rotation.from_matrix(poses[:, :3, :3]))(when).as_matrix()
        between[:, :3, 3] = np.stack([np.interp(when, self.seconds, poses[:, k, 3]) for k in range(3)], 1)
        return between


def read_camera_path(path: Path | str) -> CameraPath:
    """Read poses: JSON where the name ends in .json, else TUM's text.

    JSON holds ``camera_to_world``, a list of 4x4 matrices in rows, and either ``seconds``, a list of as many times, or
    ``frames_per_second``. A line of text is ``timestamp tx ty tz qx qy qz qw``; # begins a comment.

    Raises:
        InputError: The file is missing or too large, is of another form, or holds fewer than 2 poses, times that do
            not ascend, or what is no rigid motion.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"the poses {path} are {path.stat().st_size} bytes; at most {_MAX_BYTES} are read.")
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise InputError(f"the file of poses {path} does not exist.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the poses {path} cannot be read: {' '.join(str(error).split())}.") from error
    seconds, matrices = _from_json(path, text) if path.suffix.lower() == ".json" else _from_tum(path, text)
    return _checked(path, seconds, matrices)


def _from_json(path: Path, text: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the poses {path} are no JSON: {error}.") from error
    if not isinstance(content, dict) or not set(content) <= set(_KEYS):
        held = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise InputError(f"the poses {path} hold {held}; an object of {', '.join(_KEYS)} is needed.")
    matrices = _numbers(path, "camera_to_world", content.get("camera_to_world"))
    if matrices.ndim != 3 or matrices.shape[1:] != (4, 4):
        raise InputError(f"camera_to_world of {path} has the shape {matrices.shape}; (N, 4, 4) is needed.")
    if ("seconds" in content) == ("frames_per_second" in content):
        raise InputError(f"the poses {path} need either seconds or frames_per_second, and not both.")
    if "seconds" in content:
        return _numbers(path, "seconds", content["seconds"]), matrices
    rate = _numbers(path, "frames_per_second", content["frames_per_second"])
    if rate.ndim or not (math.isfinite(rate) and rate > 0):
        raise InputError(f"frames_per_second of {path} is {content['frames_per_second']}; it must be positive.")
    return np.arange(len(matrices)) / float(rate), matrices


def _numbers(path: Path, name: str, values: Any) -> np.ndarray:
    try:
        return np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name} of {path} does not hold numbers alone, or its rows differ in length.") from error


def _from_tum(path: Path, text: str) -> tuple[np.ndarray, np.ndarray]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        try:
            row = [float(word) for word in words]
        except ValueError:
            row = []
        if len(row) != 8:
            raise InputError(f"line {number} of {path} is {line[:60]!r}; timestamp tx ty tz qx qy qz qw is needed.")
        rows.append(row)
    table = np.array(rows).reshape(-1, 8)
    lengths = np.linalg.norm(table[:, 4:], axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) < 0.01))
    if len(wrong):
        raise InputError(f"quaternion {wrong[0]} of {path} has the length {lengths[wrong[0]]:.3g}; it must be 1.")
    matrices = np.tile(np.eye(4), (len(table), 1, 1))
    if len(table):
        matrices[:, :3, :3] = Rotation.from_quat(table[:, 4:]).as_matrix()
        matrices[:, :3, 3] = table[:, 1:4]
    return table[:, 0], matrices


def _checked(path: Path, seconds: np.ndarray, matrices: np.ndarray) -> CameraPath:
    if not 2 <= len(matrices) <= MAX_POSES:
        raise InputError(f"the file {path} holds {len(matrices)} poses; 2 to {MAX_POSES} are needed.")
    if seconds.shape != (len(matrices),):
        raise InputError(f"the file {path} holds {len(matrices)} poses and times of the shape {seconds.shape}.")
    if not np.isfinite(seconds).all() or (np.diff(seconds) <= 0).any():
        raise InputError(f"the times of {path} do not ascend.")
    if not np.isfinite(matrices).all():
        raise InputError(f"pose {int(np.argmin(np.isfinite(matrices).all((1, 2))))} of {path} is not finite.")
    turns = matrices[:, :3, :3]
    off = np.abs(turns @ turns.transpose(0, 2, 1) - np.eye(3)).max((1, 2))
    rigid = (off < _ROUNDING) & (np.linalg.det(turns) > 0)
    rigid &= np.abs(matrices[:, 3] - [0, 0, 0, 1]).max(1) < _ROUNDING
    if not rigid.all():
        raise InputError(
            f"pose {int(np.argmin(rigid))} of {path} is no rigid motion; rotation and translation [m] in rows, the "
            "last one 0 0 0 1, are needed."
        )
    exact = matrices.copy()
    exact[:, :3, :3] = Rotation.from_matrix(turns).as_matrix()
    return CameraPath(seconds - seconds[0], exact)
