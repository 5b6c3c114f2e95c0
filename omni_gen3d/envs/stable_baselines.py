"""``Gen3DNavEnv`` as Stable-Baselines3 wants its vectorised environments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from omni_gen3d.envs.nav import Gen3DNavEnv


class Sb3NavEnv(VecEnv):
    """A view of an environment that hands out numpy arrays; closing it closes that one.

    The info of a robot that is done holds ``success`` and ``collision`` besides what Stable-Baselines3 reads.
    """

    def __init__(self, env: Gen3DNavEnv, seed: int = 0) -> None:
        """``seed`` is that of the first reset."""
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.env = env
        self._first_seed: int | None = seed
        self._actions = np.zeros((env.num_envs, 2), np.float32)

    def reset(self) -> Any:
        observation, _ = self.env.reset(seed=self._first_seed)
        self._first_seed = None
        return observation

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> Any:
        observation, reward, terminated, truncated, infos = self.env.step(self._actions)
        told: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if infos:
            final, result = infos["final_obs"], infos["final_info"]
            for i in infos["_final_obs"].nonzero()[0]:
                told[i] = {
                    "terminal_observation": {name: values[i] for name, values in final.items()},
                    "TimeLimit.truncated": bool(truncated[i]),
                    "success": bool(result["success"][i]),
                    "collision": bool(result["collision"][i]),
                }
        return observation, reward, terminated | truncated, told

    def close(self) -> None:
        self.env.close()

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        self._first_seed = seed
        return [seed] * self.num_envs

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.env, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("the robots of a Gen3DNavEnv are one object; make another environment instead.")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        raise NotImplementedError("the robots of a Gen3DNavEnv are one object; call its own methods.")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs
