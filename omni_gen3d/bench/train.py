"""Reinforcement learning for real: PPO drives robots to goals by camera, in worlds that it has never seen.

Two policies are trained alike on the same worlds, one with looks, lenses, sizes and frictions randomized, one without.
Success is counted over the first episode of each of many robots, in held-out worlds as they are and randomized.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from omni_gen3d.bench.nav_worlds import nav_worlds
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
_ROLLOUT = 32
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
    envs: int = 256
    steps: int = 1_000_000
    minutes: float = 10.0
    test_envs: int = 256
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
        InputError: Stable-Baselines3 or Newton is not installed, or there are too few worlds.
    """
    try:
        import gymnasium  # noqa: F401
        import stable_baselines3  # noqa: F401
    except ImportError as error:
        raise InputError(f"{error.name} is missing; install it: pip install 'omni_gen3d[rl]'.") from error
    from omni_gen3d.envs.nav import Gen3DNavEnv

    worlds = nav_worlds(registry, plan.train + plan.heldout, device=device, report=report)
    train, heldout = worlds[: plan.train], worlds[plan.train :]
    report(f"{len(train)} worlds to learn in, {len(heldout)} held out")
    tests = {
        name: Gen3DNavEnv(worlds, plan.test_envs, randomization=ranges, device=device)
        for name, worlds, ranges in (
            ("train", train, AS_GENERATED),
            ("heldout", heldout, AS_GENERATED),
            ("heldout_randomized", heldout, RANDOMIZED),
        )
    }
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Value]] = []
    shape = (plan.test_envs, 2)
    report("random policy")
    rows.append(
        _row(
            "random",
            None,
            {name: success_rate(env, lambda _: rng.uniform(-1, 1, shape)) for name, env in tests.items()},
        )
    )
    rows.append(
        _row("straight to the goal, blind", None, {name: success_rate(env, head_on) for name, env in tests.items()})
    )
    curves: dict[str, list[Point]] = {}
    for name, ranges in (("PPO, randomized", RANDOMIZED), ("PPO, as generated", AS_GENERATED)):
        env = Gen3DNavEnv(train, plan.envs, randomization=ranges, device=device)
        model, curve = learn(
            env, tests["heldout"], plan, device=device, seed=seed, report=lambda text, of=name: report(f"{of}: {text}")
        )
        curves[name] = curve
        rows.append(_row(name, curve[-1], {key: success_rate(test, policy_of(model)) for key, test in tests.items()}))
        env.close()
    for env in tests.values():
        env.close()
    if plot is not None:
        draw_curves(curves, float(rows[0]["heldout"] or 0.0), plot)
    for name, curve in curves.items():
        rows += [
            {
                "method": f"{name}, curve",
                "steps": p.steps,
                "seconds": round(p.seconds, 1),
                "heldout": round(p.success, 4),
            }
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
    env: Any, test: Any, plan: Plan, *, device: str, seed: int, report: Callable[[str], None]
) -> tuple[Any, list[Point]]:
    """A PPO model and its success on ``test`` in the course of learning; the time of tests is not counted."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback

    from omni_gen3d.envs.stable_baselines import Sb3NavEnv

    curve: list[Point] = []
    every = max(plan.steps // plan.tests, 1)

    class Tests(BaseCallback):
        def __init__(self) -> None:
            super().__init__()
            self.began, self.testing = time.perf_counter(), 0.0

        @property
        def seconds(self) -> float:
            return time.perf_counter() - self.began - self.testing

        def test(self) -> None:
            seconds, before = self.seconds, time.perf_counter()
            curve.append(Point(self.num_timesteps, seconds, success_rate(test, policy_of(self.model))))
            self.testing += time.perf_counter() - before
            report(
                f"{curve[-1].steps} steps, {seconds:.0f} s: {100 * curve[-1].success:.0f} % of goals in held-out worlds"
            )

        def _on_rollout_start(self) -> None:
            if not curve or self.num_timesteps - curve[-1].steps >= every:
                self.test()

        def _on_step(self) -> bool:
            return self.seconds < 60 * plan.minutes

        def _on_training_end(self) -> None:
            self.test()

    torch.manual_seed(seed)
    batch = plan.envs * _ROLLOUT
    model = PPO(
        "MultiInputPolicy",
        Sb3NavEnv(env, seed=seed),
        n_steps=_ROLLOUT,
        batch_size=max(batch // 4, 2),
        n_epochs=3,
        learning_rate=lambda left: 1e-4 + 4e-4 * left,
        gamma=0.98,
        gae_lambda=0.95,
        ent_coef=0.002,
        max_grad_norm=1.0,
        policy_kwargs={
            "log_std_init": -0.5,
            "net_arch": [128, 64],
            "features_extractor_kwargs": {"cnn_output_dim": 128},
        },
        seed=seed,
        device=device,
    )
    model.learn(plan.steps, callback=Tests())
    return model, curve


def policy_of(model: Any) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """The most likely actions of a PPO model whose pictures were transposed."""

    def act(observation: dict[str, np.ndarray]) -> np.ndarray:
        seen = {**observation, "rgb": observation["rgb"].transpose(0, 3, 1, 2)}
        return model.predict(seen, deterministic=True)[0]

    return act


def head_on(observation: dict[str, np.ndarray]) -> np.ndarray:
    """Turn towards the goal and drive, whatever is in between: what the state alone is good for."""
    _, cos, sin, *_ = observation["state"].T
    return np.stack([np.clip(cos, 0, 1), np.clip(2 * np.arctan2(sin, cos), -1, 1)], -1)


def success_rate(env: Any, act: Callable[[dict[str, np.ndarray]], np.ndarray]) -> float:
    """Share of robots that reach the goal of their first episode; the episodes are the same at every call."""
    observation, _ = env.reset(seed=_TEST_SEED)
    finished = np.zeros(env.num_envs, bool)
    reached = np.zeros(env.num_envs, bool)
    for _ in range(env.task.steps):
        observation, *_, infos = env.step(act(observation))
        if infos:
            first = infos["_final_info"] & ~finished
            reached |= first & infos["final_info"]["success"]
            finished |= first
        if finished.all():
            break
    return float(reached.mean())


def draw_curves(curves: dict[str, list[Point]], random: float, path: Path) -> None:
    """Write success over steps as a picture in the format of the suffix."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        axes.plot([p.steps for p in curve], [100 * p.success for p in curve], marker="o", markersize=3, label=name)
    axes.axhline(100 * random, color="grey", linestyle="--", label="random policy")
    axes.set(xlabel="steps of all robots", ylabel="goals reached in held-out worlds [%]", ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path)


def _row(method: str, last: Point | None, successes: dict[str, float]) -> dict[str, Value]:
    row: dict[str, Value] = {"method": method, **{name: round(value, 4) for name, value in successes.items()}}
    if last is not None:
        row |= {"steps": last.steps, "seconds": round(last.seconds, 1)}
    return row
