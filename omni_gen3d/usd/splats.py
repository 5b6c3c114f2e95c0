"""Gaussians as a ``ParticleField3DGaussianSplat`` prim (UsdVol schema, OpenUSD 26.3 and later), and back.

The schema holds linear scales and opacities and coefficient-major spherical harmonics, as ``Gaussians`` does; only the
quaternions differ: numpy sees a ``QuatfArray`` as xyzw. Every quantity has an attribute of floats and a twin of halves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from pxr import Gf, Usd, UsdGeom, UsdVol, Vt

from omni_gen3d.errors import InputError
from omni_gen3d.geometry import wxyz_to_xyzw, xyzw_to_wxyz
from omni_gen3d.types import Gaussians
from omni_gen3d.usd.appearance import apply_gain, read_gain

# A scene-referred sRGB, the one name of it that both OpenUSD and Newton know; an untagged attribute is read differently
# by different renderers.
COLOR_SPACE = "srgb_rec709_scene"
# The schema defines the kernel's support as three standard deviations.
SUPPORT_SIGMA = 3.0
# Halves are taken for positions only where no centre moves further than this [m]: within 8 m of the origin.
HALF_POSITION_TOLERANCE_M = 0.002
# A scale must stay positive; this is the smallest half that is.
_SMALLEST_HALF = 2.0**-24


@dataclass(frozen=True)
class Quantity:
    """Where the schema keeps one field of ``Gaussians``."""

    attribute: str
    float_array: Any
    half_array: Any
    width: int

    def name(self, half: bool) -> str:
        return f"{self.attribute}h" if half else self.attribute


QUANTITIES = {
    "means": Quantity("positions", Vt.Vec3fArray, Vt.Vec3hArray, 3),
    "quats": Quantity("orientations", Vt.QuatfArray, Vt.QuathArray, 4),
    "scales": Quantity("scales", Vt.Vec3fArray, Vt.Vec3hArray, 3),
    "opacities": Quantity("opacities", Vt.FloatArray, Vt.HalfArray, 1),
    "sh": Quantity("radiance:sphericalHarmonicsCoefficients", Vt.Vec3fArray, Vt.Vec3hArray, 3),
}


def gaussians_extent(gaussians: Gaussians) -> tuple[np.ndarray, np.ndarray]:
    """Low and high corner of a box around every Gaussian's three-sigma sphere [m], each of shape ``(3,)``, float32."""
    # Column by column, in numpy: reductions over rows of three are slow, and torch wakes its threads for each.
    means, scales = gaussians.means.detach().cpu().numpy(), gaussians.scales.detach().cpu().numpy()
    radius = SUPPORT_SIGMA * np.maximum(np.maximum(scales[:, 0], scales[:, 1]), scales[:, 2])
    low = np.array([(means[:, axis] - radius).min() for axis in range(3)], dtype=np.float32)
    high = np.array([(means[:, axis] + radius).max() for axis in range(3)], dtype=np.float32)
    return low, high


def quantities_fit_for_half(frames: Sequence[Gaussians]) -> frozenset[str]:
    """Fields of ``Gaussians`` that may be stored in half precision at every time.

    Positions must move by no more than ``HALF_POSITION_TOLERANCE_M``; the others must stay finite.
    """
    return frozenset(name for name in QUANTITIES if all(_fits_half(name, frame) for frame in frames))


def as_stored(gaussians: Gaussians, halved: frozenset[str]) -> Gaussians:
    """Where and how large the Gaussians are once some fields of them are halves; the others are left alone."""
    rounded = {name: _to_half(name, getattr(gaussians, name)).float() for name in halved & {"means", "scales"}}
    return replace(gaussians, **rounded)


def author_splats(
    stage: Usd.Stage, path: str, gaussians: Gaussians, *, half: bool = False
) -> UsdVol.ParticleField3DGaussianSplat:
    """Define the splat prim at ``path``.

    Args:
        stage: Where to.
        path: Of the prim.
        gaussians: What to author.
        half: Halve the size: half precision for all that it is fit for (see ``quantities_fit_for_half``).

    Raises:
        InputError: A value of ``gaussians`` is out of range (see ``Gaussians.validate``).
    """
    gaussians.validate()
    halved = quantities_fit_for_half([gaussians]) if half else frozenset()
    splat = define_splats(
        stage, path, gaussians.sh_degree, "sh" in halved, gaussians_extent(as_stored(gaussians, halved))
    )
    for name in QUANTITIES:
        set_quantity(splat.GetPrim(), name, gaussians, name in halved, [Usd.TimeCode.Default()])
    return splat


