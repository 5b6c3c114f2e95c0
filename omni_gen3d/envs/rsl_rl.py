"""``Gen3DNavEnv`` for rsl-rl, and a network for what it shows: nothing of a step leaves the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from rsl_rl.env import VecEnv
from rsl_rl.models import CNNModel
from tensordict import TensorDict

from omni_gen3d.envs.nav import Gen3DNavEnv
from omni_gen3d.errors import InputError


class RslRlNavEnv(VecEnv):
    """A view of an environment that was made with ``tensors=True``.

    Observations are groups: ``rgb`` uint8 ``(N, 3, S, S)`` and ``depth`` ``(N, 1, S, S)`` where the task has them, and
    ``state`` ``(N, 5)``; or what ``told`` makes of them.
    """

    def __init__(
        self, env: Gen3DNavEnv, seed: int = 0, told: Callable[[dict[str, torch.Tensor]], TensorDict] | None = None
    ) -> None:
        """Reset the environment.

        Args:
            env: What is seen.
            seed: Of the series of episodes that begins.
            told: What a policy is told of observations, asked once for those of each step; ``groups_of`` where None.

        Raises:
            InputError: The environment hands out numpy arrays.
        """
        if not env.tensors:
            raise InputError("the environment hands out numpy arrays; make it with tensors=True.")
        self.env = env
        self.num_envs, self.num_actions = env.num_envs, 2
        self.max_episode_length = env.task.steps
        self.device = env.device
        self.cfg = {}
        self._told = groups_of if told is None else told
        self._observation = self._told(env.reset(seed=seed)[0])

    @property
    def episode_length_buf(self) -> torch.Tensor:
        """Steps that each robot has taken in its episode; may be set, to let episodes end at different times."""
        return self.env.age

    @episode_length_buf.setter
    def episode_length_buf(self, steps: torch.Tensor) -> None:
        self.env.age.copy_(steps)

    def get_observations(self) -> TensorDict:
        return self._observation

    def step(self, actions: torch.Tensor) -> tuple[TensorDict, torch.Tensor, torch.Tensor, dict[str, Any]]:
        # rsl-rl's runner steps in inference mode; what is made there could not be changed outside, by a reset.
        with torch.inference_mode(False), torch.no_grad():
            observation, reward, terminated, truncated, _ = self.env.step(actions)
            self._observation = self._told(observation)
        return self._observation, reward, terminated | truncated, {"time_outs": truncated}


def groups_of(observation: dict[str, torch.Tensor]) -> TensorDict:
    """Observations as rsl-rl's groups, the channels of pictures first."""
    state = observation["state"]
    pictures = {name: values.permute(0, 3, 1, 2) for name, values in observation.items() if values.dim() == 4}
    return TensorDict({**pictures, "state": state}, [len(state)], device=state.device)


def mirrored(
    env: object, obs: TensorDict | None, actions: torch.Tensor | None
) -> tuple[TensorDict | None, torch.Tensor | None]:
    """What was seen and done, and behind it the same in a mirror, left for right: twice as many of both.

    rsl-rl's ``data_augmentation_func``: neither the robot nor the task tells left from right, so a mirrored episode is
    one of a mirrored world.

    Args:
        env: Not looked at.
        obs: Groups of ``RslRlNavEnv``, of B robots; what is neither picture nor state is told from right to left.
        actions: ``(B, 2)``.
    """
    both = None
    if obs is not None:
        seen = {name: obs[name] for name in obs.keys()}
        others = {name: values.flip(-1) for name, values in seen.items() if name != "state"}
        if "state" in seen:
            # The sine of the goal's bearing and the turn rate change sides.
            others["state"] = seen["state"] * seen["state"].new_tensor([1, 1, -1, 1, -1])
        both = TensorDict({name: torch.cat([seen[name], others[name]]) for name in seen}, [2 * len(obs)])
    return both, None if actions is None else torch.cat([actions, actions * actions.new_tensor([1, -1])])


class PictureModel(CNNModel):
    """rsl-rl's convolutional network for pictures of bytes: they become numbers in [-0.5, 0.5] when they are seen."""

    def get_latent(self, obs: TensorDict, *args: Any, **kwargs: Any) -> torch.Tensor:
        seen = {name: obs[name] for name in obs.keys()}
        numbers = {name: v.float() / 255 - 0.5 if v.dtype == torch.uint8 else v for name, v in seen.items()}
        return super().get_latent(TensorDict(numbers, obs.batch_size), *args, **kwargs)
