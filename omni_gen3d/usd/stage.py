"""USD layers of the house: metres, Z-up, one default prim; opened without a crash and without a warning on stderr."""

from __future__ import annotations

from pathlib import Path

from pxr import Sdf, Tf, Usd, UsdGeom, UsdPhysics

from omni_gen3d.errors import InputError


def new_stage(root: str, prim_type: str = "Xform") -> Usd.Stage:
    """An empty stage in memory, Z-up, in metres and kilograms, whose default prim is ``/<root>``."""
    stage = Usd.Stage.CreateInMemory()
    stage.SetDefaultPrim(stage.DefinePrim(f"/{root}", prim_type))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    UsdPhysics.SetStageKilogramsPerUnit(stage, 1.0)
    return stage


def save_stage(stage: Usd.Stage, path: Path) -> None:
    """Write the root layer to ``path``; the suffix chooses text or binary.

    Raises:
        OSError: The file cannot be written.
    """
    try:
        saved = stage.GetRootLayer().Export(str(path))
    except Tf.ErrorException as error:
        raise OSError(f"USD could not write {path}: {error}") from error
    if not saved:
        raise OSError(f"USD could not write {path}.")


def open_layer(path: Path) -> Sdf.Layer:
    """Open one layer without composing it.

    Raises:
        InputError: There is no such file, or USD cannot read it.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected a USD layer (.usda, .usdc, .usd).")
    try:
        layer = Sdf.Layer.FindOrOpen(str(path))
    except Tf.ErrorException as error:
        raise InputError(f"{path} is not a readable USD layer: {_first_line(error)}") from error
    if layer is None:
        raise InputError(f"{path} is not a readable USD layer.")
    return layer


def open_stage(path: Path) -> Usd.Stage:
    """Compose a stage, payloads loaded.

    Raises:
        InputError: There is no such file, or USD cannot read it.
    """
    layer = open_layer(path)
    try:
        return Usd.Stage.Open(layer)
    except Tf.ErrorException as error:
        raise InputError(f"{path} does not compose: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "unknown error"
