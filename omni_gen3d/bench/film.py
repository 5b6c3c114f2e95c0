"""What a film costs: seconds of 17 times, bytes beside what stands still, and the memory of 300 times."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from omni_gen3d.bench.report import Check, Report, Value, cpu_name
from omni_gen3d.errors import OmniGen3DError

TIMES, LONG_TIMES = 17, 300
MAX_SECONDS, MAX_USD_RATIO, MAX_PEAK_GB = 180.0, 4.0, 6.0
_WIDTH, _HEIGHT, _FRAMES_PER_SECOND = 640, 360, 8
# How the names of layers begin that would not be there if nothing moved.
_MOVING_LAYERS = ("moving", "residual")


def bench_film(video: Path | None, long_times: int, *, report: Callable[[str], None] = print) -> Report:
    """Make environments of a film, each by the whole command in a process of its own.

    Columns: ``times`` of the scene; ``seconds`` and ``peak_gb`` of the command; ``usd_mb`` of all layers;
    ``usd_ratio``: that over the bytes of the layers that would be there if nothing moved.

    Args:
        video: The film; None for one of a board that passes before a wall, made here.
        long_times: How many times of the second, long run.
        report: Told what is being done.

    Raises:
        OmniGen3DError: The command fails.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        film = video or write_film(folder / "board.mp4", long_times)
        rows = []
        for times in (TIMES, long_times):
            report(f"{times} times of {film.name} ...")
            row = _measured(film, times, folder / f"env{times}")
            report(", ".join(f"{name} {value}" for name, value in row.items()))
            rows.append(row)
    short, long = rows
    return Report(
        cpu_name(),
        rows,
        [
            Check(f"{TIMES} times [s]", _number(short["seconds"]), "<=", MAX_SECONDS),
            Check(f"USD of {TIMES} times over its static part", _number(short["usd_ratio"]), "<=", MAX_USD_RATIO),
            Check(f"peak memory of {long_times} times [GB]", _number(long["peak_gb"]), "<=", MAX_PEAK_GB),
        ],
    )


def write_film(path: Path, times: int) -> Path:
    """A board that passes to and fro before a wall of coloured noise, eight frames a second, as H.264."""
    import av

    rng = np.random.default_rng(0)
    wall = np.kron(rng.uniform(60, 200, (_HEIGHT // 20, _WIDTH // 20, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    board = np.kron(rng.uniform(0, 255, (7, 5, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=_FRAMES_PER_SECOND, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        for index in range(times):
            left = 40 + int(abs((8 * index) % 800 - 400))
            frame = wall.copy()
            frame[180:320, left : left + 100] = board
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def _measured(film: Path, times: int, out: Path) -> dict[str, Value]:
    words = [sys.executable, "-c", "from omni_gen3d.cli import main; main()", "generate", "--video", str(film)]
    words += ["--times", str(times), "--out", str(out), "--device", "cpu", "--json"]
    began = time.perf_counter()
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as result:
        process = subprocess.Popen(words, stdout=result, stderr=told)
        # What this one process held: other children do not count.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            told.seek(0)
            last = told.read().decode(errors="replace").strip().splitlines()[-1:]
            raise OmniGen3DError(f"generate --video {film} --times {times} failed: {' '.join(last)}")
    layers = {path.name: path.stat().st_size for path in out.glob("*.usd*")}
    everything = sum(layers.values())
    static = sum(size for name, size in layers.items() if not name.startswith(_MOVING_LAYERS))
    return {
        "times": times,
        "seconds": round(seconds, 1),
        "peak_gb": round(usage.ru_maxrss * 1024 / 1e9, 2),
        "usd_mb": round(everything / 1e6, 2),
        "usd_ratio": round(everything / static, 2),
    }


def _number(value: Value) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
