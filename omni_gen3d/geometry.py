"""The only place where a convention is converted: rotations, cameras, lenses and spherical harmonics.

Inside the package: metres, Z-up, OpenCV cameras (x right, y down, z forward), quaternions wxyz, column vectors
(``p' = M p``), pixel centres at ``i + 0.5``. docs/conventions.md states what other formats hold instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.types import Cameras, Gaussians, Ground

ArrayT = TypeVar("ArrayT", torch.Tensor, np.ndarray)

# ---------------------------------------------------------------------------------------------------- rotations


def quat_to_matrix(quats: torch.Tensor) -> torch.Tensor:
    """Rotation matrices of quaternions wxyz of any non-zero length, ``(..., 4)`` -> ``(..., 3, 3)``."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def matrix_to_quat(rotations: torch.Tensor) -> torch.Tensor:
    """Unit quaternions wxyz with w >= 0 of rotation matrices, ``(..., 3, 3)`` -> ``(..., 4)``.

    Every column of the symmetric matrix ``4 q q^T`` is a multiple of q; the one with the largest diagonal entry is
    the one that loses no precision.
    """
    m = rotations
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 2, 0] + m[..., 0, 2], m[..., 2, 1] + m[..., 1, 2]
    columns = torch.stack(
        [
            torch.stack([1 + xx + yy + zz, wx, wy, wz], -1),
            torch.stack([wx, 1 + xx - yy - zz, xy, xz], -1),
            torch.stack([wy, xy, 1 - xx + yy - zz, yz], -1),
            torch.stack([wz, xz, yz, 1 - xx - yy + zz], -1),
        ],
        -2,
    )
    largest = columns.diagonal(dim1=-2, dim2=-1).argmax(-1)
    quats = torch.take_along_dim(columns, largest[..., None, None], dim=-2).squeeze(-2)
    quats = torch.where(quats[..., :1] < 0, -quats, quats)
    return torch.nn.functional.normalize(quats, dim=-1)


def quat_multiply(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Hamilton product wxyz, the rotation "first b, then a", ``(..., 4)`` x ``(..., 4)`` -> ``(..., 4)``."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    product = (
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    )
    return torch.stack(product, -1)


def wxyz_to_xyzw(quats: ArrayT) -> ArrayT:
    """Move the real part last, ``(..., 4)`` -> ``(..., 4)``."""
    return quats[..., [1, 2, 3, 0]]


def xyzw_to_wxyz(quats_xyzw: ArrayT) -> ArrayT:
    """Move the real part first, ``(..., 4)`` -> ``(..., 4)``."""
    return quats_xyzw[..., [3, 0, 1, 2]]


# ------------------------------------------------------------------------------------------------------ cameras


def look_at(
    eye: torch.Tensor, target: torch.Tensor, up: torch.Tensor | Sequence[float] = (0.0, 0.0, 1.0)
) -> torch.Tensor:
    """Cameras at ``eye`` that see ``target`` in the middle of the picture and ``up`` pointing up in it.

    Args:
        eye: Camera centres [m], shape ``(..., 3)``.
        target: Points on the optical axes [m], shape ``(..., 3)``.
        up: World direction, shape ``(3,)`` or ``(..., 3)``.

    Returns:
        ``world_to_camera``, OpenCV, shape ``(..., 4, 4)``.

    Raises:
        InputError: A target lies on its eye, or straight above or below it along ``up``.
    """
    eye, target = torch.broadcast_tensors(eye, target)
    up = torch.as_tensor(up, dtype=eye.dtype, device=eye.device).expand_as(eye)
    view = target - eye
    right = torch.linalg.cross(view, up)
    if (right.norm(dim=-1) <= 1e-6 * view.norm(dim=-1) * up.norm(dim=-1)).any():
        raise InputError("look_at: the view direction is zero or parallel to up; move the target or pass another up.")
    forward = torch.nn.functional.normalize(view, dim=-1)
    right = torch.nn.functional.normalize(right, dim=-1)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], -2)
    return _rigid(rotation, -(rotation @ eye[..., None])[..., 0])


def intrinsics_from_focal(focal_px: float, width: int, height: int) -> torch.Tensor:
    """Square pixels and a centred principal point, float32, shape ``(3, 3)``; ``focal_px`` in pixels."""
    if not focal_px > 0 or not math.isfinite(focal_px):
        raise InputError(f"focal length is {focal_px} pixels; it must be positive and finite.")
    return torch.tensor([[focal_px, 0.0, width / 2], [0.0, focal_px, height / 2], [0.0, 0.0, 1.0]])


