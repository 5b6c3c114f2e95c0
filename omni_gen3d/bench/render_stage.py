"""Stages that the render benchmark draws: copies of a painted room, and one view in every picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from omni_gen3d.bench.rooms import Room
from omni_gen3d.geometry import rgb_to_sh_dc, transform_cameras
from omni_gen3d.render.aovs import AOVS
from omni_gen3d.render.delegate import Backend, SplatRenderDelegate
from omni_gen3d.render.picture import (
    alpha_to_image,
    color_to_image,
    depth_to_image,
    ids_to_image,
    motion_to_image,
    normal_to_image,
)
from omni_gen3d.types import Gaussians, ProxyPart, TriMesh
from omni_gen3d.usd.cameras import author_cameras
from omni_gen3d.usd.collision import author_collision
from omni_gen3d.usd.splats import author_splats
from omni_gen3d.usd.stage import new_stage, open_stage, save_stage

# Wavelengths of the pattern on the walls [m] and how strong each is, then noise from splat to splat.
_WAVES = ((1.7, 0.16), (0.6, 0.1), (0.2, 0.06))
_NOISE = 0.03


def painted(room: Room, count: int, seed: int) -> Gaussians:
    """The splats of a room in colours as a picture has them: patterns from metres down to 20 cm, and a little noise."""
    gaussians = room.gaussians(count, seed)
    rng = np.random.default_rng(seed)
    points = gaussians.means.double().numpy()
    colors = np.full((len(points), 3), 0.5) + rng.normal(0, _NOISE, (len(points), 3))
    for length, strength in _WAVES:
        for channel in range(3):
            direction = rng.normal(size=3)
            phase = points @ (direction / np.linalg.norm(direction)) * 2 * math.pi / length
            colors[:, channel] += strength * np.sin(phase + rng.uniform(0, 2 * math.pi))
    sh = rgb_to_sh_dc(torch.from_numpy(colors.clip(0.02, 0.98))).float()
    return replace(gaussians, sh=sh[:, None])


def room_file(room: Room, count: int, folder: Path, seed: int) -> Path:
    """A layer with the splats of a painted room below ``/Room``, written once."""
    layer = folder / f"room_{count}.usdc"
    if not layer.exists():
        asset = new_stage("Room")
        author_splats(asset, "/Room/Splats", painted(room, count, seed))
        save_stage(asset, layer)
    return layer


def lab(room: Room, count: int, environments: int, folder: Path, seed: int, layers: list[Path] | None = None) -> Any:
    """A stage with ``environments`` rooms, ``/Lab/env_0`` and so on, and as many cameras, ``/Eyes/eye_0/Input``.

    Args:
        room: What the splats stand for.
        count: About how many Gaussians a room has.
        environments: How many rooms.
        folder: Where files are written.
        seed: Of the Gaussians.
        layers: The file of each room; None has all refer to one.
    """
    layer = room_file(room, count, folder, seed)
    stage = new_stage("Lab")
    for i in range(environments):
        prim = stage.DefinePrim(f"/Lab/env_{i}", "Xform")
        prim.GetReferences().AddReference(str(layer if layers is None else layers[i]))
        author_cameras(stage, f"/Eyes/eye_{i}", room.cameras(1, 64, 64))
    path = folder / f"lab_{count}_{environments}{'' if layers is None else '_different'}.usda"
    save_stage(stage, path)
    return open_stage(path)


def box_part(name: str, middle: np.ndarray, low: Sequence[float], high: Sequence[float]) -> ProxyPart:
    """A box between two corners, counted from its middle [m]."""
    corners = (middle + np.where(np.indices((2, 2, 2)).reshape(3, 8).T, high, low)).astype(np.float32)
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = np.array([face for a, b, c, d in quads for face in ((a, b, c), (a, c, d))], np.int32)
    return ProxyPart(name, "object", TriMesh(corners, faces))


def sheet_of(room: Room, count: int, seed: int, backend: Backend) -> np.ndarray:
    """One view of a room with a box that flies through it, in every picture, uint8 RGB, shape ``(480, 1600, 3)``.

    Above colour, depth, distance, normals and coverage; below median depth, ids of prims, of instances and of labels,
    and motion.
    """
    stage = new_stage("World")
    author_splats(stage, "/World/Splats", painted(room, count, seed))
    middle = np.append(room.outline.mean(0), 0.0)
    box = box_part("Robot", middle, (-0.3, -0.3, 0.8), (0.3, 0.3, 1.6))
    author_collision(stage, "/World", (box,))
    cameras = room.cameras(1, 320, 240)
    before = transform_cameras(cameras, torch.eye(3), torch.tensor([0.02, 0.05, 0.0]))
    with SplatRenderDelegate(stage, backend, purposes=("default", "render", "guide")) as delegate:
        earlier = delegate.render(before, aovs=("color", "motion"))
        aovs = delegate.render(cameras, aovs=AOVS, since=earlier).aovs
    view = {name: torch.as_tensor(picture[0]).cpu().numpy() for name, picture in aovs.items()}
    alpha = torch.from_numpy(view["alpha"])
    depths = [depth_to_image(torch.from_numpy(view[name]), alpha) for name in ("depth", "distance", "median_depth")]
    gray = np.repeat(alpha_to_image(alpha)[..., None], 3, 2)
    top = [color_to_image(torch.from_numpy(view["color"])), *depths[:2], normal_to_image(view["normal"]), gray]
    ids = [ids_to_image(view[name]) for name in ("prim_id", "instance_id", "semantic_id")]
    return np.concatenate([np.hstack(top), np.hstack([depths[2], *ids, motion_to_image(view["motion"])])])
