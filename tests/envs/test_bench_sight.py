"""What robots of `bench train` are told: the floor that they remember having seen, by the map or by an eye."""

from __future__ import annotations

import math

import torch

from omni_gen3d.bench.nav_memory import REACH_M, VIEWED, FloorMemory
from omni_gen3d.bench.nav_sight import Eye, by_map, teach_eye
from omni_gen3d.envs.entry import Entry
from omni_gen3d.envs.eyes import RobotCamera
from omni_gen3d.envs.nav import Gen3DNavEnv, NavTask

TASK = NavTask(camera=None, goal_distance=(0.5, 2.5), steps=40)
# Straight ahead, to the left, behind and to the right among the 36 directions: means of the two beside each.
AHEAD, LEFT, BEHIND, RIGHT = [17, 18], [26, 27], [35, 0], [8, 9]


def test_what_was_seen_is_remembered_until_the_episode_ends(rooms: list[Entry]) -> None:
    """After a turn on the spot the way that was free ahead is known behind; a new episode knows nothing of it."""
    env = Gen3DNavEnv(rooms[:1], 4, task=TASK, device="cpu", tensors=True)
    observation, _ = env.reset(seed=0)
    reads = torch.full((4, len(VIEWED)), 1.5)
    reads[1] = REACH_M
    memory = FloorMemory(env, lambda _: reads)
    told = memory(observation)
    free, met = told["free"] * REACH_M, told["met"].bool()
    assert free.shape == met.shape == (4, 36)
    assert (free[[0, 2, 3]][:, AHEAD] - 1.5).abs().max() < 0.3 and met[[0, 2, 3]][:, AHEAD].all()
    assert (free[1, AHEAD] > REACH_M - 0.2).all() and not met[1].any()
    assert (free[:, [*LEFT, *BEHIND, *RIGHT]] < 0.5).all() and not met[:, [*LEFT, *BEHIND, *RIGHT]].any()
    assert torch.equal(told["state"], observation["state"])
    turned, before = torch.zeros(4), env.pose[:, 2].clone()
    reads[:] = 0.0
    while turned.min() < math.pi - 0.15:
        observation, _, terminated, truncated, _ = env.step(torch.tensor([[0.0, 1.0]]).expand(4, 2))
        assert not (terminated | truncated).any()
        told, turned = memory(observation), turned + (env.pose[:, 2] - before) % (2 * math.pi)
        before = env.pose[:, 2].clone()
    reads[:] = 0.6
    told = memory(observation)
    free, met = told["free"] * REACH_M, told["met"].bool()
    # What was 1.5 m ahead is behind, and what is seen now replaces nothing there.
    assert (free[[0, 2, 3]][:, BEHIND] > 1.0).all() and (free[1, BEHIND] > 2.0).all()
    assert (free[:, AHEAD] < 0.9).all() and met[:, AHEAD].all()
    observation, _ = env.reset(seed=1)
    assert (memory(observation)["free"][:, BEHIND] * REACH_M < 0.5).all()


def test_driving_brings_nearer_what_was_seen(rooms: list[Entry]) -> None:
    """By the map: what is told ahead agrees with it at every step of a drive."""
    env = Gen3DNavEnv(rooms[:1], 8, task=TASK, device="cpu", tensors=True)
    observation, _ = env.reset(seed=2)
    memory = FloorMemory(env, by_map(env))
    for _ in range(4):
        free = memory(observation)["free"][:, AHEAD].mean(1) * REACH_M
        ahead = env.clearance(torch.zeros(1), REACH_M)[:, 0]
        assert ((free - ahead).abs() < 0.45).float().mean() >= 0.75
        observation, *_ = env.step(torch.tensor([[0.5, 0.0]]).expand(8, 2))


def test_an_eye_learns_to_read_clearances(rooms: list[Entry]) -> None:
    """Sixteen pictures it soon knows, and the same way every time."""
    task = NavTask(camera=RobotCamera(size=24), goal_distance=(0.5, 2.5), steps=400)
    env = Gen3DNavEnv(rooms[:1], 16, task=task, device="cpu", tensors=True)

    def taught() -> Eye:
        torch.manual_seed(0)
        eye = Eye(24)

        def driver(told, stochastic_output: bool) -> torch.Tensor:
            assert stochastic_output and set(told.keys()) == {"state", "free", "met"}
            return torch.zeros(16, 2)

        stage = [0.02 * i for i in range(50)]
        teach_eye(eye, env, driver, stage, rollout=16, room=1000, seed=3)  # type: ignore[arg-type]
        return eye

    eye = taught()
    observation, _ = env.reset(seed=3)
    truth = by_map(env)(observation)
    error = (eye.read(observation) - truth).abs().mean()
    assert error < 0.65 * (truth - truth.median()).abs().mean()
    assert torch.equal(eye.read(observation), taught().read(observation))
