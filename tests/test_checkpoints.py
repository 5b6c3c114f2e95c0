"""Weights on disk: exact where they should be, refused where they are not what they claim."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from safetensors.torch import load_file, save_file

from omni_gen3d import checkpoints
from omni_gen3d.checkpoints import digest_folder, load_network, save_network
from omni_gen3d.config import PACKAGED_WEIGHTS
from omni_gen3d.errors import InputError
from omni_gen3d.training.shipping import NETWORKS, ship_weights
from omni_gen3d.video.depth import DepthNetwork

FILE = "diffusion_pytorch_model.safetensors"
INDEX = f"{FILE}.index.json"


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


class Matrices(ModelMixin, ConfigMixin):
    """Weights of every remainder of columns that four values in three bytes can leave, all of them quantised."""

    @register_to_config
    def __init__(self) -> None:
        super().__init__()
        self.matrices = torch.nn.ModuleList(torch.nn.Linear(columns, 1200, bias=False) for columns in (5, 6, 7, 8))
        self.convolution = torch.nn.Conv2d(50, 11, 3)


def test_six_bits_round_trip(tmp_path):
    """No row is further off than rounded to 31sts of its largest value, some of few large ones less; shapes stay."""
    torch.manual_seed(0)
    network = Matrices()
    network.convolution.weight.data = torch.randn_like(network.convolution.weight) ** 3
    save_network(network, tmp_path, "int8", six_bits=("matrices", "convolution.w"))
    stored = load_file(tmp_path / FILE)
    assert [stored[f"matrices.{i}.weight"].shape for i in range(4)] == [(1200, 6)] * 4
    assert stored["convolution.weight"].dtype == torch.uint8 and stored["convolution.bias"].dtype == torch.float16
    loaded = load_network(Matrices, tmp_path).state_dict()
    for name, weight in network.state_dict().items():
        assert loaded[name].shape == weight.shape
        if name.endswith("weight"):
            rows = weight.flatten(1)
            step = (rows.abs().amax(1, keepdim=True) / 31).half().float()
            plain = (rows / step).round().clamp(-31, 31) * step
            error, limit = ((x - rows).square().sum(1) for x in (loaded[name].flatten(1), plain))
            assert bool((error <= 1.0001 * limit).all())
            assert error.sum() < 0.99 * limit.sum()


def test_six_bits_take_three_quarters_and_stay(network, tmp_path):
    """Those weights shrink by a quarter and the others not at all; what was packed once is packed to the same bytes."""
    save_network(network, tmp_path / "eight", "int8")
    save_network(network, tmp_path / "six", "int8", six_bits=(".mlp.",))
    eight, six = (load_file(tmp_path / name / FILE) for name in ("eight", "six"))
    assert eight.keys() == six.keys()
    for name, value in eight.items():
        if ".mlp." in name and value.dtype == torch.int8:
            assert 4 * six[name].numel() == 3 * value.numel()
        elif ".mlp." not in name:
            assert torch.equal(six[name], value)
    for name in ("eight", "six"):
        before = digest_folder(tmp_path / name)
        loaded = load_network(DepthNetwork, tmp_path / name)
        save_network(loaded, tmp_path / name, "int8", six_bits=(".mlp.",) if name == "six" else ())
        assert digest_folder(tmp_path / name) == before


def test_six_bits_are_laid_out_as_written(tmp_path):
    """Four values are the low to the high bits of three bytes, each plus 32, and each row has its scale."""
    network = Matrices()
    row = torch.tensor([31.0, -31.0, 1.0, 0.0, 2.0, -3.0, 4.0, 5.0]) / 32
    network.matrices[3].load_state_dict({"weight": row.expand(1200, 8)})
    save_network(network, tmp_path, "int8", six_bits=("matrices",))
    stored = load_file(tmp_path / FILE)
    word = int.from_bytes(bytes(stored["matrices.3.weight"][7, :3].tolist()), "little")
    assert [(word >> shift & 63) - 32 for shift in (0, 6, 12, 18)] == [31, -31, 1, 0]
    assert bool((stored["matrices.3.weight.row_scale"] == 1 / 32).all())


def test_rows_of_nothing_stay_nothing(tmp_path):
    """Zeros have no largest value to scale by, and are zeros again."""
    network = Matrices()
    torch.nn.init.zeros_(network.convolution.weight)
    for six_bits in ((), ("convolution",)):
        save_network(network, tmp_path, "int8", six_bits=six_bits)
        assert not load_network(Matrices, tmp_path).convolution.weight.any()


@pytest.mark.parametrize("fault", ["bytes", "rows", "flat", "no scale", "scales", "one scale", "eight bits alone"])
def test_malformed_whole_numbers_are_refused(tmp_path, fault):
    """Too few bytes or rows, scales missing or of another count, and numbers without any: input errors."""
    save_network(Matrices(), tmp_path, "int8", six_bits=("matrices",))
    stored = load_file(tmp_path / FILE)
    name, scale = "matrices.0.weight", "matrices.0.weight.row_scale"
    if fault == "bytes":
        stored[name] = stored[name][:, :-1].contiguous()
    elif fault == "rows":
        stored[name], stored[scale] = stored[name][1:].contiguous(), stored[scale][1:].contiguous()
    elif fault == "flat":
        stored[name] = stored[name].flatten()
    elif fault == "no scale":
        del stored[scale]
    elif fault == "eight bits alone":
        del stored["convolution.weight.row_scale"]
    else:
        stored[scale] = F.pad(stored[scale], (0, 1)) if fault == "scales" else stored[scale][:1].clone()
    save_file(stored, tmp_path / FILE)
    with pytest.raises(InputError, match="do not fit"):
        load_network(Matrices, tmp_path)


def test_one_file_needs_no_index(network, tmp_path):
    """A small network is one file, which diffusers reads too; folders of a single shard and its index load as well."""
    save_network(network, tmp_path, "float16")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", FILE]
    theirs = DepthNetwork.from_pretrained(tmp_path).state_dict()
    shard = f"{FILE.removesuffix('.safetensors')}-00001-of-00001.safetensors"
    (tmp_path / FILE).rename(tmp_path / shard)
    (tmp_path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(theirs, shard)}))
    ours = load_network(DepthNetwork, tmp_path).state_dict()
    assert all(torch.equal(ours[name], value.float()) for name, value in theirs.items())


def test_trained_networks_are_shipped(toy_weights, tmp_path):
    """All networks shrink, attention to six bits; a second time changes nothing."""
    sizes = ship_weights(toy_weights, tmp_path)
    assert sizes.keys() == NETWORKS.keys()
    for name, size in sizes.items():
        assert 0 < size < sum(file.stat().st_size for file in (toy_weights / name).iterdir())
    six = {
        name: {part for part, value in load_file(tmp_path / name / FILE).items() if value.dtype == torch.uint8}
        for name in ("depth", "diffusion", "bodies")
    }
    assert six["depth"] == {f"attention.0.mlp.{part}.weight" for part in (0, 2)}, "the others are small here"
    assert six["diffusion"] == {
        f"transformer_blocks.0.attn{which}.to_{part}.weight" for which in (1, 2) for part in ("q", "k", "v", "out.0")
    }
    assert not six["bodies"]
    before = digest_folder(tmp_path)
    ship_weights(tmp_path, tmp_path)
    assert digest_folder(tmp_path) == before
    with pytest.raises(InputError, match="holds none"):
        ship_weights(tmp_path / "diffusion", tmp_path / "other")


def test_shards_stay_small(network, tmp_path, monkeypatch):
    """A small limit spreads the tensors over several shards, and a second save leaves none of the first behind."""
    monkeypatch.setattr(checkpoints, "_SHARD_BYTES", 20_000)
    save_network(network, tmp_path / "n", "float16")
    shards = list((tmp_path / "n").glob("*.safetensors"))
    assert len(shards) > 2 and (tmp_path / "n" / INDEX).is_file()
    load_network(DepthNetwork, tmp_path / "n")
    monkeypatch.undo()
    save_network(network, tmp_path / "n", "float16")
    assert sorted(path.name for path in (tmp_path / "n").iterdir()) == ["config.json", FILE]


@pytest.mark.parametrize("fault", ["no weights", "no index", "no map", "tensor gone", "tensor too many", "escape"])
def test_broken_folders_are_refused(network, tmp_path, monkeypatch, fault):
    """A missing file or index, a missing or superfluous tensor and a shard outside the folder are input errors."""
    folder = tmp_path / "n"
    monkeypatch.setattr(checkpoints, "_SHARD_BYTES", 20_000)
    save_network(network, folder, "float16")
    index = json.loads((folder / INDEX).read_text())
    if fault == "no weights":
        for file in folder.glob(f"{FILE.removesuffix('.safetensors')}*"):
            file.unlink()
    elif fault == "no index":
        (folder / INDEX).unlink()
    elif fault == "no map":
        (folder / INDEX).write_text("{}")
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
    """The five shipped networks load; together they take at most 40 MB, no file more than 15 MiB."""
    for name, (kind, _) in NETWORKS.items():
        weights = load_network(kind, PACKAGED_WEIGHTS / name).state_dict()
        assert all(bool(value.isfinite().all()) for value in weights.values()), name
    sizes = [file.stat().st_size for file in Path(PACKAGED_WEIGHTS).rglob("*") if file.is_file()]
    assert sum(sizes) <= 40_000_000
    assert max(sizes) < 15 * 2**20
