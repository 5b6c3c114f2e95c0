"""Reinforcement learning for real: PPO drives robots to goals by camera, in worlds that it has never seen.

Two policies are trained alike on the same worlds, one with looks, lenses, sizes and frictions randomized, one without.
Success is counted over the first episode of each of many robots, in held-out worlds as they are and randomized.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from omni_gen3d.bench.nav_worlds import training_worlds
from omni_gen3d.bench.report import Check, Report, Value, cpu_name
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

Act = Callable[[dict[str, torch.Tensor]], torch.Tensor]

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
# Of the series of episodes that every policy is tested on.
_TEST_SEED = 1_000_000


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
    success: float


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
    from omni_gen3d.envs.nav import Gen3DNavEnv

    train, heldout = training_worlds(registry, plan.train, plan.heldout, device=device, report=report)
    report(f"{len(train)} worlds to learn in, {len(heldout)} held out")
    tests = {
        name: Gen3DNavEnv(heldout, plan.test_envs, randomization=ranges, device=device, tensors=True)
        for name, ranges in (("heldout", AS_GENERATED), ("heldout_randomized", RANDOMIZED))
    }
    rows: list[dict[str, Value]] = []
    for method, act in (("random", drive_at_random(seed)), ("straight to the goal, blind", head_on)):
        rows.append(_row(method, None, {name: success_rate(env, act) for name, env in tests.items()}))
        report(f"{method}: {100 * float(rows[-1]['heldout'] or 0):.1f} % of goals in held-out worlds")
    curves: dict[str, list[Point]] = {}
    for name, ranges in (("PPO, randomized", RANDOMIZED), ("PPO, as generated", AS_GENERATED)):
        env = Gen3DNavEnv(train, plan.envs, randomization=ranges, device=device, tensors=True)
        act, curves[name] = learn(
            env, tests["heldout"], plan, seed=seed, report=lambda text, of=name: report(f"{of}: {text}")
        )
        successes = {key: success_rate(test, act) for key, test in {"train": env, **tests}.items()}
        rows.append(_row(name, curves[name][-1], successes))
        report(f"{name}: {rows[-1]}")
        env.close()
        if plot is not None:
            draw_curves(curves, rows, plot)
    for env in tests.values():
        env.close()
    for name, curve in curves.items():
        rows += [
            {"method": f"{name}, curve", "steps": p.steps, "seconds": round(p.seconds, 1), "heldout": p.success}
            for p in curve
        ]
    where = cpu_name() if device == "cpu" else torch.cuda.get_device_name()
    return Report(where, rows, checks_of(rows, curves))


def checks_of(rows: Sequence[dict[str, Value]], curves: dict[str, list[Point]]) -> list[Check]:
    """What the issue of training in generated worlds is held to."""
    found = {str(row["method"]): row for row in rows}

    def success(method: str, test: str = "heldout") -> float:
        return float(found[method][test] or 0.0)

    curve = curves["PPO, randomized"]
    half = max(len(curve) // 2, 1)
    rise = (
        float(np.mean([p.success for p in curve[half:]]) - np.mean([p.success for p in curve[:half]]))
        if len(curve) > 1
        else None
    )
    random = success("random")
    return [
        Check(
            "success on held-out worlds over that of the random policy",
            success("PPO, randomized") / max(random, 1e-3),
            ">=",
            2.0,
        ),
        Check("rise of success from the first half of the curve to the second", rise, ">=", 0.0),
        Check(
            "randomized over as generated, held-out worlds as they are",
            success("PPO, randomized") - success("PPO, as generated"),
            ">=",
            0.0,
        ),
        Check(
            "randomized over as generated, held-out worlds randomized",
            success("PPO, randomized", "heldout_randomized") - success("PPO, as generated", "heldout_randomized"),
            ">=",
            0.0,
        ),
    ]


def learn(
    env: Gen3DNavEnv, test: Gen3DNavEnv, plan: Plan, *, seed: int, report: Callable[[str], None]
) -> tuple[Act, list[Point]]:
    """A policy trained by rsl-rl's PPO, and its success on ``test`` meanwhile; the time of tests is not counted."""
    from rsl_rl.algorithms import PPO

    from omni_gen3d.envs.rsl_rl import RslRlNavEnv

    torch.manual_seed(seed)
    robots = RslRlNavEnv(env, seed)
    observation = robots.get_observations()
    algorithm = PPO.construct_algorithm(observation, robots, ppo_config(), str(env.device))
    act = policy_of(algorithm.actor)
    curve: list[Point] = []
    steps, seconds, every = 0, 0.0, plan.steps / plan.tests
    while True:
        done = max(steps / plan.steps, seconds / (60 * plan.minutes))
        if done >= 1 or steps >= len(curve) * every:
            curve.append(Point(steps, seconds, success_rate(test, act)))
            report(f"{steps} steps, {seconds:.0f} s: {100 * curve[-1].success:.1f} % of goals in held-out worlds")
        if done >= 1:
            return act, curve
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


