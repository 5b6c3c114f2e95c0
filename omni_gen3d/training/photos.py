"""Real photographs with depth that was measured: scikit-image's garage, and rectified pairs from a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from omni_gen3d.errors import InputError
from omni_gen3d.geometry import intrinsics_from_focal
from omni_gen3d.training.stereo import match
from omni_gen3d.video.picture import centre_crop_box

# Calibration of scikit-image's stereo_motorcycle, Middlebury 2014 (Scharstein et al. 2014), reduced as it is there.
_GARAGE_FOCAL_PX, _GARAGE_BASELINE_M, _GARAGE_OFFSET_PX = 994.978, 0.193001, 31.086
_CALIBRATION = "stereodemo_calibration.json"
_NEAREST_M = 0.5  # that is looked for in a pair


@dataclass(frozen=True)
class Photo:
    """A photograph at the size that the networks see.

    Attributes:
        name: What it shows.
        rgb: sRGB in [0, 1], shape ``(3, H, W)``.
        intrinsics: With the principal point at the centre, as it is for any photograph, shape ``(3, 3)``.
        depth: Along z [m], NaN where it was not measured, shape ``(H, W)``.
        other: What a second camera saw, ``baseline_m`` to the right, shape ``(3, H, W)``.
        other_intrinsics: Shape ``(3, 3)``.
        baseline_m: [m].
    """

    name: str
    rgb: torch.Tensor
    intrinsics: torch.Tensor
    depth: torch.Tensor
    other: torch.Tensor
    other_intrinsics: torch.Tensor
    baseline_m: float


def garage(width: int, height: int) -> Photo:
    """The motorcycle in its garage: the one colour photograph with dense measured depth that comes with a package."""
    import skimage.data

    left, right, disparity = skimage.data.stereo_motorcycle()
    depth = (
        _GARAGE_FOCAL_PX
        * _GARAGE_BASELINE_M
        / (np.where(np.isfinite(disparity), disparity, np.nan) + _GARAGE_OFFSET_PX)
    )
    return _photo(
        "garage", left, right, depth, _GARAGE_FOCAL_PX, _GARAGE_OFFSET_PX, _GARAGE_BASELINE_M, (width, height)
    )


def pairs(folder: Path, width: int, height: int) -> list[Photo]:
    """The pairs ``NAME_left.png`` and ``NAME_right.png`` of a folder, in the layout of stereodemo, by name.

    Their depth is measured by ``stereo.match``.

    Raises:
        InputError: There is no calibration or no pair, or a file cannot be read.
    """
    calibration = folder / _CALIBRATION
    try:
        values = json.loads(calibration.read_text())
        focal, offset, baseline = (
            float(values["fx"]),
            float(values["cx1"]) - float(values["cx0"]),
            float(values["baseline_meters"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{calibration} cannot be read ({error}); give a folder that 'train fetch-assets' wrote."
        ) from error
    found = sorted(folder.glob("*_left.png"))
    if not found:
        raise InputError(f"{folder} holds no pair NAME_left.png, NAME_right.png.")
    photos = []
    for path in found:
        left, right = (
            _read(path.with_name(path.name.replace("_left.png", f"_{side}.png"))) for side in ("left", "right")
        )
        grey = [np.asarray(Image.fromarray(view).convert("L"), np.float32) / 255 for view in (left, right)]
        disparity = match(grey[0], grey[1], int(focal * baseline / _NEAREST_M)) + offset
        depth = focal * baseline / np.where(disparity > 0, disparity, np.nan)
        photos.append(
            _photo(path.name.removesuffix("_left.png"), left, right, depth, focal, offset, baseline, (width, height))
        )
    return photos


def _read(path: Path) -> np.ndarray:
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read ({error}).") from error


def _photo(
    name: str,
    left: np.ndarray,
    right: np.ndarray,
    depth: np.ndarray,
    focal_px: float,
    offset_px: float,
    baseline_m: float,
    size: tuple[int, int],
) -> Photo:
    """Crop and resize as ``load_picture`` does; depth is taken at the pixel centres, never mixed across edges."""
    width, height = size
    rows, columns = depth.shape
    box = centre_crop_box(columns, rows, width, height)
    scale = width / (box[2] - box[0])
    y = (box[1] + (np.arange(height) + 0.5) / scale).astype(int).clip(0, rows - 1)
    x = (box[0] + (np.arange(width) + 0.5) / scale).astype(int).clip(0, columns - 1)
    intrinsics = intrinsics_from_focal(focal_px * scale, width, height)
    other = intrinsics.clone()
    other[0, 2] += offset_px * scale
    pictures = [
        torch.from_numpy(
            np.array(Image.fromarray(view).resize(size, Image.Resampling.LANCZOS, box=box), np.float32) / 255
        )
        for view in (left, right)
    ]
    rgb, beside = (picture.permute(2, 0, 1).contiguous() for picture in pictures)
    return Photo(name, rgb, intrinsics, torch.from_numpy(depth[y][:, x].astype(np.float32)), beside, other, baseline_m)
