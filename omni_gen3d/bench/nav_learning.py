"""How a policy learns to drive by sight: rsl-rl's PPO, every experience seen in a mirror, too."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from omni_gen3d.bench.nav_drivers import Act, success_rate

if TYPE_CHECKING:
    from omni_gen3d.envs.nav import Gen3DNavEnv

_ROLLOUT, _LEARNING_RATE = 32, 5e-4


@dataclass(frozen=True)
class Plan:
    """How much is done.

    Attributes:
        train, heldout: Worlds.
        envs: Robots that learn at once.
        steps: Of all robots together, for each policy.
        minutes: After these a policy stops learning, if its steps have not been done.
        test_envs: Robots that are counted in a test at the end.
        curve_envs: Robots that are counted in each test in the course of learning.
        tests: In the course of learning.
    """

    train: int = 16
    heldout: int = 8
    envs: int = 1024
    steps: int = 3_000_000
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
    from omni_gen3d.envs.rsl_rl import PictureModel, mirrored

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
            "symmetry_cfg": {"use_data_augmentation": True, "data_augmentation_func": mirrored},
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
