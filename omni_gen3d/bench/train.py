"""Reinforcement learning for real: PPO drives robots to goals by camera, in rooms that it has never seen.

In every episode something stands in the straight line to the goal, so the distance and bearing that a robot is told do
not suffice. Three policies are trained alike on the same rooms: one blind, one that sees them as they were generated,
one that sees them with looks, lenses, sizes and frictions randomized. Success is counted over the first episode of each
of many robots, in held-out rooms as they are and randomized.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from omni_gen3d.bench.nav_drivers import drive_at_random, follow_map, head_on, success_rate
from omni_gen3d.bench.nav_learning import Plan, Point, learn
from omni_gen3d.bench.nav_worlds import training_worlds
from omni_gen3d.bench.report import Check, Findings, Report, Value, cpu_name
from omni_gen3d.envs.ranges import AppearanceRanges, CameraRanges, ContactRanges, PlacementRanges, Randomization, Range
from omni_gen3d.envs.registry import Registry
from omni_gen3d.errors import InputError

if TYPE_CHECKING:
    from omni_gen3d.envs.entry import Entry
    from omni_gen3d.envs.nav import Gen3DNavEnv, NavTask

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
# With every episode under another look, little is learned early on.
_LEARNED = replace(RANDOMIZED, share=0.5)
_TESTS = ("heldout", "heldout_randomized")


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
    from omni_gen3d.envs.nav import NavTask

    seeing = NavTask(detours=1.0)
    blind = replace(seeing, camera=None)
    train, heldout = training_worlds(registry, plan.train, plan.heldout, device=device, report=report)
    report(f"{len(train)} worlds to learn in, {len(heldout)} held out")
    findings = Findings(report)
    tests = _tests(heldout, plan, blind, device)
    for method, driver in (
        ("random", lambda _: drive_at_random(seed)),
        ("straight to the goal, blind", lambda _: head_on),
        ("by the map", follow_map),
    ):
        findings.add(_row(method, plan, {name: success_rate(env, driver(env)) for name, env in tests.items()}))
    lessons = {
        "PPO, randomized": Lesson(train, heldout, seeing, _LEARNED, plan, device, seed),
        "PPO, as generated": Lesson(train, heldout, seeing, AS_GENERATED, plan, device, seed),
        "PPO, blind": Lesson(train, heldout, blind, AS_GENERATED, plan, device, seed),
    }
    curves: dict[str, list[Point]] = {name: [] for name in lessons}

    def tested(name: str, point: Point) -> None:
        curves[name].append(point)
        findings.add({"method": f"{name}, curve", **asdict(point)})
        if plot is not None:
            draw_curves(curves, findings.rows, plot)

    for name, successes in side_by_side(lessons, tested).items():
        findings.add(_row(name, plan, successes, curves[name][-1]))
    where = cpu_name() if device == "cpu" else torch.cuda.get_device_name()
    return Report(where, findings.rows, checks_of(findings.rows, curves))


@dataclass(frozen=True)
class Lesson:
    """What one policy learns, and is tested in."""

    train: Sequence[Entry]
    heldout: Sequence[Entry]
    task: NavTask
    ranges: Randomization
    plan: Plan
    device: str
    seed: int


def side_by_side(lessons: dict[str, Lesson], tested: Callable[[str, Point], None]) -> dict[str, dict[str, float]]:
    """Success of each policy in each test, all learned at once, in a process each with its share of the cores.

    A step is a hundred small calls one after the other: one process alone leaves cores, and a GPU, idle.

    Args:
        lessons: What each policy learns.
        tested: Told each policy's name and its success meanwhile.

    Raises:
        InputError: What one process met with; the others are ended.
        EOFError: A process was killed.
    """
    context = multiprocessing.get_context("spawn")
    cores = max(1, len(os.sched_getaffinity(0)) // len(lessons))
    names, processes, successes = {}, [], {}
    try:
        for name, lesson in lessons.items():
            told, teller = context.Pipe(duplex=False)
            process = context.Process(target=_teach, args=(lesson, cores, teller), daemon=True)
            process.start()
            teller.close()
            names[told] = name
            processes.append(process)
        while len(successes) < len(lessons):
            for told in wait([told for told, name in names.items() if name not in successes]):
                news = told.recv()  # type: ignore[union-attr]
                if isinstance(news, InputError):
                    raise news
                if isinstance(news, Point):
                    tested(names[told], news)
                else:
                    successes[names[told]] = news
    finally:
        for process in processes:
            process.terminate()
            process.join()
    return {name: successes[name] for name in lessons}


def _teach(lesson: Lesson, cores: int, teller: Connection) -> None:
    """In a process of its own: tell each point of the curve, then the successes in all tests."""
    import numba

    from omni_gen3d.envs.nav import Gen3DNavEnv

    torch.set_num_threads(min(cores, torch.get_num_threads()))
    numba.set_num_threads(min(cores, numba.get_num_threads()))
    plan = lesson.plan

    def opened(worlds: Sequence[Entry], robots: int, ranges: Randomization, task: NavTask) -> Gen3DNavEnv:
        return Gen3DNavEnv(worlds, robots, task=task, randomization=ranges, device=lesson.device, tensors=True)

    try:
        with contextlib.redirect_stdout(sys.stderr):  # Newton and rsl-rl tell of themselves there
            env = opened(lesson.train, plan.envs, lesson.ranges, lesson.task)
            curve = opened(lesson.heldout, plan.curve_envs, AS_GENERATED, lesson.task)
            rehearsal = None
            if lesson.task.camera is not None:
                rehearsal = opened(lesson.train, plan.envs, lesson.ranges, replace(lesson.task, camera=None))
            drive = learn(env, curve, plan, seed=lesson.seed, tested=teller.send, rehearsal=rehearsal)
            tests = _tests(lesson.heldout, plan, lesson.task, lesson.device)
            teller.send({name: success_rate(test, drive(test)) for name, test in {**tests, "train": env}.items()})
    except InputError as error:
        teller.send(error)


def _tests(heldout: Sequence[Entry], plan: Plan, task: NavTask, device: str) -> dict[str, Gen3DNavEnv]:
    """Held-out worlds, as they are and randomized."""
    from omni_gen3d.envs.nav import Gen3DNavEnv

    return {
        name: Gen3DNavEnv(heldout, plan.test_envs, task=task, randomization=ranges, device=device, tensors=True)
        for name, ranges in (("heldout", AS_GENERATED), ("heldout_randomized", RANDOMIZED))
    }


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


def draw_curves(curves: dict[str, list[Point]], rows: Sequence[dict[str, Value]], path: Path) -> None:
    """Write success over steps as a picture in the format of the suffix; the first three rows learn nothing."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        if not curve:
            continue
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
