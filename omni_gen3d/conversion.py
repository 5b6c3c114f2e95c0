"""Any Gaussian-splat file becomes an environment folder: upright, metric, with a collision proxy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.finishing import GeneratedEnvironment, Progress, Stages, finish_environment
from omni_gen3d.geometry import transform_gaussians
from omni_gen3d.mesh.levelling import Levelling
from omni_gen3d.mesh.mesh_file import read_mesh_file
from omni_gen3d.mesh.occupancy import distance_to
from omni_gen3d.mesh.sampling import covered_area
from omni_gen3d.mesh.uprighting import UpAxis, upright_scene
from omni_gen3d.mesh.viewpoints import find_viewpoints
from omni_gen3d.request import ColliderPlan, Collision, check_seed
from omni_gen3d.splat_file import MAX_SH_DEGREE, check_splat_path, read_splat_file
from omni_gen3d.types import Gaussians, Provenance
from omni_gen3d.usd import check_target
from omni_gen3d.usd.manifest import FileDigest

Point = tuple[float, float, float]

# 3DGS keeps the frame of the first camera or of COLMAP, where y points down; SPZ is customarily stored with y up.
_LIKELIEST_UP: dict[str, tuple[UpAxis, ...]] = {".ply": ("-y", "z", "y"), ".spz": ("y", "-y", "z")}
# A room, a hall or a street; anything else is likelier another unit than a metre.
_PLAUSIBLE_SIZE_M = (1.0, 300.0)


@dataclass(frozen=True)
class _Placed:
    """The scene in its final frame, and what was assumed for it."""

    gaussians: Gaussians
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def convert(
    path: Path | str,
    out: Path | str,
    *,
    up_axis: Literal["auto", "y", "-y", "z"] = "auto",
    level: bool = True,
    scale: float | None = None,
    camera_height: float | None = None,
    reference_length: tuple[Sequence[float], Sequence[float], float] | None = None,
    floor_at_zero: bool = True,
    sh_degree: int | None = None,
    max_gaussians: int | None = None,
    crop: Sequence[float] | None = None,
    half: bool = False,
    collision: Collision = "mesh",
    robot_radius: float = 0.25,
    robot_height: float = 0.6,
    ground_truth: Path | str | None = None,
    title: str | None = None,
    usdz: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> GeneratedEnvironment:
    """Turn a splat file into an environment and write it to a folder.

    ``up_axis="z", level=False, scale=1, floor_at_zero=False`` leaves every coordinate as it is in the file, bit for
    bit. A rotation turns the spherical harmonics too. At most one of ``scale``, ``camera_height`` and
    ``reference_length`` may be given; without any, the unit of the file is taken as a metre.

    Args:
        path: A ``.ply``, ``.compressed.ply`` or ``.spz`` file.
        out: The folder to write; all of it is there in the end, or nothing.
        up_axis: The axis of the file that points up. ``auto`` looks for the floor, see ``mesh.uprighting``; where the
            scene does not tell, it takes -y for .ply files (y down, as COLMAP and 3DGS have it) and y for .spz files.
        level: Turn the floor exactly level and the walls parallel to X and Y.
        scale: Metres per unit of the file.
        camera_height: How far above the floor the file's origin lies [m]: the height of the first camera in files of
            generators and SLAM systems, whose origin it is.
        reference_length: Two points in coordinates of the file, and the distance between them [m].
        floor_at_zero: Put the floor at z = 0; without a floor, the lowest of what is there.
        sh_degree: Leave out spherical harmonics above this degree.
        max_gaussians: Keep only so many, those with the largest product of opacity and area.
        crop: Keep only Gaussians with their centre in this box of the final frame: xmin, ymin, zmin, xmax, ymax, zmax
            [m].
        half: Write half precision.
        collision: The collider that is selected when the environment is opened; ``none`` builds no collider at all.
        robot_radius: For which spawn poses are sought [m].
        robot_height: For which spawn poses are sought [m].
        ground_truth: A mesh of the true surface in the final frame (.ply, .obj, .stl, .glb); the manifest then says
            how far the collider is from it.
        title: One line for a list of environments; the name of the file where None.
        usdz: Write environment.usdz too.
        seed: Of the random draws; the same seed gives the same bytes.
        progress: Called with the stage's name and the share of it that is done.
        cancelled: Polled between steps; True stops the conversion.

    Raises:
        InputError: A value or file cannot be used.
        CancelledError: ``cancelled`` returned True; nothing was written.
    """
    collider = ColliderPlan(collision, robot_radius, robot_height)
    _check_choices(up_axis, collision, sh_degree, max_gaussians, seed, ground_truth)
    _check_lengths(scale, camera_height, reference_length, crop)
    file = check_splat_path(path)
    target = check_target(Path(out))
    truth = None if ground_truth is None else read_mesh_file(ground_truth)
    stages = Stages(progress, cancelled)
    with stages.stage("read"), ThreadPoolExecutor(2) as pool:
        digest = pool.submit(FileDigest.of, file)
        # The first call of any compiled kernel loads half a second of numba; placing cameras begins with this one.
        pool.submit(distance_to, np.ones((1, 1, 1), bool))
        gaussians = read_splat_file(file, sh_degree=sh_degree)
        input_sha256 = digest.result().sha256
    with stages.stage("placing"):
        axes = _LIKELIEST_UP[file.suffix.lower()] if up_axis == "auto" else (up_axis,)
        if reference_length is not None:
            start, end, metres = reference_length
            scale = metres / math.dist(start, end)
        placed = _place(gaussians, axes, level, scale, camera_height, floor_at_zero, seed)
        gaussians = _prune(placed.gaussians, crop, max_gaussians)
    with stages.stage("cameras"):
        views = find_viewpoints(gaussians, seed=seed)
    outside = () if views.inside else ("No enclosed free space was found: the cameras look at the scene from around.",)
    return finish_environment(
        gaussians,
        views.cameras,
        target,
        Provenance(
            kind="static",
            prompt=None,
            input_sha256=input_sha256,
            seed=seed,
            model="file",
            model_sha256=None,
            notes=placed.notes,
            title=title or file.name,
        ),
        stages,
        collider,
        ground_truth=truth,
        warnings=(*placed.warnings, *outside),
        half=half,
        usdz=usdz,
    )


def _check_choices(
    up_axis: str,
    collision: str,
    sh_degree: int | None,
    max_gaussians: int | None,
    seed: int,
    ground_truth: Path | str | None,
) -> None:
    if up_axis not in ("auto", *get_args(UpAxis)):
        raise InputError(f"the up axis is '{up_axis}'; allowed are auto, y, -y and z.")
    if collision == "none" and ground_truth is not None:
        raise InputError("a ground truth was given, but collision 'none' builds no collider to compare with it.")
    if sh_degree is not None and not 0 <= sh_degree <= MAX_SH_DEGREE:
        raise InputError(f"the SH degree is {sh_degree}; allowed are 0 to {MAX_SH_DEGREE}.")
    if max_gaussians is not None and max_gaussians < 1:
        raise InputError(f"max_gaussians is {max_gaussians}; at least 1 must be kept.")
    check_seed(seed)


def _check_lengths(
    scale: float | None,
    camera_height: float | None,
    reference_length: tuple[Sequence[float], Sequence[float], float] | None,
    crop: Sequence[float] | None,
) -> None:
    if sum(value is not None for value in (scale, camera_height, reference_length)) > 1:
        raise InputError("scale, camera height and reference length exclude each other; give at most one of them.")
    metres = None if reference_length is None else reference_length[2]
    named = {"the scale": scale, "the camera height": camera_height, "the reference length": metres}
    for name, value in named.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value}; it must be positive and finite.")
    if reference_length is not None:
        start, end, _ = reference_length
        _check_numbers("a point of the reference length", start, 3)
        _check_numbers("a point of the reference length", end, 3)
        if not math.dist(start, end) > 0:
            raise InputError(f"both points of the reference length are {tuple(start)}; give two that differ.")
    if crop is not None:
        _check_numbers("the crop", crop, 6)
        if not all(low < high for low, high in zip(crop[:3], crop[3:], strict=True)):
            raise InputError(f"the crop is {tuple(crop)}; xmin,ymin,zmin must be less than xmax,ymax,zmax.")


def _check_numbers(name: str, values: Sequence[float], count: int) -> None:
    if len(values) != count or not all(math.isfinite(value) for value in values):
        raise InputError(f"{name} is {tuple(values)}; expected {count} finite numbers.")


def _place(
    gaussians: Gaussians,
    axes: Sequence[UpAxis],
    level: bool,
    scale: float | None,
    camera_height: float | None,
    floor_at_zero: bool,
    seed: int,
) -> _Placed:
    """Bring the scene upright and to metres."""
    notes: list[str] = []
    warnings: list[str] = []
    motion = upright_scene(gaussians, axes, level=level, seed=seed)
    needs_floor = level or floor_at_zero or len(axes) > 1
    if motion.note is not None and needs_floor:
        warnings.append(motion.note[0].upper() + motion.note[1:])
    elif len(axes) > 1:
        x, y, z = motion.rotation[2].tolist()
        notes.append(f"the floor was found in the splats: up is ({x:.3f}, {y:.3f}, {z:.3f}) in the file.")
    if camera_height is not None:
        scale = _scale_of_camera(camera_height, motion)
        notes.append(f"the camera height makes a unit of the file {scale:.4g} m.")
    elif scale is None:
        scale = 1.0
        notes.append("a unit of the file was taken as a metre; give a scale, a camera height or a reference length.")

    shift = scale * motion.translation if floor_at_zero else torch.zeros(3)
    is_identity = torch.equal(motion.rotation, torch.eye(3).double()) and scale == 1 and not shift.any()
    if not is_identity:
        gaussians = transform_gaussians(gaussians, motion.rotation, shift, scale)
    low, high = np.percentile(gaussians.means.numpy(), (5, 95), axis=0)
    size = float((high - low).max())
    if not _PLAUSIBLE_SIZE_M[0] <= size <= _PLAUSIBLE_SIZE_M[1]:
        warnings.append(f"Most of the scene spans {size:.3g} m: check the scale before using it.")
    return _Placed(gaussians, tuple(notes), tuple(warnings))


def _scale_of_camera(camera_height: float, motion: Levelling) -> float:
    """Metres per unit of the file, from the height of its origin above the floor.

    Raises:
        InputError: There is no floor, or the origin does not lie above it.
    """
    if not motion.floor_found:
        raise InputError("the camera height tells nothing: no floor was found. Give a scale or a reference length.")
    units = float(motion.translation[2])
    if units <= 0:
        raise InputError(
            f"the camera height needs the file's origin above the floor, but it lies {-units:.3g} units below. Give a "
            "scale or a reference length."
        )
    return camera_height / units


def _prune(gaussians: Gaussians, crop: Sequence[float] | None, max_gaussians: int | None) -> Gaussians:
    """Leave out what lies outside the box, then what covers least; the order stays.

    Raises:
        InputError: Nothing lies in the box.
    """
    if crop is not None:
        low, high = torch.tensor(crop[:3]), torch.tensor(crop[3:])
        inside = ((gaussians.means >= low) & (gaussians.means <= high)).all(1)
        if not inside.any():
            (a, b), span = (gaussians.means.amin(0), gaussians.means.amax(0)), "({0[0]:.2f}, {0[1]:.2f}, {0[2]:.2f})"
            raise InputError(
                f"no Gaussian lies in the crop {tuple(crop)}; the scene reaches from {span.format(a.tolist())} to "
                f"{span.format(b.tolist())} [m]."
            )
        gaussians = gaussians[inside]
    if max_gaussians is not None and max_gaussians < len(gaussians):
        order = np.argsort(-covered_area(gaussians), kind="stable")
        gaussians = gaussians[torch.from_numpy(np.sort(order[:max_gaussians]))]
    return gaussians
