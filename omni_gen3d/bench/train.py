"""Reinforcement learning for real: PPO drives robots to goals by camera, in worlds that it has never seen.

In every episode something stands in the straight line to the goal, so the distance and bearing that a robot is told do
not suffice. Three policies are trained alike on the same worlds: one blind, one that sees them as they were generated,
one that sees them with looks, lenses, sizes and frictions randomized. Success is counted over the first episode of each
of many robots, in held-out worlds as they are and randomized.
"""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from omni_gen3d.bench.nav_drivers import Act, drive_at_random, follow_map, head_on, success_rate
from omni_gen3d.bench.nav_worlds import training_worlds
from omni_gen3d.bench.report import Check, Findings, Report, Value, cpu_name
from omni_gen3d.envs.randomize import (
    AppearanceRanges,
    CameraRanges,
    ContactRanges,
    PlacementRanges,
    Randomization,
    Range,
)
from omni_gen3d.envs.registry import Registry
from omni_gen3d.errors import InputError

if TYPE_CHECKING:
    from omni_gen3d.envs.nav import Gen3DNavEnv

RANDOMIZED = Randomization(
    appearance=AppearanceRanges(
        exposure=Range(-0.7, 0.7),
        warmth=Range(-0.5, 0.5),
        tint=Range(-0.2, 0.2),
        hue=Range(-0.5, 0.5),
        contrast=Range(0.7, 1.2),
    ),
    contact=ContactRanges(static_friction=Range(0.5, 1.0)),
    placement=PlacementRanges(scale=Range(0.9, 1.15)),
    camera=CameraRanges(
        focal_scale=Range(0.9, 1.1),
        principal_shift=Range(-0.03, 0.03),
        position=Range(-0.03, 0.03),
        rotation=Range(-0.04, 0.04),
        noise=Range(0.0, 0.04),
    ),
)
AS_GENERATED = Randomization()
_ROLLOUT, _LEARNING_RATE = 32, 5e-4
# Tests, by what is varied in the held-out worlds.
_TESTS = {"heldout": AS_GENERATED, "heldout_randomized": RANDOMIZED}


@dataclass(frozen=True)
class Plan:
    """How much is done.

    Attributes:
        train, heldout: Worlds.
        envs: Robots that learn at once.
        steps: Of all robots together, for each policy.
        minutes: After these a policy stops learning, if its steps have not been done.
        test_envs: Robots that are counted in a test.
        tests: In the course of learning.
    """

    train: int = 16
    heldout: int = 8
    envs: int = 1024
    steps: int = 3_000_000
    minutes: float = 10.0
    test_envs: int = 1024
    tests: int = 8


@dataclass(frozen=True)
class Point:
    """Success of a policy after so many steps and seconds of learning."""

    steps: int
    seconds: float
    heldout: float


def bench_train(
    registry: Registry,
    plan: Plan,
    *,
    device: str,
    seed: int = 0,
    plot: Path | None = None,
    report: Callable[[str], None],
) -> Report:
    """Train, test, compare.

    Args:
        registry: Library that holds the worlds, or receives them.
        plan: How much.
        device: ``cpu`` or ``cuda``, for everything.
        seed: Of networks, episodes and actions.
        plot: Where to write the learning curves as a picture; None for no file.
        report: Told what is being done.

    Raises:
        InputError: rsl-rl, Gymnasium or Newton is not installed, or there are too few worlds.
    """
    if importlib.util.find_spec("rsl_rl") is None or importlib.util.find_spec("gymnasium") is None:
        raise InputError("rsl-rl or Gymnasium is missing; install them: pip install 'omni_gen3d[rl]'.")
    from omni_gen3d.envs.nav import Gen3DNavEnv, NavTask

    seeing = NavTask(detours=1.0)
    train, heldout = training_worlds(registry, plan.train, plan.heldout, device=device, report=report)
    report(f"{len(train)} worlds to learn in, {len(heldout)} held out")
    tests = {
        name: Gen3DNavEnv(heldout, plan.test_envs, task=seeing, randomization=ranges, device=device, tensors=True)
        for name, ranges in _TESTS.items()
    }
    findings = Findings(report)
    for method, driver in (
        ("random", lambda _: drive_at_random(seed)),
        ("straight to the goal, blind", lambda _: head_on),
        ("by the map", follow_map),
    ):
        findings.add(_row(method, plan, {name: success_rate(env, driver(env)) for name, env in tests.items()}))
    curves: dict[str, list[Point]] = {}

    def tested(name: str, point: Point) -> None:
        curves[name].append(point)
        findings.add({"method": f"{name}, curve", **asdict(point)})
        if plot is not None:
            draw_curves(curves, findings.rows, plot)

    for name, task, ranges in (
        ("PPO, randomized", seeing, RANDOMIZED),
        ("PPO, as generated", seeing, AS_GENERATED),
        ("PPO, blind", replace(seeing, camera=None), AS_GENERATED),
    ):
        env = Gen3DNavEnv(train, plan.envs, task=task, randomization=ranges, device=device, tensors=True)
        curves[name] = []
        act = learn(env, tests["heldout"], plan, seed=seed, tested=partial(tested, name))
        successes = {key: success_rate(test, act) for key, test in {**tests, "train": env}.items()}
        findings.add(_row(name, plan, successes, curves[name][-1]))
        env.close()
    for env in tests.values():
        env.close()
    where = cpu_name() if device == "cpu" else torch.cuda.get_device_name()
    return Report(where, findings.rows, checks_of(findings.rows, curves))


