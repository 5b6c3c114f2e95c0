"""Contact sheets: rows of untrained networks, kept and made again, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from omni_gen3d.errors import InputError
from omni_gen3d.training import scenes
from omni_gen3d.training.evaluation_sheet import write_sheets

SIZE: dict[str, Any] = {"height": 16, "width": 32, "num_frames": 9}


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "PICTURE_STEPS", 2)
    monkeypatch.setattr(scenes, "VIDEO_STEPS", 2)


def test_rows_are_kept_and_sheets_hold_them(toy_weights: Path, tmp_path: Path) -> None:
    """A second run makes only what is missing, to the same bytes; a third prompt leaves the first two as they are."""
    told: list[str] = []
    (sheet,) = write_sheets(toy_weights, 2, "cpu", tmp_path, report=told.append, **SIZE)
    rows = sorted(tmp_path.glob("*.png"))
    made = [row.read_bytes() for row in rows]
    assert len(told) == len(rows) == 2 and made[0] != made[1]
    assert all(Image.open(row).size == (4 * SIZE["width"], SIZE["height"]) for row in rows)
    rows[1].unlink()
    write_sheets(toy_weights, 3, "cpu", tmp_path, report=told.append, **SIZE)
    assert len(told) == 4 and [row.read_bytes() for row in sorted(tmp_path.glob("*.png"))[:2]] == made
    shown = np.asarray(Image.open(sheet).convert("RGB"))
    assert shown.shape[1] == 4 * SIZE["width"] and (shown == 255).all(-1).any()


def test_two_sets_of_weights_share_prompts_and_noise(toy_weights: Path, tmp_path: Path) -> None:
    """The same weights beside themselves are one row, shown twice."""
    (alone,) = write_sheets(toy_weights, 1, "cpu", tmp_path / "alone", **SIZE)
    (both,) = write_sheets(toy_weights, 1, "cpu", tmp_path / "both", against=toy_weights, **SIZE)
    assert len(list((tmp_path / "both").glob("*.png"))) == 1
    added = Image.open(both).height - Image.open(alone).height
    assert SIZE["height"] < added < 2 * SIZE["height"]


def test_bad_requests_write_nothing(toy_weights: Path, tmp_path: Path) -> None:
    """Neither without weights nor without prompts."""
    with pytest.raises(InputError, match="prompts is 0"):
        write_sheets(toy_weights, 0, "cpu", tmp_path / "out")
    with pytest.raises(InputError, match="no weights"):
        write_sheets(tmp_path, 1, "cpu", tmp_path / "out", **SIZE)
    assert not (tmp_path / "out").exists()
