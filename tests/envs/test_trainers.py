"""Trainers take the navigation environment: Stable-Baselines3 through numpy, rsl-rl on tensors of the device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from omni_gen3d.bench.nav_learning import ppo_config
from omni_gen3d.envs.entry import Entry
from omni_gen3d.envs.eyes import RobotCamera
from omni_gen3d.envs.nav import Gen3DNavEnv, NavTask
from omni_gen3d.envs.rsl_rl import RslRlNavEnv, groups_of
from omni_gen3d.envs.stable_baselines import Sb3NavEnv
from omni_gen3d.errors import InputError

TASK = NavTask(camera=RobotCamera(size=36), goal_distance=(0.5, 2.5), steps=6, depth=True)


def test_stable_baselines_learns_and_is_told_how_episodes_ended(rooms: list[Entry]) -> None:
    """A few steps of PPO; whoever is cut off is told so, with the last thing that it saw."""
    from stable_baselines3 import PPO

    robots = Sb3NavEnv(Gen3DNavEnv(rooms, 4, task=TASK, device="cpu"), seed=1)
    PPO("MultiInputPolicy", robots, n_steps=4, batch_size=8, n_epochs=1, seed=0).learn(16)
    robots.seed(2)
    robots.reset()
    for _ in range(TASK.steps):
        robots.step_async(np.zeros((4, 2), np.float32))
        seen, _, done, infos = robots.step_wait()
    assert done.all()
    for i, info in enumerate(infos):
        assert info["TimeLimit.truncated"] and not info["success"] and not info["collision"]
        assert (info["terminal_observation"]["state"] != seen["state"][i]).any()


def test_rsl_rl_learns_on_tensors(rooms: list[Entry]) -> None:
    """Its runner trains the network; time-outs are told apart from ends."""
    from rsl_rl.runners import OnPolicyRunner

    env = Gen3DNavEnv(rooms, 4, task=TASK, device="cpu", tensors=True)
    robots = RslRlNavEnv(env, seed=1)
    groups = robots.get_observations()
    assert groups["rgb"].shape == (4, 3, 36, 36) and groups["rgb"].dtype == torch.uint8
    assert groups["depth"].shape == (4, 1, 36, 36) and groups["state"].shape == (4, 5)
    config = {**ppo_config(sees=True), "num_steps_per_env": 4, "save_interval": 100}
    runner = OnPolicyRunner(robots, config, log_dir=None, device="cpu")
    before = torch.cat([p.detach().flatten() for p in runner.alg.actor.parameters()])
    runner.learn(2, init_at_random_ep_len=True)
    after = torch.cat([p.detach().flatten() for p in runner.alg.actor.parameters()])
    assert torch.isfinite(after).all() and (before != after).float().mean() > 0.5
    robots.episode_length_buf = torch.tensor([TASK.steps - 1, 0, 0, 0])
    env.reset(seed=3)
    env.age[0] = TASK.steps - 1
    _, _, dones, extras = robots.step(torch.zeros(4, 2))
    assert dones.tolist() == extras["time_outs"].tolist() == [True, False, False, False]
    # Bytes reach the network as numbers about 0.
    state, latent_of = torch.zeros(1, 5), runner.alg.actor.get_latent
    white, black = (torch.full((1, 36, 36, 3), byte, dtype=torch.uint8) for byte in (255, 0))
    latents = [
        latent_of(groups_of({"rgb": rgb, "state": state}))
        for rgb in (white, black, torch.full_like(white, 0.5, dtype=torch.float32))
    ]
    torch.testing.assert_close(latents[0], latents[2])
    assert not torch.allclose(latents[0], latents[1])


def test_an_environment_that_hands_out_arrays_is_refused(rooms: list[Entry]) -> None:
    """The message says how to make the right one."""
    with pytest.raises(InputError, match="tensors=True"):
        RslRlNavEnv(Gen3DNavEnv(rooms[:1], 1, task=TASK, device="cpu"))
