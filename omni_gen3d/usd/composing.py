"""Environments at places that somebody else chose, and one camera, as a stage: a copy of what a host shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pxr import Gf, Sdf, Usd, UsdGeom

from omni_gen3d.errors import InputError
from omni_gen3d.usd.stage import new_stage, open_layer

CAMERA_PATH = "/Camera"
_WORLD = "/World"


@dataclass(frozen=True, kw_only=True)
class Placed:
    """An environment at its place.

    Attributes:
        usd: Its root layer.
        matrix: From its ``/World`` to the stage [m], for row vectors as in USD, 16 numbers row by row.
        overrides: Layers over its ``/World``, the strongest first.
        variants: Selections of its variant sets.
    """

    usd: str
    matrix: tuple[float, ...]
    overrides: tuple[str, ...] = ()
    variants: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Lens:
    """A perspective camera as USD states it.

    Attributes:
        matrix: From the camera to the stage [m], like ``Placed.matrix``.
        focal_length, horizontal_aperture, vertical_aperture: In one unit.
        clipping_range: Nearest and farthest [m].
    """

    matrix: tuple[float, ...]
    focal_length: float
    horizontal_aperture: float
    vertical_aperture: float
    clipping_range: tuple[float, float]


def compose_stage(environments: Sequence[Placed]) -> Usd.Stage:
    """A stage in metres that holds the environments, payloads loaded, and a camera at ``CAMERA_PATH``.

    Raises:
        InputError: A layer cannot be opened, or a matrix has not 16 numbers.
    """
    stage = new_stage("Worlds")
    for i, environment in enumerate(environments):
        prim = UsdGeom.Xform.Define(stage, f"/Worlds/Environment_{i}")
        prim.AddTransformOp().Set(_matrix(environment.matrix))
        for layer in (*environment.overrides, environment.usd):
            open_layer(Path(layer))
            prim.GetPrim().GetReferences().AddReference(layer, Sdf.Path(_WORLD))
        inside = stage.GetPrimAtPath(f"{prim.GetPath()}/Environment")
        for name, selection in environment.variants.items():
            inside.GetVariantSets().SetSelection(name, selection)
    stage.Load()
    UsdGeom.Camera.Define(stage, CAMERA_PATH)
    return stage


def author_lens(stage: Usd.Stage, lens: Lens) -> None:
    """Have the camera of ``compose_stage`` look through ``lens``.

    Raises:
        InputError: The matrix has not 16 numbers.
    """
    camera = UsdGeom.Camera(stage.GetPrimAtPath(CAMERA_PATH))
    camera.MakeMatrixXform().Set(_matrix(lens.matrix))
    camera.GetFocalLengthAttr().Set(lens.focal_length)
    camera.GetHorizontalApertureAttr().Set(lens.horizontal_aperture)
    camera.GetVerticalApertureAttr().Set(lens.vertical_aperture)
    camera.GetClippingRangeAttr().Set(Gf.Vec2f(*lens.clipping_range))


def _matrix(numbers: Sequence[float]) -> Gf.Matrix4d:
    if len(numbers) != 16:
        raise InputError(f"a matrix of {len(numbers)} numbers was given; it has 16.")
    return Gf.Matrix4d(*numbers)