def ppo_config() -> dict[str, Any]:
    """What rsl-rl is told: two networks of one shape, each with an eye of its own."""
    from omni_gen3d.envs.rsl_rl import PictureModel

    head = {"class_name": PictureModel, "hidden_dims": [128, 64], "activation": "elu"}
    eye = {"output_channels": [16, 32, 32], "kernel_size": [8, 4, 3], "stride": [4, 2, 1], "activation": "relu"}
    return {
        "num_steps_per_env": _ROLLOUT,
        "obs_groups": {"actor": ["rgb", "state"], "critic": ["rgb", "state"]},
        "actor": {**head, "cnn_cfg": eye, "distribution_cfg": {"class_name": "GaussianDistribution", "init_std": 0.6}},
        "critic": {**head, "cnn_cfg": eye},
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


def head_on(observation: dict[str, torch.Tensor]) -> torch.Tensor:
    """Turn towards the goal and drive, whatever is in between: what the state alone is good for."""
    _, cos, sin, *_ = observation["state"].unbind(-1)
    return torch.stack([cos.clamp(0, 1), (2 * torch.atan2(sin, cos)).clamp(-1, 1)], -1)


def drive_at_random(seed: int) -> Act:
    """Every command as likely as any other."""
    rng = np.random.default_rng(seed)
    return lambda observation: torch.from_numpy(rng.uniform(-1, 1, (len(observation["state"]), 2)))


def success_rate(env: Gen3DNavEnv, act: Act) -> float:
    """Share of robots that reach the goal of their first episode; the episodes are the same at every call."""
    observation, _ = env.reset(seed=_TEST_SEED)
    finished = torch.zeros(env.num_envs, dtype=torch.bool, device=env.device)
    reached = torch.zeros_like(finished)
    for _ in range(env.task.steps):
        observation, *_, infos = env.step(act(observation))
        if infos:
            first = infos["_final_info"] & ~finished
            reached |= first & infos["final_info"]["success"]
            finished |= first
            if finished.all():
                break
    return float(reached.float().mean())


def draw_curves(curves: dict[str, list[Point]], rows: Sequence[dict[str, Value]], path: Path) -> None:
    """Write success over steps as a picture in the format of the suffix; the first two rows are the baselines."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        label = f"{name} ({curve[-1].seconds:.0f} s)"
        axes.plot([p.steps for p in curve], [100 * p.success for p in curve], marker="o", markersize=3, label=label)
    for row, style in zip(rows, ("--", ":"), strict=False):
        axes.axhline(100 * float(row["heldout"] or 0.0), color="grey", linestyle=style, label=str(row["method"]))
    axes.set(xlabel="steps of all robots", ylabel="goals reached in held-out worlds [%]", ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path)


def _row(method: str, last: Point | None, successes: dict[str, float]) -> dict[str, Value]:
    row: dict[str, Value] = {"method": method, **{name: round(value, 4) for name, value in successes.items()}}
    if last is not None:
        row |= {"steps": last.steps, "seconds": round(last.seconds, 1)}
    return row
