"""A sample put to use: on Gaussians and cameras as pure functions, on a USD stage in its session layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from omni_gen3d.envs.sample import Appearance, CameraChange, Light, Sample
from omni_gen3d.errors import InputError
from omni_gen3d.geometry import recolor_sh, transform_gaussians
from omni_gen3d.types import Cameras, Gaussians

if TYPE_CHECKING:
    from pxr import Usd

    from omni_gen3d.envs.clutter import Pool
    from omni_gen3d.envs.entry import Point

_MID_GREY = 0.5


def color_change(appearance: Appearance) -> tuple[torch.Tensor, torch.Tensor]:
    """The change of a displayed colour as ``matrix @ rgb + offset``, float64, shapes ``(3, 3)`` and ``(3,)``."""
    matrices, offsets = color_changes([appearance])
    return matrices[0], offsets[0]


def color_changes(appearances: Sequence[Appearance]) -> tuple[torch.Tensor, torch.Tensor]:
    """One change of a displayed colour each, float64, shapes ``(K, 3, 3)`` and ``(K, 3)``."""
    rows = [
        (
            2 ** (a.exposure + a.warmth / 2),
            2 ** (a.exposure + a.tint),
            2 ** (a.exposure - a.warmth / 2),
            math.cos(a.hue),
            math.sin(a.hue) / math.sqrt(3),
            a.contrast,
        )
        for a in appearances
    ]
    table = torch.tensor(rows, dtype=torch.float64)
    gains, cos, sin, contrast = table[:, None, :3], *table[:, 3:, None, None].unbind(1)
    # Rodrigues' formula about the grey axis; the cross product with (1, 1, 1) / sqrt(3) turns red towards green.
    cross = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=torch.float64)
    turn = cos * torch.eye(3, dtype=torch.float64) + sin * cross + (1 - cos) / 3
    return contrast * turn * gains, ((1 - contrast[:, 0]) * _MID_GREY).expand(-1, 3)


def light_terms(light: Light) -> tuple[float, float, Point, Point]:
    """What ``usd.overrides.override_light`` wants to know."""
    flat = math.cos(light.elevation)
    toward = flat * math.cos(light.azimuth), flat * math.sin(light.azimuth), math.sin(light.elevation)
    return light.sky, light.sun, toward, (2 ** (light.warmth / 2), 1.0, 2 ** (-light.warmth / 2))


def apply_to_gaussians(gaussians: Gaussians, sample: Sample) -> Gaussians:
    """The splats of the environment as the sample shows and places them; what the sample leaves alone keeps its bits.

    Colours are exact for every degree, before a negative one counts as 0.
    """
    if sample.appearance != Appearance():
        gaussians = replace(gaussians, sh=recolor_sh(gaussians.sh, *color_change(sample.appearance)))
    placement = sample.placement
    if placement.yaw != 0 or placement.scale != 1:
        cos, sin = math.cos(placement.yaw), math.sin(placement.yaw)
        rotation = torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], dtype=torch.float64)
        gaussians = transform_gaussians(gaussians, rotation, torch.zeros(3), placement.scale)
    return gaussians


def apply_to_cameras(cameras: Cameras, change: CameraChange) -> Cameras:
    """Cameras with the lens and the pose of the sample: all are moved alike, each in its own frame."""
    return change_cameras(cameras, [change])


def change_cameras(cameras: Cameras, changes: Sequence[CameraChange]) -> Cameras:
    """Cameras with changed lenses and poses, one change each or one for all."""

    def column(name: str) -> torch.Tensor:
        return torch.tensor([getattr(change, name) for change in changes], dtype=torch.float64)

    intrinsics = cameras.intrinsics.clone()
    intrinsics[:, (0, 1), (0, 1)] *= column("focal_scale").to(intrinsics)[:, None]
    size = intrinsics.new_tensor([cameras.width, cameras.height])
    intrinsics[:, :2, 2] += size * column("principal_shift").to(intrinsics)
    x, y, z = column("rotation").T
    zero = torch.zeros_like(x)
    generator = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    moved = torch.eye(4, dtype=torch.float64).repeat(len(changes), 1, 1)
    moved[:, :3, :3] = torch.linalg.matrix_exp(generator)
    moved[:, :3, 3] = column("position")
    world_to_camera = torch.linalg.inv(moved).to(cameras.world_to_camera) @ cameras.world_to_camera
    return replace(cameras, intrinsics=intrinsics, world_to_camera=world_to_camera)


def apply_to_stage(
    stage: Usd.Stage,
    sample: Sample,
    root: str = "/World",
    pool: Pool | None = None,
) -> None:
    """Show a sample on a stage that holds the environment: everything goes to the session layer, no file is touched.

    The harmonics themselves are changed, so every renderer shows the colours. Applying another sample replaces this
    one. The caller sees to it that the stage holds the environment that was drawn.

    Args:
        stage: Its edit target stays as it is.
        sample: What to show; its camera and spawn pose are the caller's.
        root: The prim that is, or references, ``/World`` of the environment.
        pool: Holds the meshes of the sample's clutter, where it has any.

    Raises:
        InputError: There is no environment at ``root``, or it is an instance, whose parts cannot differ; or a mesh of
            the clutter is not in the pool.
    """
    from omni_gen3d.usd.overrides import (
        override_clutter,
        override_colors,
        override_light,
        override_material,
        override_motion,
        override_placement,
    )

    if sample.clutter and pool is None:
        raise InputError(
            f"the sample puts {len(sample.clutter)} things into the environment; give the pool they are of."
        )
    things = [] if pool is None else [(pool.place(thing), thing.color) for thing in sample.clutter]
    override_clutter(stage, root, things)
    override_light(stage, root, None if sample.light is None else light_terms(sample.light))

    is_changed = sample.appearance != Appearance()
    override_colors(stage, root, color_change(sample.appearance) if is_changed else None)
    contact = sample.contact
    override_material(
        stage,
        root,
        None if contact is None else (contact.static_friction, contact.dynamic_friction, contact.restitution),
    )
    override_placement(stage, root, sample.placement.yaw, sample.placement.scale)
    motion = sample.motion
    override_motion(stage, root, motion.start, motion.speed, motion.removed)
