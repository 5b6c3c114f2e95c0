"""Bent lenses, rolling shutters and noise: who draws them, and who says that he does not."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from omni_gen3d.errors import InputError, MissingDependencyError
from omni_gen3d.render.delegate import SplatRenderDelegate
from omni_gen3d.types import Gaussians
from omni_gen3d.usd.splats import author_splats

ATTRIBUTES = {
    "omni:lensdistortion:model": ("Token", "opencvPinhole"),
    "omni:lensdistortion:opencvPinhole:k1": ("Float", 3.0),
    "omni_gen3d:rollingShutter": ("Token", "topToBottom"),
    "omni_gen3d:sensorNoise": ("Float", 0.1),
}


@pytest.fixture
def eye(usd, stage):
    """A camera prim that looks along -x at a cloud of splats."""
    draw = torch.Generator().manual_seed(0)
    cloud = Gaussians(
        torch.randn(300, 3, generator=draw),
        torch.nn.functional.normalize(torch.randn(300, 4, generator=draw), dim=1),
        torch.exp(torch.randn(300, 3, generator=draw) * 0.3 - 2),
        torch.rand(300, generator=draw),
        torch.randn(300, 4, 3, generator=draw),
    )
    author_splats(stage, "/Cloud", cloud)
    camera = usd.UsdGeom.Camera.Define(stage, "/Eye")
    camera.AddTranslateOp().Set((5, 0, 0))
    camera.AddRotateXYZOp().Set((90, 0, 90))
    camera.CreateClippingRangeAttr((0.1, 100))
    return camera.GetPrim()


def author(usd, prim, name: str) -> None:
    kind, value = ATTRIBUTES[name]
    prim.CreateAttribute(name, getattr(usd.Sdf.ValueTypeNames, kind)).Set(value)


@pytest.mark.parametrize("name", [name for name in ATTRIBUTES if not name.endswith("model")])
def test_the_cpu_backend_names_what_it_does_not_draw(usd, stage, eye, name: str) -> None:
    """Distortion, a rolling shutter and noise are errors that name the attribute."""
    author(usd, eye, name)
    with SplatRenderDelegate(stage, "cpu") as delegate, pytest.raises(InputError, match=f"/Eye.{name}"):
        delegate.render("/Eye", size=(16, 16))


def test_pictures_of_bent_lenses_are_few(usd, stage, eye, author_box, on_gpu, monkeypatch) -> None:
    """Ids, meshes, other lens models and a missing gsplat are refused by name."""
    author(usd, eye, "omni:lensdistortion:model")
    with on_gpu(stage) as delegate:
        with pytest.raises(InputError, match="not prim_id"):
            delegate.render("/Eye", size=(16, 16), aovs=("color", "prim_id"))
        box = author_box(stage, "/Box", (0, 0, 0), (1, 1, 1))
        with pytest.raises(InputError, match="/Box"):
            delegate.render("/Eye", size=(16, 16))
        stage.RemovePrim(box.GetPath())
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "gsplat", None)
            with pytest.raises(MissingDependencyError, match=r"pip install 'omni_gen3d\[cuda\]'"):
                delegate.render("/Eye", size=(16, 16))
        eye.GetAttribute("omni:lensdistortion:model").Set("ftheta")
        with pytest.raises(InputError, match="'ftheta'; only 'opencvPinhole'"):
            delegate.render("/Eye", size=(16, 16))


@pytest.mark.cuda
def test_gsplat_bends_rolls_and_rustles(usd, stage, eye) -> None:
    """A lens without coefficients is a pinhole, one with them is none; shutters need motion; noise has its strength."""

    def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(-10 * torch.log10((a - b).square().mean().clamp_min(1e-12)))

    with SplatRenderDelegate(stage, "cuda") as delegate:

        def picture() -> torch.Tensor:
            return delegate.render("/Eye", size=(160, 120), aovs=("color", "depth"), time=1.0).aovs["color"]

        straight = picture()
        author(usd, eye, "omni:lensdistortion:model")
        flat = picture()
        assert psnr(flat, straight) >= 30
        author(usd, eye, "omni:lensdistortion:opencvPinhole:k1")
        assert psnr(picture(), flat) < 30
        eye.GetAttribute("omni:lensdistortion:opencvPinhole:k1").Set(0.0)
        author(usd, eye, "omni_gen3d:rollingShutter")
        still = picture()
        assert psnr(still, flat) >= 40
        translate = eye.GetAttribute("xformOp:translate")
        for time, y in ((0, -0.5), (2, 0.5)):
            translate.Set((5, y, 0), time)
        camera = usd.UsdGeom.Camera(eye)
        camera.CreateShutterOpenAttr(-1.0)
        camera.CreateShutterCloseAttr(1.0)
        assert psnr(picture(), flat) < 30
        eye.GetAttribute("omni_gen3d:rollingShutter").Set("global")
        camera.CreateShutterOpenAttr(0.0)
        camera.CreateShutterCloseAttr(0.0)
        quiet = picture()
        author(usd, eye, "omni_gen3d:sensorNoise")
        noisy = picture()
        inner = (quiet > 0.3) & (quiet < 0.7)
        assert abs(float((noisy - quiet)[inner].std()) - 0.1) < 0.02
        assert torch.equal(noisy, picture())
        assert np.isfinite(noisy.cpu().numpy()).all()
