"""Gaussians from the files of others: 3DGS ``.ply``, SuperSplat's ``.compressed.ply`` and Niantic's ``.spz``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.splat_file.packed_ply import is_packed, read_packed_ply
from omni_gen3d.splat_file.ply import read_header, read_ply
from omni_gen3d.splat_file.raw import RawSplats
from omni_gen3d.splat_file.spz import read_spz
from omni_gen3d.types import Gaussians

SUFFIXES = (".ply", ".spz")
MAX_SH_DEGREE = 3
# exp() of anything lower is not far from the smallest float32; flat splats come as minus infinity too.
_MIN_LOG_SCALE = -46.0


def read_splat_file(path: Path | str, *, sh_degree: int | None = None) -> Gaussians:
    """Read a Gaussian-splat file in its own frame and unit.

    The file is taken as untrusted: sizes are checked against its length before anything is allocated for them.

    Args:
        path: ``.ply`` (spherical harmonics of degree 0 to 3; properties in any order and of any scalar type, unknown
            ones ignored), ``.compressed.ply`` or ``.spz`` (versions 1 to 3).
        sh_degree: Harmonics above this degree are left out; None keeps all.

    Returns:
        Linear scales [unit of the file] and opacities, unit quaternions wxyz, coefficient-major harmonics, float32.

    Raises:
        InputError: The file is missing, of another kind, truncated or empty, or holds values that are not finite.
    """
    if sh_degree is not None and not 0 <= sh_degree <= MAX_SH_DEGREE:
        raise InputError(f"the SH degree is {sh_degree}; allowed are 0 to {MAX_SH_DEGREE}.")
    file = check_splat_path(path)
    try:
        raw = _read(file, MAX_SH_DEGREE if sh_degree is None else sh_degree)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}.") from error
    return _to_gaussians(raw, file)


def check_splat_path(path: Path | str) -> Path:
    """The path of an existing file whose name says that it holds splats.

    Raises:
        InputError: There is no such file, or its name ends otherwise.
    """
    file = Path(path).expanduser()
    try:
        if not file.exists():
            raise InputError(f"{file} does not exist; name a splat file ({', '.join(SUFFIXES)}).")
        if not file.is_file():
            raise InputError(f"{file} is no regular file; name a splat file ({', '.join(SUFFIXES)}).")
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{str(path)!r} cannot be used as a path: {error}.") from error
    if file.suffix.lower() not in SUFFIXES:
        raise InputError(f"{file} is of an unknown kind '{file.suffix}'; .ply, .compressed.ply and .spz can be read.")
    return file


def _read(file: Path, sh_degree: int) -> RawSplats:
    if file.suffix.lower() == ".spz":
        return read_spz(file, sh_degree)
    header = read_header(file)
    return read_packed_ply(header, sh_degree) if is_packed(header) else read_ply(header, sh_degree)


def _to_gaussians(raw: RawSplats, file: Path) -> Gaussians:
    count = len(raw.means)
    if count == 0:
        raise InputError(f"{file} holds 0 Gaussians; at least 1 is needed.")
    with np.errstate(over="ignore"):
        scales = np.exp(np.maximum(raw.log_scales, _MIN_LOG_SCALE))
    length = np.linalg.norm(raw.quats, axis=1, keepdims=True)
    named = {
        "positions": raw.means,
        "scales": scales,
        "rotations": np.where(length > 0, raw.quats, np.nan),
        "opacities": raw.opacities,
        "colours": raw.sh,
    }
    for name, values in named.items():
        # A finite sum shows at once that all is well.
        with np.errstate(over="ignore", invalid="ignore"):
            suspicious = not np.isfinite(values.sum())
        if suspicious:
            bad = int((~np.isfinite(values.reshape(count, -1))).any(1).sum())
            if bad:
                raise InputError(
                    f"{file}: the {name} of {bad} of {count} Gaussians are not usable numbers (NaN, infinite or a "
                    "rotation of length 0). Remove these Gaussians, or export the file again."
                )
    return Gaussians(
        means=torch.from_numpy(raw.means),
        quats=torch.from_numpy(raw.quats / length),
        scales=torch.from_numpy(scales),
        opacities=torch.from_numpy(raw.opacities),
        sh=torch.from_numpy(raw.sh),
    )
