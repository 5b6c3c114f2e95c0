"""From what a model imagined around its first camera to the world: metres, Z-up, the floor at z = 0."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from omni_gen3d.decoder.ground import settle_on_ground
from omni_gen3d.geometry import placement_on, transform_cameras, transform_gaussians
from omni_gen3d.mesh.levelling import level_scene
from omni_gen3d.types import Cameras, Gaussians, Ground


@dataclass(frozen=True)
class ImaginedScene:
    """A scene in the first camera's frame and in scene units, as any family of models hands it over.

    Attributes:
        gaussians: On the CPU.
        cameras: That imagined it; camera 0 is the input camera. On the CPU.
        ground: The floor that the first camera sees, in the same frame and unit, None where it sees too little of one.
        metres_per_unit: Metres in a scene unit.
        notes: Sentences about estimates made on the way.
        model_sha256: Digest over the weight files.
    """

    gaussians: Gaussians
    cameras: Cameras
    ground: Ground | None
    metres_per_unit: float
    notes: tuple[str, ...]
    model_sha256: str


def place_upright(scene: ImaginedScene, seed: int) -> tuple[Gaussians, Cameras, tuple[str, ...]]:
    """The levelled, metric scene, its cameras, and its notes with what had to be assumed for it."""
    if scene.ground is None:
        return _level_by_search(scene, seed)
    gaussians = settle_on_ground(scene.gaussians, scene.ground, scene.cameras.intrinsics[0])
    return *_level_on(scene.ground, gaussians, scene.cameras, scene.metres_per_unit), scene.notes


def _level_on(
    ground: Ground, gaussians: Gaussians, cameras: Cameras, metres_per_unit: float
) -> tuple[Gaussians, Cameras]:
    """Scene units to metres, see ``placement_on``."""
    rotation, translation = placement_on(ground, metres_per_unit)
    return (
        transform_gaussians(gaussians, rotation, translation, metres_per_unit),
        transform_cameras(cameras, rotation, translation, metres_per_unit),
    )


def _level_by_search(scene: ImaginedScene, seed: int) -> tuple[Gaussians, Cameras, tuple[str, ...]]:
    """Scene units to metres, levelled on a floor sought in the splats."""
    keep, still = torch.eye(3), torch.zeros(3)
    gaussians = transform_gaussians(scene.gaussians, keep, still, scene.metres_per_unit)
    cameras = transform_cameras(scene.cameras, keep, still, scene.metres_per_unit)
    levelling = level_scene(gaussians, cameras, seed)
    return (
        transform_gaussians(gaussians, levelling.rotation, levelling.translation),
        transform_cameras(cameras, levelling.rotation, levelling.translation),
        scene.notes if levelling.note is None else (*scene.notes, levelling.note),
    )