def checks_of(rows: Sequence[dict[str, Value]], curves: dict[str, list[Point]]) -> list[Check]:
    """What training in generated worlds is held to; ``mean`` is that of both tests."""
    found = {str(row["method"]): row for row in rows}

    def success(method: str, test: str = "mean") -> float:
        return float(found[method][test] or 0.0)

    seen = success("PPO, randomized")
    curve = [point.heldout for point in curves["PPO, randomized"]]
    third = len(curve) // 3
    rise = float(np.mean(curve[-third:]) - np.mean(curve[:third])) if third else None
    return [
        Check(
            "success on held-out worlds over that of the random policy", seen / max(success("random"), 1e-3), ">=", 2
        ),
        Check("rise of success from the first third of the curve to the last", rise, ">=", 0.01),
        Check("success over that of the same policy blind", seen - success("PPO, blind"), ">=", 0.1),
        Check("success over driving straight at the goal", seen - success("straight to the goal, blind"), ">=", 0.1),
        Check("randomized over as generated, both tests", seen - success("PPO, as generated"), ">=", 0),
        Check("success of driving straight at the goal", success("straight to the goal, blind"), "<=", 0.45),
        Check("success by the map", success("by the map"), ">=", 0.9),
        Check("standard error of a success rate over both tests", success("PPO, randomized", "error"), "<=", 0.025),
    ]


def learn(env: Gen3DNavEnv, test: Gen3DNavEnv, plan: Plan, *, seed: int, tested: Callable[[Point], None]) -> Act:
    """A policy trained by rsl-rl's PPO; ``tested`` is told its success meanwhile. The time of tests is not counted."""
    from rsl_rl.algorithms import PPO

    from omni_gen3d.envs.rsl_rl import RslRlNavEnv

    torch.manual_seed(seed)
    robots = RslRlNavEnv(env, seed)
    observation = robots.get_observations()
    config = ppo_config(sees=env.task.camera is not None)
    algorithm = PPO.construct_algorithm(observation, robots, config, str(env.device))
    act = policy_of(algorithm.actor)
    steps, seconds, tests, every = 0, 0.0, 0, plan.steps / plan.tests
    while True:
        done = max(steps / plan.steps, seconds / (60 * plan.minutes))
        if done >= 1 or steps >= tests * every:
            tests += 1
            tested(Point(steps, round(seconds, 1), round(success_rate(test, act), 4)))
        if done >= 1:
            return act
        began = time.perf_counter()
        for group in algorithm.optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * (1 - 0.9 * done)
        with torch.no_grad():
            for _ in range(_ROLLOUT):
                observation, rewards, dones, extras = robots.step(algorithm.act(observation))
                algorithm.process_env_step(observation, rewards, dones, extras)
            algorithm.compute_returns(observation)
        algorithm.update()
        steps += _ROLLOUT * env.num_envs
        seconds += time.perf_counter() - began


def ppo_config(*, sees: bool) -> dict[str, Any]:
    """What rsl-rl is told: two networks of one shape, each with an eye of its own if the robot has any."""
    from omni_gen3d.envs.rsl_rl import PictureModel

    network: dict[str, Any] = {"class_name": "MLPModel", "hidden_dims": [128, 64], "activation": "elu"}
    if sees:
        eye = {"output_channels": [16, 32, 32], "kernel_size": [8, 4, 3], "stride": [4, 2, 1], "activation": "relu"}
        network |= {"class_name": PictureModel, "cnn_cfg": eye}
    told = ["rgb", "state"] if sees else ["state"]
    return {
        "num_steps_per_env": _ROLLOUT,
        "obs_groups": {"actor": told, "critic": told},
        "actor": {**network, "distribution_cfg": {"class_name": "GaussianDistribution", "init_std": 0.6}},
        "critic": network,
        "algorithm": {
            "class_name": "PPO",
            "num_learning_epochs": 3,
            "num_mini_batches": 8,
            "schedule": "fixed",
            "learning_rate": _LEARNING_RATE,
            "gamma": 0.98,
            "lam": 0.95,
            "entropy_coef": 0.002,
            "max_grad_norm": 1.0,
        },
        "multi_gpu": None,
    }


def policy_of(actor: Any) -> Act:
    """The most likely actions of a network of rsl-rl."""

    def act(observation: dict[str, torch.Tensor]) -> torch.Tensor:
        from omni_gen3d.envs.rsl_rl import groups_of

        with torch.no_grad():
            return actor(groups_of(observation))

    return act


def draw_curves(curves: dict[str, list[Point]], rows: Sequence[dict[str, Value]], path: Path) -> None:
    """Write success over steps as a picture in the format of the suffix; the first three rows learn nothing."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        label = f"{name} ({curve[-1].seconds:.0f} s)"
        axes.plot([p.steps for p in curve], [100 * p.heldout for p in curve], marker="o", markersize=3, label=label)
    for row, style in zip(rows, ("--", ":", "-."), strict=False):
        axes.axhline(100 * float(row["heldout"] or 0.0), color="grey", linestyle=style, label=str(row["method"]))
    axes.set(xlabel="steps of all robots", ylabel="goals reached in held-out worlds [%]", ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path)


def _row(method: str, plan: Plan, successes: dict[str, float], last: Point | None = None) -> dict[str, Value]:
    """A row of the table; ``error`` is the standard error of ``mean``."""
    rates = [successes[name] for name in _TESTS]
    error = math.sqrt(sum(rate * (1 - rate) / plan.test_envs for rate in rates)) / len(rates)
    row: dict[str, Value] = {"method": method, **{name: round(value, 4) for name, value in successes.items()}}
    row |= {"mean": round(sum(rates) / len(rates), 4), "error": round(error, 4)}
    if last is not None:
        row |= {"steps": last.steps, "seconds": round(last.seconds, 1)}
    return row
