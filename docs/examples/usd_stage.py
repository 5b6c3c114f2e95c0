"""Show three samples of one environment on a USD stage and keep each as a layer over it; no file of it changes.

python docs/examples/usd_stage.py env1 varied       # varied/sample_0.usda and so on
"""

import sys
from pathlib import Path

from pxr import Usd

from omni_gen3d.envs.applying import apply_to_stage
from omni_gen3d.envs.entry import entry_of_folder
from omni_gen3d.envs.randomize import draw
from omni_gen3d.envs.ranges import AppearanceRanges, ContactRanges, PlacementRanges, Randomization, Range

RANGES = Randomization(
    appearance=AppearanceRanges(exposure=Range(-1, 0.5), hue=Range(-0.2, 0.2)),
    contact=ContactRanges(static_friction=Range(0.4, 1.0)),
    placement=PlacementRanges(yaw=Range(-3.14, 3.14)),
)


def main(folder: Path, out: Path) -> None:
    environment = entry_of_folder(folder)
    stage = Usd.Stage.Open(str(environment.usd))
    out.mkdir(parents=True, exist_ok=True)
    for index in range(3):
        sample = draw(RANGES, [environment], seed=7, index=index)
        apply_to_stage(stage, sample)
        layer = out / f"sample_{index}.usda"
        stage.GetSessionLayer().Export(str(layer))
        (out / f"sample_{index}.json").write_text(sample.to_json())
        assert sample.contact is not None
        print(f"{layer}: yaw {sample.placement.yaw:+.2f}, friction {sample.contact.static_friction:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
