"""Trainers take the navigation environment: Stable-Baselines3 through numpy, rsl-rl on tensors of the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from omni_gen3d.bench.nav_learning import ppo_config
from omni_gen3d.envs.entry import Entry
from omni_gen3d.envs.eyes import Eyes, RobotCamera
from omni_gen3d.envs.nav import Gen3DNavEnv, NavTask
from omni_gen3d.envs.randomize import draw
from omni_gen3d.envs.ranges import Randomization
from omni_gen3d.envs.registry import Registry
from omni_gen3d.envs.rsl_rl import PictureModel, RslRlNavEnv, groups_of, mirrored
from omni_gen3d.envs.stable_baselines import Sb3NavEnv
from omni_gen3d.errors import InputError

if TYPE_CHECKING:
    from tests.conftest import ToyScene

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
    config = {**ppo_config(["rgb", "state"]), "num_steps_per_env": 4, "save_interval": 100}
    eye = {"output_channels": [8, 16], "kernel_size": [8, 4], "stride": [4, 2], "activation": "relu"}
    for name in ("actor", "critic"):
        config[name] = {**config[name], "class_name": PictureModel, "cnn_cfg": eye}
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


def test_a_mirror_shows_what_is_seen_in_the_mirrored_world(
    toy_scene: ToyScene, write_toy: Callable[..., Path], registry: Registry
) -> None:
    """Left for right: balls on the other side give the picture in the mirror, and a turn there is one the other way."""
    across = torch.tensor([1.0, -1.0, 1.0])
    balls = replace(
        toy_scene.gaussians,
        scales=torch.full_like(toy_scene.gaussians.scales, 0.1),
        sh=toy_scene.gaussians.sh[:, :1],
    )
    worlds = [balls, replace(balls, means=balls.means * across)]
    entries = [registry.add(write_toy(seed=i, gaussians=world)) for i, world in enumerate(worlds)]
    eyes = Eyes(
        [entry.folder for entry in entries],
        2,
        TASK.camera or RobotCamera(),
        depth=True,
        device=torch.device("cpu"),
        step=0.1,
    )
    eyes.adjust(torch.arange(2), [0, 1], [draw(Randomization(), [entry], seed=0) for entry in entries])
    pose = torch.tensor([[-1.0, 0.3, 0.2], [-1.0, -0.3, -0.2]])
    state = torch.tensor([[1.0, 0.6, 0.8, 0.5, 0.3], [1.0, 0.6, -0.8, 0.5, -0.3]])
    seen = groups_of({**eyes.look(pose), "state": state})
    eyes.close()
    both, actions = mirrored(None, seen[:1], torch.tensor([[0.5, 0.2]]))
    assert both is not None and len(both) == 2
    assert torch.equal(both["state"], state) and actions is not None
    assert actions.tolist() == [[0.5, pytest.approx(0.2)], [0.5, pytest.approx(-0.2)]]
    assert seen["rgb"][0].float().std() > 10
    apart = (both["rgb"].float() - seen["rgb"].float()).abs()
    assert apart.max() <= 1 and (seen["rgb"][0].float() - seen["rgb"][1].float()).abs().max() > 20
    torch.testing.assert_close(both["depth"], seen["depth"], atol=1e-4, rtol=1e-4)


def test_a_policy_may_be_told_something_else(rooms: list[Entry]) -> None:
    """What ``told`` makes of each step's observations; of other numbers a mirror changes left and right."""
    env = Gen3DNavEnv(rooms, 2, task=TASK, device="cpu", tensors=True)
    seen: list[int] = []

    def told(observation: dict[str, torch.Tensor]) -> TensorDict:
        seen.append(int(env.age[0]))
        return TensorDict({"goal": observation["state"][:, 1:3], "depth": observation["depth"].mean((1, 3))}, [2])

    robots = RslRlNavEnv(env, 1, told)
    groups, *_ = robots.step(torch.zeros(2, 2))
    assert seen == [0, 1] and groups is robots.get_observations() and set(groups.keys()) == {"goal", "depth"}
    both, _ = mirrored(None, groups, None)
    assert both is not None
    torch.testing.assert_close(both["depth"][2:], groups["depth"].flip(-1))


def test_an_environment_that_hands_out_arrays_is_refused(rooms: list[Entry]) -> None:
    """The message says how to make the right one."""
    with pytest.raises(InputError, match="tensors=True"):
        RslRlNavEnv(Gen3DNavEnv(rooms[:1], 1, task=TASK, device="cpu"))
