"""Films of any kind become frames at even times; what is broken is one clear error."""

from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from omni_gen3d.errors import InputError
from omni_gen3d.video.clip import load_clip

SIZE = (64, 48)


def grey(level: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.full((size[1], size[0], 3), level, np.uint8)


def write_film(path: Path, levels: list[int], stamps_ms: list[int], codec: str = "libx264", size=SIZE) -> Path:
    """Plain grey frames, each shown from its time on."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=1000, options={"crf": "10"} if codec.startswith("lib") else {})
        stream.width, stream.height, stream.pix_fmt = *size, "rgb8" if codec == "gif" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100 if codec == "gif" else 1000)
        for level, stamp in zip(levels, stamps_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(grey(level, size), format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def levels_of(frames: np.ndarray) -> list[int]:
    return [round(float(frame.mean())) for frame in frames]


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.webm", "libvpx-vp9"), ("a.mkv", "mpeg4")])
def test_frames_are_taken_by_their_times(tmp_path: Path, name: str, codec: str):
    """Of ten frames a second every fifth at two a second, in any container; the digest is the file's."""
    film = write_film(tmp_path / name, [20 + 5 * i for i in range(40)], [100 * i for i in range(40)], codec)
    clip = load_clip(film, 32, 24, times=6, frames_per_second=2, fov_deg=60)
    assert clip.frames.shape == (6, 24, 32, 3) and clip.frames_per_second == 2
    np.testing.assert_allclose(levels_of(clip.frames), [20, 45, 70, 95, 120, 145], atol=4)
    assert clip.fov_x_rad is not None and math.degrees(clip.fov_x_rad) == pytest.approx(60)
    assert "first 2.50 s" in clip.notes[0]
    assert load_clip(film, 32, 24, times=6, frames_per_second=2).sha256 == clip.sha256


def test_a_rate_that_changes(tmp_path: Path):
    """Frames at 0, 0.1, 0.2, 1.0 and 3.0 s, one a second: what is shown at 0, 1, 2 and 3 s."""
    film = write_film(tmp_path / "a.mp4", [40, 80, 120, 160, 200], [0, 100, 200, 1000, 3000])
    clip = load_clip(film, 32, 24, times=4, frames_per_second=1)
    np.testing.assert_allclose(levels_of(clip.frames), [40, 160, 160, 200], atol=4)


def test_an_animated_gif(tmp_path: Path):
    """A gif whose frames last 0.1 and 0.3 s, at ten a second."""
    pictures = [Image.fromarray(grey(level)) for level in (0, 255, 0)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=[100, 300, 100], loop=0)
    clip = load_clip(tmp_path / "a.gif", 32, 24, times=5, frames_per_second=10)
    assert levels_of(clip.frames) == [0, 255, 255, 255, 0]


def test_a_short_film_fills_the_window(tmp_path: Path):
    """Half a second is taken at the pace that gives 17 times, by default; 8 a second are kept where they are asked
    for."""
    film = write_film(tmp_path / "a.mp4", [10 * i for i in range(20)], [25 * i for i in range(20)])
    clip = load_clip(film, 32, 24)
    assert len(clip) == 17 and clip.frames_per_second == pytest.approx(16 / 0.475, rel=0.1)
    assert levels_of(clip.frames)[0] < 5 and levels_of(clip.frames)[-1] > 165
    asked = load_clip(film, 32, 24, frames_per_second=8)
    assert len(asked) == 4 and "lasts 0.50 s: 4 times at 8 a second" in asked.notes[0]


def test_windows_repeat_the_last_frame(tmp_path: Path):
    """A window that runs past the end holds the last frame; values lie in [-1, 1]."""
    film = write_film(tmp_path / "a.mp4", [0, 120, 255], [0, 1000, 2000])
    window = load_clip(film, 32, 24, frames_per_second=1).window(1, 4)
    assert window.shape == (3, 4, 24, 32)
    np.testing.assert_allclose(window.mean((0, 2, 3)).numpy(), [-0.06, 1, 1, 1], atol=0.05)


def test_a_folder_of_pictures(tmp_path: Path):
    """Pictures in the order of their numbers, one a time, whatever their size; other files do not matter."""
    for i in range(12):
        Image.fromarray(grey(10 * i, (80 + i, 60))).save(tmp_path / f"frame{i}.png")
    (tmp_path / "readme.txt").write_text("no picture")
    clip = load_clip(tmp_path, 32, 24, times=11, frames_per_second=5)
    assert levels_of(clip.frames) == [10 * i for i in range(11)] and clip.frames_per_second == 5
    assert "first 11" in clip.notes[0]


def test_the_picture_is_cropped_not_stretched(tmp_path: Path):
    """Of a wide film the middle is taken, and the field of view is that of the middle."""
    wide = write_film(tmp_path / "a.mp4", [50, 60], [0, 1000], size=(128, 48))
    clip = load_clip(wide, 32, 24, frames_per_second=1, fov_deg=90)
    assert clip.fov_x_rad == pytest.approx(2 * math.atan(0.5), abs=1e-6)


def only_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        frame.sample_rate = 16000
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def truncated(path: Path) -> Path:
    whole = write_film(path.with_name("whole.mp4"), [20] * 20, [100 * i for i in range(20)]).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def playlist(path: Path) -> Path:
    """A file that asks FFmpeg to open another one."""
    write_film(path.with_name("secret.mp4"), [20, 30], [0, 1000])
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{path.with_name('secret.mp4')}\n#EXT-X-ENDLIST\n")
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


BROKEN = {
    "missing": (lambda d: d / "none.mp4", "does not exist"),
    "empty": (lambda d: written(d / "a.mp4", b""), "0 bytes"),
    "text": (lambda d: written(d / "a.mp4", b"this is no film " * 99), "damaged or of no known kind"),
    "truncated": (lambda d: truncated(d / "a.mp4"), "damaged or of no known kind"),
    "sound": (lambda d: only_sound(d / "a.mp4"), "only sound"),
    "one frame": (lambda d: write_film(d / "a.mp4", [9], [0]), "single frame"),
    "tiny": (lambda d: write_film(d / "a.mp4", [9, 9], [0, 1000], size=(16, 16)), "at least 32 pixels"),
    "playlist": (lambda d: playlist(d / "a.m3u8"), "damaged or of no known kind"),
    "empty folder": (lambda d: d, "holds 0 pictures"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_broken_is_one_error(tmp_path: Path, kind: str):
    """Each is an InputError that says what was wrong."""
    make, message = BROKEN[kind]
    with pytest.raises(InputError, match=message):
        load_clip(make(tmp_path), 32, 24)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"times": 1}, "times is 1"),
        ({"times": 9999}, "times is 9999"),
        ({"frames_per_second": 0.0}, "frames per second are 0"),
        ({"frames_per_second": math.nan}, "frames per second are nan"),
        ({"fov_deg": 170.0}, "field of view is 170"),
    ],
)
def test_arguments_out_of_range(tmp_path: Path, arguments: dict, message: str):
    """Refused before the file is looked at."""
    with pytest.raises(InputError, match=message):
        load_clip(tmp_path / "none.mp4", 32, 24, **arguments)


