"""Write the traversable map of an environment for a navigation stack, once as it is and once for a robot's centre.

python docs/examples/ros_map.py env1 maps           # maps/plan/map.yaml for Nav2's map_server
"""

import sys
from pathlib import Path

from omni_gen3d.envs.occupancy import occupancy_map
from omni_gen3d.usd import Manifest


def main(folder: Path, out: Path) -> None:
    manifest = Manifest.read(folder / "environment.yaml")
    for name, radius in (("plan", 0.0), ("centre", 0.25)):
        plan = occupancy_map(manifest, robot_height=1.0, robot_radius=radius)
        print(f"{plan.write(out / name)}: {plan.free_area_m2:.1f} m2 free")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
