"""The generating cameras as two ``Camera`` prims: the input view, and a flight with one time sample for each camera.

A prim for each of some hundred cameras would be composed again under every copy of the environment; samples are not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

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
# The lens schema of Omniverse that ``Sensor`` follows, and ours for what it has no schema for.
_LENS_MODEL = "omni:lensdistortion:model"
_LENS = "omni:lensdistortion:opencvPinhole:"
_SHUTTER, _NOISE = "omni_gen3d:rollingShutter", "omni_gen3d:sensorNoise"
_RADIAL, _TANGENTIAL, _THIN_PRISM = ("k1", "k2", "k3", "k4", "k5", "k6"), ("p1", "p2"), ("s1", "s2", "s3", "s4")
Shutter = Literal["global", "topToBottom", "leftToRight", "bottomToTop", "rightToLeft"]


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
class Sensor:
    """What a camera does that a pinhole does not.

    Attributes:
        radial: k1 to k6 of OpenCV's rational model.
        tangential: p1 and p2.
        thin_prism: s1 to s4.
        shutter: In which order rows or columns are exposed; ``global`` exposes all at once.
        opened: Camera to world when the first is exposed, OpenCV axes, in the unit of the stage, shape ``(4, 4)``.
        closed: When the last is.
        noise: Standard deviation of noise on the colours.
    """

    radial: tuple[float, ...]
    tangential: tuple[float, ...]
    thin_prism: tuple[float, ...]
    shutter: Shutter
    opened: np.ndarray
    closed: np.ndarray
    noise: float


@dataclass(frozen=True)
class StageView:
    """A camera prim as a picture is taken with it.

    Attributes:
        camera_to_world: OpenCV axes, in the frame and the unit of the stage, shape ``(4, 4)``, float64.
        intrinsics: [pixels], shape ``(3, 3)``, float64.
        near: Of the clipping range [unit of the stage].
        far: Likewise.
        sensor: What it does that a pinhole does not; None for a pinhole.
    """

    camera_to_world: np.ndarray
    intrinsics: np.ndarray
    near: float
    far: float
    sensor: Sensor | None = None


def read_view(prim: Usd.Prim, time: Usd.TimeCode, width: int, height: int, *, with_sensor: bool = False) -> StageView:
    """The view of a camera prim whose aperture fills a picture of ``width x height``.

    The whole aperture is used whatever the shape of the picture, so that a camera that ``author_cameras`` wrote gives
    its intrinsics back; pixels are square where both have one aspect ratio. A scale above the camera is left out.

    Args:
        prim: The camera.
        time: Time code.
        width: Of the picture [pixels].
        height: Likewise.
        with_sensor: Whether a lens of OpenCV's pinhole model, a rolling shutter and noise may be read; else they, and
            every other distortion at any rate, are refused.

    Raises:
        InputError: The prim is no camera, its projection is not perspective, a length is not positive, or it asks for
            what is refused.
    """
    camera = UsdGeom.Camera(prim)
    if not camera:
        raise InputError(f"{prim.GetPath()} is a '{prim.GetTypeName()}'; expected a Camera.")
    if camera.GetProjectionAttr().Get(time) != UsdGeom.Tokens.perspective:
        raise InputError(f"{prim.GetPath()} is not a perspective camera; no other projection is drawn.")
    sensor = _read_sensor(prim, time) if with_sensor else None
    if sensor is None:
        _expect_pinhole(prim, time)
    lens = _read_lens(camera, time)
    near, far = camera.GetClippingRangeAttr().Get(time)
    lengths = (lens.focal_length, lens.horizontal_aperture, lens.vertical_aperture, near, far - near)
    if not all(math.isfinite(length) and length > 0 for length in lengths):
        raise InputError(
            f"{prim.GetPath()}: focal length, apertures and clipping range must be positive and finite, and near < far."
        )
    return StageView(
        camera_to_world=_pose(camera, time),
        intrinsics=lens_to_intrinsics(lens, width, height).numpy(),
        near=near,
        far=far,
        sensor=sensor,
    )


def _pose(camera: UsdGeom.Camera, time: Usd.TimeCode) -> np.ndarray:
    matrix = np.array(camera.ComputeLocalToWorldTransform(time)).T
    axes = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-4) or np.linalg.det(axes) < 0:
        raise InputError(f"{camera.GetPath()} is sheared or mirrored by the prims above it; move it out of them.")
    matrix[:3, :3] = axes
    return usd_to_opencv_camera(torch.from_numpy(matrix)).numpy()


def _read_sensor(prim: Usd.Prim, time: Usd.TimeCode) -> Sensor | None:
    """What is authored of the lens of Omniverse's schema, the shutter and the noise; None where nothing is."""

    def value(name: str, fallback: Any) -> Any:
        attribute = prim.GetAttribute(name)
        found = attribute.Get(time) if attribute else None
        return fallback if found is None else found

    model, shutter, noise = value(_LENS_MODEL, ""), value(_SHUTTER, "global"), value(_NOISE, 0.0)
    if not model and shutter == "global" and not noise:
        return None
    if model not in ("", "pinhole", "opencvPinhole"):
        raise InputError(f"{prim.GetPath()}.{_LENS_MODEL} is '{model}'; only 'opencvPinhole' is drawn.")
    if shutter not in get_args(Shutter):
        raise InputError(f"{prim.GetPath()}.{_SHUTTER} is '{shutter}'; allowed are {', '.join(get_args(Shutter))}.")
    radial, tangential, thin_prism = (
        tuple(float(value(_LENS + key, 0.0)) for key in keys) for keys in (_RADIAL, _TANGENTIAL, _THIN_PRISM)
    )
    if not all(map(math.isfinite, (*radial, *tangential, *thin_prism, noise))) or noise < 0:
        raise InputError(f"{prim.GetPath()}: lens coefficients must be finite and {_NOISE} at least 0.")
    camera = UsdGeom.Camera(prim)
    edges = (camera.GetShutterOpenAttr(), camera.GetShutterCloseAttr())
    times = [Usd.TimeCode(time.GetValue() + edge.Get(time)) if time.IsNumeric() else time for edge in edges]
    opened, closed = (_pose(camera, edge) for edge in times)
    return Sensor(radial, tangential, thin_prism, shutter, opened, closed, float(noise))


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
