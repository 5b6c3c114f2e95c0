"""Files of camera poses: both kinds are read, what lies between is filled in, and what is wrong is one clear error."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from omni_gen3d.errors import InputError
from omni_gen3d.video.camera_path import read_camera_path


def turning(count: int) -> np.ndarray:
    """A camera that starts away from the origin, goes 10 cm a pose and turns 5 degrees about y."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(np.radians(5) * np.arange(count)[:, None] * [0, 1, 0]).as_matrix()
    poses[:, :3, 3] = [[1 + 0.1 * i, 2, 3] for i in range(count)]
    return poses


def as_json(path: Path, poses: np.ndarray, **more: object) -> Path:
    path.write_text(json.dumps({"camera_to_world": poses.tolist(), **more}))
    return path


def as_tum(path: Path, poses: np.ndarray, seconds: np.ndarray) -> Path:
    quats = Rotation.from_matrix(poses[:, :3, :3]).as_quat()
    rows = [" ".join(f"{x:.9f}" for x in (t, *p[:3, 3], *q)) for t, p, q in zip(seconds, poses, quats, strict=True)]
    path.write_text("# timestamp tx ty tz qx qy qz qw\n" + "\n".join(rows) + "\n")
    return path


def test_both_kinds_say_the_same(tmp_path: Path) -> None:
    """JSON with a rate, JSON with times and TUM's text with absolute stamps hold one path; it begins at the identity,
    and between two poses the camera goes and turns evenly."""
    poses = turning(5)
    paths = [
        read_camera_path(as_json(tmp_path / "a.json", poses, frames_per_second=10)),
        read_camera_path(as_json(tmp_path / "b.json", poses, seconds=[7 + 0.1 * i for i in range(5)])),
        read_camera_path(as_tum(tmp_path / "c.txt", poses, 1.7e9 + 0.1 * np.arange(5))),
    ]
    for path in paths:
        first, half = path.camera_to_first(np.array([0.0, 0.15]))
        np.testing.assert_allclose(first, np.eye(4), atol=1e-5)
        np.testing.assert_allclose(half[:3, 3], [0.15, 0, 0], atol=1e-5)
        assert math.degrees(math.acos(half[0, 0])) == pytest.approx(7.5, abs=1e-3)


def test_a_film_may_not_outlast_its_poses(tmp_path: Path) -> None:
    """Within a tenth of a second the last pose holds; beyond it both lengths are named."""
    path = read_camera_path(as_json(tmp_path / "a.json", turning(5), frames_per_second=10))
    np.testing.assert_array_equal(*path.camera_to_first(np.array([0.4, 0.45])))
    with pytest.raises(InputError, match=r"end after 0.4 s, the film is used up to 0.8 s"):
        path.camera_to_first(np.array([0.0, 0.8]))


EYE = np.eye(4).tolist()
SHEARED = [[1, 0.5, 0, 0], *EYE[1:]]
BROKEN = {
    "no JSON": ("{", "are no JSON"),
    "a list": ("[1, 2]", "hold list; an object"),
    "another key": (json.dumps({"poses": [EYE, EYE]}), "hold poses; an object"),
    "words": (json.dumps({"camera_to_world": ["a", "b"], "seconds": [0, 1]}), "does not hold numbers alone"),
    "ragged": (json.dumps({"camera_to_world": [EYE, EYE[:2]], "seconds": [0, 1]}), "rows differ in length"),
    "3 rows": (json.dumps({"camera_to_world": [EYE[:3], EYE[:3]], "seconds": [0, 1]}), r"shape \(2, 3, 4\)"),
    "no times": (json.dumps({"camera_to_world": [EYE, EYE]}), "either seconds or frames_per_second"),
    "no rate": (json.dumps({"camera_to_world": [EYE, EYE], "frames_per_second": 0}), "must be positive"),
    "one pose": (json.dumps({"camera_to_world": [EYE], "seconds": [0]}), "holds 1 poses"),
    "one time": (json.dumps({"camera_to_world": [EYE, EYE], "seconds": [0]}), "2 poses and times"),
    "backwards": (json.dumps({"camera_to_world": [EYE, EYE], "seconds": [1, 0]}), "do not ascend"),
    "sheared": (json.dumps({"camera_to_world": [EYE, SHEARED], "seconds": [0, 1]}), "pose 1 .* no rigid motion"),
    "endless": ('{"camera_to_world": [' + json.dumps(EYE) + ", [[NaN,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]], "
                '"seconds": [0, 1]}', "pose 1 .* not finite"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_json(tmp_path: Path, kind: str) -> None:
    """Each is an InputError that says what was wrong."""
    content, message = BROKEN[kind]
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_camera_path(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0 0 0 0 0 0 1\n", "line 1"),
        ("# ok\n0 0 0 0 0 0 0 1\n1 a 0 0 0 0 0 1\n", "line 3"),
        ("0 0 0 0 0 0 0 1\n1 0 0 0 0 0 0 2\n", "quaternion 1 .* length 2"),
        ("", "holds 0 poses"),
    ],
)
def test_broken_text(tmp_path: Path, content: str, message: str) -> None:
    """The line, or the pose, is named."""
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(InputError, match=message):
        read_camera_path(tmp_path / "a.txt")


def test_no_file(tmp_path: Path) -> None:
    """A missing file and one that is no text."""
    with pytest.raises(InputError, match="does not exist"):
        read_camera_path(tmp_path / "none.json")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        read_camera_path(tmp_path / "a.txt")
