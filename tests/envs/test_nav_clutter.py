"""Clutter, light and noise in the navigation environment: seen, collided with, and back to the byte from a record."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from pxr import Usd

from omni_gen3d.envs.applying import apply_to_cameras, apply_to_stage
from omni_gen3d.envs.clutter import Pool
from omni_gen3d.envs.courses import lay_course
from omni_gen3d.envs.entry import Entry, Pose
from omni_gen3d.envs.eyes import RobotCamera
from omni_gen3d.envs.nav import Gen3DNavEnv, NavTask
from omni_gen3d.envs.occupancy import FREE, UNKNOWN, OccupancyMap
from omni_gen3d.envs.ranges import (
    AppearanceRanges,
    CameraRanges,
    ClutterRanges,
    LightRanges,
    PlacementRanges,
    Randomization,
    Range,
)
from omni_gen3d.envs.sample import Thing
from omni_gen3d.errors import InputError
from omni_gen3d.geometry import transform_cameras
from omni_gen3d.render.delegate import SplatRenderDelegate

CAMERA = RobotCamera(size=24)
TASK = NavTask(depth=True, camera=CAMERA, goal_distance=(0.5, 2.5), steps=6)
RANGES = Randomization(
    appearance=AppearanceRanges(exposure=Range(-0.5, 0.5), hue=Range(-0.3, 0.3)),
    placement=PlacementRanges(scale=Range(0.9, 1.2), yaw=Range(-3.0, 3.0)),
    clutter=ClutterRanges(count=Range(3, 5), scale=Range(0.6, 1.0), clearance=0.4),
    light=LightRanges(sun=Range(200, 2000), azimuth=Range(-3, 3), warmth=Range(-0.5, 0.5)),
    camera=CameraRanges(noise=Range(0.02, 0.05)),
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """A crate and a post."""
    folder = tmp_path_factory.mktemp("pool")
    trimesh.creation.box((0.3, 0.3, 0.4)).export(folder / "crate.ply")
    trimesh.creation.cylinder(0.1, 0.9, sections=12).export(folder / "post.ply")
    return Pool.read(folder)


def assert_same(a: dict[str, Any], b: dict[str, Any], robots: Any = slice(None)) -> None:
    for name in a:
        np.testing.assert_array_equal(a[name], b[name][robots])


def test_a_record_from_the_middle_replays_elsewhere(rooms: list[Entry], pool: Pool) -> None:
    """Records that began at different steps give their steps again, noise included, beside other robots."""
    env = Gen3DNavEnv(rooms, 3, task=TASK, randomization=RANGES, pool=pool, device="cpu")
    env.reset(seed=7)
    forward = np.tile([0.6, 0.3], (3, 1))
    for _ in range(4):
        env.step(forward)
    assert len({len(episode.sample.clutter) for episode in env.episodes} - {0}) >= 1
    records = list(env.episodes)
    first, _ = env.reset(options={"episodes": records})
    second = env.step(forward)[0]
    alone = Gen3DNavEnv(rooms, 1, task=TASK, randomization=RANGES, pool=pool, device="cpu")
    for robot, record in enumerate(records):
        again, _ = alone.reset(options={"episodes": [record]})
        assert_same(again, first, [robot])
        if not env._done[robot]:
            assert_same(alone.step(forward[:1])[0], second, [robot])
    assert not np.array_equal(first["rgb"], second["rgb"])


def test_a_picture_is_that_of_the_sample_on_a_stage(rooms: list[Entry], pool: Pool) -> None:
    """A robot sees what the delegate draws of the environment's own stage with the sample applied."""
    ranges = replace(RANGES, camera=CameraRanges(), appearance=AppearanceRanges(exposure=Range(-0.5, 0.5)))
    env = Gen3DNavEnv(rooms, 2, task=TASK, randomization=ranges, pool=pool, device="cpu")
    things = 0
    for seed in (1, 2):
        seen, _ = env.reset(seed=seed)
        for robot, episode in enumerate(env.episodes):
            sample = episode.sample
            entry = next(entry for entry in rooms if entry.id == sample.environment)
            stage = Usd.Stage.Open(str(entry.usd))
            stage.GetPrimAtPath("/World/Environment").GetVariantSets().SetSelection("collision", "none")
            apply_to_stage(stage, sample, pool=pool)
            cos, sin = math.cos(episode.start.yaw), math.sin(episode.start.yaw)
            turn = torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
            start = torch.tensor([*episode.start.position[:2], 0.0])
            camera = transform_cameras(apply_to_cameras(CAMERA.on_robot(), sample.camera), turn, start)
            with SplatRenderDelegate(stage, "cpu") as delegate:
                frame = delegate.render(camera, aovs=("color", "depth", "prim_id"))
            off = np.abs(seen["rgb"][robot] - 255.0 * frame.aovs["color"][0].clip(0, 1))
            assert np.percentile(off, 95) <= 1.5
            shown = [frame.prim_paths[i] for i in np.unique(frame.aovs["prim_id"]) if i >= 0]
            mine = np.isin(frame.aovs["prim_id"][0], [i for i, p in enumerate(frame.prim_paths) if "thing_" in p])
            np.testing.assert_allclose(
                seen["depth"][robot, ..., 0][mine], frame.aovs["depth"][0][mine], rtol=1e-3, atol=2e-3
            )
            things += sum("thing_" in path for path in shown)
    assert things >= 2
    assert env._eyes is not None and env._eyes._delegate.counts.splats_loaded == len(
        rooms
    )  # the splats of a room are held once


def test_things_stop_robots(rooms: list[Entry], pool: Pool) -> None:
    """A robot that drives at a crate touches it where it stands, in a scene that is turned and scaled, too."""
    task = NavTask(camera=RobotCamera(size=8), goal_distance=(0.5, 2.5), steps=40, collision="costs")
    env = Gen3DNavEnv(rooms[:1], 2, task=task, randomization=RANGES, pool=pool, device="cpu")
    env.reset(seed=0)
    episodes = []
    crate = pool.meshes[0]
    for episode in env.episodes:
        placement = episode.sample.placement
        start = placement.move(Pose((-1.5, -1.0, 0.0), 0.0))
        thing = Thing(crate.name, crate.sha256, (-0.4, -1.0, 0.202), 0.0, 1.0, (0.5, 0.5, 0.5))
        episodes.append(replace(episode, sample=replace(episode.sample, spawn=start, clutter=(thing,))))
    env.reset(options={"episodes": episodes})
    for _ in range(12):
        env.step(np.tile([1.0, 0.0], (2, 1)))
    for robot, episode in enumerate(episodes):
        placement = episode.sample.placement
        way = np.hypot(*(env._robots.pose[robot, :2].numpy() - np.array(episode.start.position[:2])))
        assert way == pytest.approx(placement.scale * (1.1 - 0.15) - task.body.radius, abs=0.02)
    assert env._robots.touching.all()


def test_a_way_leads_around_what_does_not_close_it() -> None:
    """In a corridor of 0.8 m one disc leaves a way, a wider one or two together close it."""
    cells = np.full((40, 12), UNKNOWN, np.uint8)
    cells[2:38, 2:10] = FREE
    course = lay_course(OccupancyMap(cells, (0.0, 0.0), 0.1), goal_distance=(0.5, 3.5))
    assert course is not None
    ends = (0.35, 0.5), (3.55, 0.5)
    assert course.connects(*ends, []) and course.connects(*ends, [(2.0, 0.2, 0.3)])
    assert not course.connects(*ends, [(2.0, 0.5, 0.6)])
    assert not course.connects(*ends, [(2.0, 0.2, 0.42), (2.05, 0.9, 0.42)])


def test_records_beyond_the_ranges_are_refused(rooms: list[Entry], pool: Pool) -> None:
    """Clutter without a pool, and a record with clutter in an environment whose ranges have none."""
    with pytest.raises(InputError, match="no meshes are named"):
        Gen3DNavEnv(rooms[:1], 1, task=TASK, randomization=RANGES, device="cpu")
    env = Gen3DNavEnv(rooms[:1], 1, task=TASK, randomization=RANGES, pool=pool, device="cpu")
    env.reset(seed=0)
    plain = Gen3DNavEnv(rooms[:1], 1, task=TASK, device="cpu")
    with pytest.raises(InputError, match="the ranges allow 0"):
        plain.reset(options={"episodes": env.episodes})
    lit = replace(env.episodes[0], sample=replace(env.episodes[0].sample, clutter=()))
    with pytest.raises(InputError, match="clutter or light"):
        plain.reset(options={"episodes": [lit]})


def test_a_folder_in_the_ranges_is_enough(rooms: list[Entry], pool: Pool, tmp_path: Path) -> None:
    """The pool that the ranges name is that of the environment."""
    trimesh.creation.box((0.2, 0.2, 0.2)).export(tmp_path / "cube.ply")
    assert RANGES.clutter is not None
    ranges = Randomization(clutter=replace(RANGES.clutter, pool=str(tmp_path)))
    env = Gen3DNavEnv(rooms[:1], 2, task=TASK, randomization=ranges, device="cpu")
    env.reset(seed=0)
    assert {thing.mesh for episode in env.episodes for thing in episode.sample.clutter} == {"cube.ply"}