def intrinsics_from_fov(fov_x_rad: float, width: int, height: int) -> torch.Tensor:
    """As ``intrinsics_from_focal``, from the horizontal field of view [rad], which must lie in (0, pi)."""
    if not 0 < fov_x_rad < math.pi:
        raise InputError(f"field of view is {math.degrees(fov_x_rad):.4g} degrees; it must lie between 0 and 180.")
    return intrinsics_from_focal(width / (2 * math.tan(fov_x_rad / 2)), width, height)


def fov_x(intrinsics: torch.Tensor, width: int) -> torch.Tensor:
    """Horizontal angle between the left and right image border [rad], ``(..., 3, 3)`` -> ``(...)``."""
    focal, centre = intrinsics[..., 0, 0], intrinsics[..., 0, 2]
    return torch.atan(centre / focal) + torch.atan((width - centre) / focal)


def pixel_rays(intrinsics: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Camera-frame rays with z = 1 through the pixel centres, ``(..., 3, 3)`` -> ``(..., H, W, 3)``."""
    u = torch.arange(width, dtype=intrinsics.dtype, device=intrinsics.device) + 0.5
    v = torch.arange(height, dtype=intrinsics.dtype, device=intrinsics.device) + 0.5
    v, u = torch.meshgrid(v, u, indexing="ij")
    fx, fy, cx, cy = (intrinsics[..., i, j, None, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    x, y = torch.broadcast_tensors((u - cx) / fx, (v - cy) / fy)
    return torch.stack([x, y, torch.ones_like(x)], -1)


def unproject(depth: torch.Tensor, cameras: Cameras) -> torch.Tensor:
    """World points seen at the pixel centres.

    Args:
        depth: Distance along the optical axis (z depth) [m], shape ``(C, H, W)``.
        cameras: C cameras of the same image size.

    Returns:
        Points [m], shape ``(C, H, W, 3)``.
    """
    if tuple(depth.shape) != (len(cameras), cameras.height, cameras.width):
        raise InputError(
            f"depth has shape {tuple(depth.shape)}; the cameras expect {(len(cameras), cameras.height, cameras.width)}."
        )
    points = pixel_rays(cameras.intrinsics, cameras.height, cameras.width) * depth[..., None]
    camera_to_world = cameras.camera_to_world[:, None, None]
    return (camera_to_world[..., :3, :3] @ points[..., None])[..., 0] + camera_to_world[..., :3, 3]


def opencv_to_usd_camera(camera_to_world: torch.Tensor) -> torch.Tensor:
    """The same camera with USD's axes (x right, y up, looking along -z), ``(..., 4, 4)``, column vectors.

    ``Gf.Matrix4d`` wants the transpose.
    """
    return camera_to_world * camera_to_world.new_tensor([1.0, -1.0, -1.0, 1.0])


def usd_to_opencv_camera(camera_to_world: torch.Tensor) -> torch.Tensor:
    """Inverse of ``opencv_to_usd_camera``, ``(..., 4, 4)``, column vectors."""
    return opencv_to_usd_camera(camera_to_world)


# --------------------------------------------------------------------------------------------------------- lens


@dataclass(frozen=True)
class UsdLens:
    """The attributes of a ``UsdGeomCamera`` that hold a pinhole's intrinsics [mm]."""

    focal_length: float
    horizontal_aperture: float
    vertical_aperture: float
    horizontal_offset: float
    vertical_offset: float


def usd_lens(intrinsics: torch.Tensor, width: int, height: int, horizontal_aperture_mm: float = 20.955) -> UsdLens:
    """Intrinsics ``(3, 3)`` [pixels] as USD camera attributes; only ratios of the lengths matter.

    The image plane of USD is ``offset +- aperture / 2`` with y up, so the principal point is where it is zero.
    """
    fx, fy, cx, cy = (float(intrinsics[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    focal_length = fx * horizontal_aperture_mm / width
    vertical_aperture = focal_length * height / fy
    return UsdLens(
        focal_length=focal_length,
        horizontal_aperture=horizontal_aperture_mm,
        vertical_aperture=vertical_aperture,
        horizontal_offset=horizontal_aperture_mm * (0.5 - cx / width),
        vertical_offset=vertical_aperture * (cy / height - 0.5),
    )


def lens_to_intrinsics(lens: UsdLens, width: int, height: int) -> torch.Tensor:
    """Inverse of ``usd_lens``, float64, shape ``(3, 3)``."""
    fx = lens.focal_length * width / lens.horizontal_aperture
    fy = lens.focal_length * height / lens.vertical_aperture
    cx = width * (0.5 - lens.horizontal_offset / lens.horizontal_aperture)
    cy = height * (0.5 + lens.vertical_offset / lens.vertical_aperture)
    return torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]], dtype=torch.float64)


# ------------------------------------------------------------------------------------------ spherical harmonics

SH_DC = math.sqrt(1 / (4 * math.pi))


def rgb_to_sh_dc(rgb: torch.Tensor) -> torch.Tensor:
    """Coefficient 0 of a view-independent colour, ``(..., 3)`` -> ``(..., 3)``."""
    return (rgb - 0.5) / SH_DC


def sh_dc_to_rgb(dc: torch.Tensor) -> torch.Tensor:
    """Inverse of ``rgb_to_sh_dc``, ``(..., 3)`` -> ``(..., 3)``."""
    return dc * SH_DC + 0.5


def sh_basis(directions: torch.Tensor, count: int) -> torch.Tensor:
    """The first ``count`` (1, 4, 9 or 16) real spherical harmonics at unit directions, ``(N, 3)`` -> ``(N, count)``.

    Orthonormal, with the Condon-Shortley phase, ordered m = -l .. l inside a degree: the basis of 3D Gaussian
    splatting (Sloan, "Efficient Spherical Harmonic Evaluation", 2013, appendix A2).
    """
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    k1 = math.sqrt(3 / (4 * math.pi))
    k2 = math.sqrt(15 / (4 * math.pi))
    k3 = math.sqrt(35 / (32 * math.pi)), math.sqrt(105 / (4 * math.pi)), math.sqrt(21 / (32 * math.pi))
    values = [torch.full_like(x, SH_DC)]
    if count > 1:
        values += [-k1 * y, k1 * z, -k1 * x]
    if count > 4:
        zonal = math.sqrt(5 / (16 * math.pi)) * (2 * zz - xx - yy)
        values += [k2 * x * y, -k2 * y * z, zonal, -k2 * x * z, k2 / 2 * (xx - yy)]
    if count > 9:
        values += [
            -k3[0] * y * (3 * xx - yy),
            k3[1] * x * y * z,
            -k3[2] * y * (4 * zz - xx - yy),
            math.sqrt(7 / (16 * math.pi)) * z * (2 * zz - 3 * xx - 3 * yy),
            -k3[2] * x * (4 * zz - xx - yy),
            k3[1] / 2 * z * (xx - yy),
            -k3[0] * x * (xx - 3 * yy),
        ]
    return torch.stack(values, -1)


def eval_sh(sh: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Colours seen along directions, not clamped.

    Args:
        sh: Coefficients, shape ``(N, K, 3)``.
        directions: From the camera to the Gaussians, of any non-zero length, shape ``(N, 3)``.

    Returns:
        RGB, 0.5 where all coefficients are zero, shape ``(N, 3)``.
    """
    if sh.shape[1] == 1:
        return sh_dc_to_rgb(sh[:, 0])
    basis = sh_basis(torch.nn.functional.normalize(directions, dim=-1), sh.shape[1])
    return torch.einsum("nk,nkc->nc", basis, sh) + 0.5


def recolor_sh(sh: torch.Tensor, matrix: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Coefficients whose colour along every direction is ``matrix @ colour + offset`` of the given one's.

    Exact for every degree: the matrix goes to each coefficient, since the colour is ``0.5 + sum_k sh[k] Y_k``, and what
    it makes of the 0.5, and the offset, to the first. Holds for colours before a negative one counts as 0.

    Args:
        sh: Coefficients, shape ``(N, K, 3)``.
        matrix: On RGB columns, shape ``(3, 3)``.
        offset: RGB, shape ``(3,)``.
    """
    matrix, offset = matrix.to(sh), offset.to(sh)
    changed = sh @ matrix.T
    changed[:, 0] += rgb_to_sh_dc(0.5 * matrix.sum(1) + offset)
    return changed


def rotate_sh(sh: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """Coefficients of the rotated function: what was seen along ``d`` is then seen along ``R d``.

    A rotation maps each degree onto itself, so the matrix of the change is the exact solution of a small linear
    system over any set of directions that tells the harmonics apart.

    Args:
        sh: Coefficients, shape ``(N, K, 3)``.
        rotation: Shape ``(3, 3)``.
    """
    count = sh.shape[1]
    if count == 1:
        return sh.clone()
    directions = _sphere_points(4 * count).to(sh.device)
    change = torch.linalg.pinv(sh_basis(directions, count)) @ sh_basis(directions @ rotation.to(directions), count)
    # One large product of contiguous rows takes a fifth of the time of N small ones, its zeros included.
    by_channel = torch.kron(change.to(sh.dtype), torch.eye(3, dtype=sh.dtype, device=sh.device))
    return (sh.flatten(1) @ by_channel.T).unflatten(1, (count, 3))


# --------------------------------------------------------------------------------------------------- similarity


def transform_gaussians(
    gaussians: Gaussians, rotation: torch.Tensor, translation: torch.Tensor, scale: float = 1.0
) -> Gaussians:
    """Move a scene by ``p' = scale * R p + t``: means, orientations, sizes and view-dependent colours.

    Args:
        gaussians: The scene.
        rotation: R, shape ``(3, 3)``.
        translation: t [m], shape ``(3,)``.
        scale: Uniform and positive.

    Raises:
        InputError: ``rotation`` is no rotation or ``scale`` is not positive.
    """
    _expect_similarity(rotation, scale)
    rotation, translation = rotation.to(gaussians.means), translation.to(gaussians.means)
    # The product is linear in its second factor: what it does to a basis is a matrix.
    basis = torch.eye(4, dtype=rotation.dtype, device=rotation.device)
    turned = gaussians.quats @ quat_multiply(matrix_to_quat(rotation).expand(4, 4), basis)
    return replace(
        gaussians,
        means=scale * gaussians.means @ rotation.T + translation,
        quats=torch.nn.functional.normalize(turned, dim=-1),
        scales=scale * gaussians.scales,
        sh=rotate_sh(gaussians.sh, rotation),
    )


def transform_cameras(
    cameras: Cameras, rotation: torch.Tensor, translation: torch.Tensor, scale: float = 1.0
) -> Cameras:
    """Move cameras along with a scene that moves by ``p' = scale * R p + t``: they see the same picture.

    Raises:
        InputError: ``rotation`` is no rotation or ``scale`` is not positive.
    """
    _expect_similarity(rotation, scale)
    old_rotation, old_translation = cameras.world_to_camera[:, :3, :3], cameras.world_to_camera[:, :3, 3]
    rotation, translation = rotation.to(old_rotation), translation.to(old_rotation)
    new_rotation = old_rotation @ rotation.T
    return replace(cameras, world_to_camera=_rigid(new_rotation, scale * old_translation - new_rotation @ translation))


def placement_on(ground: Ground, metres_per_unit: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotation and translation [m] after which the ground is z = 0 and camera 0 looks along +X from above the origin.

    Shapes ``(3, 3)`` and ``(3,)``.
    """
    forward = torch.tensor([0.0, 0.0, 1.0])
    along_x = torch.nn.functional.normalize(forward - (forward @ ground.up) * ground.up, dim=0)
    rotation = torch.stack([along_x, torch.linalg.cross(ground.up, along_x), ground.up])
    return rotation, torch.tensor([0.0, 0.0, ground.camera_height * metres_per_unit])


def _rigid(rotation: torch.Tensor, translation: torch.Tensor) -> torch.Tensor:
    """``(..., 3, 3)`` and ``(..., 3)`` as one matrix ``(..., 4, 4)``."""
    matrix = torch.eye(4, dtype=rotation.dtype, device=rotation.device).repeat(*rotation.shape[:-2], 1, 1)
    matrix[..., :3, :3] = rotation
    matrix[..., :3, 3] = translation
    return matrix


def _expect_similarity(rotation: torch.Tensor, scale: float) -> None:
    identity = torch.eye(3, dtype=torch.float64)
    matrix = rotation.detach().double().cpu()
    if matrix.shape != (3, 3) or not torch.allclose(matrix @ matrix.T, identity, atol=1e-4) or matrix.det() < 0:
        raise InputError(f"rotation is {matrix.tolist()}; it must be orthonormal (3, 3) with determinant +1.")
    if not scale > 0 or not math.isfinite(scale):
        raise InputError(f"scale is {scale}; it must be positive and finite.")


def _sphere_points(count: int) -> torch.Tensor:
    """Directions spread evenly over the sphere (Fibonacci lattice), float64, shape ``(count, 3)``."""
    index = torch.arange(count, dtype=torch.float64)
    z = 1 - (2 * index + 1) / count
    angle = index * math.pi * (3 - math.sqrt(5))
    radius = (1 - z * z).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), z], -1)
