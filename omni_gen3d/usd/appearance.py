"""Looks of an environment: an exposure and a tint on the splat prim, applied when the splats are read.

Two numbers an appearance, instead of another copy of the harmonics. They belong to this package: a renderer that does
not know them shows the splats as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from pxr import Gf, Sdf, Usd

from omni_gen3d.errors import InputError
from omni_gen3d.geometry import recolor_sh
from omni_gen3d.types import Gaussians

Appearance = Literal["neutral", "warm", "cool", "dim"]
EXPOSURE = "omni_gen3d:exposure"
TINT = "omni_gen3d:tint"
# Two to the power of this still keeps a float32 colour away from overflow.
_MAX_EXPOSURE = 32.0


@dataclass(frozen=True)
class Gain:
    """A factor on the displayed colour: ``2 ** exposure * tint``.

    Attributes:
        exposure: In stops.
        tint: A factor for each of red, green and blue.
    """

    exposure: float = 0.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def factors(self) -> tuple[float, float, float]:
        red, green, blue = (2.0**self.exposure * channel for channel in self.tint)
        return red, green, blue

    def problem(self) -> str | None:
        """What is out of range, in words, or None."""
        if not abs(self.exposure) <= _MAX_EXPOSURE:
            return f"{EXPOSURE} is {self.exposure:g}; it is in stops, from {-_MAX_EXPOSURE:g} to {_MAX_EXPOSURE:g}."
        if not all(math.isfinite(channel) and channel >= 0 for channel in self.tint):
            return f"{TINT} is {self.tint}; each factor is finite and at least 0."
        return None


APPEARANCES: dict[Appearance, Gain] = {
    "neutral": Gain(),
    "warm": Gain(tint=(1.1, 1.0, 0.8)),
    "cool": Gain(tint=(0.84, 0.97, 1.1)),
    "dim": Gain(exposure=-1.5),
}


def author_gain(prim: Usd.Prim, gain: Gain) -> None:
    """Author the two attributes on a splat prim."""
    prim.CreateAttribute(EXPOSURE, Sdf.ValueTypeNames.Float).Set(gain.exposure)
    prim.CreateAttribute(TINT, Sdf.ValueTypeNames.Color3f).Set(Gf.Vec3f(*gain.tint))


def read_gain(prim: Usd.Prim) -> Gain:
    """The gain of a splat prim as composed; identity where none is authored.

    Raises:
        InputError: A value is out of range or of another type.
    """
    gain = stated_gain(prim)
    if (problem := gain.problem()) is not None:
        raise InputError(f"{prim.GetPath()}: {problem}")
    return gain


def stated_gain(prim: Usd.Prim) -> Gain:
    """The gain as it is authored, in range or not; a value of another type counts as NaN."""
    exposure, tint = (attribute.Get() if attribute else None for attribute in map(prim.GetAttribute, (EXPOSURE, TINT)))
    if exposure is None:
        exposure = 0.0
    elif not isinstance(exposure, int | float):
        exposure = math.nan
    if tint is None:
        return Gain(exposure)
    if not isinstance(tint, Gf.Vec3f | Gf.Vec3d | Gf.Vec3h):
        return Gain(exposure, (math.nan, math.nan, math.nan))
    red, green, blue = (float(channel) for channel in tint)
    return Gain(exposure, (red, green, blue))


def apply_gain(gaussians: Gaussians, gain: Gain) -> Gaussians:
    """Splats whose colour along every direction is the given one times the gain, see ``geometry.recolor_sh``."""
    if gain.factors == (1.0, 1.0, 1.0):
        return gaussians
    matrix = torch.tensor(gain.factors, dtype=torch.float64).diag()
    return replace(gaussians, sh=recolor_sh(gaussians.sh, matrix, torch.zeros(3)))
