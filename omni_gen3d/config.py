"""Presets: what a generation is made with. A YAML file in configs/ holds only what differs from the defaults here."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from omni_gen3d.errors import InputError

_PACKAGE = Path(__file__).parent
# Beside the package in an installed wheel, at the repository's root in a checkout.
_FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")
PACKAGED_WEIGHTS = _PACKAGE / "weights"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Sizes and strengths of every stage.

    Attributes:
        family: ``mini``, whose weights lie in the package, or ``lyra``, whose weights the user brings.
        height: Of the imagined frames [pixels].
        width: Of the imagined frames [pixels].
        num_frames: Of each trajectory, 8 (T - 1) + 1.
        picture_candidates: First frames made from text, of which the one that shows most floor is taken (but for a
            room not too much of it).
        picture_steps: Noise levels of each.
        picture_guidance: Classifier-free guidance of the first frame and of later stations.
        completion_candidates: Pictures made for each later station of a room; again the one with most floor is taken.
        picture_fov_deg: Horizontal field of view of pictures made from text, as trained.
        video_steps: Noise levels of the trajectories.
        max_gaussians: The most opaque ones are kept, of the first picture's trajectories.
        max_station_gaussians: The same of every later station of a room.
        max_room_gaussians: The same of a room as a whole.
        clearing_side: Of the square of floor in a room that later stations keep free [m].
        voxel_size: Of the collision proxy's distance field [m].
        max_faces: Of the collision proxy.
        max_room_faces: The same of a room.
        robot_radius: For which spawn poses are sought [m].
        robot_height: For which spawn poses are sought [m].
        backend: Of the family lyra: ``gen3c``, ``wan-vace`` or ``sana-wm``.
        video_model: Repository of the latter two's pipelines.
        video_guidance: Guidance of the trajectories in the backend's own terms; for GEN3C 0 saves the second pass.
        depth_model: Repository of the depth network.
        picture_model: Repository of the text-to-image pipeline.
        weights_type: How GEN3C's weights are stored: ``bfloat16``, ``float8``, or empty for what fits.
        compiled: Compile GEN3C's blocks: a minute once, then faster passes.
        step_cache: Skip GEN3C's blocks where the first one changes less than this; 0 never skips.
        ray_type: In which the decoder's rays are computed; the release's checkpoints were trained with ``bfloat16``.
    """

    family: str = "mini"
    height: int = 176
    width: int = 320
    num_frames: int = 17
    picture_candidates: int = 3
    picture_steps: int = 12
    picture_guidance: float = 3.0
    completion_candidates: int = 1
    picture_fov_deg: float = 67.38
    video_steps: int = 4
    max_gaussians: int = 40_000
    max_station_gaussians: int = 20_000
    max_room_gaussians: int = 140_000
    clearing_side: float = 4.6
    voxel_size: float = 0.05
    max_faces: int = 20_000
    max_room_faces: int = 40_000
    robot_radius: float = 0.25
    robot_height: float = 0.6
    backend: str = "gen3c"
    video_model: str = ""
    video_guidance: float = 1.0
    depth_model: str = ""
    picture_model: str = ""
    weights_type: str = ""
    compiled: bool = False
    step_cache: float = 0.0
    ray_type: str = "bfloat16"


def preset_names() -> list[str]:
    """The presets that exist."""
    return sorted({file.stem for folder in _FOLDERS for file in folder.glob("*.yaml")})


def load_preset(name: str) -> Preset:
    """Read a preset by name.

    Raises:
        InputError: There is no such preset, or its file holds a key or type that ``Preset`` does not know.
    """
    if name not in preset_names():
        raise InputError(f"the preset {name!r} does not exist; allowed are: {', '.join(preset_names())}.")
    file = next(path for folder in _FOLDERS if (path := folder / f"{name}.yaml").is_file())
    values: dict[str, Any] = yaml.safe_load(file.read_text()) or {}
    known = {field.name: field for field in dataclasses.fields(Preset)}
    for key, value in values.items():
        if key not in known:
            raise InputError(f"{file.name} holds the key {key!r}; allowed are: {', '.join(known)}.")
        wanted = type(known[key].default)
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise InputError(f"{file.name}: {key} is {value!r}; it must be of type {wanted.__name__}.")
    return Preset(**values)
