"""Drive robots towards goals in the environments of a library, by bearing alone, and count what happens.

python docs/examples/gym_nav.py          # those of $OMNI_GEN3D_HOME
"""

import numpy as np

from omni_gen3d.envs.nav import Gen3DNavEnv
from omni_gen3d.envs.ranges import AppearanceRanges, Randomization, Range
from omni_gen3d.envs.registry import Registry

LOOKS = Randomization(appearance=AppearanceRanges(exposure=Range(-0.5, 0.5), hue=Range(-0.3, 0.3)))


def main() -> None:
    env = Gen3DNavEnv(Registry().entries(), 4, randomization=LOOKS)
    observation, _ = env.reset(seed=0)
    print({name: values.shape for name, values in observation.items()})
    episodes = goals = 0
    for _ in range(40):
        _, cos, sin, *_ = observation["state"].T
        actions = np.stack([np.clip(cos, 0, 1), np.clip(2 * np.arctan2(sin, cos), -1, 1)], -1)
        observation, _, _, _, infos = env.step(actions)
        if infos:
            done = infos["_final_info"]
            episodes, goals = episodes + done.sum(), goals + infos["final_info"]["success"][done].sum()
    print(f"{goals} goals in {episodes} episodes")
    env.close()


if __name__ == "__main__":
    main()
