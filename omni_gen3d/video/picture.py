"""A picture file, brought to the model's size without stretching, and the field of view it was taken with.

The file is untrusted: its size is checked before it is decoded and every way of being broken is an ``InputError``.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps

from omni_gen3d.errors import InputError

MAX_FILE_BYTES = 512 * 2**20
MAX_PIXELS = 64_000_000
MIN_SIDE = 32
FOV_RANGE_DEG = (5.0, 160.0)

# Only decoders that run inside the process: Pillow's EPS reader, for one, starts Ghostscript.
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "PPM", "JPEG2000", "TGA")
# Diagonal of the 36 x 24 mm frame: CIPA DCG-001 defines the 35 mm equivalent focal length by equal diagonal view.
_FILM_DIAGONAL_MM = math.hypot(36.0, 24.0)
# Exif 2.3, tag FocalPlaneResolutionUnit: 2 is inch, 3 is centimetre; 4 and 5 (mm, um) are in use by cameras.
_RESOLUTION_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}


@dataclass(frozen=True)
class Picture:
    """The first frame, as the video model takes it.

    Attributes:
        rgb: sRGB in [0, 1], float32, shape ``(3, H, W)``.
        fov_x_rad: Horizontal field of view of ``rgb`` (that is, after cropping) [rad], or None when nothing tells it.
        fov_source: Where the field of view came from: the caller, the file's EXIF, or nowhere.
        sha256: Digest of the file, in hex.
        notes: Sentences on what was left out of the picture or changed in it.
    """

    rgb: torch.Tensor
    fov_x_rad: float | None
    fov_source: Literal["given", "exif"] | None
    sha256: str
    notes: tuple[str, ...] = ()


def load_picture(path: Path | str, width: int, height: int, fov_deg: float | None = None) -> Picture:
    """Read a picture: turned upright by its EXIF, centre-cropped to ``width / height`` and resized.

    Grey, palette, 16-bit and CMYK pictures become RGB, translucent ones lie over white; of an animation the first
    frame is taken.

    Args:
        path: PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, PPM, JPEG 2000 or TGA file of at most 64 megapixels.
        width: Width of the result [pixels].
        height: Height of the result [pixels].
        fov_deg: Horizontal field of view of the full picture as it is seen upright [degrees], between 5 and 160
            exclusive; None takes it from the EXIF if there.

    Raises:
        InputError: The file is missing, no regular file, too long, not a picture, broken, of too many or too few
            pixels, or ``fov_deg`` is out of range.
    """
    if fov_deg is not None and not FOV_RANGE_DEG[0] < fov_deg < FOV_RANGE_DEG[1]:
        raise InputError(
            f"the field of view is {fov_deg:g} degrees; it must lie between {FOV_RANGE_DEG[0]:g} and "
            f"{FOV_RANGE_DEG[1]:g} (horizontally, over the full picture)."
        )
    content = _read_bounded(path)
    stored, frames = _decode(content, path)
    exif = _camera_exif(stored)
    image = ImageOps.exif_transpose(stored)
    notes = [f"the picture is an animation of {frames} frames; its first frame was taken."] if frames > 1 else []

    fov_x, fov_source = (math.radians(fov_deg), "given") if fov_deg is not None else (None, None)
    if fov_x is None and (focal_px := _exif_focal_px(exif, stored.width, stored.height)) is not None:
        exif_fov = 2 * math.atan(image.width / (2 * focal_px))
        if FOV_RANGE_DEG[0] < math.degrees(exif_fov) < FOV_RANGE_DEG[1]:
            fov_x, fov_source = exif_fov, "exif"
        else:
            notes.append(f"the EXIF field of view of {math.degrees(exif_fov):.1f} degrees is implausible: not used.")

    box = centre_crop_box(image.width, image.height, width, height)
    cropped_width = box[2] - box[0]
    if cropped_width < width:
        notes.append(f"the picture is {image.width}x{image.height}; it was enlarged to fill {width}x{height}.")
    if fov_x is not None:
        fov_x = 2 * math.atan(math.tan(fov_x / 2) * cropped_width / image.width)
    resized = _over_white(image, path).resize((width, height), Image.Resampling.LANCZOS, box=box)
    rgb = torch.from_numpy(np.array(resized, dtype=np.float32) / 255).permute(2, 0, 1).contiguous()
    return Picture(rgb, fov_x, fov_source, hashlib.sha256(content).hexdigest(), tuple(notes))


def centre_crop_box(
    source_width: int, source_height: int, width: int, height: int
) -> tuple[float, float, float, float]:
    """The largest centred ``(left, top, right, bottom)`` [pixels] of the source whose aspect is ``width / height``."""
    scale = min(source_width / width, source_height / height)
    left = max(0.0, (source_width - scale * width) / 2)  # rounding may leave -1e-14
    top = max(0.0, (source_height - scale * height) / 2)
    return (left, top, source_width - left, source_height - top)


def _read_bounded(path: Path | str) -> bytes:
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder; name a picture file.")
    if not os.path.isfile(path):
        what = "is not a regular file" if os.path.exists(path) else "does not exist"
        raise InputError(f"the picture {path} {what}; name a picture file.")
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"the picture {path} cannot be read: {error.strerror or error}.") from error
    if not content:
        raise InputError(f"the picture {path} is empty (0 bytes).")
    if len(content) > MAX_FILE_BYTES:
        raise InputError(f"the picture {path} is longer than {MAX_FILE_BYTES // 2**20} MiB; save a smaller copy.")
    return content


def _decode(content: bytes, path: Path | str) -> tuple[Image.Image, int]:
    """The decoded first frame as stored, and the number of frames; the size is checked before decoding."""
    limit = f"at most {MAX_PIXELS // 10**6} megapixels are allowed; save a smaller copy"
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]  # Pillow reads AVIF since 11.3
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content), formats=formats)
    except Image.DecompressionBombError as error:
        raise InputError(f"the picture {path} is far too large; {limit}.") from error
    except Image.UnidentifiedImageError as error:
        raise InputError(f"{path} is not a picture of a known format; allowed are {', '.join(formats)}.") from error
    except Exception as error:  # a decoder fed with hostile bytes may raise anything
        raise InputError(f"the picture {path} is damaged: {_one_line(error)}.") from error
    size = f"the picture {path} is {image.width}x{image.height}"
    if image.width * image.height > MAX_PIXELS:
        raise InputError(f"{size} = {image.width * image.height / 1e6:.0f} megapixels; {limit}.")
    if min(image.width, image.height) < MIN_SIDE:
        raise InputError(f"{size}; both sides must be at least {MIN_SIDE} pixels.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
            return image, int(getattr(image, "n_frames", 1)) if getattr(image, "is_animated", False) else 1
    except Exception as error:  # as above
        raise InputError(f"the picture {path} is truncated or damaged: {_one_line(error)}.") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _camera_exif(image: Image.Image) -> Mapping[int, Any]:
    """The Exif sub-directory that describes the camera; empty where it is absent or damaged."""
    try:
        return image.getexif().get_ifd(ExifTags.IFD.Exif)
    except Exception:  # a damaged EXIF block tells nothing; the pixels are still good
        return {}


def _exif_focal_px(exif: Mapping[int, Any], width: int, height: int) -> float | None:
    """Focal length [pixels] of a stored picture of ``width x height``, assuming square pixels; None when unknown.

    First the 35 mm equivalent (0 stands for unknown), then focal length times the sensor's resolution, which counts
    the pixels of the picture as taken.
    """
    film_mm = _positive(exif.get(ExifTags.Base.FocalLengthIn35mmFilm))
    if film_mm is not None:
        return film_mm / _FILM_DIAGONAL_MM * math.hypot(width, height)
    focal_mm = _positive(exif.get(ExifTags.Base.FocalLength))
    pixels_per_unit = _positive(exif.get(ExifTags.Base.FocalPlaneXResolution))
    taken_width = _positive(exif.get(ExifTags.Base.ExifImageWidth))
    unit_mm = _RESOLUTION_UNIT_MM.get(exif.get(ExifTags.Base.FocalPlaneResolutionUnit, 2))
    if focal_mm is None or pixels_per_unit is None or taken_width is None or unit_mm is None:
        return None
    return focal_mm * pixels_per_unit / unit_mm * width / taken_width


def _positive(value: Any) -> float | None:
    """The value as a finite positive number, or None: EXIF is free to hold 0/0, text or several numbers."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _over_white(image: Image.Image, path: Path | str) -> Image.Image:
    """Eight-bit RGB of any mode; translucent pixels over white."""
    if image.mode == "F" or image.mode.startswith("I"):
        image = _to_eight_bits(image, path)
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        translucent = image.convert("RGBA")
        white = Image.new("RGBA", translucent.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, translucent).convert("RGB")
    return image.convert("RGB")


def _to_eight_bits(image: Image.Image, path: Path | str) -> Image.Image:
    """Grey of 16 bits (0 to 65535) or floats (0 to 1) to 8 bits; Pillow's own conversion would clip at 255."""
    values = np.asarray(image, dtype=np.float64)
    top = 1.0 if image.mode == "F" else 65535.0
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= top):
        raise InputError(
            f"the picture {path} holds values from {low:g} to {high:g}; allowed are 0 to {top:g}. Save it with 8 bits."
        )
    return Image.fromarray(np.rint(values * (255.0 / top)).astype(np.uint8))
