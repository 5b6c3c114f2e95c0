"""What may be asked of the generator; checked before anything heavy loads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from omni_gen3d.errors import InputError

if TYPE_CHECKING:
    import torch

MAX_PROMPT_CHARS = 1000
MAX_STEPS = 50
# Of a scene made of a film: what one window of the model holds.
DEFAULT_TIMES = 17
# The collider of an environment: triangles, convex pieces in the place of objects, or nothing.
Collision = Literal["mesh", "convex", "none"]
COLLISIONS: tuple[Collision, ...] = get_args(Collision)
# What both torch and numpy take as a seed.
MAX_SEED = 2**63 - 1


class Extent(StrEnum):
    """How far the environment reaches."""

    view = "view"
    room = "room"


class Device(StrEnum):
    """Where the networks run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


@dataclass(frozen=True)
class ColliderPlan:
    """The collider an environment gets, and the robot for which spawn poses are sought in it.

    Attributes:
        kind: The collider that is selected when the environment is opened; ``none`` builds no proxy.
        robot_radius: [m].
        robot_height: [m].
        voxel_size: Of the proxy's distance field [m].
        max_faces: Of the proxy.
    """

    kind: Collision = "mesh"
    robot_radius: float = 0.25
    robot_height: float = 0.6
    voxel_size: float = 0.05
    max_faces: int = 20_000

    def __post_init__(self) -> None:
        check_collider(self.kind, self.robot_radius)
        _check_length("the robot's height", self.robot_height)


@dataclass(frozen=True)
class OfficialOptions:
    """What the official model is told beside its preset.

    Attributes:
        weights: Folder of its weights (docs/models.md); None looks into the hub's cache.
        max_memory: What it may use of each card [GB]; None takes what is free.
    """

    weights: Path | None = None
    max_memory: float | None = None

    def __post_init__(self) -> None:
        if self.max_memory is not None and not (math.isfinite(self.max_memory) and self.max_memory > 0):
            raise InputError(f"max_memory is {self.max_memory} GB; it must be positive and finite.")


def check_request(
    prompt: str | None, *, image: Path | str | None, fov_deg: float | None, seed: int, steps: int | None
) -> None:
    """Refuse what no model can answer.

    Raises:
        InputError: There is neither a prompt nor an image, the prompt is too long or no valid Unicode, a field of view
            comes without an image, or the seed or the number of steps is out of range.
    """
    if image is None and not (prompt or "").strip():
        raise InputError("the prompt is empty; describe the environment in words, or give an image.")
    if prompt is not None and len(prompt) > MAX_PROMPT_CHARS:
        raise InputError(
            f"the prompt has {len(prompt)} characters; at most {MAX_PROMPT_CHARS} are allowed. Shorten it."
        )
    if prompt is not None and any("\ud800" <= character <= "\udfff" for character in prompt):
        raise InputError("the prompt is not valid Unicode text; pass it as UTF-8.")
    if fov_deg is not None and image is None:
        raise InputError(f"a field of view of {fov_deg:g} degrees was given without an image; give both or neither.")
    check_seed(seed)
    if steps is not None and not 1 <= steps <= MAX_STEPS:
        raise InputError(f"the number of steps is {steps}; it must lie between 1 and {MAX_STEPS}.")


def check_extent(extent: str, *, of_film: bool = False) -> None:
    """Refuse an extent that does not exist, or that a film cannot have.

    Raises:
        InputError: It is unknown, or a film is to become more than what it shows.
    """
    if extent not in list(Extent):
        raise InputError(f"the extent is {extent!r}; allowed are view (about the picture) and room (all around it).")
    if of_film and extent != Extent.view:
        raise InputError(f"a film cannot have the extent {extent}; take the extent view, or a picture as input.")


def check_seed(seed: int) -> None:
    """Refuse a seed that torch or numpy would not take.

    Raises:
        InputError: It is out of range.
    """
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"the seed is {seed}; it must lie between 0 and {MAX_SEED}.")


def check_collider(collision: str, robot_radius: float) -> None:
    """Refuse a collider or a robot that there cannot be.

    Raises:
        InputError: The name is unknown, or the radius is not positive and finite.
    """
    if collision not in COLLISIONS:
        raise InputError(f"the collision is '{collision}'; allowed are {', '.join(COLLISIONS)}.")
    _check_length("the robot's radius", robot_radius)


def _check_length(name: str, metres: float) -> None:
    if not (math.isfinite(metres) and metres > 0):
        raise InputError(f"{name} is {metres}; it must be positive and finite.")


def pick_device(device: str) -> torch.device:
    """The device of that name; ``auto`` takes cuda where torch sees it. Loads torch.

    Raises:
        InputError: The name is unknown, or torch sees no CUDA device.
    """
    import torch

    if device not in list(Device):
        raise InputError(f"the device is {device!r}; allowed are auto, cpu and cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("the device is 'cuda', but torch sees no CUDA device; use cpu or auto.")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
