"""A film, brought to the model's size and pace: frames at even times, whatever the rate of the file or its changes.

Frames are decoded one after the other, and only those that are wanted are kept, small: the length and the size of a
film cost time, not memory. The file is untrusted: containers that could name other files are refused, and every way of
being broken is an ``InputError``.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from omni_gen3d.errors import InputError
from omni_gen3d.video.picture import FOV_RANGE_DEG, MIN_SIDE, centre_crop_box, load_picture

DEFAULT_FPS = 8.0
FPS_RANGE = (0.1, 120.0)
# A film of five minutes at the default pace; each window of 16 costs as much as a scene.
MAX_TIMES = 2401
MAX_PIXELS = 64_000_000
# Times of the model's window, and sides in the wanted size that are left for the last, good resampling.
_WINDOW, _SPARE = 17, 2
# What files hold that people film, edit and send; no playlists, which would make FFmpeg open what they name.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,ogg,flv,asf,ivf,h264,hevc,yuv4mpegpipe"
)
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".pgm")


@dataclass(frozen=True)
class Clip:
    """Frames of a film at even times.

    Attributes:
        frames: sRGB, uint8, shape ``(N, H, W, 3)``.
        frames_per_second: Of these frames; frame i was filmed ``i / frames_per_second`` after the first [s].
        fov_x_rad: Horizontal field of view after cropping [rad], None when nothing tells it.
        sha256: Digest of the file, or of the pictures of a folder one after the other, in hex.
        notes: Sentences on what was left out or changed.
    """

    frames: np.ndarray
    frames_per_second: float
    fov_x_rad: float | None
    sha256: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def seconds(self) -> np.ndarray:
        """When each frame was filmed after the first [s], shape ``(N,)``."""
        return np.arange(len(self)) / self.frames_per_second

    def window(self, start: int, length: int) -> torch.Tensor:
        """Frames from ``start`` on in [-1, 1], the last one repeated where the film ends, ``(3, length, H, W)``."""
        chosen = np.minimum(np.arange(start, start + length), len(self.frames) - 1)
        pixels = torch.from_numpy(self.frames[chosen].astype(np.float32))
        return (pixels / 127.5 - 1).permute(3, 0, 1, 2).contiguous()


@dataclass(frozen=True)
class _Found:
    """What was taken of a film.

    Attributes:
        frames: At even times.
        share: Of the width that is left.
        last: When the last frame that was looked at begins [s since the first].
        length: When it ends [s since the first].
        goes_on: Whether more was left unread.
    """

    frames: list[np.ndarray]
    share: float
    last: float
    length: float
    goes_on: bool


@dataclass(frozen=True)
class _Shot:
    """A decoded frame (``av.VideoFrame``), when it is shown [s], and the width of its pixels in their height."""

    seconds: float
    frame: Any
    pixel_aspect: float


def load_clip(
    path: Path | str,
    width: int,
    height: int,
    *,
    times: int = 17,
    frames_per_second: float | None = None,
    fov_deg: float | None = None,
) -> Clip:
    """Read the beginning of a film: turned upright, centre-cropped to ``width / height``, resized.

    Args:
        path: An mp4, webm, mkv, mov, avi, gif or similar file, or a folder of pictures in the order of their names,
            numbers by value.
        width: Of the result [pixels].
        height: Of the result [pixels].
        times: How many frames are wanted at most, 2 to 2401.
        frames_per_second: Frames taken of a second of the film, 0.1 to 120; of a folder, the rate of its pictures,
            each of which is taken. By default 8; a film that is too short for 17 of them is taken at the pace that
            gives 17.
        fov_deg: Horizontal field of view of the full, upright picture [degrees]; None where it is unknown.

    Raises:
        InputError: An argument is out of range; the file is missing, empty, broken, of another kind, or holds only
            sound or a single frame; or a frame is too large or too small.
    """
    _check(times, frames_per_second, fov_deg)
    path = Path(path)
    if path.is_dir():
        return _from_folder(path, width, height, times, frames_per_second or DEFAULT_FPS, fov_deg)
    digest = _digest(path)
    pace = frames_per_second or DEFAULT_FPS
    found = _sampled(path, width, height, times, pace)
    few = min(times, _WINDOW)
    if len(found.frames) < few and frames_per_second is None and found.last > 0:
        pace = (few - 1) / found.last
        found = _sampled(path, width, height, times, pace)
    if found.last == 0:
        raise InputError(f"{path} holds a single frame; a film needs at least 2. Give a picture with --image.")
    count = len(found.frames)
    if count < 2:
        raise InputError(f"{path} lasts {found.length:.3g} s; at {pace:.4g} a second that is one time. Raise --fps.")
    notes = []
    if count < times:
        notes.append(f"the film lasts {found.length:.2f} s: {count} times at {pace:.4g} a second.")
    elif found.goes_on:
        notes.append(f"of the film the first {(times - 1) / pace:.2f} s were taken; ask for more times to have more.")
    return Clip(np.stack(found.frames), pace, _cropped_fov(fov_deg, found.share), digest, tuple(notes))


def _check(times: int, frames_per_second: float | None, fov_deg: float | None) -> None:
    if not 2 <= times <= MAX_TIMES:
        raise InputError(f"the number of times is {times}; it must lie between 2 and {MAX_TIMES}.")
    low, high = FPS_RANGE
    if frames_per_second is not None and not low <= frames_per_second <= high:
        raise InputError(
            f"the frames per second are {frames_per_second:g}; they must lie between {low:g} and {high:g}."
        )
    low, high = FOV_RANGE_DEG
    if fov_deg is not None and not low < fov_deg < high:
        raise InputError(f"the field of view is {fov_deg:g} degrees; it must lie between {low:g} and {high:g}.")


def _digest(path: Path) -> str:
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "does not exist"
        raise InputError(f"the film {path} {what}; name a video file or a folder of pictures.")
    try:
        if path.stat().st_size == 0:
            raise InputError(f"the film {path} is empty (0 bytes).")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"the film {path} cannot be read: {error.strerror or error}.") from error


def _sampled(path: Path, width: int, height: int, times: int, pace: float) -> _Found:
    """Frames at even times; each is shown until the next one, and the last as long as the one before it."""
    frames: list[np.ndarray] = []
    share, first, step = 1.0, 0.0, 0.0
    shot: _Shot | None = None
    for following in _shots(path):
        if shot is None:
            first = following.seconds
        else:
            step = following.seconds - shot.seconds
            frames, share = _with(frames, share, shot, following.seconds - first, times, pace, (width, height))
        shot = following
        if len(frames) == times:
            return _Found(frames, share, following.seconds - first, following.seconds - first + step, goes_on=True)
    if shot is None:
        raise InputError(f"the film {path} holds no frame.")
    last = shot.seconds - first
    frames, share = _with(frames, share, shot, last + step, times, pace, (width, height))
    return _Found(frames, share, last, last + step, goes_on=False)


def _with(
    frames: list[np.ndarray], share: float, shot: _Shot, until: float, times: int, pace: float, size: tuple[int, int]
) -> tuple[list[np.ndarray], float]:
    """The frames and this one, once for each wanted time before ``until`` [s since the first]."""
    # A hair of tolerance: 0.125 s at 8 a second is the time of frame 1, and not just past it.
    wanted = min(math.ceil(until * pace - 1e-6), times) - len(frames)
    if wanted <= 0:
        return frames, share
    pixels, share = _resized(shot, *size)
    return [*frames, *[pixels] * wanted], share


def _resized(shot: _Shot, width: int, height: int) -> tuple[np.ndarray, float]:
    frame, aspect = shot.frame, shot.pixel_aspect
    # Most of the way by the decoder's own scaler: a frame of 8K is a hundred megabytes as a picture.
    shrink = max(1, int(min(frame.width / width, frame.height / height) / _SPARE))
    image = frame.to_image(width=frame.width // shrink, height=frame.height // shrink, interpolation="AREA")
    if shot.frame.rotation:
        image = image.rotate(shot.frame.rotation, expand=True)
        aspect = aspect if shot.frame.rotation % 180 == 0 else 1 / aspect
    left, top, right, bottom = centre_crop_box(round(image.width * aspect), image.height, width, height)
    box = (left / aspect, top, min(right / aspect, image.width), bottom)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS, box=box))
    return pixels, (box[2] - box[0]) / image.width


def _shots(path: Path) -> Iterator[_Shot]:
    """The frames of a file in the order in which they are shown."""
    import av

    # Only the file itself: no network, no other file.
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    try:
        with path.open("rb") as file, av.open(file, mode="r", options=options) as container:
            if not container.streams.video:
                what = "only sound" if container.streams.audio else "nothing to be seen"
                raise InputError(f"{path} holds {what}; a film is needed.")
            stream = container.streams.video[0]
            # Each thread holds frames of its own.
            stream.thread_type, stream.codec_context.thread_count = "AUTO", 4
            _check_size(path, stream.codec_context.width, stream.codec_context.height)
            seconds = -math.inf
            rate = float(stream.average_rate or 25)
            for frame in container.decode(stream):
                _check_size(path, frame.width, frame.height)
                stamp = frame.time if frame.time is not None else (seconds + 1 / rate if seconds > -math.inf else 0.0)
                # A stamp that goes back is an edit; the frame follows the one before.
                seconds = stamp if stamp > seconds else seconds + 1 / rate
                yield _Shot(seconds, frame, float(stream.sample_aspect_ratio or 1) or 1.0)
    except av.FFmpegError as error:
        reason = " ".join(str(error.strerror or error).split())
        raise InputError(f"the film {path} is damaged or of no known kind: {reason}.") from error
    except (OSError, ValueError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the film {path} cannot be read: {' '.join(str(error).split())}.") from error


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS or 0 < min(width, height) < MIN_SIDE:
        raise InputError(
            f"the film {path} is {width}x{height}; both sides must be at least {MIN_SIDE} pixels, and a frame at most "
            f"{MAX_PIXELS // 10**6} megapixels."
        )


def _from_folder(path: Path, width: int, height: int, times: int, pace: float, fov_deg: float | None) -> Clip:
    names = sorted((name for name in os.listdir(path) if name.lower().endswith(_PICTURES)), key=_by_number)
    if len(names) < 2:
        raise InputError(f"the folder {path} holds {len(names)} pictures; a film needs at least 2.")
    pictures = [load_picture(path / name, width, height, fov_deg) for name in names[:times]]
    frames = [np.rint(picture.rgb.permute(1, 2, 0).numpy() * 255).astype(np.uint8) for picture in pictures]
    digest = hashlib.sha256("".join(picture.sha256 for picture in pictures).encode()).hexdigest()
    left = len(names) - len(frames)
    notes = [f"of the folder's {len(names)} pictures the first {len(frames)} were taken."] if left else []
    return Clip(np.stack(frames), pace, pictures[0].fov_x_rad, digest, tuple(notes))


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sorts frame9 before frame10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _cropped_fov(fov_deg: float | None, share: float) -> float | None:
    return None if fov_deg is None else 2 * math.atan(math.tan(math.radians(fov_deg) / 2) * share)
