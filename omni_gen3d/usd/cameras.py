"""The generating cameras as two ``Camera`` prims: the input view, and a flight with one time sample for each camera.

A prim for each of some hundred cameras would be composed again under every copy of the environment; samples are not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from pxr import Gf, Sdf, Usd, UsdGeom

from omni_gen3d.errors import InputError
from omni_gen3d.geometry import UsdLens, lens_to_intrinsics, opencv_to_usd_camera, usd_lens, usd_to_opencv_camera
from omni_gen3d.types import Cameras

INPUT_NAME = "Input"
FLIGHT_NAME = "Flight"
_NEAR_FAR_M = (0.05, 500.0)
# Attributes of Omniverse's cameras and of its lens schemas that bend rays.
_DISTORTION_PREFIXES = ("omni:lensdistortion", "fthetapoly", "ftheta", "fisheye")
_SENSOR_WORDS = ("rollingshutter", "sensornoise")


def author_cameras(stage: Usd.Stage, path: str, cameras: Cameras) -> None:
    """Define ``Input`` (camera 0) and ``Flight`` (camera i at time code i) as children of the prim at ``path``.

    Raises:
        InputError: There is no camera.
    """
    if len(cameras) == 0:
        raise InputError("the scene has 0 cameras; at least the input camera is needed.")
    matrices = opencv_to_usd_camera(cameras.camera_to_world.double().cpu()).numpy()
    lenses = [usd_lens(matrix, cameras.width, cameras.height) for matrix in cameras.intrinsics.double().cpu()]
    every_camera = [Usd.TimeCode(i) for i in range(len(cameras))]
    _author_camera(stage, f"{path}/{INPUT_NAME}", cameras, matrices[:1], lenses[:1], [Usd.TimeCode.Default()])
    _author_camera(stage, f"{path}/{FLIGHT_NAME}", cameras, matrices, lenses, every_camera)


def read_cameras(prim: Usd.Prim) -> Cameras:
    """All generating cameras below ``prim``, in the prim's own frame, float32.

    Raises:
        InputError: The flight is missing, holds no time sample, or its image size is not authored.
    """
    camera = UsdGeom.Camera(prim.GetChild(FLIGHT_NAME))
    if not camera:
        raise InputError(f"{prim.GetPath()} has no Camera '{FLIGHT_NAME}'; the generating cameras are stored there.")
    width, height = (camera.GetPrim().GetAttribute(f"omni_gen3d:{side}").Get() for side in ("width", "height"))
    times = UsdGeom.XformOp(camera.GetPrim().GetAttribute("xformOp:transform")).GetTimeSamples()
    if not times or width is None or height is None:
        raise InputError(f"{camera.GetPath()} lacks time samples or omni_gen3d:width and omni_gen3d:height.")
    matrices = np.stack([np.array(camera.GetLocalTransformation(time)).T for time in times])
    lenses = [_read_lens(camera, Usd.TimeCode(time)) for time in times]
    return Cameras(
        world_to_camera=torch.linalg.inv(usd_to_opencv_camera(torch.from_numpy(matrices))).float(),
        intrinsics=torch.stack([lens_to_intrinsics(lens, width, height) for lens in lenses]).float(),
        width=width,
        height=height,
    )


@dataclass(frozen=True)
class StageView:
    """A camera prim as a picture is taken with it.

    Attributes:
        camera_to_world: OpenCV axes, in the frame and the unit of the stage, shape ``(4, 4)``, float64.
        intrinsics: [pixels], shape ``(3, 3)``, float64.
        near: Of the clipping range [unit of the stage].
        far: Likewise.
    """

    camera_to_world: np.ndarray
    intrinsics: np.ndarray
    near: float
    far: float


def read_view(prim: Usd.Prim, time: Usd.TimeCode, width: int, height: int) -> StageView:
    """The view of a camera prim whose aperture fills a picture of ``width x height``.

    The whole aperture is used whatever the shape of the picture, so that a camera that ``author_cameras`` wrote gives
    its intrinsics back; pixels are square where both have one aspect ratio. A scale above the camera is left out.

    Raises:
        InputError: The prim is no camera, its projection is not perspective, a length is not positive, or it asks for
            distortion or a rolling shutter.
    """
    camera = UsdGeom.Camera(prim)
    if not camera:
        raise InputError(f"{prim.GetPath()} is a '{prim.GetTypeName()}'; expected a Camera.")
    if camera.GetProjectionAttr().Get(time) != UsdGeom.Tokens.perspective:
        raise InputError(f"{prim.GetPath()} is not a perspective camera; no other projection is drawn.")
    _expect_pinhole(prim, time)
    lens = _read_lens(camera, time)
    near, far = camera.GetClippingRangeAttr().Get(time)
    lengths = (lens.focal_length, lens.horizontal_aperture, lens.vertical_aperture, near, far - near)
    if not all(math.isfinite(length) and length > 0 for length in lengths):
        raise InputError(
            f"{prim.GetPath()}: focal length, apertures and clipping range must be positive and finite, and near < far."
        )
    matrix = np.array(camera.ComputeLocalToWorldTransform(time)).T
    axes = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-4) or np.linalg.det(axes) < 0:
        raise InputError(f"{prim.GetPath()} is sheared or mirrored by the prims above it; move it out of them.")
    matrix[:3, :3] = axes
    return StageView(
        camera_to_world=usd_to_opencv_camera(torch.from_numpy(matrix)).numpy(),
        intrinsics=lens_to_intrinsics(lens, width, height).numpy(),
        near=near,
        far=far,
    )


def _expect_pinhole(prim: Usd.Prim, time: Usd.TimeCode) -> None:
    """Refuse what a pinhole camera cannot do: lens distortion, a rolling shutter, sensor noise."""
    for attribute in prim.GetAuthoredAttributes():
        name, value = attribute.GetName().lower(), attribute.Get(time)
        if name.startswith(_DISTORTION_PREFIXES) and value:
            raise InputError(f"{attribute.GetPath()} is {value}: distortion is not drawn by this backend; remove it.")
        if name == "cameraprojectiontype" and value != "pinhole":
            raise InputError(f"{attribute.GetPath()} is '{value}'; only 'pinhole' is drawn by this backend.")
        if any(word in name for word in _SENSOR_WORDS) and value:
            raise InputError(
                f"{attribute.GetPath()} is {value}: this backend draws no noise and no rolling shutter; remove it."
            )


def _read_lens(camera: UsdGeom.Camera, time: Usd.TimeCode) -> UsdLens:
    return UsdLens(
        focal_length=camera.GetFocalLengthAttr().Get(time),
        horizontal_aperture=camera.GetHorizontalApertureAttr().Get(time),
        vertical_aperture=camera.GetVerticalApertureAttr().Get(time),
        horizontal_offset=camera.GetHorizontalApertureOffsetAttr().Get(time),
        vertical_offset=camera.GetVerticalApertureOffsetAttr().Get(time),
    )


def _author_camera(
    stage: Usd.Stage,
    path: str,
    cameras: Cameras,
    camera_to_world: np.ndarray,
    lenses: list[UsdLens],
    times: list[Usd.TimeCode],
) -> None:
    camera = UsdGeom.Camera.Define(stage, path)
    camera.CreateClippingRangeAttr(Gf.Vec2f(*_NEAR_FAR_M))
    for side in ("width", "height"):
        attribute = camera.GetPrim().CreateAttribute(f"omni_gen3d:{side}", Sdf.ValueTypeNames.Int)
        attribute.Set(getattr(cameras, side))
    transform = camera.AddTransformOp()
    for matrix, lens, time in zip(camera_to_world, lenses, times, strict=True):
        transform.Set(Gf.Matrix4d(matrix.T.tolist()), time)
        camera.CreateFocalLengthAttr().Set(lens.focal_length, time)
        camera.CreateHorizontalApertureAttr().Set(lens.horizontal_aperture, time)
        camera.CreateVerticalApertureAttr().Set(lens.vertical_aperture, time)
        camera.CreateHorizontalApertureOffsetAttr().Set(lens.horizontal_offset, time)
        camera.CreateVerticalApertureOffsetAttr().Set(lens.vertical_offset, time)
