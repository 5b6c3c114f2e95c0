"""Draw one environment in several samples through one render delegate, which reads again only what a sample changes.

python docs/examples/delegate_pictures.py env1 pictures
"""

import sys
from pathlib import Path

import torch
from PIL import Image
from pxr import Usd

from omni_gen3d.envs.applying import apply_to_cameras, apply_to_stage
from omni_gen3d.envs.entry import entry_of_folder
from omni_gen3d.envs.eyes import RobotCamera
from omni_gen3d.envs.randomize import draw
from omni_gen3d.envs.ranges import CameraRanges, LightRanges, PlacementRanges, Randomization, Range
from omni_gen3d.render.delegate import SplatRenderDelegate
from omni_gen3d.render.picture import color_to_image

RANGES = Randomization(
    placement=PlacementRanges(yaw=Range(-0.3, 0.3)),
    light=LightRanges(sun=Range(500, 2000)),
    camera=CameraRanges(focal_scale=Range(0.9, 1.1), rotation=Range(-0.02, 0.02)),
)
# A robot's, at the origin, looking along +X.
CAMERA = RobotCamera(size=160).on_robot()


def main(folder: Path, out: Path) -> None:
    environment = entry_of_folder(folder)
    stage = Usd.Stage.Open(str(environment.usd))
    out.mkdir(parents=True, exist_ok=True)
    with SplatRenderDelegate(stage) as delegate:
        for index in range(4):
            sample = draw(RANGES, [environment], seed=2, index=index)
            apply_to_stage(stage, sample)
            seen = delegate.render(apply_to_cameras(CAMERA, sample.camera)).aovs["color"]
            color = torch.as_tensor(seen[0]).cpu()
            Image.fromarray(color_to_image(color)).save(out / f"sample_{index}.png")
        print(f"4 pictures, splats read {delegate.counts.splats_loaded} time(s)")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
