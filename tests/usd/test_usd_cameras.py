"""The generating cameras as other programs see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from pxr import Gf, Sdf, Usd, UsdGeom

from omni_gen3d.errors import InputError
from omni_gen3d.usd.cameras import author_cameras, read_cameras, read_view

if TYPE_CHECKING:
    from tests.conftest import ToyScene


def test_usd_projects_points_where_the_pinhole_does(toy_scene: ToyScene):
    """A point projected with USD's own frustum lands on the pixel that the intrinsics give, for every camera."""
    cameras = toy_scene.cameras
    stage = Usd.Stage.CreateInMemory()
    UsdGeom.Xform.Define(stage, "/Cameras")
    author_cameras(stage, "/Cameras", cameras)
    flight = UsdGeom.Camera(stage.GetPrimAtPath("/Cameras/Flight"))
    point = np.array([0.1, -0.2, 0.4])
    for i in range(len(cameras)):
        frustum = flight.GetCamera(i).frustum
        ndc = (frustum.ComputeViewMatrix() * frustum.ComputeProjectionMatrix()).Transform(Gf.Vec3d(*point))
        u, v = (ndc[0] + 1) / 2 * cameras.width, (1 - ndc[1]) / 2 * cameras.height
        seen = cameras.world_to_camera[i].double().numpy() @ [*point, 1]
        expected = cameras.intrinsics[i].double().numpy() @ (seen[:3] / seen[2])
        np.testing.assert_allclose((u, v), expected[:2], atol=1e-3)


def test_the_input_camera_stands_still(toy_scene: ToyScene):
    """``Input`` is camera 0 without time samples, with the image size that made it."""
    stage = Usd.Stage.CreateInMemory()
    UsdGeom.Xform.Define(stage, "/Cameras")
    author_cameras(stage, "/Cameras", toy_scene.cameras)
    camera = UsdGeom.Camera(stage.GetPrimAtPath("/Cameras/Input"))
    assert not UsdGeom.Xformable(camera).TransformMightBeTimeVarying()
    position = camera.GetLocalTransformation(Usd.TimeCode.Default()).ExtractTranslation()
    np.testing.assert_allclose(position, toy_scene.cameras.positions[0], atol=1e-6)
    assert camera.GetPrim().GetAttribute("omni_gen3d:width").Get() == 320


def test_missing_cameras_are_named():
    """A prim without the flight of cameras is refused with what is expected."""
    stage = Usd.Stage.CreateInMemory()
    with pytest.raises(InputError, match="Flight"):
        read_cameras(UsdGeom.Xform.Define(stage, "/Cameras").GetPrim())


def test_a_view_gives_the_camera_back(toy_scene) -> None:
    """Intrinsics, pose and clipping of a written camera come back to the rounding of USD's floats."""
    stage = Usd.Stage.CreateInMemory()
    stage.DefinePrim("/Cameras", "Xform")
    cameras = toy_scene.cameras
    author_cameras(stage, "/Cameras", cameras)
    for i in (0, 3):
        view = read_view(stage.GetPrimAtPath("/Cameras/Flight"), Usd.TimeCode(i), cameras.width, cameras.height)
        np.testing.assert_allclose(view.intrinsics, cameras.intrinsics[i].double().numpy(), rtol=1e-6)
        np.testing.assert_allclose(view.camera_to_world, cameras.camera_to_world[i].double().numpy(), atol=1e-6)
        np.testing.assert_allclose((view.near, view.far), (0.05, 500.0), rtol=1e-6)


def test_cameras_that_are_no_pinholes_are_refused() -> None:
    """Orthographic, empty-range, distorted and noisy cameras are errors that name them."""
    stage = Usd.Stage.CreateInMemory()
    camera = UsdGeom.Camera.Define(stage, "/Eye")
    now = Usd.TimeCode.Default()
    for name, value, message in (
        ("omni:lensdistortion:opencvPinhole:k1", 0.1, "distortion"),
        ("omni:rtx:rollingShutter:readoutTime", 0.01, "rolling shutter"),
        ("omni:sensorNoise:sigma", 0.1, "noise"),
    ):
        camera.GetPrim().CreateAttribute(name, Sdf.ValueTypeNames.Float).Set(value)
        with pytest.raises(InputError, match=message):
            read_view(camera.GetPrim(), now, 8, 8)
        camera.GetPrim().RemoveProperty(name)
    assert read_view(camera.GetPrim(), now, 8, 8).near > 0
    camera.CreateClippingRangeAttr((2, 1))
    with pytest.raises(InputError, match="near < far"):
        read_view(camera.GetPrim(), now, 8, 8)
    camera.CreateProjectionAttr("orthographic")
    with pytest.raises(InputError, match="perspective"):
        read_view(camera.GetPrim(), now, 8, 8)
