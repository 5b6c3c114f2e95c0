"""What `bench train` counts and how it judges; that its policies learn is what the benchmark itself shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from omni_gen3d.bench.nav_drivers import head_on, success_rate
from omni_gen3d.bench.nav_learning import Plan, Point, learn
from omni_gen3d.bench.nav_worlds import training_worlds
from omni_gen3d.bench.train import AS_GENERATED, Lesson, checks_of, draw_curves, side_by_side
from omni_gen3d.envs.entry import Entry
from omni_gen3d.envs.eyes import RobotCamera
from omni_gen3d.envs.nav import Gen3DNavEnv, NavTask
from omni_gen3d.envs.registry import Registry
from omni_gen3d.errors import InputError

TASK = NavTask(camera=RobotCamera(size=36), goal_distance=(0.5, 2.0), steps=24)


def test_a_policy_that_sees_rehearses_opens_its_eye_and_goes_on(rooms: list[Entry]) -> None:
    """A toy: steps of all three are counted, standing still succeeds never and steering almost always."""
    blind = replace(TASK, camera=None)
    env, test, rehearsal = (
        Gen3DNavEnv(rooms, 2, task=task, device="cpu", tensors=True) for task in (TASK, TASK, blind)
    )
    plan = Plan(envs=2, rehearsal=64, steps=128, minutes=10, tests=1)
    curve: list[Point] = []
    drive = learn(env, test, plan, seed=0, tested=curve.append, rehearsal=rehearsal)
    assert [point.steps for point in curve] == [64, 192] and curve[-1].seconds > 0
    assert success_rate(test, drive(test)) == curve[-1].heldout
    crowd = Gen3DNavEnv(rooms[:1], 8, task=TASK, device="cpu", tensors=True)
    assert success_rate(crowd, lambda _: torch.zeros(8, 2)) == 0
    assert success_rate(crowd, head_on) >= 0.5


def test_a_blind_policy_takes_all_steps(rooms: list[Entry]) -> None:
    """PPO is told the state alone; once its minutes are over it ends."""
    env, test = (
        Gen3DNavEnv(rooms[:1], 2, task=replace(TASK, camera=None), device="cpu", tensors=True) for _ in range(2)
    )
    curve: list[Point] = []
    drive = learn(env, test, Plan(envs=2, rehearsal=64, steps=64, tests=1), seed=0, tested=curve.append)
    assert [point.steps for point in curve] == [0, 128]
    assert drive(test)(test.reset(seed=0)[0]).shape == (2, 2)
    curve.clear()
    learn(env, test, Plan(envs=2, minutes=0, tests=1), seed=0, tested=curve.append)
    assert [point.steps for point in curve] == [0]


def test_policies_learn_side_by_side_as_they_would_alone(rooms: list[Entry]) -> None:
    """Each in a process of its own, their points told on the way; what one cannot do ends all."""
    plan = Plan(envs=2, rehearsal=32, steps=32, minutes=10, test_envs=4, curve_envs=2, tests=1)
    lesson = Lesson(rooms[:2], rooms[2:], replace(TASK, camera=None), AS_GENERATED, plan, "cpu", seed=3)
    told: list[tuple[str, Point]] = []
    found = side_by_side({"one": lesson, "other": lesson}, lambda name, point: told.append((name, point)))
    assert found["one"] == found["other"] and set(found["one"]) == {"heldout", "heldout_randomized", "train"}
    env, curve = (
        Gen3DNavEnv(worlds, 2, task=lesson.task, device="cpu", tensors=True) for worlds in (rooms[:2], rooms[2:])
    )
    alone: list[Point] = []
    drive = learn(env, curve, plan, seed=3, tested=alone.append)
    for name in found:
        points = [point for other, point in told if other == name]
        assert [(point.steps, point.heldout) for point in points] == [(point.steps, point.heldout) for point in alone]
    assert success_rate(env, drive(env)) == found["one"]["train"]
    with pytest.raises(InputError, match="0 robots"):
        side_by_side({"one": replace(lesson, plan=replace(plan, envs=0))}, lambda *_: None)


def test_checks_compare_what_they_say(tmp_path: Path) -> None:
    """Twice the random policy, a curve that rises, sight that helps, randomization that does no harm; a picture."""
    means = {
        "random": 0.1,
        "straight to the goal, blind": 0.35,
        "by the map": 0.95,
        "PPO, randomized": 0.5,
        "PPO, as generated": 0.6,
        "PPO, blind": 0.35,
    }
    rows = [{"method": name, "heldout": 0.3, "mean": mean, "error": 0.01} for name, mean in means.items()]
    curve = [Point(10 * i, float(i), success) for i, success in enumerate((0.1, 0.2, 0.9, 0.9, 0.9, 0.5, 0.6))]
    curves = {"PPO, randomized": curve, "PPO, as generated": curve, "PPO, blind": []}
    checks = checks_of(rows, curves)
    assert [check.value for check in checks] == pytest.approx([5.0, 0.4, 0.15, 0.15, -0.1, 0.35, 0.95, 0.01])
    assert [check.ok for check in checks] == [True, True, True, True, False, True, True, True]
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
