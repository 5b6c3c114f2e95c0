"""Weights on disk: exact where they should be, refused where they are not what they claim."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLCosmos, CosmosTransformer3DModel

from omni_gen3d import checkpoints
from omni_gen3d.checkpoints import digest_folder, load_network, save_network
from omni_gen3d.config import PACKAGED_WEIGHTS
from omni_gen3d.decoder.mini import MiniDecoder
from omni_gen3d.errors import InputError
from omni_gen3d.video.depth import DepthNetwork

INDEX = "diffusion_pytorch_model.safetensors.index.json"


@pytest.fixture
def network() -> DepthNetwork:
    torch.manual_seed(0)
    return DepthNetwork(channels=(16, 32), num_attention_layers=1)


def test_float16_round_trip(network, tmp_path):
    """Every weight comes back as its float16 rounding."""
    save_network(network, tmp_path / "n", "float16")
    loaded = load_network(DepthNetwork, tmp_path / "n").state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(loaded[name], value.half().float()), name


def test_int8_round_trip(network, tmp_path):
    """Large weights come back within half a step of their row and a float16 rounding; small ones as float16."""
    save_network(network, tmp_path / "n", "int8")
    loaded = load_network(DepthNetwork, tmp_path / "n").state_dict()
    for name, value in network.state_dict().items():
        rows = value.flatten(1) if value.ndim > 1 else value[:, None]
        step = rows.abs().amax(1, keepdim=True) / 127
        error = (loaded[name] - value).reshape(rows.shape).abs()
        assert bool((error <= 0.51 * step + 127 * step * 2**-11 + 1e-6).all()), name


def test_shards_stay_small(network, tmp_path, monkeypatch):
    """A small limit spreads the tensors over several shards, and a second save leaves none of the first behind."""
    monkeypatch.setattr(checkpoints, "_SHARD_BYTES", 20_000)
    save_network(network, tmp_path / "n", "float16")
    shards = list((tmp_path / "n").glob("*.safetensors"))
    assert len(shards) > 2
    load_network(DepthNetwork, tmp_path / "n")
    monkeypatch.undo()
    save_network(network, tmp_path / "n", "float16")
    assert len(list((tmp_path / "n").glob("*.safetensors"))) == 1


@pytest.mark.parametrize("fault", ["no index", "tensor gone", "tensor too many", "escape"])
def test_broken_folders_are_refused(network, tmp_path, fault):
    """A missing index, a missing or superfluous tensor and a shard outside the folder are input errors."""
    folder = tmp_path / "n"
    save_network(network, folder, "float16")
    index = json.loads((folder / INDEX).read_text())
    if fault == "no index":
        (folder / INDEX).unlink()
    elif fault == "escape":
        index["weight_map"] = dict.fromkeys(index["weight_map"], "../stolen.safetensors")
        (folder / INDEX).write_text(json.dumps(index))
    else:
        config = json.loads((folder / "config.json").read_text())
        config["num_attention_layers"] = 2 if fault == "tensor gone" else 0
        (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError):
        load_network(DepthNetwork, folder)


def test_digest_changes_with_a_byte(network, tmp_path):
    """The digest of a folder depends on every byte and on the names."""
    save_network(network, tmp_path / "n", "int8")
    before = digest_folder(tmp_path / "n")
    assert digest_folder(tmp_path / "n") == before
    config = tmp_path / "n" / "config.json"
    config.write_bytes(config.read_bytes() + b" ")
    assert digest_folder(tmp_path / "n") != before


def test_shipped_weights_load_and_fit_the_budget():
    """The four shipped networks load; together they take at most 40 MB, no file more than 15 MiB."""
    for name, kind in {
        "tokenizer": AutoencoderKLCosmos,
        "depth": DepthNetwork,
        "diffusion": CosmosTransformer3DModel,
        "decoder": MiniDecoder,
    }.items():
        weights = load_network(kind, PACKAGED_WEIGHTS / name).state_dict()
        assert all(bool(value.isfinite().all()) for value in weights.values()), name
    sizes = [file.stat().st_size for file in Path(PACKAGED_WEIGHTS).rglob("*") if file.is_file()]
    assert sum(sizes) <= 40_000_000
    assert max(sizes) < 15 * 2**20