def test_memory_does_not_grow_with_the_film(tmp_path: Path):
    """A hundred and fifty frames of 640 x 360 take no more than thirty do, beside the small ones that are kept; whole
    they would take 83 MB more."""
    peaks = []
    for count in (30, 150):
        stamps = [125 * i for i in range(count)]
        film = write_film(tmp_path / f"{count}.mp4", [i for i in range(count)], stamps, "mpeg4", (640, 360))
        code = (
            "import resource; from omni_gen3d.video.clip import load_clip; "
            f"clip = load_clip({str(film)!r}, 320, 176, times=150); clip.frames.shape; del clip; "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        peaks.append(int(subprocess.check_output([sys.executable, "-c", code], text=True)))
    # What is kept are 120 small frames more, twice while they are stacked.
    assert peaks[1] - peaks[0] < 30_000 + 2 * 120 * 169


def test_a_film_of_8k(tmp_path: Path):
    """Three frames of 7680 x 4320 are taken like any, and cost less than a gigabyte."""
    film = write_film(tmp_path / "a.mp4", [40, 120, 200], [0, 1000, 2000], "mpeg4", (7680, 4320))
    # Not getrusage's peak: that begins with what this process held when it made the film.
    code = (
        "import re; from omni_gen3d.video.clip import load_clip; "
        f"clip = load_clip({str(film)!r}, 320, 176, frames_per_second=1, fov_deg=60); "
        "peak = int(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1]); "
        "print(clip.frames.shape, [round(float(frame.mean()), -1) for frame in clip.frames], peak)"
    )
    told = subprocess.check_output([sys.executable, "-c", code], text=True).strip()
    assert told.startswith("(3, 176, 320, 3) [40.0, 120.0, 200.0] ")
    assert int(told.split()[-1]) < 1_000_000
