"""A film of a stage: a camera that travels through space while time passes, or stands still, as an mp4 file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation, Slerp

from omni_gen3d.errors import CancelledError, InputError
from omni_gen3d.render.delegate import SplatRenderDelegate
from omni_gen3d.render.picture import color_to_image
from omni_gen3d.types import Cameras
from omni_gen3d.usd.appearance import Appearance
from omni_gen3d.usd.root_layer import select_variants
from omni_gen3d.usd.stage import open_stage, timespan
from omni_gen3d.usd.target import ROOT_NAME

# A scene that stands still is filmed for so long; nothing for longer than this.
_STANDING_S, _MAX_SECONDS = 4.0, 600.0
# Of x264: pictures that look alike at a few hundred kilobytes a second.
_QUALITY = {"crf": "18", "preset": "medium"}


def travel(start: Cameras, end: Cameras, count: int) -> Cameras:
    """Cameras on the way from one to another, evenly in place, turn and lens; ``count`` of them, both ends included."""
    share = np.linspace(0, 1, count) if count > 1 else np.zeros(1)
    both = torch.cat([start.camera_to_world, end.camera_to_world]).double().numpy()
    turns = Slerp([0, 1], Rotation.from_matrix(both[:, :3, :3]))(share).as_matrix()
    places = both[0, :3, 3] + share[:, None] * (both[1, :3, 3] - both[0, :3, 3])
    lenses = start.intrinsics + torch.from_numpy(share)[:, None, None] * (end.intrinsics - start.intrinsics)
    camera_to_world = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    camera_to_world[:, :3, :3], camera_to_world[:, :3, 3] = torch.from_numpy(turns), torch.from_numpy(places)
    return replace(
        start,
        world_to_camera=torch.linalg.inv(camera_to_world).to(start.world_to_camera),
        intrinsics=lenses.to(start.intrinsics),
    )


def film_environment(
    folder: Path,
    path_of_camera: tuple[Cameras, Cameras],
    path: Path,
    *,
    time: float | None = None,
    appearance: Appearance | None = None,
    seconds: float | None = None,
    frames_per_second: float = 24.0,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Film an environment, over white; the file is written whole or not at all.

    Args:
        folder: The environment; its files are as its manifest says.
        path_of_camera: Where the camera is at first and in the end, of the same even width and height.
        path: An mp4 file in an existing folder.
        time: The time that is shown throughout; None plays from the first to the last.
        appearance: Variant of the look, the selected one where None.
        seconds: Length; None is that of the scene, 4 s where it stands still.
        frames_per_second: 1 to 240.
        progress: Called with the finished share.
        cancelled: Polled between pictures.

    Raises:
        InputError: A value is out of range, or the file cannot be written.
        CancelledError: ``cancelled`` returned True; nothing was written.
    """
    stage = open_stage(folder / ROOT_NAME)
    select_variants(stage, appearance=appearance)
    first, last = timespan(stage)
    length = seconds or (((last - first) / stage.GetTimeCodesPerSecond() if time is None else 0.0) or _STANDING_S)
    if not (0 < length <= _MAX_SECONDS and 1 <= frames_per_second <= 240):
        raise InputError(
            f"a film of {length:g} s at {frames_per_second:g} pictures a second was asked for; allowed are up to "
            f"{_MAX_SECONDS:g} s at 1 to 240."
        )
    count = max(2, round(length * frames_per_second))
    cameras = travel(*path_of_camera, count)
    codes = np.full(count, time) if time is not None else np.linspace(first, last, count)

    def pictures() -> Iterator[np.ndarray]:
        with SplatRenderDelegate(stage) as delegate:
            for i, code in enumerate(codes.tolist()):
                if cancelled is not None and cancelled():
                    raise CancelledError("cancelled while the film was drawn; nothing was written.")
                frame = delegate.render(cameras[[i]], time=code, aovs=("color",), background=(1.0, 1.0, 1.0))
                yield color_to_image(torch.as_tensor(frame.aovs["color"][0]))
                if progress is not None:
                    progress((i + 1) / count)

    write_film(pictures(), path, frames_per_second)


def write_film(pictures: Iterable[np.ndarray], path: Path, frames_per_second: float) -> None:
    """Write pictures, uint8 ``(H, W, 3)`` of even sides, as H.264 in an mp4 file, whole or not at all.

    Raises:
        InputError: The file cannot be written, or a side is odd.
    """
    import av

    staging = path.with_name(f".{path.name}.{os.getpid()}.mp4")
    try:
        with av.open(str(staging), mode="w") as container:
            rate = Fraction(frames_per_second).limit_denominator(1001)
            stream: Any = container.add_stream("libx264", rate=rate, options=_QUALITY)
            stream.pix_fmt = "yuv420p"
            # The same film has the same bytes, however many cores drew it.
            stream.codec_context.thread_count = 1
            for number, picture in enumerate(pictures):
                height, width = picture.shape[:2]
                if width % 2 or height % 2:
                    raise InputError(f"a film of {width}x{height} cannot be written; both sides must be even.")
                if number == 0:
                    stream.width, stream.height = width, height
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        staging.replace(path)
    except (OSError, av.FFmpegError) as error:
        raise InputError(f"'{path}' cannot be written: {' '.join(str(error).split())}.") from error
    finally:
        staging.unlink(missing_ok=True)
