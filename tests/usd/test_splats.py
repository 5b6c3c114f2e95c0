"""The splat prim as other programs see it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from pxr import Gf, Usd, UsdGeom, UsdVol, Vt

from omni_gen3d.errors import InputError
from omni_gen3d.types import Gaussians
from omni_gen3d.usd.splats import author_splats, gaussians_extent, read_splats
from omni_gen3d.usd.stage import new_stage, save_stage

if TYPE_CHECKING:
    from tests.conftest import ToyScene


def test_attributes_follow_the_schema(toy_scene: ToyScene):
    """Each particle's quaternion, coefficients and scale sit where the schema puts them, read one by one."""
    gaussians = toy_scene.gaussians
    stage = Usd.Stage.CreateInMemory()
    splat = author_splats(stage, "/Splats", gaussians)
    orientations = splat.GetOrientationsAttr().Get()
    harmonics = splat.GetRadianceSphericalHarmonicsCoefficientsAttr()
    for i in (0, 17, 49):
        w, x, y, z = gaussians.quats[i].tolist()
        assert orientations[i] == Gf.Quatf(w, x, y, z)
        for k in range(4):
            assert harmonics.Get()[i * 4 + k] == Gf.Vec3f(*gaussians.sh[i, k].tolist())
        assert splat.GetScalesAttr().Get()[i] == Gf.Vec3f(*gaussians.scales[i].tolist())
    assert splat.GetRadianceSphericalHarmonicsDegreeAttr().Get() == 1
    assert harmonics.GetColorSpace() == "srgb_rec709_scene" and Gf.ColorSpace.IsValid("srgb_rec709_scene")
    assert harmonics.GetMetadata("elementSize") == 4 and harmonics.GetMetadata("interpolation") == "vertex"
    assert splat.GetProjectionModeHintAttr().HasAuthoredValue() and splat.GetSortingModeHintAttr().HasAuthoredValue()
    assert splat.GetPurposeAttr().Get() == UsdGeom.Tokens.default_


@pytest.mark.parametrize("degree", [0, 3])
def test_every_degree_comes_back(toy_scene: ToyScene, degree: int):
    """Degree 0, whose fallback in the schema would be 3, and degree 3 are read back as authored."""
    sh = torch.randn(50, (degree + 1) ** 2, 3, generator=torch.Generator().manual_seed(1))
    gaussians = toy_scene.gaussians
    gaussians = type(gaussians)(gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, sh)
    stage = Usd.Stage.CreateInMemory()
    splat = author_splats(stage, "/Splats", gaussians)
    read = read_splats(splat.GetPrim())
    assert read.sh_degree == degree and torch.equal(read.sh, sh)


def test_half_precision_is_read(toy_scene: ToyScene):
    """Where only half-precision arrays are authored, they are read."""
    stage = Usd.Stage.CreateInMemory()
    splat = author_splats(stage, "/Splats", toy_scene.gaussians)
    prim = splat.GetPrim()
    prim.RemoveProperty("positions")
    prim.RemoveProperty("orientations")
    means = toy_scene.gaussians.means.half()
    splat.CreatePositionshAttr(Vt.Vec3hArray.FromNumpy(means.numpy()))
    splat.CreateOrientationshAttr(Vt.QuathArray.FromNumpy(toy_scene.gaussians.quats[:, [1, 2, 3, 0]].half().numpy()))
    read = read_splats(prim)
    assert torch.equal(read.means, means.float())
    assert torch.equal(read.quats, toy_scene.gaussians.quats.half().float())


def at_half(gaussians: Gaussians) -> tuple[Usd.Stage, Usd.Prim]:
    stage = Usd.Stage.CreateInMemory()
    return stage, author_splats(stage, "/Splats", gaussians, half=True).GetPrim()


@pytest.mark.parametrize("degree", [0, 3])
def test_half_precision_is_written(toy_scene: ToyScene, degree: int):
    """In a room everything becomes halves and nothing floats; what is read is each value rounded to the nearest."""
    sh = torch.randn(50, (degree + 1) ** 2, 3, generator=torch.Generator().manual_seed(1))
    gaussians = dataclasses.replace(toy_scene.gaussians, sh=sh)
    _stage, prim = at_half(gaussians)
    authored = {attribute.GetName() for attribute in prim.GetAuthoredAttributes()}
    for name in ("positions", "orientations", "scales", "opacities", "radiance:sphericalHarmonicsCoefficients"):
        assert f"{name}h" in authored and name not in authored
    read = read_splats(prim)
    for name in ("means", "scales", "opacities", "sh"):
        assert torch.equal(getattr(read, name), getattr(gaussians, name).half().float()), name
    read.validate()
    assert (read.means - gaussians.means).abs().max() <= 0.002
    harmonics = prim.GetAttribute("radiance:sphericalHarmonicsCoefficientsh")
    assert harmonics.GetColorSpace() == "srgb_rec709_scene"
    assert harmonics.GetMetadata("elementSize") == (degree + 1) ** 2


