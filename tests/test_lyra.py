"""The official family end to end with tiny random networks in the official files: text or picture to environment."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLCosmos, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
)
from typer.testing import CliRunner

from omni_gen3d import config, generate, official_setup, read_environment, validate
from omni_gen3d.cli import app
from omni_gen3d.decoder import LatentGaussianDecoder
from omni_gen3d.errors import CancelledError, InputError
from omni_gen3d.finishing import Stages
from omni_gen3d.lyra import imagine_officially
from omni_gen3d.official_setup import BACKENDS
from omni_gen3d.request import OfficialOptions
from omni_gen3d.types import Gaussians
from omni_gen3d.video.gen3c import backend as gen3c_backend
from omni_gen3d.video.gen3c.checkpoint import official_name
from omni_gen3d.video.gen3c.network import TEXT_CHANNELS, TEXT_TOKENS, random_network
from omni_gen3d.video.gen3c.text import EMPTY_PROMPT, NEGATIVE, prompt_key
from omni_gen3d.video.picture import Picture

WIDTH, HEIGHT, FRAMES, STEPS = 96, 64, 9, 2
SIZES: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 24,
    "num_layers": 2,
    "mlp_ratio": 2.0,
    "adaln_lora_dim": 8,
    "max_size": (8, 16, 16),
}
PRESET = f"""
family: lyra
width: {WIDTH}
height: {HEIGHT}
num_frames: {FRAMES}
video_steps: {STEPS}
picture_steps: 2
max_gaussians: 3000
voxel_size: 0.25
max_faces: 2000
depth_model: toys/depth
picture_model: toys/pictures
"""


def save_picture_model(folder: Path) -> None:
    folder.mkdir(parents=True)
    words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "room</w>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=8)
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8,
        eos_token_id=1,
    )
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=8,
        norm_num_groups=4,
        cross_attention_dim=16,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),  # pyright: ignore[reportArgumentType]
        norm_num_groups=4,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,  # pyright: ignore[reportArgumentType]
        up_block_types=("UpDecoderBlock2D",) * 4,  # pyright: ignore[reportArgumentType]
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),  # pyright: ignore[reportArgumentType]
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)


@pytest.fixture(scope="module")
def weights(
    tmp_path_factory: pytest.TempPathFactory,
    save_depth_model: Callable[..., None],
    random_tokenizer: Callable[..., AutoencoderKLCosmos],
) -> Path:
    """A folder laid out as docs/models.md says, every network tiny and random."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    network = random_network(torch.device("cpu"), torch.float32, **SIZES)
    state = {official_name(name): value for name, value in network.state_dict().items()}
    (folder / "Gen3C-Cosmos-7B").mkdir()
    torch.save(state, folder / "Gen3C-Cosmos-7B" / "model.pt")
    decoder = LatentGaussianDecoder(
        channels=32,
        depth=2,
        attention_blocks=(1,),
        hidden_channels=32,
        inner_channels=32,
        state_channels=8,
        num_state_heads=2,
    )
    # Opaque shells about one unit away, so that a collider can be built of them.
    decoder.deconv.weight.data *= 0.05
    decoder.deconv.bias.data[[0, 11]] = torch.tensor([-4.9, 4.0])
    decoder.deconv.bias.data[4:7] = -2.0
    (folder / "Lyra").mkdir()
    torch.save({"module": decoder.state_dict()}, folder / "Lyra" / "lyra_static.pt")
    moments = {"latents_mean": [0.0] * 256, "latents_std": [1.0] * 256}
    random_tokenizer(**moments).save_pretrained(folder / "Cosmos-1.0-Diffusion-7B-Video2World" / "vae")
    names = [NEGATIVE, prompt_key(EMPTY_PROMPT), prompt_key("a garage")]
    save_file({name: torch.randn(TEXT_TOKENS, TEXT_CHANNELS) for name in names}, folder / "text_embeddings.safetensors")
    save_depth_model(folder / "depth")
    save_picture_model(folder / "pictures")
    return folder


