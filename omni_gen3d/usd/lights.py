"""The lights that shine on the meshes of a stage: domes and distant lights, in one relative unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pxr import Usd, UsdGeom, UsdLux


@dataclass(frozen=True)
class Light:
    """One light.

    Attributes:
        toward: Unit direction from a surface to the light, in the stage's frame, shape ``(3,)``; None for a dome.
        color: What a white surface that faces it shows, shape ``(3,)``, in the unit of the stage's lights.
    """

    toward: np.ndarray | None
    color: np.ndarray


def is_light(prim: Usd.Prim) -> bool:
    """Whether the prim is a light that ``read_light`` knows."""
    return prim.IsA(UsdLux.DistantLight) or prim.IsA(UsdLux.DomeLight) or prim.IsA(UsdLux.DomeLight_1)


def read_light(prim: Usd.Prim, time: Usd.TimeCode) -> Light | None:
    """A distant light or a dome of one colour (its texture is not read); None where it is invisible."""
    if UsdGeom.Imageable(prim).ComputeVisibility(time) == UsdGeom.Tokens.invisible:
        return None
    light = UsdLux.LightAPI(prim)
    strength = light.GetIntensityAttr().Get(time) * 2.0 ** light.GetExposureAttr().Get(time)
    color = np.array(light.GetColorAttr().Get(time), np.float64) * max(strength, 0.0)
    if not prim.IsA(UsdLux.DistantLight):
        return Light(None, color)
    matrix = np.array(UsdGeom.Xformable(prim).ComputeLocalToWorldTransform(time)).T
    toward = matrix[:3, 2]  # it shines along its own -z
    return Light(toward / np.linalg.norm(toward), color)