def define_splats(
    stage: Usd.Stage, path: str, degree: int, half_harmonics: bool, extent: tuple[np.ndarray, np.ndarray]
) -> UsdVol.ParticleField3DGaussianSplat:
    """Define a splat prim with all that does not grow with the number of particles."""
    splat = UsdVol.ParticleField3DGaussianSplat.Define(stage, path)
    # The schema's fallback is degree 3, so the degree is always authored.
    splat.CreateRadianceSphericalHarmonicsDegreeAttr(degree)
    harmonics = (
        splat.CreateRadianceSphericalHarmonicsCoefficientshAttr()
        if half_harmonics
        else splat.CreateRadianceSphericalHarmonicsCoefficientsAttr()
    )
    harmonics.SetColorSpace(COLOR_SPACE)
    harmonics.SetMetadata("elementSize", (degree + 1) ** 2)
    harmonics.SetMetadata("interpolation", UsdGeom.Tokens.vertex)
    splat.CreateProjectionModeHintAttr("perspective")
    splat.CreateSortingModeHintAttr("zDepth")
    splat.CreateExtentAttr(Vt.Vec3fArray([Gf.Vec3f(*map(float, corner)) for corner in extent]))
    return splat


def set_quantity(prim: Usd.Prim, name: str, gaussians: Gaussians, half: bool, times: Sequence[Usd.TimeCode]) -> None:
    """Set one field of ``gaussians`` at every one of ``times``; the file holds the array once."""
    quantity = QUANTITIES[name]
    tensor = getattr(gaussians, name).detach().cpu()
    if name == "quats":
        tensor = wxyz_to_xyzw(tensor)
    if half:
        values = quantity.half_array.FromNumpy(_rows(_to_half(name, tensor).numpy(), quantity.width))
    else:
        values = quantity.float_array.FromNumpy(
            _rows(np.ascontiguousarray(tensor.numpy(), dtype=np.float32), quantity.width)
        )
    for time in times:
        prim.GetAttribute(quantity.name(half)).Set(values, time)


def read_splats(prim: Usd.Prim, time: float | None = None) -> Gaussians:
    """Gaussians of a splat prim, in the prim's own frame, as the stage shows them.

    A half-precision array counts where no float one is authored. ``omni_gen3d:exposure`` and ``omni_gen3d:tint``, which
    the variants of appearance author, are applied to the harmonics.

    Args:
        prim: The splat prim.
        time: A time code of the stage; between two frames USD interpolates where the count stays. None reads what is
            there without a time, which in a sequence is its first frame.

    Raises:
        InputError: The prim is of another type, an array is missing or its length does not fit the positions, or the
            exposure or tint is out of range.
    """
    return apply_gain(read_stored_splats(prim, time), read_gain(prim))


def read_stored_splats(prim: Usd.Prim, time: float | None = None) -> Gaussians:
    """As ``read_splats``, but without exposure and tint: what the arrays hold."""
    if not prim.IsA(UsdVol.ParticleField3DGaussianSplat):
        raise InputError(f"{prim.GetPath()} is a '{prim.GetTypeName()}'; expected a ParticleField3DGaussianSplat.")
    when = Usd.TimeCode.Default() if time is None else Usd.TimeCode(time)
    arrays = {name: _read(prim, quantity, when) for name, quantity in QUANTITIES.items()}
    degree = UsdVol.ParticleField3DGaussianSplat(prim).GetRadianceSphericalHarmonicsDegreeAttr().Get()
    if degree not in (0, 1, 2, 3):
        raise InputError(f"{prim.GetPath()} holds spherical harmonics of degree {degree}; allowed are 0 to 3.")
    count, num_coefficients = len(arrays["means"]), (degree + 1) ** 2
    if len(arrays["sh"]) != count * num_coefficients:
        raise InputError(
            f"{prim.GetPath()} holds {len(arrays['sh'])} spherical-harmonics coefficients; {count} particles of "
            f"degree {degree} need {count * num_coefficients}."
        )
    return Gaussians(
        means=torch.from_numpy(arrays["means"]),
        quats=xyzw_to_wxyz(torch.from_numpy(arrays["quats"])),
        scales=torch.from_numpy(arrays["scales"]),
        opacities=torch.from_numpy(arrays["opacities"][:, 0]),
        sh=torch.from_numpy(arrays["sh"]).reshape(count, num_coefficients, 3),
    )


def _fits_half(name: str, gaussians: Gaussians) -> bool:
    tensor = getattr(gaussians, name).detach().cpu()
    if name == "means":
        return bool(((tensor.half().to(tensor.dtype) - tensor).abs() <= HALF_POSITION_TOLERANCE_M).all())
    low, high = map(float, tensor.aminmax())
    return max(-low, high) <= torch.finfo(torch.float16).max


def _to_half(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if name == "quats":
        tensor = torch.nn.functional.normalize(tensor, dim=-1)
    halves = tensor.half()
    return halves.clamp_min(_SMALLEST_HALF) if name == "scales" else halves


def _rows(array: np.ndarray, width: int) -> np.ndarray:
    return array.reshape(-1) if width == 1 else array.reshape(-1, width)


def _read(prim: Usd.Prim, quantity: Quantity, time: Usd.TimeCode) -> np.ndarray:
    """The float array if authored, else the half one, as float32 of shape ``(n, width)``; a copy USD does not own."""
    values = prim.GetAttribute(quantity.name(half=False)).Get(time)
    if values is None:
        values = prim.GetAttribute(quantity.name(half=True)).Get(time)
    if values is None:
        raise InputError(f"{prim.GetPath()}.{quantity.attribute} is not authored.")
    return np.array(values, dtype=np.float32).reshape(-1, quantity.width)
