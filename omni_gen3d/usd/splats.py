"""Gaussians as a ``ParticleField3DGaussianSplat`` prim (UsdVol schema, OpenUSD 26.3 and later), and back.

The schema holds linear scales and opacities and coefficient-major spherical harmonics, as ``Gaussians`` does; only the
quaternions differ: numpy sees a ``QuatfArray`` as xyzw.
"""

from __future__ import annotations

import numpy as np
import torch
from pxr import Gf, Usd, UsdGeom, UsdVol, Vt

from omni_gen3d.errors import InputError
from omni_gen3d.geometry import wxyz_to_xyzw, xyzw_to_wxyz
from omni_gen3d.types import Gaussians

# A scene-referred sRGB, the one name of it that both OpenUSD and Newton know; an untagged attribute is read differently
# by different renderers.
COLOR_SPACE = "srgb_rec709_scene"
# The schema defines the kernel's support as three standard deviations.
SUPPORT_SIGMA = 3.0


def gaussians_extent(gaussians: Gaussians) -> tuple[np.ndarray, np.ndarray]:
    """Low and high corner of a box around every Gaussian's three-sigma sphere [m], each of shape ``(3,)``, float32."""
    means = gaussians.means.detach().cpu()
    radius = SUPPORT_SIGMA * gaussians.scales.detach().cpu().amax(dim=1, keepdim=True)
    return (means - radius).amin(dim=0).numpy(), (means + radius).amax(dim=0).numpy()


def author_splats(stage: Usd.Stage, path: str, gaussians: Gaussians) -> UsdVol.ParticleField3DGaussianSplat:
    """Define the splat prim at ``path``.

    Raises:
        InputError: A value of ``gaussians`` is out of range (see ``Gaussians.validate``).
    """
    gaussians.validate()
    splat = UsdVol.ParticleField3DGaussianSplat.Define(stage, path)
    splat.CreatePositionsAttr(Vt.Vec3fArray.FromNumpy(_float32(gaussians.means)))
    splat.CreateOrientationsAttr(Vt.QuatfArray.FromNumpy(_float32(wxyz_to_xyzw(gaussians.quats))))
    splat.CreateScalesAttr(Vt.Vec3fArray.FromNumpy(_float32(gaussians.scales)))
    splat.CreateOpacitiesAttr(Vt.FloatArray.FromNumpy(_float32(gaussians.opacities)))
    # The schema's fallback is degree 3, so the degree is always authored.
    splat.CreateRadianceSphericalHarmonicsDegreeAttr(gaussians.sh_degree)
    harmonics = splat.CreateRadianceSphericalHarmonicsCoefficientsAttr(
        Vt.Vec3fArray.FromNumpy(_float32(gaussians.sh).reshape(-1, 3))
    )
    harmonics.SetColorSpace(COLOR_SPACE)
    harmonics.SetMetadata("elementSize", gaussians.sh.shape[1])
    harmonics.SetMetadata("interpolation", UsdGeom.Tokens.vertex)
    splat.CreateProjectionModeHintAttr("perspective")
    splat.CreateSortingModeHintAttr("zDepth")
    low, high = gaussians_extent(gaussians)
    splat.CreateExtentAttr(Vt.Vec3fArray([Gf.Vec3f(*map(float, low)), Gf.Vec3f(*map(float, high))]))
    return splat


def read_splats(prim: Usd.Prim) -> Gaussians:
    """Gaussians of a splat prim, in the prim's own frame; a half-precision array counts where no float one is authored.

    Raises:
        InputError: The prim is of another type, an array is missing or its length does not fit the positions.
    """
    if not prim.IsA(UsdVol.ParticleField3DGaussianSplat):
        raise InputError(f"{prim.GetPath()} is a '{prim.GetTypeName()}'; expected a ParticleField3DGaussianSplat.")
    splat = UsdVol.ParticleField3DGaussianSplat(prim)
    means = _read(splat.GetPositionsAttr(), splat.GetPositionshAttr(), 3)
    quats_xyzw = _read(splat.GetOrientationsAttr(), splat.GetOrientationshAttr(), 4)
    scales = _read(splat.GetScalesAttr(), splat.GetScaleshAttr(), 3)
    opacities = _read(splat.GetOpacitiesAttr(), splat.GetOpacitieshAttr(), 1)[:, 0]
    harmonics = _read(
        splat.GetRadianceSphericalHarmonicsCoefficientsAttr(),
        splat.GetRadianceSphericalHarmonicsCoefficientshAttr(),
        3,
    )
    degree = splat.GetRadianceSphericalHarmonicsDegreeAttr().Get()
    num_coefficients = (degree + 1) ** 2
    if len(harmonics) != len(means) * num_coefficients:
        raise InputError(
            f"{prim.GetPath()} holds {len(harmonics)} spherical-harmonics coefficients; {len(means)} particles of "
            f"degree {degree} need {len(means) * num_coefficients}."
        )
    return Gaussians(
        means=torch.from_numpy(means),
        quats=xyzw_to_wxyz(torch.from_numpy(quats_xyzw)),
        scales=torch.from_numpy(scales),
        opacities=torch.from_numpy(opacities),
        sh=torch.from_numpy(harmonics).reshape(len(means), num_coefficients, 3),
    )


def _float32(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)


def _read(attribute: Usd.Attribute, half_attribute: Usd.Attribute, width: int) -> np.ndarray:
    """The float array if authored, else the half one, as float32 of shape ``(n, width)``; a copy USD does not own."""
    values = attribute.Get()
    if values is None:
        values = half_attribute.Get()
    if values is None:
        raise InputError(f"{attribute.GetPath()} is not authored.")
    return np.array(values, dtype=np.float32).reshape(-1, width)