def test_positions_stay_floats_where_halves_would_move_them(toy_scene: ToyScene):
    """Twenty metres away a half is off by up to 8 mm: one particle out there keeps all positions exact."""
    means = toy_scene.gaussians.means.clone()
    means[7] = torch.tensor([20.007, 0.0, 0.0])
    gaussians = dataclasses.replace(toy_scene.gaussians, means=means)
    _stage, prim = at_half(gaussians)
    assert torch.equal(read_splats(prim).means, means)
    assert not prim.GetAttribute("positionsh").HasAuthoredValue()
    assert prim.GetAttribute("scalesh").HasAuthoredValue()


def test_what_halves_cannot_hold_stays_valid(toy_scene: ToyScene):
    """A harmonic beyond 65,504 keeps its array in floats; a scale below the smallest half stays positive."""
    sh, scales = toy_scene.gaussians.sh.clone(), toy_scene.gaussians.scales.clone()
    sh[0, 0, 0], scales[3] = 1e6, 1e-9
    quats = toy_scene.gaussians.quats * (1 + 0.9e-3)
    _stage, prim = at_half(dataclasses.replace(toy_scene.gaussians, sh=sh, scales=scales, quats=quats))
    read = read_splats(prim)
    assert torch.equal(read.sh, sh)
    read.validate()


def test_the_extent_holds_the_rounded_particles(toy_scene: ToyScene):
    """Halves may round a centre or a scale outwards; the extent is that of what is stored."""
    _stage, prim = at_half(toy_scene.gaussians)
    low, high = np.array(prim.GetAttribute("extent").Get())
    stored_low, stored_high = gaussians_extent(read_splats(prim))
    np.testing.assert_array_equal(low, stored_low)
    np.testing.assert_array_equal(high, stored_high)


@pytest.mark.parametrize(("half", "bytes_each"), [(False, 236), (True, 118)])
def test_size(toy_scene: ToyScene, tmp_path: Path, half: bool, bytes_each: int):
    """A particle of degree 3 takes 236 bytes in floats and 118 in halves, and the file little more."""
    generator = torch.Generator().manual_seed(0)
    quats = torch.randn(2000, 4, generator=generator)
    gaussians = Gaussians(
        means=torch.rand(2000, 3, generator=generator) * 6 - 3,
        quats=quats / quats.norm(dim=1, keepdim=True),
        scales=torch.rand(2000, 3, generator=generator) + 0.01,
        opacities=torch.rand(2000, generator=generator),
        sh=torch.randn(2000, 16, 3, generator=generator),
    )
    stage = new_stage("Splats")
    author_splats(stage, "/Splats", gaussians, half=half)
    save_stage(stage, tmp_path / "splats.usdc")
    assert 0 <= (tmp_path / "splats.usdc").stat().st_size - 2000 * bytes_each < 4000


def test_extent_is_three_sigma(toy_scene: ToyScene):
    """The extent is the union of the three-sigma spheres, particle by particle."""
    low, high = gaussians_extent(toy_scene.gaussians)
    expected_low, expected_high = np.full(3, np.inf), np.full(3, -np.inf)
    for mean, scale in zip(toy_scene.gaussians.means.numpy(), toy_scene.gaussians.scales.numpy(), strict=True):
        expected_low = np.minimum(expected_low, mean - 3 * scale.max())
        expected_high = np.maximum(expected_high, mean + 3 * scale.max())
    np.testing.assert_allclose(low, expected_low, atol=1e-6)
    np.testing.assert_allclose(high, expected_high, atol=1e-6)


def test_a_prim_that_does_not_fit_is_refused(toy_scene: ToyScene):
    """A prim of another type, a missing array and coefficients that do not fit the degree are named."""
    stage = Usd.Stage.CreateInMemory()
    with pytest.raises(InputError, match="Xform"):
        read_splats(stage.DefinePrim("/Other", "Xform"))
    splat = UsdVol.ParticleField3DGaussianSplat.Define(stage, "/Empty")
    with pytest.raises(InputError, match="positions"):
        read_splats(splat.GetPrim())
    splat = author_splats(stage, "/Splats", toy_scene.gaussians)
    splat.GetRadianceSphericalHarmonicsDegreeAttr().Set(2)
    with pytest.raises(InputError, match="degree 2 need 450"):
        read_splats(splat.GetPrim())
