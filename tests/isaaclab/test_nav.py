"""``Gen3D-Nav-v0``: four robots in four environments, a camera each through our delegate, walls that stop, goals."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import omni_gen3d.envs.isaaclab as lab
from omni_gen3d.envs.entry import Filter
from omni_gen3d.envs.ranges import AppearanceRanges, Randomization, Range
from omni_gen3d.envs.registry import Registry
from omni_gen3d.geometry import intrinsics_from_fov, look_at, rgb_to_sh_dc
from omni_gen3d.types import (
    Cameras,
    CollisionProxy,
    FreeSpace,
    Gaussians,
    GeneratedScene,
    Provenance,
    ProxyPart,
    SpawnPose,
    TriMesh,
)
from omni_gen3d.usd import write_environment

WALL_X = 1.0
COLOURS = ((0.9, 0.1, 0.1), (0.1, 0.9, 0.1), (0.1, 0.1, 0.9), (0.8, 0.8, 0.1))


def quad(name: str, label, corners: list[tuple[float, float, float]]) -> ProxyPart:
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    return ProxyPart(name, label, TriMesh(np.array(corners, np.float32), faces))


def scene(colour: tuple[float, float, float]) -> GeneratedScene:
    """A floor, a wall across +X in one colour, and a start at the origin that looks at it."""
    floor = quad("floor", "floor", [(-4, -4, 0), (4, -4, 0), (4, 4, 0), (-4, 4, 0)])
    corners = np.array([[x, y, z] for x in (WALL_X, 1.6) for y in (-4, 4) for z in (0, 2)], np.float32)
    quads = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    wall = ProxyPart("wall", "wall", TriMesh(corners, quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3).astype(np.int32)))
    y, z = torch.meshgrid(torch.linspace(-2, 2, 21), torch.linspace(0, 2, 11), indexing="ij")
    count = y.numel()
    eye, target = torch.tensor([[-1.0, 0.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.5]])
    return GeneratedScene(
        gaussians=Gaussians(
            means=torch.stack([torch.full((count,), WALL_X), y.flatten(), z.flatten()], -1),
            quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(count, 1),
            scales=torch.full((count, 3), 0.15),
            opacities=torch.full((count,), 0.95),
            sh=rgb_to_sh_dc(torch.tensor(colour)).repeat(count, 1, 1),
        ),
        cameras=Cameras(look_at(eye, target), intrinsics_from_fov(1.0, 64, 48)[None], width=64, height=48),
        proxy=CollisionProxy(
            parts=(floor, wall),
            free_space=FreeSpace(np.ones((15, 20, 5), bool), np.array([-2.0, -2.0, 0.0]), voxel_size=0.2),
            spawn_poses=(SpawnPose((0.0, 0.0, 0.0), 0.0),),
            scores={"faces": 4, "floor_height_m": 0.0},
        ),
        preview=np.zeros((4, 4, 3), np.uint8),
        provenance=Provenance("static", f"a wall of {colour}", None, 0, "mini", None),
    )


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A library of four rooms."""
    folder = tmp_path_factory.mktemp("library")
    registry = Registry(folder / "home")
    for i, colour in enumerate(COLOURS):
        registry.add(write_environment(scene(colour), folder / f"wall_{i}").parent, tags=[f"wall_{i}"])
    return registry


def steered(goal: torch.Tensor) -> torch.Tensor:
    """Turn towards the goal and drive."""
    _, cos, sin = goal.unbind(-1)
    return torch.stack([0.6 * cos.clamp(0, 1), (3 * torch.atan2(sin, cos)).clamp(-1.5, 1.5)], -1)


def test_four_robots_see_four_environments_stop_at_walls_and_reach_goals(registry: Registry, tmp_path: Path) -> None:
    """Each camera shows its own wall; 200 steps ahead end before it and cost what it took; a reset brings new looks.

    Steered by their goals, robots gain the way and 2 for the goal, and begin anew.
    """
    entries = [registry.entries(Filter(tags=(f"wall_{i}",)))[0] for i in range(len(COLOURS))]
    ranges = Randomization(appearance=AppearanceRanges(exposure=Range(-1.0, 0.0)))
    cfg = lab.nav_env_cfg(
        registry, [entry.id for entry in entries], 4, ranges=ranges, goal_distance=(0.6, 1.8), layers=tmp_path
    )
    env: Any = gymnasium.make("Gen3D-Nav-v0", cfg=cfg).unwrapped
    try:
        first, _ = env.reset()
        middle = first["policy"][:, 28:36, 28:36].mean((1, 2))
        for seen, colour in zip(middle, COLOURS, strict=True):
            hue = torch.tensor(colour)
            torch.testing.assert_close(seen / seen.max(), hue / hue.max(), atol=0.05, rtol=0)
        for step in range(200):
            _, reward, ended, _, _ = env.step(torch.tensor([[0.6, 0.0]]).repeat(4, 1))
            assert not ended.any()
            if step in (30, 199):
                collision = env.reward_manager.get_active_iterable_terms(0)[2]
                assert collision[0] == "collision"
                assert collision[1][0] == pytest.approx(0.0 if step == 30 else -0.6, abs=0.05)
        torch.testing.assert_close(reward, torch.full((4,), -0.6 * env.step_dt), atol=2e-3, rtol=0)
        place = lab.robot_pose(env, "robot")
        assert ((place[:, 0] - (WALL_X - lab.RADIUS_M)).abs() < 0.03).all() and (place[:, 1].abs() < 0.05).all()
        again, _ = env.reset()
        assert lab.robot_pose(env, "robot").abs().max() < 0.05
        brightness = [pictures["policy"].mean((1, 2, 3)) for pictures in (first, again)]
        assert ((brightness[0] / brightness[1] - 1).abs() > 0.01).all()

        command = env.command_manager.get_term("goal")
        torch.testing.assert_close(again["goal"], command.command)
        assert ((command.way > 0.5) & (command.way < 1.9)).all()
        way, earned, done = command.way.clone(), torch.zeros(4), torch.zeros(4, dtype=torch.bool)
        observation = again
        for _ in range(160):
            observation, reward, ended, late, _ = env.step(steered(observation["goal"]))
            earned += torch.as_tensor(reward) * ~done
            assert not late.any()
            for robot in (ended & ~done).nonzero()[:, 0].tolist():
                assert lab.robot_pose(env, "robot")[robot, :2].norm() < 0.05  # at its start again
                # All of the way but that of the goal's own cell, and 2.
                assert way[robot] - 0.75 < earned[robot] - 2 < way[robot] + 0.05
            done |= ended
            if done.all():
                break
        assert done.sum() >= 3
    finally:
        env.close()


def test_the_example_runs(registry: Registry) -> None:
    """The script of docs/examples, as a reader would run it, drives four robots, and one to its goal."""
    script = Path(__file__).parents[2] / "docs" / "examples" / "isaaclab_nav.py"
    environment = {**os.environ, "OMNI_GEN3D_HOME": str(registry.home.directory)}
    done = subprocess.run([sys.executable, "-P", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    shapes, result = [line for line in done.stdout.splitlines() if "goal" in line][-2:]
    assert "'policy': (4, 64, 64, 3)" in shapes and "'goal': (4, 3)" in shapes
    goals, _, earned, _ = result.split()
    assert int(goals) >= 1 and float(earned) > 2
