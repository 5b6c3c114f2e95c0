"""Four robots in Isaac Lab, each in another environment of the library, drive towards goals by bearing alone.

python docs/examples/isaaclab_nav.py     # the first four of $OMNI_GEN3D_HOME; Isaac Lab 3.0, Python 3.12
"""

import gymnasium
import torch

import omni_gen3d.envs.isaaclab as lab
from omni_gen3d.envs.ranges import AppearanceRanges, Randomization, Range
from omni_gen3d.envs.registry import Registry

LOOKS = Randomization(appearance=AppearanceRanges(exposure=Range(-0.5, 0.5), hue=Range(-0.3, 0.3)))


def main() -> None:
    registry = Registry()
    ids = [entry.id for entry in registry.entries()][:4]
    env = gymnasium.make("Gen3D-Nav-v0", cfg=lab.nav_env_cfg(registry, ids, num_envs=4, ranges=LOOKS)).unwrapped
    observation, _ = env.reset()
    print({group: tuple(values.shape) for group, values in observation.items()})
    goals, earned = 0, 0.0
    for _ in range(80):
        _, cos, sin = observation["goal"].unbind(-1)
        speed, turn = 0.6 * cos.clamp(0, 1), (3 * torch.atan2(sin, cos)).clamp(-1.5, 1.5)
        observation, reward, reached, _, _ = env.step(torch.stack([speed, turn], -1))
        goals, earned = goals + int(reached.sum()), earned + float(reward.sum())
    print(f"{goals} goals, {earned:.1f} earned")
    env.close()


if __name__ == "__main__":
    main()
