"""The navigation environment: what Gymnasium expects, the same bytes for the same seed, and records that replay."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from omni_gen3d.bench.nav_drivers import follow_map, head_on, success_rate
from omni_gen3d.envs.applying import apply_to_cameras, apply_to_gaussians
from omni_gen3d.envs.entry import Entry
from omni_gen3d.envs.eyes import RobotCamera
from omni_gen3d.envs.nav import Gen3DNavEnv, NavTask
from omni_gen3d.envs.ranges import AppearanceRanges, CameraRanges, ContactRanges, PlacementRanges, Randomization, Range
from omni_gen3d.errors import InputError
from omni_gen3d.geometry import transform_cameras
from omni_gen3d.render.delegate import SplatRenderDelegate
from omni_gen3d.usd import read_environment
from omni_gen3d.usd.splats import author_splats
from omni_gen3d.usd.stage import new_stage

RANGES = Randomization(
    appearance=AppearanceRanges(exposure=Range(-0.5, 0.5), hue=Range(-0.3, 0.3), contrast=Range(0.8, 1.0)),
    contact=ContactRanges(static_friction=Range(0.4, 1.0)),
    placement=PlacementRanges(scale=Range(0.9, 1.2), yaw=Range(-3.0, 3.0)),
    camera=CameraRanges(focal_scale=Range(0.9, 1.1), rotation=Range(-0.05, 0.05), position=Range(-0.02, 0.02)),
)
CAMERA = RobotCamera(size=24)
TASK = NavTask(depth=True, camera=CAMERA, goal_distance=(0.5, 2.5), steps=12)


def steer(observation: dict[str, np.ndarray]) -> np.ndarray:
    """Turn towards the goal and drive."""
    _, cos, sin, *_ = observation["state"].T
    return np.stack([np.clip(cos, 0, 1), np.clip(2 * np.arctan2(sin, cos), -1, 1)], -1)


def play(env: Gen3DNavEnv, seed: int, steps: int) -> list[Any]:
    """Everything that a seed and the steering give."""
    observation, _ = env.reset(seed=seed)
    told: list[Any] = [(observation,)]
    for _ in range(steps):
        observation, *rest, infos = env.step(steer(observation))
        told.append((observation, *rest, infos.get("final_info")))
    return told


def assert_same(a, b) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, tuple | list):
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        np.testing.assert_array_equal(a, b)


def test_a_seed_says_everything_and_records_replay(rooms: list[Entry]) -> None:
    """Two environments of one seed agree to the byte through resets; the records of one give its first frame again."""
    env, twin = (Gen3DNavEnv(rooms, 3, task=TASK, randomization=RANGES, device="cpu") for _ in range(2))
    told = play(env, 7, 14)
    assert_same(told, play(twin, 7, 14))
    assert any(step[-1] is not None for step in told[1:])
    assert env.observation_space.contains(told[0][0]) and env.observation_space.contains(told[-1][0])
    env.reset(seed=8)
    frame, _ = env.reset(options={"episodes": list(env.episodes)})
    again, _ = twin.reset(options={"episodes": list(env.episodes)})
    assert_same(frame, again)
    assert len({episode.sample.environment for episode in env.episodes}) > 1


def test_episodes_drawn_ahead_are_those_that_would_come(rooms: list[Entry]) -> None:
    """Preparing changes nothing of a series, and what was prepared is forgotten where another begins."""
    source = Gen3DNavEnv(rooms, 1, task=TASK, randomization=RANGES, device="cpu")._source
    source.restart(7)
    series = source.take(6)
    source.restart(7)
    source.prepare(4)
    assert source.take(1) + source.take(5) == series
    source.prepare(3)
    source.restart(7)
    assert source.take(6) == series


def test_steering_reaches_goals_and_forward_hits_walls(rooms: list[Entry]) -> None:
    """In an almost empty room the steering succeeds most times; going straight on ends in collisions."""
    env = Gen3DNavEnv(
        rooms[:1], 4, task=NavTask(goal_distance=(0.5, 2.0), steps=40, camera=RobotCamera(size=8)), device="cpu"
    )
    results: dict[str, list[bool]] = {"success": [], "collision": []}
    observation, _ = env.reset(seed=0)
    for _ in range(30):
        observation, reward, terminated, truncated, infos = env.step(steer(observation))
        if infos:
            done = infos["_final_info"]
            assert (done == (terminated | truncated)).all()
            for name, values in results.items():
                values += infos["final_info"][name][done].tolist()
            assert (reward[done & infos["final_info"]["success"]] > 1).all()
    assert np.mean(results["success"]) > 0.8
    env.reset(seed=0)
    hits = 0
    for _ in range(30):
        *_, infos = env.step(np.tile([1.0, 0.0], (4, 1)))
        hits += int(infos["final_info"]["collision"][infos["_final_info"]].sum()) if infos else 0
    assert hits >= 4


def test_a_picture_is_that_of_the_sample_applied_to_splats_and_camera(rooms: list[Entry]) -> None:
    """A robot sees the delegate's picture of recoloured, placed splats through the sample's camera, to 1/255."""
    env = Gen3DNavEnv(rooms, 2, task=TASK, randomization=RANGES, device="cpu")
    seen, _ = env.reset(seed=3)
    for robot, episode in enumerate(env.episodes):
        sample = episode.sample
        environment = next(entry for entry in rooms if entry.id == sample.environment)
        stage = new_stage("Placed")
        author_splats(
            stage, "/Placed/Splats", apply_to_gaussians(read_environment(environment.folder).gaussians, sample)
        )
        cos, sin = math.cos(episode.start.yaw), math.sin(episode.start.yaw)
        turn = torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        start = torch.tensor([*episode.start.position[:2], 0.0])
        camera = transform_cameras(apply_to_cameras(CAMERA.on_robot(), sample.camera), turn, start)
        with SplatRenderDelegate(stage, "cpu") as delegate:
            expected = delegate.render(camera).aovs
        off = np.abs(seen["rgb"][robot] - 255.0 * expected["color"][0].clip(0, 1))
        # Splats whose colour was cut off at 0 differ where contrast is low.
        assert np.percentile(off, 95) <= 1.5
        np.testing.assert_allclose(seen["depth"][robot, ..., 0], expected["depth"][0], rtol=1e-3, atol=2e-3)


def test_latency_shows_what_was_seen_before(rooms: list[Entry]) -> None:
    """With a latency of one step every picture is the one before, but for the first of an episode."""
    late = Randomization(camera=CameraRanges(latency=Range(0.2, 0.2)))
    env, prompt = (
        Gen3DNavEnv(rooms[:1], 2, task=TASK, randomization=ranges, device="cpu") for ranges in (late, Randomization())
    )
    for seed in (1, 2):
        told, fresh = env.reset(seed=seed)[0]["rgb"], prompt.reset(seed=seed)[0]["rgb"]
        np.testing.assert_array_equal(told, fresh)
        for _ in range(2):
            before = fresh
            told, fresh = (e.step(np.tile([0.2, 0.5], (2, 1)))[0]["rgb"] for e in (env, prompt))
            np.testing.assert_array_equal(told, before)


def test_what_cannot_be_done_is_named(rooms: list[Entry]) -> None:
    """Too few episodes, an unknown option, and goals farther than the room is wide."""
    env = Gen3DNavEnv(rooms[:1], 2, task=TASK, device="cpu")
    env.reset(seed=0)
    with pytest.raises(InputError, match="1 episodes were given for 2"):
        env.reset(options={"episodes": env.episodes[:1]})
    with pytest.raises(InputError, match="allowed is 'episodes'"):
        env.reset(options={"world": 1})
    with pytest.raises(InputError, match="50 to 60 m of way apart"):
        Gen3DNavEnv(rooms[:1], 1, task=NavTask(goal_distance=(50, 60)), device="cpu")
    with pytest.raises(InputError, match=r"detours 1\.5"):
        NavTask(detours=1.5)
    with pytest.raises(InputError, match="depth is wanted without a camera"):
        NavTask(depth=True, camera=None)


def test_where_something_is_in_the_way_only_a_map_or_eyes_help(rooms: list[Entry]) -> None:
    """Every straight line leads through the table: who drives along it collides, who knows the way around it arrives.

    A robot without a camera is told where the goal is, and nothing is drawn.
    """
    task = NavTask(camera=None, goal_distance=(0.5, 4.0), detours=1.0)
    env = Gen3DNavEnv(rooms[:1], 16, task=task, device="cpu", tensors=True)
    observation, _ = env.reset(seed=0)
    assert set(observation) == {"state"} and env.splat_bytes() == 0
    way = env.way_from(env.pose[:, None, :2])[:, 0]
    assert (way > observation["state"][:, 0]).all()
    assert success_rate(env, head_on) <= 0.4
    # Cells of this map are as wide as the driver looks ahead.
    assert success_rate(env, follow_map(env)) >= 0.7


def test_a_clearance_ends_where_the_map_does(rooms: list[Entry]) -> None:
    """In a room of 4 m with a table, scaled and turned: straight on to the table, to the walls, or as far as asked."""
    ranges = Randomization(placement=PlacementRanges(scale=Range(1.5, 1.5), yaw=Range(0.7, 0.7)))
    task = NavTask(camera=None, goal_distance=(0.5, 2.5))
    env = Gen3DNavEnv(rooms[:1], 32, task=task, randomization=ranges, device="cpu", tensors=True)
    env.reset(seed=0)
    bearings = torch.tensor([0.0, math.pi / 2, -math.pi / 2])
    found = env.clearance(bearings, 2.0)
    # Walked along in the environment's own frame: 4 m a side, the table from 0.4 m to 1.6 m along both axes.
    x, y, yaw = env.pose.unbind(-1)
    cos, sin = math.cos(0.7) / 1.5, math.sin(0.7) / 1.5
    away = env.task.body.radius + env.task.margin
    steps = torch.arange(0, 2.0, 0.02)
    heading = (yaw[:, None] + bearings)[..., None]
    places_x, places_y = x[:, None, None] + steps * heading.cos(), y[:, None, None] + steps * heading.sin()
    u, v = cos * places_x + sin * places_y, cos * places_y - sin * places_x
    near_table = ((u - 1).abs().clamp(min=0.6) - 0.6).hypot((v - 1).abs().clamp(min=0.6) - 0.6) < away
    stopped = near_table | (u.abs() > 2 - away) | (v.abs() > 2 - away)
    true = torch.where(stopped.any(-1), steps[stopped.long().argmax(-1)], 2.0)
    # Cells of 0.2 m, here 0.3 m; a line may just graze the table.
    assert ((found - true).abs() < 0.35).float().mean() > 0.9
    assert (found == 2.0).any() and (found < 1.0).any()
    torch.testing.assert_close(env.clearance(bearings, 0.5), found.clamp(max=0.5))
