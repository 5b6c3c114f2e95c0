"""The benchmark of films: its film is one, its checks follow the runs, and what fails is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omni_gen3d.bench import film
from omni_gen3d.errors import OmniGen3DError
from omni_gen3d.video.clip import load_clip
from omni_gen3d.video.steadiness import find_steadiness


def test_its_film_moves_before_a_still_camera(tmp_path: Path) -> None:
    """Twenty frames are twenty times, the camera stands, and the board is elsewhere at the end."""
    clip = load_clip(film.write_film(tmp_path / "board.mp4", 20), 320, 176, times=20)
    assert len(clip) == 20
    steadiness = find_steadiness(clip.frames)
    assert steadiness.is_known and steadiness.is_still
    assert (np.abs(clip.frames[0].astype(int) - clip.frames[-1]).max(-1) > 60).mean() > 0.05


def test_checks_follow_the_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Seconds and bytes are those of the short run, memory is that of the long one; a figure over its bound fails."""

    def measured(_film: Path, times: int, _out: Path) -> dict[str, Any]:
        return {"times": times, "seconds": 10.0 * times, "peak_gb": times / 100, "usd_mb": 3.0, "usd_ratio": 4.5}

    monkeypatch.setattr(film, "_measured", measured)
    report = film.bench_film(tmp_path / "a.mp4", 300, report=lambda _: None)
    assert [(check.value, check.ok) for check in report.checks] == [(170.0, True), (4.5, False), (3.0, True)]


def test_a_run_that_fails_is_told(tmp_path: Path) -> None:
    """The command's own last line is in the error."""
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(OmniGen3DError, match=r"times 17 failed.*0 bytes"):
        film.bench_film(tmp_path / "a.mp4", 20, report=lambda _: None)
