"""What `bench train` counts and how it judges; that its policies learn is what the benchmark itself shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from omni_gen3d.bench.nav_worlds import training_worlds
from omni_gen3d.bench.train import Plan, Point, checks_of, draw_curves, head_on, learn, success_rate
from omni_gen3d.envs.entry import Entry
from omni_gen3d.envs.eyes import RobotCamera
from omni_gen3d.envs.nav import Gen3DNavEnv, NavTask
from omni_gen3d.envs.registry import Registry

TASK = NavTask(camera=RobotCamera(size=36), goal_distance=(0.5, 2.0), steps=24)


def test_learning_is_tested_at_its_beginning_and_end(rooms: list[Entry]) -> None:
    """Two rollouts of a toy: steps are counted, standing still succeeds never and steering almost always."""
    env, test = (Gen3DNavEnv(rooms, 2, task=TASK, device="cpu", tensors=True) for _ in range(2))
    plan = Plan(envs=2, steps=128, minutes=10, tests=1)
    act, curve = learn(env, test, plan, seed=0, report=lambda _: None)
    assert [point.steps for point in curve] == [0, 128] and curve[-1].seconds > 0
    assert success_rate(test, act) == curve[-1].success
    crowd = Gen3DNavEnv(rooms[:1], 8, task=TASK, device="cpu", tensors=True)
    assert success_rate(crowd, lambda _: torch.zeros(8, 2)) == 0
    assert success_rate(crowd, head_on) >= 0.5


def test_checks_compare_what_they_say(tmp_path: Path) -> None:
    """Twice the random policy, a curve that rises, and randomization that does no harm; the curves become a picture."""
    rows = [
        {"method": "random", "heldout": 0.1, "heldout_randomized": 0.1},
        {"method": "straight to the goal, blind", "heldout": 0.7, "heldout_randomized": 0.7},
        {"method": "PPO, randomized", "heldout": 0.5, "heldout_randomized": 0.45},
        {"method": "PPO, as generated", "heldout": 0.6, "heldout_randomized": 0.4},
    ]
    curve = [Point(0, 0.0, 0.1), Point(10, 1.0, 0.3), Point(20, 2.0, 0.5)]
    curves = {"PPO, randomized": curve, "PPO, as generated": curve}
    checks = checks_of(rows, curves)
    assert [check.value for check in checks] == pytest.approx([5.0, 0.3, -0.1, 0.05])
    assert [check.ok for check in checks] == [True, True, False, True]
    draw_curves(curves, rows, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_what_the_library_holds_out_is_not_learned_in(rooms: list[Entry], monkeypatch) -> None:
    """Held-out worlds are tested in first; the series goes on until there are enough others to learn in."""
    series = [replace(rooms[0], id=f"room-{i}") for i in range(60)]
    monkeypatch.setattr("omni_gen3d.bench.nav_worlds.nav_worlds", lambda registry, count, **rest: series[:count])
    learned, tested = training_worlds(Registry(), 12, 4, device="cpu", report=lambda _: None)
    assert len(learned) == 12 and len(tested) == 4
    assert all(entry.split == "train" for entry in learned)
    first = series[: series.index(learned[-1]) + 1]
    held = [entry for entry in first if entry.split == "heldout"]
    assert held and tested[: len(held)] == held[:4]
    assert not {entry.id for entry in learned} & {entry.id for entry in tested}
