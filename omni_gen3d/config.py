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
        family: The model; its weights lie in the package.
        height: Of the imagined frames [pixels].
        width: Of the imagined frames [pixels].
        num_frames: Of each trajectory, 8 (T - 1) + 1.
        picture_candidates: First frames made from text, of which the one that shows most floor is taken.
        picture_steps: Noise levels of each.
        picture_guidance: Classifier-free guidance of the first frame.
        picture_fov_deg: Horizontal field of view of pictures made from text, as trained.
        video_steps: Noise levels of the trajectories.
        max_gaussians: The most opaque ones are kept.
        voxel_size: Of the collision proxy's distance field [m].
        max_faces: Of the collision proxy.
        robot_radius: For which spawn poses are sought [m].
        robot_height: For which spawn poses are sought [m].
    """

    family: str = "mini"
    height: int = 176
    width: int = 320
    num_frames: int = 17
    picture_candidates: int = 3
    picture_steps: int = 12
    picture_guidance: float = 3.0
    picture_fov_deg: float = 67.38
    video_steps: int = 4
    max_gaussians: int = 40_000
    voxel_size: float = 0.05
    max_faces: int = 20_000
    robot_radius: float = 0.25
    robot_height: float = 0.6


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
