"""The pictures that a render delegate makes of one view: splats and meshes composited, and the truth about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch

from omni_gen3d.geometry import pixel_rays
from omni_gen3d.render.cpu import PlacedSplats, View, draw_splats
from omni_gen3d.render.meshes import Lighting, MeshBatch, draw_meshes
from omni_gen3d.render.surface import splat_surface

Aov = Literal[
    "color",
    "depth",
    "distance",
    "normal",
    "alpha",
    "median_depth",
    "prim_id",
    "instance_id",
    "semantic_id",
    "motion",
]
AOVS: tuple[Aov, ...] = get_args(Aov)

# The first rows of every table of labels.
BACKGROUND, UNLABELLED = 0, 1
# A splat has the label of its collider where both lie at one depth [m]; a proxy rounds corners off.
_LABEL_TOLERANCE_M = 0.15


@dataclass(frozen=True)
class Tags:
    """What a placed splat set or mesh is called in the pictures of ids."""

    prim_id: int
    instance_id: int
    semantic_id: int


@dataclass(frozen=True)
class PlacedMeshes:
    """Meshes in a world.

    Attributes:
        batch: Their shapes.
        to_world: From the frame of each, shape ``(meshes, 4, 4)``, float64.
        tags: One for each.
    """

    batch: MeshBatch
    to_world: np.ndarray
    tags: Sequence[Tags]


@dataclass(frozen=True)
class Earlier:
    """From where ``motion`` counts: the camera, and where each splat set and each mesh was, ``(4, 4)``, float64."""

    view: View
    splats: Sequence[np.ndarray]
    meshes: Sequence[np.ndarray]


def draw(
    view: View,
    splats: Sequence[PlacedSplats],
    splat_tags: Sequence[Tags],
    meshes: PlacedMeshes,
    labels: PlacedMeshes | None,
    lighting: Lighting,
    background: Sequence[float],
    aovs: Sequence[Aov],
    detail: float = 0.0,
    earlier: Earlier | None = None,
) -> dict[Aov, np.ndarray]:
    """Draw one view.

    Splats in front of a mesh cover it in part, splats behind it are hidden. What a pixel shows, in depth, normal and
    ids, is whatever takes its ray past half of its coverage; where nothing does, depth and distance are 0, prim and
    instance -1, the label ``BACKGROUND``.

    Args:
        view: The camera.
        splats: The sets of splats.
        splat_tags: One for each.
        meshes: What is opaque.
        labels: Invisible colliders that tell what the splats at their surface are; None where nobody asks.
        lighting: What shines on the meshes; splats shine by themselves.
        background: RGB behind everything.
        aovs: What is wanted.
        detail: Splats that are closer together than this are drawn as one [pixels].
        earlier: From where ``motion`` counts; None counts from now.
    """
    solid = draw_meshes(meshes.batch, meshes.to_world, view, lighting)
    behind = solid.color
    behind[solid.owner < 0] = background
    picture = draw_splats(splats, view, behind, solid.depth, detail)
    on_splat, on_mesh = picture.owner >= 0, (picture.owner < 0) & (solid.owner >= 0)
    splat_depth, splat_normal = splat_surface(picture, splats, view, solid.depth)
    depth = np.where(on_mesh, solid.depth, splat_depth)
    found: dict[Aov, np.ndarray] = {"color": np.clip(picture.color, 0, 1), "depth": depth}
    if "alpha" in aovs:
        found["alpha"] = np.where(solid.owner >= 0, np.float32(1), picture.alpha)
    if "distance" in aovs:
        rays = pixel_rays(torch.from_numpy(view.intrinsics), view.height, view.width).numpy()
        found["distance"] = (depth * np.linalg.norm(rays, axis=-1)).astype(np.float32)
    if "median_depth" in aovs:
        found["median_depth"] = np.where(on_mesh, solid.depth, picture.median_depth)
    if "motion" in aovs:
        found["motion"] = np.zeros((*depth.shape, 2), np.float32)
        if earlier is not None:
            for shown, places, before in (
                (np.where(on_mesh, -1, picture.owner), [item.to_world for item in splats], earlier.splats),
                (np.where(on_mesh, solid.owner, -1), meshes.to_world, earlier.meshes),
            ):
                for number in np.unique(shown[shown >= 0]):
                    pixels = shown == number
                    moved = pixel_motion(pixels, depth[pixels], view, places[number], earlier.view, before[number])
                    found["motion"][pixels] = moved
    if "normal" in aovs:
        found["normal"] = np.where(on_mesh[..., None], solid.normal, splat_normal)
    ids: tuple[tuple[Aov, int], ...] = (("prim_id", -1), ("instance_id", -1), ("semantic_id", BACKGROUND))
    for name, nothing in ids:
        if name in aovs:
            found[name] = np.where(
                on_mesh,
                _tagged(meshes.tags, name, nothing)[solid.owner],
                _tagged(splat_tags, name, nothing)[picture.owner],
            )
    if "semantic_id" in aovs and labels is not None:
        proxy = draw_meshes(labels.batch, labels.to_world, view, lighting)
        known = on_splat & (np.abs(proxy.depth - depth) <= _LABEL_TOLERANCE_M)
        found["semantic_id"] = np.where(
            known, _tagged(labels.tags, "semantic_id", BACKGROUND)[proxy.owner], found["semantic_id"]
        )
    return {name: found[name] for name in aovs}


def pixel_motion(
    pixels: np.ndarray, depth: np.ndarray, view: View, to_world: np.ndarray, earlier: View, before: np.ndarray
) -> np.ndarray:
    """How far what some pixels show has come since an earlier camera saw it.

    Args:
        pixels: Which, shape ``(H, W)``, bool; all show one rigid thing.
        depth: What they show lies at [m], shape ``(M,)``.
        view: The camera.
        to_world: Where the thing is.
        earlier: The earlier camera.
        before: Where the thing was.

    Returns:
        To the right and down [pixels], float32, shape ``(M, 2)``; 0 where it was before the earlier near plane.
    """
    row, column = np.nonzero(pixels)
    now = np.stack([column + 0.5, row + 0.5], 1)
    lens, lens_before = view.intrinsics, earlier.intrinsics
    rays = (now - lens[:2, 2]) / lens[(0, 1), (0, 1)]
    seen = np.concatenate([rays * depth[:, None], depth[:, None], np.ones((len(depth), 1))], 1)
    local = np.linalg.solve(view.world_to_camera @ to_world, seen.T)
    then = (earlier.world_to_camera @ before @ local)[:3].T
    in_view = then[:, 2] >= earlier.near
    place = then[:, :2] / np.where(in_view, then[:, 2], 1)[:, None] * lens_before[(0, 1), (0, 1)] + lens_before[:2, 2]
    return np.where(in_view[:, None], now - place, 0).astype(np.float32)


def _tagged(tags: Sequence[Tags], name: str, nothing: int) -> np.ndarray:
    """One number for each owner, and behind them the one that owner -1 picks."""
    return np.array([*(getattr(tag, name) for tag in tags), nothing], np.int32)
