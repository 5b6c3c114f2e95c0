"""Real photographs: the garage as it is measured, stereo against its truth, scores against their definition."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from omni_gen3d.errors import InputError
from omni_gen3d.training import scenes
from omni_gen3d.training.evaluation_photos import evaluate_photos
from omni_gen3d.training.photos import Photo, garage, pairs
from omni_gen3d.training.stereo import match

SIZE = (64, 32)


@pytest.fixture(scope="module")
def photo() -> Photo:
    return garage(320, 176)


def test_the_garage_is_as_deep_as_it_is(photo: Photo) -> None:
    """Its depth and lens are those of its calibration: 2.8 m in the middle, 41 degrees wide."""
    known = photo.depth[photo.depth.isfinite()]
    assert 2.6 < known.median() < 2.9 and 2 < known.min() < 2.4 and known.max() < 6
    assert np.degrees(2 * np.arctan(160 / float(photo.intrinsics[0, 0]))) == pytest.approx(40.85, abs=0.02)


def test_the_second_camera_sees_what_depth_and_baseline_say(photo: Photo) -> None:
    """Pixels of the right picture, looked up where the left one's depth puts them, have the left one's colours."""
    height, width = photo.depth.shape
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    lens, other = photo.intrinsics, photo.other_intrinsics
    there = (column + 0.5 - lens[0, 2]) / lens[0, 0] * photo.depth - photo.baseline_m
    at = other[0, 0] * there / photo.depth + other[0, 2] - 0.5
    valid = photo.depth.isfinite() & (at >= 0) & (at <= width - 1)
    looked_up = photo.other[:, row[valid], at[valid].round().long()]
    error = (looked_up - photo.rgb[:, valid]).abs().mean()
    unmoved = (photo.other[:, valid] - photo.rgb[:, valid]).abs().mean()
    assert error < 0.06 and error < unmoved / 2


def test_stereo_finds_the_garage_s_disparity() -> None:
    """Over half of the pixels are sure, and nine in ten of them right to 1.5 pixels."""
    import skimage.data

    left, right, disparity = skimage.data.stereo_motorcycle()
    small = (247, 166)
    grey = [np.asarray(Image.fromarray(view).convert("L").resize(small), np.float32) / 255 for view in (left, right)]
    true = np.asarray(Image.fromarray(disparity).resize(small, Image.Resampling.NEAREST)) / 3
    found = match(grey[0], grey[1], 30)
    both = np.isfinite(found) & np.isfinite(true)
    assert both.mean() > 0.5
    assert (np.abs(found - true)[both] < 1.5).mean() > 0.9


def _write_pair(folder: Path) -> None:
    """A textured wall 2 m away, seen by cameras 10 cm apart: a disparity of 5 pixels."""
    rng = np.random.default_rng(0)
    wall = rng.integers(0, 255, (48, 105), np.uint8)
    Image.fromarray(wall[:, 5:101]).save(folder / "wall_right.png")
    Image.fromarray(wall[:, :96]).save(folder / "wall_left.png")
    values = {"fx": 100.0, "cx0": 48.0, "cx1": 48.0, "cy": 24.0, "baseline_meters": 0.1}
    (folder / "stereodemo_calibration.json").write_text(json.dumps(values))


def test_pairs_are_measured(tmp_path: Path) -> None:
    """Depth of a wall by its disparity; where the cameras do not share it nothing is said."""
    _write_pair(tmp_path)
    (photo,) = pairs(tmp_path, *SIZE)
    assert photo.name == "wall" and photo.rgb.shape == (3, 32, 64)
    known = photo.depth[photo.depth.isfinite()]
    assert known.numel() > 0.4 * photo.depth.numel()
    assert known.median() == pytest.approx(2.0, rel=0.02)


def test_a_folder_without_pairs_is_refused(tmp_path: Path) -> None:
    """The error says what is missing and what makes it."""
    with pytest.raises(InputError, match=r"calibration.*fetch-assets"):
        pairs(tmp_path, *SIZE)
    (tmp_path / "stereodemo_calibration.json").write_text('{"fx": 1, "cx0": 0, "cx1": 0, "baseline_meters": 1}')
    with pytest.raises(InputError, match="no pair"):
        pairs(tmp_path, *SIZE)


def test_evaluation_tells_the_baselines(toy_weights: Path) -> None:
    """An untrained network fails the check; constant and plane have the known errors."""
    result = evaluate_photos(toy_weights, "cpu", against=toy_weights)
    rows = {row["name"]: row for row in result["rows"]}
    assert rows["garage_constant_absrel"]["value"] == pytest.approx(0.20, abs=0.01)
    assert 0.13 < rows["garage_plane_absrel"]["value"] < rows["garage_constant_absrel"]["value"]
    assert rows["garage_aligned_absrel"]["value"] == rows["garage_aligned_absrel"]["against"] > 0.12
    assert [check["ok"] for check in result["checks"]] == [False, False]


def test_renders_are_ranked_by_their_own_error(
    toy_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one photograph the sheets hold both renders, the better one first, each beside the true picture."""
    monkeypatch.setattr(scenes, "VIDEO_STEPS", 2)
    width, height = SIZE
    result = evaluate_photos(toy_weights, "cpu", out=tmp_path, height=height, width=width, num_frames=9)
    levels = sorted(result["renders"]["garage"].values(), reverse=True)
    best = np.asarray(Image.open(tmp_path / "best.png"), np.float32) / 255
    assert best.shape == (height, 4 * width, 3)
    pairs_shown = best.reshape(height, 2, 2, width, 3).transpose(1, 2, 0, 3, 4)
    for (truth, shown), level in zip(pairs_shown, levels, strict=True):
        assert -10 * np.log10(((truth - shown) ** 2).mean()) == pytest.approx(level, abs=0.1)
    assert (tmp_path / "worst.png").read_bytes() == (tmp_path / "best.png").read_bytes()
    assert Image.open(tmp_path / "depth.png").size == (6 * width, height)
