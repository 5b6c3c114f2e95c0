"""Checks of a ``ParticleField3DGaussianSplat`` prim; OpenUSD's own validators have none for it.

A renderer that follows the schema truncates an array that is too long and drops one that is too short without a word.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pxr import Gf, Usd, UsdGeom, UsdVol

from omni_gen3d.usd.appearance import stated_gain
from omni_gen3d.usd.findings import Finding, error, warning
from omni_gen3d.usd.splats import QUANTITIES, SUPPORT_SIGMA

_UNIT_TOLERANCE = 1e-3
# float32 rounding of positions that are tens of metres away.
_EXTENT_TOLERANCE_M = 1e-4


def check_splats(prim: Usd.Prim) -> Iterator[Finding]:
    """Check types, lengths and values of one splat prim, at every time at which an array is sampled."""
    splat = UsdVol.ParticleField3DGaussianSplat(prim)
    yield from _check_types(prim)
    yield from _check_tokens(splat)
    problem = stated_gain(prim).problem()
    if problem is not None:
        yield error(prim.GetPath(), problem)
    degree_attribute = splat.GetRadianceSphericalHarmonicsDegreeAttr()
    degree = degree_attribute.Get()
    if not degree_attribute.HasAuthoredValue():
        yield error(degree_attribute.GetPath(), "is not authored; the schema's fallback is degree 3.")
    if degree not in (0, 1, 2, 3):
        yield error(degree_attribute.GetPath(), f"is {degree}; expected 0, 1, 2 or 3.")
        return
    yield from _check_harmonics_metadata(splat, (degree + 1) ** 2)
    for time in _times(prim):
        yield from _check_arrays(splat, (degree + 1) ** 2, time)


def check_times(prim: Usd.Prim) -> Iterator[Finding]:
    """Check that a stage whose splats move says when."""
    times = _sample_times(prim)
    if not times:
        return
    yield from check_sampled_times(prim, times)
    for name, pair in _arrays(prim).items():
        if all(attribute.Get() is None for attribute in pair):
            yield warning(prim.GetPath(), f"has no {name} without a time; a program that knows no time shows nothing.")


def check_sampled_times(prim: Usd.Prim, times: list[float]) -> Iterator[Finding]:
    """Check that the time codes, ascending, at which a prim is sampled lie within those that the stage states."""
    stage = prim.GetStage()
    if not times:
        return
    if not (stage.HasAuthoredTimeCodeRange() and stage.HasAuthoredMetadata("timeCodesPerSecond")):
        yield error(prim.GetPath(), "moves, but the stage authors no startTimeCode, endTimeCode or timeCodesPerSecond.")
    elif times[0] < stage.GetStartTimeCode() or times[-1] > stage.GetEndTimeCode():
        yield error(
            prim.GetPath(),
            f"is sampled from {times[0]:g} to {times[-1]:g}, but the stage lasts from {stage.GetStartTimeCode():g} to "
            f"{stage.GetEndTimeCode():g}.",
        )


def count_particles(prim: Usd.Prim) -> int:
    """How many particles there are at the time of the most."""
    return max(len(_value(_arrays(prim)["positions"], time)) for time in _times(prim))


def _arrays(prim: Usd.Prim) -> dict[str, tuple[Usd.Attribute, Usd.Attribute]]:
    """The float attribute and its half-precision twin, which counts where the first is not authored."""
    names = {"positions": "means", "orientations": "quats", "scales": "scales", "opacities": "opacities"}
    return {
        shown: (
            prim.GetAttribute(QUANTITIES[name].name(half=False)),
            prim.GetAttribute(QUANTITIES[name].name(half=True)),
        )
        for shown, name in {**names, "harmonics": "sh"}.items()
    }


def _sample_times(prim: Usd.Prim) -> list[float]:
    pairs = _arrays(prim).values()
    return sorted({time for pair in pairs for attribute in pair for time in attribute.GetTimeSamples()})


def _times(prim: Usd.Prim) -> list[Usd.TimeCode]:
    return [Usd.TimeCode(time) for time in _sample_times(prim)] or [Usd.TimeCode.Default()]


def _check_types(prim: Usd.Prim) -> Iterator[Finding]:
    for attribute in prim.GetAuthoredAttributes():
        for spec in attribute.GetPropertyStack():
            if spec.typeName != attribute.GetTypeName():
                yield error(
                    attribute.GetPath(), f"is typed {spec.typeName}; the schema says {attribute.GetTypeName()}."
                )


def _check_tokens(splat: UsdVol.ParticleField3DGaussianSplat) -> Iterator[Finding]:
    for attribute in (splat.GetProjectionModeHintAttr(), splat.GetSortingModeHintAttr()):
        allowed = attribute.GetMetadata("allowedTokens")
        if attribute.Get() not in allowed:
            yield error(attribute.GetPath(), f"is '{attribute.Get()}'; allowed are {', '.join(allowed)}.")
    if splat.GetPurposeAttr().Get() != UsdGeom.Tokens.default_:
        purpose = splat.GetPurposeAttr().Get()
        yield warning(splat.GetPath(), f"has purpose '{purpose}'; Newton shows splats of purpose 'default' only.")


def _check_harmonics_metadata(splat: UsdVol.ParticleField3DGaussianSplat, num_coefficients: int) -> Iterator[Finding]:
    for attribute in _arrays(splat.GetPrim())["harmonics"]:
        if not attribute.HasAuthoredValue():
            continue
        element_size = attribute.GetMetadata("elementSize")
        if element_size != num_coefficients:
            yield error(attribute.GetPath(), f"has elementSize {element_size}; expected {num_coefficients}.")
        color_space = attribute.GetColorSpace()
        if not color_space or not Gf.ColorSpace.IsValid(color_space):
            yield warning(
                attribute.GetPath(), f"has colour space '{color_space}'; engines will guess which one is meant."
            )


def _check_arrays(
    splat: UsdVol.ParticleField3DGaussianSplat, num_coefficients: int, time: Usd.TimeCode
) -> Iterator[Finding]:
    path = splat.GetPath()
    values = {name: _value(pair, time) for name, pair in _arrays(splat.GetPrim()).items()}
    count = len(values["positions"])
    if count == 0:
        yield error(path, "holds 0 particles.")
        return
    for name, array in values.items():
        expected = count * (num_coefficients if name == "harmonics" else 1)
        if len(array) != expected:
            yield error(path, f"{name} holds {len(array)} values; {count} particles need {expected}.")
        if not np.isfinite(array).all():
            yield error(path, f"{name} holds {int((~np.isfinite(array)).sum())} values that are NaN or infinite.")
    worst = np.abs(np.linalg.norm(values["orientations"], axis=-1) - 1).max(initial=0)
    if worst > _UNIT_TOLERANCE:
        yield error(path, f"orientations are off unit length by up to {worst:.3g}.")
    if (values["scales"] <= 0).any():
        yield error(path, f"scales reach {values['scales'].min():.3g}; they are linear and positive.")
    opacities = values["opacities"]
    if (opacities < 0).any() or (opacities > 1).any():
        yield error(path, f"opacities range over [{opacities.min():.3g}, {opacities.max():.3g}]; allowed is [0, 1].")
    yield from _check_extent(splat, values["positions"], values["scales"], time)


def _check_extent(
    splat: UsdVol.ParticleField3DGaussianSplat, positions: np.ndarray, scales: np.ndarray, time: Usd.TimeCode
) -> Iterator[Finding]:
    path = splat.GetPath()
    extent = splat.GetExtentAttr().Get(time)
    if extent is None or len(extent) != 2:
        yield error(path, "has no extent of two corners; nothing can compute one for a particle field.")
        return
    low, high = np.asarray(extent)
    if (positions < low - _EXTENT_TOLERANCE_M).any() or (positions > high + _EXTENT_TOLERANCE_M).any():
        yield error(path, "has an extent that does not contain its particles.")
    elif len(scales) == len(positions):
        radius = SUPPORT_SIGMA * scales.max(axis=1, keepdims=True) - _EXTENT_TOLERANCE_M
        if (positions - radius < low).any() or (positions + radius > high).any():
            yield warning(path, f"has an extent that cuts particles off within {SUPPORT_SIGMA:g} sigma.")


def _value(pair: tuple[Usd.Attribute, Usd.Attribute], time: Usd.TimeCode) -> np.ndarray:
    values = next((value for value in (attribute.Get(time) for attribute in pair) if value is not None), ())
    return np.array(values, dtype=np.float32)
