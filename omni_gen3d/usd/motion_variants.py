"""The variant set ``motion`` of a scene that moves in parts: as generated, standing still, or without what moves."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from pxr import Gf, Sdf, Usd, UsdGeom, Vt

from omni_gen3d.geometry import matrix_to_quat
from omni_gen3d.types import DynamicScene

Motion = Literal["play", "frozen", "none"]
MOTIONS: tuple[Motion, ...] = get_args(Motion)
RESIDUAL = "Residual"


def author_motions(stage: Usd.Stage, environment: Usd.Prim, path: str, moving: DynamicScene) -> None:
    """``play`` as generated, ``frozen`` as at time 0, ``none`` without what moves; ``play`` is selected.

    Args:
        stage: Where to.
        environment: The prim that gets the variant set.
        path: Of the prim below it that holds the parts.
        moving: Its content.
    """
    variants = environment.GetVariantSets().AddVariantSet("motion")
    for name in MOTIONS:
        variants.AddVariant(name)
    variants.SetVariantSelection("frozen")
    with variants.GetVariantEditContext():
        # A plain value in here is stronger than samples in a payload.
        for part in moving.parts:
            author_place(stage.OverridePrim(f"{path}/{part.name}"), part.to_world[:1], part.present[:1], None)
        if moving.residual is not None:
            retime_clips(stage.OverridePrim(f"{path}/{RESIDUAL}"), [(0.0, 0)])
    variants.SetVariantSelection("none")
    with variants.GetVariantEditContext():
        stage.OverridePrim(path).SetActive(False)
    variants.SetVariantSelection("play")


def author_place(prim: Usd.Prim, to_world: np.ndarray, present: np.ndarray, times: list[float] | None) -> None:
    """Author where a part is, and whether it is shown, in the layer that is edited.

    Args:
        prim: Of the part; its order of operations, translate and orient, is authored elsewhere.
        to_world: Rigid, ``(T, 4, 4)``; the first one is authored without a time as well.
        present: Whether it is shown, ``(T,)``.
        times: Time codes; None authors the first one alone, without a time, which hides all samples of weaker layers.
    """
    quats = steady_quats(to_world[:, :3, :3])
    translate = prim.CreateAttribute("xformOp:translate", Sdf.ValueTypeNames.Double3, False)
    orient = prim.CreateAttribute("xformOp:orient", Sdf.ValueTypeNames.Quatf, False)
    visibility = prim.CreateAttribute("visibility", Sdf.ValueTypeNames.Token, False)
    for i, time in [(0, Usd.TimeCode.Default()), *enumerate(map(Usd.TimeCode, times or ()))]:
        translate.Set(Gf.Vec3d(*map(float, to_world[i, :3, 3])), time)
        orient.Set(Gf.Quatf(*map(float, quats[i])), time)
        if times is None or not present.all():
            visibility.Set(UsdGeom.Tokens.inherited if present[i] else UsdGeom.Tokens.invisible, time)


def retime_clips(prim: Usd.Prim, schedule: list[tuple[float, int]]) -> None:
    """Show clip ``i`` from its time on, for the pairs of time and ``i``, in the layer that is edited."""
    clips = Usd.ClipsAPI(prim)
    clips.SetClipActive(Vt.Vec2dArray([(time, float(clip)) for time, clip in schedule]))
    # Clip i holds one sample, at time i.
    clips.SetClipTimes(Vt.Vec2dArray([(time, float(clip)) for time, clip in schedule]))


def steady_quats(rotations: np.ndarray) -> np.ndarray:
    """Quaternions wxyz of matrices ``(T, 3, 3)``, each on the side of the one before, so that nothing spins between.

    Shape ``(T, 4)``, float64.
    """
    quats = matrix_to_quat(torch.from_numpy(rotations.copy())).numpy()
    for i in range(1, len(quats)):
        if quats[i] @ quats[i - 1] < 0:
            quats[i] = -quats[i]
    return quats
