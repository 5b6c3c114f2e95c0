"""How a policy learns to drive by sight: rsl-rl's PPO, every experience seen in a mirror, too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from omni_gen3d.bench.nav_drivers import Driver, success_rate

if TYPE_CHECKING:
    from rsl_rl.algorithms import PPO

    from omni_gen3d.envs.nav import Gen3DNavEnv
    from omni_gen3d.envs.rsl_rl import RslRlNavEnv

_ROLLOUT, _LEARNING_RATE, _FINE_RATE = 32, 5e-4, 1e-4
# Shares of the time after which a policy that sees must have rehearsed, and its eye have been opened.
_REHEARSED, _OPENED = 0.25, 0.65


@dataclass(frozen=True)
class Plan:
    """How much is done.

    Attributes:
        train, heldout: Worlds.
        envs: Robots that learn at once.
        rehearsal: Steps of all robots together without pictures.
        steps: Those after them, half of them for an eye; a blind policy takes all of both.
        minutes: After these a policy stops learning, if its steps have not been done.
        test_envs: Robots that are counted in a test at the end.
        curve_envs: Robots that are counted in each test in the course of learning.
        tests: In the course of learning.
    """

    train: int = 16
    heldout: int = 8
    envs: int = 1024
    rehearsal: int = 3_000_000
    steps: int = 2_000_000
    minutes: float = 10.0
    test_envs: int = 1024
    curve_envs: int = 256
    tests: int = 8


@dataclass(frozen=True)
class Point:
    """Success of a policy after so many steps and seconds of learning."""

    steps: int
    seconds: float
    heldout: float


def learn(
    env: Gen3DNavEnv,
    test: Gen3DNavEnv,
    plan: Plan,
    *,
    seed: int,
    tested: Callable[[Point], None],
    rehearsal: Gen3DNavEnv | None = None,
) -> Driver:
    """A policy trained by rsl-rl's PPO; ``tested`` is told its success meanwhile.

    A blind one learns in ``env`` for all its steps. One that sees rehearses first, without pictures: what it remembers
    of the floor is told by the map. Then an eye learns to read that from pictures, and PPO goes on from what it reads.

    Args:
        env: Where the policy learns, blind or by sight.
        test: Held-out worlds.
        plan: How much.
        seed: Of networks, episodes and actions.
        tested: Told each point of the curve.
        rehearsal: Like ``env``, without cameras; None for a policy that stays blind.
    """
    from omni_gen3d.bench.nav_memory import FloorMemory
    from omni_gen3d.bench.nav_sight import Eye, blind, by_map, sighted, teach_eye
    from omni_gen3d.envs.rsl_rl import RslRlNavEnv

    torch.manual_seed(seed)
    diary = Diary(plan, test, tested)
    if rehearsal is None:
        robots = RslRlNavEnv(env, seed)
        student = _student(robots)
        drive = blind(student.actor)
        _practise(student, robots, _LEARNING_RATE, diary.stage(plan.rehearsal + plan.steps, 1.0, drive))
        diary.test(drive)
        return drive
    robots = RslRlNavEnv(rehearsal, seed, FloorMemory(rehearsal, by_map(rehearsal)))
    student = _student(robots)
    _practise(student, robots, _LEARNING_RATE, diary.stage(plan.rehearsal, _REHEARSED, None))
    assert env.task.camera is not None
    eye = Eye(env.task.camera.size).to(env.device)
    drive, half = sighted(student.actor, eye), plan.steps // 2
    stage = diary.stage(half, _OPENED, drive)
    teach_eye(eye, env, student.actor, stage, rollout=_ROLLOUT, room=max(half, _ROLLOUT * plan.envs), seed=seed)
    robots = RslRlNavEnv(env, seed + 1, FloorMemory(env, eye.read))
    _practise(student, robots, _FINE_RATE, diary.stage(plan.steps - half, 1.0, drive))
    diary.test(drive)
    return drive


class Diary:
    """Steps and seconds of learning, and tests on the way. The time of tests is not counted."""

    def __init__(self, plan: Plan, test: Gen3DNavEnv, tested: Callable[[Point], None]) -> None:
        self._plan, self._test, self._tested = plan, test, tested
        self._steps, self._seconds = 0, 0.0
        # Shares of the whole: what is done, and when the next test is due.
        self._done, self._due = 0.0, 0.0

    def stage(self, steps: int, end: float, drive: Driver | None) -> Iterator[float]:
        """Share of a stage that is done, again before each rollout, until it is over.

        Args:
            steps: After so many it is over.
            end: It is over, too, once this share of the plan's minutes is gone.
            drive: What is tested on the way; None for nothing.
        """
        first, began, share = self._steps, self._seconds, self._done
        limit = 60 * self._plan.minutes * end - began
        while limit > 0 and (done := max((self._steps - first) / steps, (self._seconds - began) / limit)) < 1:
            self._done = share + done * (end - share)
            if drive is not None and self._done >= self._due:
                self.test(drive)
            started = time.perf_counter()
            yield done
            self._seconds += time.perf_counter() - started
            self._steps += _ROLLOUT * self._plan.envs
        self._done = end

    def test(self, drive: Driver) -> None:
        """Tell how often a policy succeeds now."""
        while self._due <= self._done:
            self._due += 1 / self._plan.tests
        self._tested(Point(self._steps, round(self._seconds, 1), round(success_rate(self._test, drive(self._test)), 4)))


def _student(robots: RslRlNavEnv) -> PPO:
    """rsl-rl's PPO for all that robots are told."""
    from rsl_rl.algorithms import PPO

    observation = robots.get_observations()
    return PPO.construct_algorithm(
        observation, robots, ppo_config([str(group) for group in observation.keys()]), str(robots.device)
    )


def _practise(student: PPO, robots: RslRlNavEnv, rate: float, stage: Iterable[float]) -> None:
    """PPO for a stage; its learning rate falls to a tenth."""
    observation = robots.get_observations()
    for done in stage:
        for group in student.optimizer.param_groups:
            group["lr"] = rate * (1 - 0.9 * done)
        with torch.no_grad():
            for _ in range(_ROLLOUT):
                observation, rewards, dones, extras = robots.step(student.act(observation))
                student.process_env_step(observation, rewards, dones, extras)
            student.compute_returns(observation)
        student.update()


def ppo_config(told: Sequence[str]) -> dict[str, Any]:
    """What rsl-rl is told: two networks of one shape, for the groups ``told`` of numbers."""
    from omni_gen3d.envs.rsl_rl import mirrored

    network: dict[str, Any] = {"class_name": "MLPModel", "hidden_dims": [128, 64], "activation": "elu"}
    return {
        "num_steps_per_env": _ROLLOUT,
        "obs_groups": {"actor": list(told), "critic": list(told)},
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
            "symmetry_cfg": {"use_data_augmentation": True, "data_augmentation_func": mirrored},
        },
        "multi_gpu": None,
    }
