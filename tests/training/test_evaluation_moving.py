"""``eval mini --dynamic`` with tiny random networks: every figure is measured, and the truth is what it should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from omni_gen3d.errors import InputError
from omni_gen3d.mesh.bvh import FaceTree
from omni_gen3d.mesh.ground_truth import is_inside
from omni_gen3d.training.evaluation_moving import evaluate_moving, true_movers
from omni_gen3d.training.movers import MOVER_NAMES
from omni_gen3d.training.moving import MovingViews, sample_moving_views
from omni_gen3d.training.worlds import world_generator

HEIGHT, WIDTH, FRAMES = 16, 32, 9


@pytest.fixture(scope="module")
def measured(toy_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Two films, one of them taken apart, against the same weights."""
    out = tmp_path_factory.mktemp("sheet")
    sizes = {"height": HEIGHT, "width": WIDTH, "num_frames": FRAMES, "max_gaussians": 400}
    return evaluate_moving(toy_weights, 2, "cpu", 1, against=toy_weights, out=out, apart=1, **sizes), out


def test_every_figure_is_measured(measured: tuple[dict[str, Any], Path]) -> None:
    """All rows but those of parts hold finite numbers, and equal weights score equally."""
    result, _ = measured
    for row in result["rows"]:
        if row["name"].startswith("part"):
            continue
        assert np.isfinite(row["value"]), row["name"]
        if not row["name"].startswith("seconds"):
            assert row["value"] == pytest.approx(row["against"], rel=1e-4), row["name"]


def test_checks_follow_the_figures(measured: tuple[dict[str, Any], Path]) -> None:
    """One check for each figure that is asked for; flicker is bounded from above."""
    result, _ = measured
    checks = {check["name"]: check for check in result["checks"]}
    gain = checks["moving pixels above a frozen first frame [dB]"]
    assert gain["value"] == pytest.approx(result["moving_psnr_db"] - result["moving_frozen_psnr_db"])
    assert not gain["at_most"] and gain["ok"] == (gain["value"] >= 4.0)
    flicker = checks["flicker of what stands still [grey levels]"]
    assert flicker["at_most"] and flicker["ok"] == (flicker["value"] <= 0.5)
    assert flicker["value"] == result["flicker_shared_grey"]


def test_the_sheet_has_nine_columns(measured: tuple[dict[str, Any], Path]) -> None:
    """Film, RGB decoder and render at three times, one row a film."""
    with Image.open(measured[1] / "moving.png") as picture:
        assert picture.size == (9 * WIDTH, 2 * HEIGHT)


def test_bad_requests_are_refused(toy_weights: Path, tmp_path: Path) -> None:
    """Numbers out of range and missing weights are named."""
    with pytest.raises(InputError, match="0"):
        evaluate_moving(toy_weights, 0, "cpu")
    with pytest.raises(InputError, match="tokenizer"):
        evaluate_moving(tmp_path, 1, "cpu")


def _views_of(name: str) -> tuple[MovingViews, int]:
    for seed in range(8):
        views = sample_moving_views(16, WIDTH, HEIGHT, FRAMES, world_generator(seed, "train", "cpu"))
        found = (views.mover == MOVER_NAMES.index(name)).nonzero().flatten().tolist()
        if found:
            return views, found[0]
    raise AssertionError(name)


@pytest.mark.parametrize(("name", "count"), [("mobile robot", 1), ("ball", 1), ("swinging door", 1)])
def test_true_movers_are_solid_where_the_parts_are(name: str, count: int) -> None:
    """The mover is one closed mesh, and its parts' middles lie inside it at every time."""
    views, item = _views_of(name)
    movers = true_movers(views, item)
    assert len(movers) == count
    moves = views.part_moves[item].nonzero().flatten().tolist()
    for time in (0, FRAMES - 1):
        to_mover = np.linalg.inv(movers[0].to_world[time])
        middles = views.part_to_world[item, time, moves, :3, 3].numpy() @ to_mover[:3, :3].T + to_mover[:3, 3]
        assert is_inside(FaceTree.of(movers[0].mesh), middles).all()


@pytest.mark.parametrize(("name", "count"), [("forklift", 2), ("conveyor", 4), ("robot arm", 2)])
def test_what_moves_as_one_and_nearly_touches_is_one_mover(name: str, count: int) -> None:
    """The masts of a forklift, 2 cm off its body, are of it, and its load is not; boxes on a belt stay apart."""
    views, item = _views_of(name)
    assert len(true_movers(views, item)) == count
