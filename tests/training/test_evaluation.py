"""The figures of the mini model, with tiny untrained networks and pictures of 32 x 16 pixels."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLCosmos, CosmosTransformer3DModel
from PIL import Image

from omni_gen3d.checkpoints import save_network
from omni_gen3d.decoder.mini import MiniDecoder
from omni_gen3d.errors import InputError
from omni_gen3d.training import evaluation, scenes
from omni_gen3d.training.classifier import AttributeClassifier, AttributeScores, TrainedClassifier
from omni_gen3d.training.evaluation import evaluate_mini
from omni_gen3d.video.depth import DepthNetwork
from omni_gen3d.video.diffusion import INPUT_CHANNELS

HEIGHT, WIDTH, FRAMES = 16, 32, 9


def write_toy_weights(folder: Path) -> Path:
    """Random networks of the four classes, as small as they come."""
    torch.manual_seed(0)
    tokenizer = AutoencoderKLCosmos(
        latent_channels=16,
        encoder_block_out_channels=(8, 8, 8, 8),
        decode_block_out_channels=(8, 8, 8, 8),
        attention_resolutions=(32,),
        resolution=128,
        num_layers=1,
        patch_size=4,
        spatial_compression_ratio=8,
        temporal_compression_ratio=8,
    )
    diffusion = CosmosTransformer3DModel(
        in_channels=INPUT_CHANNELS,
        out_channels=16,
        num_attention_heads=1,
        attention_head_dim=64,
        num_layers=1,
        mlp_ratio=1.0,
        text_embed_dim=384,
        adaln_lora_dim=8,
        max_size=(16, 44, 80),
        patch_size=(1, 2, 2),
        rope_scale=(1.0, 1.0, 1.0),
        concat_padding_mask=False,
        extra_pos_embed_type="learnable",
    )
    depth = DepthNetwork(channels=(32, 32, 32, 32), num_attention_layers=1)
    decoder = MiniDecoder(channels=32, token_channels=64, num_layers=1, latent_frames=2, token_rows=1, token_columns=2)
    networks = {"tokenizer": tokenizer, "depth": depth, "diffusion": diffusion, "decoder": decoder}
    for name, network in networks.items():
        save_network(network, folder / name, "float16")
    return folder


def toy_classifier(*_: Any, **__: Any) -> TrainedClassifier:
    """An untrained network that claims to be perfect on kinds."""
    scores = AttributeScores({"kind": 1.0, "floor": 0.5, "wall": 0.5, "objects": 0.5}, 1.0, 1.0, 0.2, 0.2)
    return TrainedClassifier(AttributeClassifier().eval(), scores, ("kind",), 0.9, steps=0, seconds=0.0)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("evaluation")
    weights = write_toy_weights(folder / "weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "train_classifier", toy_classifier)
        patch.setattr(scenes, "PICTURE_STEPS", 2)
        patch.setattr(scenes, "VIDEO_STEPS", 2)
        result = evaluate_mini(
            weights, 2, "cpu", against=weights, out=folder / "out",
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
        assert row["against"] == (row["value"] if measured_twice else None), row
    for name in ("prompt_accuracy", "opacity_median", "novel_seen_share", "image_frames_share"):
        assert 0 < result[name] <= 1 or name == "prompt_accuracy"
    assert set(result["seconds_per_scene"]) == {"text to picture", "imagine", "decode", "render"}
    assert all(seconds > 0 for seconds in result["seconds_per_scene"].values())
    assert result["peak_memory_gib"] > 0.1


def test_checks_follow_the_figures(measured: tuple[dict[str, Any], Path]) -> None:
    """The gain over the baseline is their difference; a random decoder misses it, a perfect classifier passes."""
    result = measured[0]
    gain, classifier = result["checks"]
    assert gain["value"] == pytest.approx(result["fidelity_psnr_db"] - result["baseline_psnr_db"])
    assert gain["target"] == 2.0 and gain["ok"] == (gain["value"] >= 2.0)
    assert classifier["value"] == 1.0 and classifier["ok"]
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
