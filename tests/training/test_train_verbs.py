"""The trainings of the tokenizer, depth and diffusion networks, from worlds to a checkpoint, at toy size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLCosmos, CosmosTransformer3DModel
from PIL import Image

from omni_gen3d.checkpoints import load_network
from omni_gen3d.errors import InputError
from omni_gen3d.training import depth, diffusion, material, tokenizer
from omni_gen3d.training.loop import Host
from omni_gen3d.training.object_set import save_objects
from omni_gen3d.video.depth import DepthNetwork

HOST = Host(0, 1, torch.device("cpu"))
TOY = {"batch_size": 1, "height": 16, "width": 32, "log_every_s": 60.0, "minutes": 0.08}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all three networks, each trained for a few seconds by the function its verb calls."""
    out = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "_CLIPS_PER_CHUNK", 1)
        patch.setattr(tokenizer, "_VALIDATION_CLIPS", 1)
        patch.setattr(depth, "_PICTURES_PER_CHUNK", 2)
        patch.setattr(depth, "_VALIDATION_PICTURES", 2)
        patch.setattr(material, "_PICTURES_PER_CHUNK", 2)
        patch.setattr(material, "_CLIPS_PER_CHUNK", 1)
        patch.setattr(material, "_PICTURE_POOL", 2)
        patch.setattr(material, "_COMPLETION_POOL", 2)
        patch.setattr(diffusion, "_VALIDATION_COMPLETIONS", 2)
        patch.setattr(material, "PICTURES_PER_STEP", 1)
        patch.setattr(diffusion, "_SAMPLE_PROMPTS", ("a warehouse",))
        tokenizer.train_tokenizer(replace(tokenizer.DEFAULTS, pool_size=1, **TOY), HOST, out / "tokenizer", None)
        depth.train_depth(replace(depth.DEFAULTS, pool_size=2, **TOY), HOST, out / "depth", None)
        config = replace(diffusion.DEFAULTS, pool_size=1, **TOY | {"minutes": 0.8})
        diffusion.train_diffusion(
            config,
            HOST,
            out / "diffusion",
            None,
            out / "tokenizer",
            out / "depth",
            config.of_size(64, 32),
        )
    return out


@pytest.mark.parametrize(
    ("name", "kind", "figure"),
    [
        ("tokenizer", AutoencoderKLCosmos, "psnr_db"),
        ("depth", DepthNetwork, "absrel"),
        ("diffusion", CosmosTransformer3DModel, "hole_psnr_db"),
    ],
)
def test_training_ends_in_a_checkpoint(trained, name, kind, figure):
    """Each training leaves a loadable, finite network and a log whose last line holds its figure on held-out worlds."""
    state = load_network(kind, trained / name).state_dict()
    assert all(bool(value.isfinite().all()) for value in state.values())
    last = json.loads((trained / name / "log.jsonl").read_text().splitlines()[-1])
    assert 0 < last[figure] < 100


def test_one_diffusion_network_learns_from_two_sizes(trained):
    """Steps alternate between the sizes; each has figures in the log and sheets of its own."""
    last = json.loads((trained / "diffusion" / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] > 1 and 0 < last["larger_hole_psnr_db"] < 100
    for sheet in ("pictures", "videos", "completions"):
        small, large = (Image.open(trained / "diffusion" / folder / f"{sheet}.png") for folder in ("", "larger"))
        assert large.size == (2 * small.width, 2 * small.height)


def test_tokenizer_records_the_moments_of_its_latents(trained):
    """The tokenizer's config holds the moments that its evaluation measured, not the library's defaults."""
    config = json.loads((trained / "tokenizer" / "config.json").read_text())
    assert config["latents_mean"] != tokenizer.make_tokenizer().config["latents_mean"]
    assert len(set(config["latents_std"][:16])) == 1


def test_latents_can_be_kept(trained, tmp_path, monkeypatch):
    """The decoding half learns, the encoding half and the latents' moments stay; without latents it is refused."""
    monkeypatch.setattr(tokenizer, "_CLIPS_PER_CHUNK", 1)
    monkeypatch.setattr(tokenizer, "_VALIDATION_CLIPS", 1)
    config = replace(tokenizer.DEFAULTS, pool_size=1, **TOY)
    tokenizer.train_tokenizer(config, HOST, tmp_path, trained / "tokenizer", keep_latents=True)
    old, new = (load_network(AutoencoderKLCosmos, folder) for folder in (trained / "tokenizer", tmp_path))
    assert old.config["latents_std"] == new.config["latents_std"]
    after = new.state_dict()
    changed = {name for name, value in old.state_dict().items() if not torch.equal(value, after[name])}
    assert changed and all(name.startswith(("decoder.", "post_quant_conv.")) for name in changed)
    with pytest.raises(InputError, match="--resume"):
        tokenizer.train_tokenizer(config, HOST, tmp_path / "none", None, keep_latents=True)


def test_a_deepened_depth_network_says_what_it_said():
    torch.manual_seed(0)
    picture, rays = torch.rand(2, 3, 16, 32) * 2 - 1, torch.rand(2, 2, 16, 32)
    shallow = DepthNetwork(channels=(16, 32), num_attention_layers=1, num_modes=2)
    deep = depth.deepened(shallow, 3)
    assert (deep.config["num_attention_layers"], deep.config["num_modes"]) == (3, 2)
    assert torch.equal(shallow(picture, rays)[0], deep(picture, rays)[0])


def test_error_of_candidates():
    """Of one candidate the L1 of log depth, of two the nearer's wherever it is sure of them."""
    torch.manual_seed(0)
    picture, rays = torch.rand(2, 3, 16, 32) * 2 - 1, torch.rand(2, 2, 16, 32)
    one = DepthNetwork(channels=(16, 32), num_attention_layers=1)
    target = torch.randn(2, 16, 32)
    candidates, logits, _ = one.candidates(picture, rays)
    torch.testing.assert_close(depth.depth_error(candidates, logits, target), (candidates[:, 0] - target).abs())
    near_and_far = torch.stack([target, target + 1], 1)
    sure = torch.tensor([20.0, 0.0])[:, None, None].expand_as(near_and_far)
    assert float(depth.depth_error(near_and_far, sure, target).abs().max()) < 1e-6
    assert float(depth.depth_error(near_and_far, -sure, target).mean()) > 0.5


def test_training_mixes_in_real_objects(toy_objects, tmp_path, monkeypatch):
    """With a set of objects the depth network learns from rooms of them, and its log tells how well it sees others."""
    monkeypatch.setattr(depth, "_PICTURES_PER_CHUNK", 2)
    monkeypatch.setattr(depth, "_VALIDATION_PICTURES", 2)
    save_objects(toy_objects, tmp_path)
    out = tmp_path / "depth"
    depth.train_depth(replace(depth.DEFAULTS, pool_size=4, **TOY), HOST, out, None, tmp_path)
    last = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    assert 0 < last["objects_absrel"] < 100 and 0 < last["absrel"] < 100


def test_training_goes_on_from_a_checkpoint(trained, tmp_path, monkeypatch):
    """With a spent budget a resumed training saves what it was given."""
    monkeypatch.setattr(depth, "_PICTURES_PER_CHUNK", 2)
    monkeypatch.setattr(depth, "_VALIDATION_PICTURES", 2)
    spent = replace(depth.DEFAULTS, pool_size=2, **TOY | {"minutes": 1e-6})
    depth.train_depth(spent, HOST, tmp_path, trained / "depth")
    before, after = (load_network(DepthNetwork, folder).state_dict() for folder in (trained / "depth", tmp_path))
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
