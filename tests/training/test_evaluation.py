"""The figures of the mini model, with tiny untrained networks and pictures of 32 x 16 pixels."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from omni_gen3d.errors import InputError
from omni_gen3d.training import evaluation, scenes
from omni_gen3d.training.classifier import AttributeClassifier, AttributeScores, TrainedClassifier
from omni_gen3d.training.evaluation import evaluate_mini

HEIGHT, WIDTH, FRAMES = 16, 32, 9


def toy_classifier(*_: Any, **__: Any) -> TrainedClassifier:
    """An untrained network that claims to be perfect on kinds."""
    scores = AttributeScores({"kind": 1.0, "floor": 0.5, "wall": 0.5, "objects": 0.5}, 1.0, 1.0, 0.2, 0.2)
    return TrainedClassifier(AttributeClassifier().eval(), scores, ("kind",), 0.9, steps=0, seconds=0.0)


@pytest.fixture(scope="module")
def measured(toy_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("evaluation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "train_classifier", toy_classifier)
        patch.setattr(scenes, "PICTURE_STEPS", 2)
        patch.setattr(scenes, "VIDEO_STEPS", 2)
        result = evaluate_mini(
            toy_weights, 2, "cpu", against=toy_weights, out=folder / "out",
            height=HEIGHT, width=WIDTH, num_frames=FRAMES, max_gaussians=200,
        )  # fmt: skip
    return result, folder / "out"


def test_every_figure_is_measured(measured: tuple[dict[str, Any], Path]) -> None:
    """Each row has a finite value that the result also holds by name, and survives JSON."""
    result = measured[0]
    assert json.loads(json.dumps(result)) == result
    for row in result["rows"]:
        assert row["value"] == result[row["name"]] and math.isfinite(row["value"]), row
        measured_twice = row["name"] not in ("peak_memory_gib", "seconds_total")
        # Kernels may round by how their memory happens to be aligned.
        assert row["against"] == (pytest.approx(row["value"], rel=1e-5) if measured_twice else None), row
    for name in ("prompt_accuracy", "opacity_median", "novel_seen_share", "image_frames_share"):
        assert 0 < result[name] <= 1 or name == "prompt_accuracy"
    assert set(result["seconds_per_scene"]) == {"text to picture", "imagine", "decode", "render"}
    assert all(seconds > 0 for seconds in result["seconds_per_scene"].values())
    assert result["peak_memory_gib"] > 0.1


def test_checks_follow_the_figures(measured: tuple[dict[str, Any], Path]) -> None:
    """One for each figure, each a difference or a value of the rows; a perfect classifier passes, random networks
    miss the others."""
    result = measured[0]
    checks = {check["name"]: check for check in result["checks"]}
    assert len(checks) == len(result["checks"]) == 13
    gain, below = checks["fidelity above baseline [dB]"], checks["RGB below the tokenizer where the warp covers [dB]"]
    assert gain["value"] == pytest.approx(result["fidelity_psnr_db"] - result["baseline_psnr_db"])
    assert gain["target"] == 6.0 and gain["ok"] == (gain["value"] >= 6.0)
    assert below["value"] == pytest.approx(result["tokenizer_seen_psnr_db"] - result["rgb_seen_psnr_db"])
    assert below["at_most"] and below["ok"] == (below["value"] <= 1.5)
    assert checks["classifier accuracy on true frames"]["ok"] and not checks["tokenizer [dB]"]["ok"]
    assert checks["distance between seeds"]["ok"] and checks["distance between runs of a seed"]["value"] == 0
    assert list(result["classifier"]["prompt_groups"]) == ["kind"]


def test_contact_sheets_show_four_columns(measured: tuple[dict[str, Any], Path]) -> None:
    """One row a scene, for text and for pictures; the sheet of pictures starts with a true one."""
    for name in ("text.png", "image.png"):
        with Image.open(measured[1] / name) as sheet:
            assert sheet.size == (4 * WIDTH, 2 * HEIGHT)


def test_bad_requests_are_refused(tmp_path: Path) -> None:
    """Too few scenes and missing weights are told before anything is trained."""
    with pytest.raises(InputError, match="scenes is 1"):
        evaluate_mini(tmp_path, 1, "cpu")
    with pytest.raises(InputError, match="no weights"):
        evaluate_mini(tmp_path, 2, "cpu")
