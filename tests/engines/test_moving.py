"""A wagon that drives through an environment pushes what stands in its way, in PhysX and in Newton."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from pxr import Usd

from omni_gen3d.envs.player import pose_at
from omni_gen3d.usd import write_environment
from omni_gen3d.usd.bodies import read_tracks
from omni_gen3d.usd.overrides import override_motion


def test_the_wagon_pushes_the_box(push_box, wagon_scene, tmp_path: Path):
    """The wagon drives from y = -1 to 0.98 in 2 s. A box at the origin ends before its front, more than a metre on;
    with the wagon removed it stays where it was."""
    slow = dataclasses.replace(wagon_scene.gaussians, frames_per_second=1.5)
    usd = write_environment(dataclasses.replace(wagon_scene, gaussians=slow), tmp_path / "env")
    (x, y, z), moving = push_box(usd, (0.0, 0.0), 2.0, lambda stage, root: override_motion(stage, root))
    assert 1.05 < y < 2.0 and abs(x) < 0.3 and 0.05 < z < 0.2 and moving == ["wagon"], (x, y, z)
    end, moving = push_box(usd, (0.0, 0.0), 2.0, lambda stage, root: override_motion(stage, root, removed=[0]))
    np.testing.assert_allclose(end, [0.0, 0.0, 0.1], atol=0.01)
    assert moving == []


def test_poses_between_and_beyond(wagon_scene, tmp_path: Path):
    """Halfway in time a body is halfway; before and after it stays, with a period it begins again; what is absent
    waits far below."""
    usd = write_environment(wagon_scene, tmp_path / "env")
    (track,) = read_tracks(Usd.Stage.Open(str(usd)))
    true = wagon_scene.gaussians.parts[0].to_world
    for seconds, place in ((0.0, true[0]), (0.05, (true[0] + true[1]) / 2), (0.3, true[3]), (9.0, true[3])):
        np.testing.assert_allclose(pose_at(track, seconds)[0], place[:3, 3], atol=1e-6)
    np.testing.assert_allclose(pose_at(track, 0.5, period=0.4)[0], true[1, :3, 3], atol=1e-6)
    gone = dataclasses.replace(track, present=np.zeros(4, np.bool_))
    assert pose_at(gone, 0.0)[0][2] < -900
