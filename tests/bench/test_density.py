"""The table of kept Gaussians, with untrained networks and pictures of 32 x 16 pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from omni_gen3d.bench.density import bench_density
from omni_gen3d.errors import InputError
from omni_gen3d.training import scenes


def test_more_gaussians_cost_more(toy_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row a number, with bytes that grow with it and opacities that fall; numbers beyond all keep all, which is the
    best that the check compares with."""
    monkeypatch.setattr(scenes, "PICTURE_STEPS", 2)
    monkeypatch.setattr(scenes, "VIDEO_STEPS", 2)
    toy: dict[str, Any] = {"height": 16, "width": 32, "num_frames": 9, "report": lambda text: None}
    found = bench_density(toy_weights, 1, device=torch.device("cpu"), counts=(400, 40, 40_000), **toy)
    report = json.loads(found.to_json())
    few, some, every = report["rows"]
    assert (few["kept"], some["kept"]) == (40, 400) and every["share"] == 1.0
    assert some["a_pixel"] == 400 / 512 and some["a_pixel_frame"] == pytest.approx(400 / (512 * 9 * 6))
    assert few["least_opacity"] >= some["least_opacity"] >= every["least_opacity"] > 0
    # Without harmonics a Gaussian takes 56 bytes: 3 + 4 + 3 + 1 + 3 floats.
    assert every["usd_mb"] - few["usd_mb"] == pytest.approx(56e-6 * (every["kept"] - 40), rel=0.1)
    assert every["half_mb"] < 0.7 * every["usd_mb"] and every["render_ms"] > 0
    assert report["checks"][0]["value"] is None and not report["checks"][0]["ok"]


def test_bad_requests_are_refused(tmp_path: Path) -> None:
    """No scenes, no numbers, no weights."""
    for scenes_wanted, counts, message in ((0, (5,), "scenes is 0"), (1, (), "numbers to keep"), (1, (5,), "weights")):
        with pytest.raises(InputError, match=message):
            bench_density(tmp_path, scenes_wanted, device=torch.device("cpu"), counts=counts)
