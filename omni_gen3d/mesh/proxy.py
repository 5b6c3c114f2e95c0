"""The collision proxy of a splat: what robots collide with, where they may start, and how good it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from omni_gen3d.errors import InputError
from omni_gen3d.mesh.convex import convex_parts
from omni_gen3d.mesh.depth_views import DepthViews, render_surfaces
from omni_gen3d.mesh.discs import flat_discs
from omni_gen3d.mesh.floor import snap_floor
from omni_gen3d.mesh.free_space import pooled, spawn_poses, standable_floor, traversable_floor
from omni_gen3d.mesh.labels import label_faces, split_parts
from omni_gen3d.mesh.meeting import met_discs
from omni_gen3d.mesh.refine import refine
from omni_gen3d.mesh.sampling import spread_cameras
from omni_gen3d.mesh.scoring import depth_agreement, floor_flatness
from omni_gen3d.mesh.shadows import open_shadows
from omni_gen3d.mesh.slab import floor_slab
from omni_gen3d.mesh.surface import extract_shell, is_closed
from omni_gen3d.mesh.tsdf import fuse
from omni_gen3d.types import Cameras, CollisionProxy, Gaussians

# More views than the first number are used where they differ from all others by the spacing.
_NUM_VIEWS, _MAX_VIEWS = 24, 96
_VIEW_SPACING_M = 0.35
_MIN_FACES = 500
# A proxy that misses one of these is handed over with a warning.
_MIN_WITHIN_5CM = 0.5
_MAX_BLOCKED_SHARE = 0.05
_MAX_DECIMATION_MM = 20.0


def build_proxy(
    gaussians: Gaussians,
    seen_from: Cameras | DepthViews,
    *,
    robot_radius: float = 0.25,
    robot_height: float = 1.0,
    voxel_size: float = 0.05,
    max_faces: int = 20_000,
    convex: bool = False,
    progress: Callable[[float], None] | None = None,
) -> CollisionProxy:
    """Build, label and score the collision proxy of a levelled, metric scene.

    The 24 cameras that differ most, up to 96 where they differ much, carve free space, and so do the splat's discs in
    the shadows between; all else is solid, so nothing falls out of what was seen.
    The floor is a flat slab with its top at z = 0; every separate object is a part.
    Scores: ``faces``; ``objects``;
    ``watertight`` (the shell around free space before the slab takes the place of its floor faces, and the slab, are
    both closed); ``floor_height_m`` (top of the slab) and ``floor_flatness_mm`` (robust deviation of the splat's own
    floor points); ``decimation_error_mm`` (99th percentile of the distance from the full surface to the decimated
    one); the depth figures of ``scoring.DepthAgreement``; ``traversable_area_m2``; ``num_spawn_poses``; with
    ``convex`` also ``convex_hulls``. What cannot be measured is None.

    Args:
        gaussians: The scene, Z-up, floor at z = 0.
        seen_from: Cameras inside the scene, of which the first is always used; or depth maps of it, all used.
        robot_radius: Free distance around a spawn pose [m].
        robot_height: Free height above it [m].
        voxel_size: Edge of the voxels of free space, 0.01 to 0.25 [m]; surfaces are found on a grid of half that where
            the scene is small enough.
        max_faces: Budget of triangles over all parts, at least 500.
        convex: Also decompose the objects into convex parts.
        progress: Called with the finished fraction; may raise to cancel.

    Raises:
        InputError: An argument is out of range, or the cameras see no surface or no free space.
    """
    _check(robot_radius, robot_height, voxel_size, max_faces)
    report = progress or (lambda fraction: None)
    if isinstance(seen_from, DepthViews):
        views = splat = seen_from
    else:
        cameras = spread_cameras(seen_from, _NUM_VIEWS, _MAX_VIEWS, _VIEW_SPACING_M)
        views, index = render_surfaces(gaussians, cameras)
        splat = met_discs(gaussians, views, index)
    report(0.5)
    tsdf = fuse(views, voxel_size)
    discs = flat_discs(gaussians, tsdf)
    tsdf, floor = snap_floor(refine(open_shadows(tsdf, discs, views), discs), views.points)
    if not tsdf.free.any():
        raise InputError("the cameras see no free space: their surfaces are closer than a voxel. Check the scale.")
    report(0.75)

    slab = None
    if floor is not None:
        columns = np.argwhere(tsdf.free.any(2))
        slab = floor_slab(tsdf.origin[:2] + (columns + 0.5) * tsdf.voxel_size, margin=2 * voxel_size)
    shell, decimation_error = extract_shell(tsdf, max_faces - (len(slab.faces) if slab else 0))
    parts = split_parts(shell, label_faces(shell, tsdf, floor is not None), slab)
    objects = tuple(part for part in parts if part.label == "object")
    report(0.85)

    poses, flatness, traversable_area = (), None, 0.0
    # The three need nothing of each other, and none of them all cores.
    with ThreadPoolExecutor() as pool:
        agreeing = pool.submit(depth_agreement, parts, splat, tsdf)
        pooling = pool.submit(pooled, tsdf, voxel_size)
        if floor is not None:
            obstacles = [part.mesh for part in parts if part.label != "floor"]
            standable = standable_floor(tsdf, floor, obstacles, robot_height)
            traversable, clearance = traversable_floor(standable, tsdf.voxel_size, robot_radius)
            poses = spawn_poses(traversable, clearance, standable, tsdf)
            flatness = floor_flatness(splat, tsdf, standable)
            traversable_area = float(traversable.sum() * tsdf.voxel_size**2)
        agreement, free_space = agreeing.result(), pooling.result()
    scores: dict[str, float | int | bool | None] = {
        "faces": sum(len(part.mesh.faces) for part in parts),
        "objects": len(objects),
        "watertight": is_closed(shell) and (slab is None or is_closed(slab)),
        "floor_height_m": float(slab.vertices[:, 2].max()) if slab else None,
        "floor_flatness_mm": _rounded(flatness, 1000),
        "decimation_error_mm": _rounded(decimation_error, 1000),
        "depth_agreement_mean_mm": _rounded(agreement and agreement.mean_m, 1000),
        "depth_agreement_within_5cm": _rounded(agreement and agreement.within_5cm),
        "blocked_free_share": _rounded(agreement and agreement.blocked_free_share),
        "traversable_area_m2": _rounded(traversable_area),
        "num_spawn_poses": len(poses),
    }
    report(0.92)
    hulls = convex_parts(objects) if convex else ()
    if convex:
        scores["convex_hulls"] = len(hulls)
    report(1.0)
    return CollisionProxy(parts, free_space, poses, scores, _warnings(scores, robot_radius, robot_height), hulls)


def _check(robot_radius: float, robot_height: float, voxel_size: float, max_faces: int) -> None:
    for name, value in (("robot_radius", robot_radius), ("robot_height", robot_height)):
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value}; it must be positive and finite, in metres.")
    if not 0.01 <= voxel_size <= 0.25:
        raise InputError(f"voxel_size is {voxel_size}; allowed are 0.01 to 0.25 metres.")
    if max_faces < _MIN_FACES:
        raise InputError(f"max_faces is {max_faces}; at least {_MIN_FACES} are needed to close a room.")


def _rounded(value: float | None, factor: float = 1.0) -> float | None:
    return None if value is None else round(value * factor, 4)


def _warnings(
    scores: dict[str, float | int | bool | None], robot_radius: float, robot_height: float
) -> tuple[str, ...]:
    """A sentence for each score that a user must know about."""
    warnings = []
    within, blocked = scores["depth_agreement_within_5cm"], scores["blocked_free_share"]
    if scores["floor_height_m"] is None:
        warnings.append("No floor was seen: the collider has no floor part and there are no spawn poses.")
    elif not scores["num_spawn_poses"]:
        warnings.append(
            f"No place on the seen floor is free for a robot of {robot_radius:g} m radius and {robot_height:g} m "
            "height: there are no spawn poses."
        )
    if not scores["watertight"]:
        warnings.append("The collision shell is not watertight: the face budget is too small for its shape.")
    error = scores["decimation_error_mm"]
    if error is not None and error > _MAX_DECIMATION_MM:
        warnings.append(
            f"The face budget moves the surface by up to {error:.0f} mm (good: {_MAX_DECIMATION_MM:.0f} mm or less)."
        )
    if within is None or blocked is None:
        warnings.append("The collider could not be compared with the splat's depth: no camera sees the region.")
        return tuple(warnings)
    if within < _MIN_WITHIN_5CM:
        warnings.append(
            f"Only {within:.0%} of the collider's surface lies within 5 cm of the splat's depth "
            f"(good: {_MIN_WITHIN_5CM:.0%} or more): expect contacts where nothing is seen."
        )
    if blocked > _MAX_BLOCKED_SHARE:
        warnings.append(
            f"The collider blocks {blocked:.1%} of the space that the cameras see to be free "
            f"(good: {_MAX_BLOCKED_SHARE:.0%} or less)."
        )
    return tuple(warnings)