@pytest.fixture
def preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a tiny preset of the family; latents go into a cache of the test's own."""
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "tiny-lyra.yaml").write_text(PRESET)
    monkeypatch.setattr(config, "_FOLDERS", (*config._FOLDERS, tmp_path / "presets"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield "tiny-lyra"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "picture.png"
    Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(path)
    return path


def latents_kept(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache" / "omni_gen3d" / "latents").rglob("*.safetensors"))


def test_a_picture_becomes_an_environment(
    weights: Path, preset: str, picture: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Valid, with six trajectories of cameras and the model named; the plan is told, the cache left empty."""
    with caplog.at_level(logging.INFO, "omni_gen3d"):
        made = generate(image=picture, fov_deg=70, out=tmp_path / "env", preset=preset, weights=weights, device="cpu")
    assert [finding for finding in validate(made.environment) if finding.severity == "error"] == []
    environment = read_environment(made.environment)
    assert len(environment.cameras) == 6 * FRAMES and environment.cameras.width == WIDTH
    assert environment.manifest.model == "lyra" and environment.manifest.seed == 0
    assert made.num_gaussians == int(6 * FRAMES * (WIDTH // 8) * (HEIGHT // 8) * (1 - 0.8))
    assert "memory plan on cpu" in caplog.text and any("memory plan" in note for note in made.notes)
    assert latents_kept(tmp_path) == []


def test_a_sentence_becomes_an_environment(weights: Path, preset: str, tmp_path: Path) -> None:
    """A text-to-image pipeline makes the first frame; the same seed gives the same splats."""
    one, two = (
        generate("a room", out=tmp_path / name, preset=preset, weights=weights, device="cpu", seed=3, collision="none")
        for name in ("one", "two")
    )
    first, second = (read_environment(made.environment).gaussians for made in (one, two))
    assert torch.equal(first.means, second.means) and torch.equal(first.sh, second.sh)
    assert any("taken to be" in note for note in one.notes)


def test_an_interrupted_run_goes_on(
    weights: Path, preset: str, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trajectories finished before the interruption are read, the others made, and the result is that of one run."""
    arguments: dict[str, Any] = {"image": picture, "preset": preset, "weights": weights, "device": "cpu"}
    arguments |= {"fov_deg": 70, "collision": "none"}
    sampled: list[int] = []
    real = gen3c_backend.sample

    def counted(*args: Any, **kwargs: Any) -> torch.Tensor:
        sampled.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(gen3c_backend, "sample", counted)
    with pytest.raises(CancelledError):
        generate(out=tmp_path / "env", cancelled=lambda: len(sampled) > 2, **arguments)
    assert not (tmp_path / "env").exists() and len(latents_kept(tmp_path)) == 2
    sampled.clear()
    resumed = generate(out=tmp_path / "env", **arguments)
    assert len(sampled) == 4 and latents_kept(tmp_path) == []
    whole = generate(out=tmp_path / "whole", **arguments)
    first, second = (read_environment(made.environment).gaussians for made in (resumed, whole))
    assert torch.equal(first.means, second.means)


def test_a_full_card_is_one_clear_error(
    weights: Path, preset: str, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what to do, and what was finished stays."""
    sampled: list[int] = []
    real = gen3c_backend.sample

    def crowded(*args: Any, **kwargs: Any) -> torch.Tensor:
        if len(sampled) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 880 MiB.")
        sampled.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(gen3c_backend, "sample", crowded)
    with pytest.raises(InputError, match=r"ran out of memory .*880 MiB.*--max-memory"):
        generate(image=picture, fov_deg=70, out=tmp_path / "env", preset=preset, weights=weights, device="cpu")
    assert latents_kept(tmp_path) == ["left.safetensors"]


def test_prompts_beside_a_picture_must_be_embedded(weights: Path, preset: str, picture: Path, tmp_path: Path) -> None:
    """One that is in the file steers the video; another is refused before anything is loaded, with what to run."""
    arguments: dict[str, Any] = {"image": picture, "fov_deg": 70, "preset": preset, "weights": weights, "device": "cpu"}
    generate("a garage", out=tmp_path / "env", collision="none", **arguments)
    with pytest.raises(InputError, match=r"'a castle'.*embed-text --t5"):
        generate("a castle", out=tmp_path / "other", **arguments)


@pytest.mark.cuda
@pytest.mark.parametrize("way", ["resident", "streamed", "float8", "step cache", "compiled"])
def test_a_card_imagines_as_the_processor_does(
    weights: Path, preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Every way of placing and hastening GEN3C: the same bytes twice, and the splats of the CPU within bfloat16."""
    plain = config.load_preset(preset)
    settings = replace(
        plain,
        step_cache=1e-9 if way == "step cache" else 0.0,
        compiled=way == "compiled",
        weights_type="float8" if way == "float8" else "",
    )
    if way == "streamed":
        planned = official_setup.plan_memory
        monkeypatch.setattr(official_setup, "plan_memory", lambda *a, **k: replace(planned(*a, **k), resident=False))
    colours = torch.linspace(0, 1, 3 * HEIGHT * WIDTH).reshape(3, HEIGHT, WIDTH)
    picture = Picture(colours, math.radians(70), "given", "0" * 64)

    def imagine(on: str, settings: config.Preset, cache: str) -> Gaussians:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
        options = OfficialOptions(weights, max_memory=4.0 if on == "cuda" else None)
        device, stages = torch.device(on), Stages(None, None)
        scene, store = imagine_officially("", picture, settings, device, 0, STEPS, stages, options)
        assert len(list(store.folder.glob("*.safetensors"))) == 6
        return scene.gaussians

    ours, again = (imagine("cuda", settings, cache) for cache in ("one", "two"))
    theirs = imagine("cpu", plain, "processor")
    assert torch.equal(ours.means, again.means) and torch.equal(ours.sh, again.sh)
    assert len(ours) == len(theirs) and bool(torch.isfinite(ours.means).all())
    assert torch.allclose(ours.means.mean(0), theirs.means.mean(0), atol=0.05)
    assert torch.allclose(ours.sh.mean(0), theirs.sh.mean(0), atol=0.05)


@pytest.mark.parametrize(
    ("missing", "owner"),
    [
        ("Gen3C-Cosmos-7B/model.pt", r"nvidia/Gen3C-Cosmos-7B \(licence: NVIDIA Open Model License\)"),
        ("Lyra/lyra_static.pt", r"nvidia/Lyra \(licence"),
        ("Cosmos-1.0-Diffusion-7B-Video2World/vae/config.json", "nvidia/Cosmos-1.0-Diffusion-7B-Video2World"),
        ("depth/config.json", "toys/depth"),
        ("text_embeddings.safetensors", "google-t5/t5-11b"),
    ],
)
def test_a_missing_file_names_its_owner(
    weights: Path, preset: str, picture: Path, tmp_path: Path, missing: str, owner: str
) -> None:
    """The file, where it is published and under which licence, in one line; nothing is written."""
    folder = tmp_path / "incomplete"
    for file in (path for path in weights.rglob("*") if path.is_file()):
        if file.relative_to(weights).as_posix() != missing:
            (folder / file.relative_to(weights)).parent.mkdir(parents=True, exist_ok=True)
            (folder / file.relative_to(weights)).symlink_to(file)
    with pytest.raises(InputError, match=owner) as caught:
        generate(image=picture, fov_deg=70, out=tmp_path / "env", preset=preset, weights=folder, device="cpu")
    assert Path(missing).name in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "env").exists()


def test_without_a_folder_the_hub_cache_is_asked(preset: str, picture: Path, tmp_path: Path) -> None:
    """Nothing is downloaded: an empty cache gives the same error."""
    with pytest.raises(InputError, match=r"not in the hub's cache.*hf download nvidia/Gen3C-Cosmos-7B model\.pt"):
        generate(image=picture, fov_deg=70, out=tmp_path / "env", preset=preset, device="cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "nowhere"}, "nowhere"),
        ({"max_memory": 0.0}, "max_memory is 0"),
        ({"max_memory": 8.0}, "on the CPU"),
        ({"preset": "mini"}, "brings its own weights"),
    ],
)
def test_impossible_requests_are_refused(
    weights: Path, preset: str, picture: Path, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    """One clear error each."""
    request: dict[str, Any] = {"image": picture, "fov_deg": 70, "preset": preset, "weights": weights, "device": "cpu"}
    with pytest.raises(InputError, match=message):
        generate(out=tmp_path / "env", **{**request, **arguments})


def test_the_command_line_tells_the_plan(
    weights: Path, preset: str, picture: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """``lyra plan`` prints it; ``generate`` shows it before it starts; a missing file is one line and exit code 2."""
    told = CliRunner().invoke(app, ["lyra", "plan", "--preset", preset, "--weights", str(weights), "--device", "cpu"])
    assert told.exit_code == 0 and "expected peaks" in told.stdout, told.stderr
    arguments = ["generate", "--image", str(picture), "--fov", "70", "--preset", preset, "--device", "cpu"]
    arguments += ["--out", str(tmp_path / "env")]
    made = CliRunner().invoke(app, [*arguments, "--weights", str(weights)])
    assert made.exit_code == 0, made.stderr
    assert made.stderr.index("memory plan") < made.stderr.index("trajectories")
    refused = CliRunner().invoke(app, [*arguments, "--weights", str(tmp_path)])
    assert refused.exit_code == 2 and "NVIDIA Open Model License" in refused.stderr


@pytest.mark.parametrize("name", ["lyra", "lyra-fast", "lyra-wan", "lyra-sana"])
def test_shipped_presets_ask_for_known_things(name: str) -> None:
    """Each is of the family, of the decoder's only size, with a backend that exists."""
    settings = config.load_preset(name)
    assert (settings.family, settings.width, settings.height, settings.num_frames) == ("lyra", 1280, 704, 121)
    assert settings.backend in BACKENDS and settings.depth_model and settings.picture_model
    assert bool(settings.video_model) == (settings.backend != "gen3c")
