"""An eye for robots: how far the floor is free, read from a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from rsl_rl.models import MLPModel
from tensordict import TensorDict
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from omni_gen3d.bench.nav_drivers import Act, Driver, Observation
from omni_gen3d.bench.nav_memory import REACH_M, VIEWED, FloorMemory
from omni_gen3d.envs.nav import Gen3DNavEnv
from omni_gen3d.envs.rsl_rl import RslRlNavEnv, groups_of, mirrored

_CHANNELS, _HIDDEN = (16, 32, 64, 64), 128
_BATCH, _LEARNING_RATE = 128, 1e-3
# How often a picture, and its mirror's, is learned from.
_TIMES = 2


class Eye(nn.Module):
    """Reads pictures."""

    def __init__(self, size: int) -> None:
        """Make an eye that knows nothing.

        Args:
            size: Edge of the pictures [pixels].
        """
        super().__init__()
        layers, last = [], 3
        for channels in _CHANNELS:
            layers += [nn.Conv2d(last, channels, 3, stride=2, padding=1), nn.ReLU()]
            size, last = (size + 1) // 2, channels
        self.layers = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(last * size**2, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, len(VIEWED))
        )
        # As environments hand pictures out.
        convert_conv2d_weight_memory_format(self.layers, torch.channels_last)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Clearances in the directions ``VIEWED`` [m], ``(B, V)``, of bytes ``(B, 3, S, S)``."""
        return REACH_M * self.layers(pictures.float() / 255 - 0.5).sigmoid()

    @torch.no_grad()
    def read(self, observation: Observation) -> torch.Tensor:
        """The same for pictures as an environment hands them out."""
        return self(groups_of(observation)["rgb"])


def by_map(env: Gen3DNavEnv) -> Callable[[Observation], torch.Tensor]:
    """What an eye is to read in the pictures of an environment."""
    directions = torch.tensor(VIEWED, device=env.device)
    return lambda _: env.clearance(directions, REACH_M)


def blind(actor: MLPModel) -> Driver:
    """Drives by the state alone."""
    return lambda env: _most_likely(actor, groups_of)


def sighted(actor: MLPModel, eye: Eye) -> Driver:
    """Drives by what an eye has read since the episode began."""
    return lambda env: _most_likely(actor, FloorMemory(env, eye.read))


def _most_likely(actor: MLPModel, told: Callable[[Observation], TensorDict]) -> Act:
    def act(observation: Observation) -> torch.Tensor:
        with torch.no_grad():
            return actor(told(observation))

    return act


def teach_eye(
    eye: Eye, env: Gen3DNavEnv, driver: MLPModel, stage: Iterable[float], *, rollout: int, room: int, seed: int
) -> None:
    """Let an eye learn from what robots see that a driver drives: half of them by the map, half by what the eye reads.

    The latter get where its errors lead (Ross, Gordon and Bagnell, A Reduction of Imitation Learning and Structured
    Prediction to No-Regret Online Learning, AISTATS 2011).

    Args:
        eye: What learns.
        env: Whose robots are driven.
        driver: Told what ``FloorMemory`` tells.
        stage: Share that is done, again before each rollout.
        rollout: Steps before the eye learns from them, and from all before.
        room: Pictures at most.
        seed: Of the series of episodes that begins.
    """
    assert env.task.camera is not None
    count, device, size = env.num_envs, env.device, env.task.camera.size
    pictures = torch.empty((room, size, size, 3), dtype=torch.uint8, device=device)
    clearances = torch.empty((room, len(VIEWED)), device=device)
    by_eye, exact = (torch.arange(count, device=device) % 2 == 0)[:, None], by_map(env)
    held = 0

    def read(observation: Observation) -> torch.Tensor:
        nonlocal held
        truth = exact(observation)
        if held + count <= room:
            pictures[held : held + count], clearances[held : held + count] = observation["rgb"], truth
            held += count
        return torch.where(by_eye, eye.read(observation), truth)

    robots = RslRlNavEnv(env, seed, FloorMemory(env, read))
    optimizer = torch.optim.AdamW(eye.parameters(), _LEARNING_RATE)
    for done in stage:
        with torch.no_grad():
            for _ in range(rollout):
                robots.step(driver(robots.get_observations(), stochastic_output=True))
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * (1 - 0.95 * done)
        for _ in range(_TIMES * rollout * count // _BATCH):
            chosen = torch.randint(held, (_BATCH,), device=device)
            seen = pictures[chosen].permute(0, 3, 1, 2)
            both, _ = mirrored(None, TensorDict({"rgb": seen, "free": clearances[chosen]}, [_BATCH]), None)
            assert both is not None
            loss = nn.functional.smooth_l1_loss(eye(both["rgb"]), both["free"], beta=0.2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
