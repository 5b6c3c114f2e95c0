"""A camera moves through a room whose depth is known: its way is found, right poses are taken, wrong ones refused."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
import torch

from omni_gen3d.errors import InputError, MissingDependencyError
from omni_gen3d.geometry import intrinsics_from_fov
from omni_gen3d.video import survey
from omni_gen3d.video.cache4d import warp_video
from omni_gen3d.video.clip import Clip
from omni_gen3d.video.odometry import find_poses
from omni_gen3d.video.survey import survey_film

HEIGHT, WIDTH, COUNT = 176, 320, 7
FOV = math.radians(67)
LENS = intrinsics_from_fov(FOV, WIDTH, HEIGHT).float()


@pytest.fixture(scope="module")
def walk(filmed_room: Any) -> tuple[Clip, torch.Tensor, np.ndarray]:
    """The film, its true depth, and where the camera was."""
    room = filmed_room(COUNT, 0.03)
    return Clip(room.frames, 8.0, FOV, "0" * 64), room.depth, room.camera_to_first


@pytest.fixture
def eyesight(walk: Any, monkeypatch: pytest.MonkeyPatch):
    """Depth as a network may see it: right up to a scale of the whole film and a little one of every frame."""

    def of_scale(scale: float) -> None:
        _, depth, _ = walk
        wobble = 1 + 0.01 * torch.tensor([0, 1, -1, 0, 1, 0, -1])[:, None, None]
        seen = iter(scale * wobble * depth)
        monkeypatch.setattr(survey, "estimate_frame_depth", lambda *_: next(seen)[None])

    return of_scale


def taken(clip: Clip, poses: np.ndarray | None):
    return survey_film(None, clip, FOV, LENS, poses)  # pyright: ignore[reportArgumentType]


def test_odometry_finds_the_way(walk: Any) -> None:
    """After 20 cm the camera is found within 1 cm, its turn within half a degree."""
    clip, depth, path = walk
    found = find_poses(clip.frames, depth, LENS)
    assert np.linalg.norm(found[-1, :3, 3] - path[-1, :3, 3]) < 0.01
    turn = np.trace(found[-1, :3, :3] @ path[-1, :3, :3].T)
    assert math.degrees(math.acos(min(1.0, (turn - 1) / 2))) < 0.5


def test_a_way_out_of_the_film(walk: Any, eyesight: Any) -> None:
    """Without poses the camera's way is that of odometry, and a note says so; depth that wobbles by a hundredth costs
    some centimetres."""
    clip, _, path = walk
    eyesight(1.0)
    found, notes = taken(clip, None)
    assert found is not None and "odometry" in notes[0]
    assert float((found.camera_to_first[-1, :3, 3] - torch.from_numpy(path[-1, :3, 3])).norm()) < 0.08


def test_static_parts_coincide(walk: Any, eyesight: Any) -> None:
    """With poses the depth gets their scale, and every frame seen from the first camera shows the same room: within 4 %
    in depth in the middle, where without poses it is elsewhere."""
    clip, depth, path = walk
    eyesight(0.7)
    found, notes = taken(clip, path)
    assert found is not None and "1.4" in notes[0]
    film, here = clip.window(0, COUNT)[None], torch.eye(4).expand(1, COUNT, 4, 4)
    seen = warp_video(film, found.depth[None], LENS[None], here, found.camera_to_first[None])
    known = seen.mask[0, 0] > 0.5
    assert known.float().mean() > 0.8
    off = (seen.depth[0, 0] / depth[0] - 1).abs()
    assert float(off[known].median()) < 0.04
    differs = (seen.rgb - film[:, :, :1]).abs().mean(1)[0]
    still = (film - film[:, :, :1]).abs().mean(1)[0]
    assert float(differs[-1][known[-1]].mean()) < 0.5 * float(still[-1].mean())


def test_windows_hang_together(walk: Any, eyesight: Any) -> None:
    """A window's poses are relative to its first frame, whose own pose leads on; past the end the last frame stays."""
    clip, _, path = walk
    eyesight(1.0)
    found, _ = taken(clip, path)
    assert found is not None
    depth, source, pose = found.window(4, 5)
    assert depth.shape == (5, HEIGHT, WIDTH) and torch.equal(depth[2], depth[4])
    np.testing.assert_allclose(source[0], np.eye(4), atol=1e-6)
    np.testing.assert_allclose((pose @ source[2]).numpy(), path[6], atol=1e-5)


@pytest.mark.parametrize("wrong", ["mirrored", "resting"])
def test_wrong_poses_are_refused(walk: Any, eyesight: Any, wrong: str) -> None:
    """Poses that go the other way, and poses that go nowhere, do not explain the film; the reason is a number."""
    clip, _, path = walk
    eyesight(1.0)
    poses = np.linalg.inv(path) if wrong == "mirrored" else np.tile(np.eye(4), (COUNT, 1, 1))
    with pytest.raises(InputError, match=r"poses that were given do not explain how: \d+% .* by [\d.]+ pixels"):
        taken(clip, poses)


def test_a_cut_is_refused(walk: Any, eyesight: Any) -> None:
    """A film of two places has no way from one to the other."""
    clip, _, _ = walk
    eyesight(1.0)
    frames = clip.frames.copy()
    frames[4:] = frames[4:, ::-1, ::-1]
    with pytest.raises(InputError, match="the camera moves, and"):
        taken(Clip(frames, 8.0, FOV, "0" * 64), None)


def test_without_open3d(walk: Any, eyesight: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where open3d does not load, the error names what to install and the way around it."""
    eyesight(1.0)
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(MissingDependencyError, match=r"--poses, or run: pip install 'omni_gen3d\[odometry\]'"):
        taken(walk[0], None)
