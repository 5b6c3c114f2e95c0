"""USD layers of the house: metres, Z-up, one default prim."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pxr import Sdf, Tf, Usd, UsdGeom, UsdPhysics

from omni_gen3d.errors import InputError


def new_stage(root: str, *, frames_per_second: float | None = None, num_frames: int | None = None) -> Usd.Stage:
    """An empty stage in memory, Z-up, in metres and kilograms, whose default prim is ``/<root>``; loads no payload.

    With ``frames_per_second`` a time code is a frame; with ``num_frames`` the stage also says where they begin and end.
    """
    stage = Usd.Stage.CreateInMemory(Usd.Stage.LoadNone)
    stage.SetDefaultPrim(stage.DefinePrim(f"/{root}", "Xform"))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    UsdPhysics.SetStageKilogramsPerUnit(stage, 1.0)
    if frames_per_second is not None:
        stage.SetTimeCodesPerSecond(frames_per_second)
        stage.SetFramesPerSecond(frames_per_second)
    if num_frames is not None:
        stage.SetStartTimeCode(0)
        stage.SetEndTimeCode(num_frames - 1)
    return stage


def save_stage(stage: Usd.Stage, path: Path) -> None:
    """Write the root layer to ``path``; the suffix chooses text or binary.

    Raises:
        OSError: The file cannot be written.
    """
    try:
        saved = stage.GetRootLayer().Export(str(path))
    except Tf.ErrorException as error:
        # One failed write is reported dozens of times.
        if os.strerror(errno.ENOSPC) in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        reason = str(error).strip().rpartition("\n")[2].strip()
        raise OSError(f"USD could not write {path}: {reason}") from error
    if not saved:
        raise OSError(f"USD could not write {path}.")


def open_layer(path: Path) -> Sdf.Layer:
    """Open one layer without composing it.

    Raises:
        InputError: There is no such file, or USD cannot read it.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected a USD layer (.usda, .usdc, .usd).")
    with reading(path):
        layer = Sdf.Layer.FindOrOpen(str(path))
    if layer is None:
        raise InputError(f"{path} is not a readable USD layer.")
    return layer


def open_stage(path: Path) -> Usd.Stage:
    """Compose a stage, payloads loaded.

    Raises:
        InputError: There is no such file, or USD cannot read it.
    """
    layer = open_layer(path)
    with reading(path):
        return Usd.Stage.Open(layer)


def timespan(stage: Usd.Stage) -> tuple[float, float]:
    """The first and the last time code of a stage; both 0 where it states none."""
    return (stage.GetStartTimeCode(), stage.GetEndTimeCode()) if stage.HasAuthoredTimeCodeRange() else (0.0, 0.0)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what OpenUSD raises over a damaged file into an ``InputError`` that names it."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a readable USD layer: it holds text that is not UTF-8.") from error
    except Tf.ErrorException as error:
        try:
            reason = str(error).strip().rpartition("\n")[2].strip()
        except UnicodeDecodeError:  # The message quotes the file.
            reason = "it holds text that is not UTF-8."
        raise InputError(f"{path} is not a readable USD layer: {reason}") from error
