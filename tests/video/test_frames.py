"""Other video models behind the same protocol, tiny and random: their frames come back as latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLLTX2Video,
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    SanaWMPipeline,
    SanaWMTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from omni_gen3d.errors import InputError
from omni_gen3d.geometry import intrinsics_from_focal
from omni_gen3d.video.backend import Shot
from omni_gen3d.video.frames import SanaWmBackend, WanVaceBackend, load_pipeline
from omni_gen3d.video.gen3c.trajectories import release_trajectories
from omni_gen3d.video.tokenizer import encode_raw

WIDTH, HEIGHT, FRAMES = 96, 64, 9


def words() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(WordLevel({"<pad>": 0, "<eos>": 1, "<unk>": 2, "room": 3}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", bos_token="<eos>"
    )


def wan_pipeline() -> WanVACEPipeline:
    torch.manual_seed(0)
    text = UMT5Config(vocab_size=8, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return WanVACEPipeline(
        tokenizer=words(),  # pyright: ignore[reportArgumentType]
        text_encoder=UMT5EncoderModel(text).eval(),
        vae=AutoencoderKLWan(
            base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        transformer=WanVACETransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            text_dim=16,
            ffn_dim=32,
            num_layers=2,
            rope_max_seq_len=32,
            vace_layers=[0, 1],
        ),
    )


def sana_pipeline() -> SanaWMPipeline:
    torch.manual_seed(0)
    text = Gemma2Config(
        vocab_size=8,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    vae = AutoencoderKLLTX2Video(
        latent_channels=8,
        block_out_channels=(8, 16, 32, 64),
        decoder_block_out_channels=(8, 16, 32),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        spatial_compression_ratio=32,
        temporal_compression_ratio=8,
    )
    transformer = SanaWMTransformer3DModel(
        in_channels=8,
        num_layers=2,
        hidden_size=48,
        num_attention_heads=2,
        linear_head_dim=24,
        chunk_plucker_post_attn_blocks=2,
        caption_channels=16,
        mixed_precision="fp32",
    )
    for parameter in transformer.parameters():  # what starts at zero would not hear the cameras
        torch.nn.init.normal_(parameter, std=0.1)
    return SanaWMPipeline(
        tokenizer=words(),  # pyright: ignore[reportArgumentType]
        text_encoder=Gemma2ForCausalLM(text).eval(),  # pyright: ignore[reportArgumentType]
        vae=vae,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


@pytest.fixture
def shot() -> Shot:
    generator = torch.Generator().manual_seed(1)
    return Shot(
        name="left",
        picture=torch.rand(3, HEIGHT, WIDTH, generator=generator) * 2 - 1,
        depth=torch.linspace(0.8, 1.2, WIDTH).expand(HEIGHT, WIDTH).contiguous(),
        intrinsics=intrinsics_from_focal(50.0, WIDTH, HEIGHT).float(),
        camera_to_first=release_trajectories(FRAMES, generator)[0],
        prompt="room",
        seed=5,
    )


BACKENDS = {"wan": (WanVaceBackend, wan_pipeline), "sana": (SanaWmBackend, sana_pipeline)}


@pytest.mark.parametrize("name", BACKENDS)
def test_frames_come_back_as_latents(name: str, tokenizer: Any, shot: Shot) -> None:
    """Of the decoder's shape, the same for the same seed, others for another; the steps are heard."""
    backend_class, pipeline = BACKENDS[name]
    made = pipeline()
    made.set_progress_bar_config(disable=True)
    backend = backend_class(made, tokenizer, torch.device("cpu"), torch.float32, steps=2)
    heard: list[float] = []
    latents = backend.imagine(shot, heard.append)
    assert latents.shape == (16, (FRAMES - 1) // 8 + 1, HEIGHT // 8, WIDTH // 8)
    assert heard == [0.0, 0.5, 1.0]
    assert torch.equal(backend.imagine(shot, heard.append), latents)
    other = Shot(**{**vars(shot), "seed": 6})
    assert not torch.equal(backend.imagine(other, heard.append), latents)
    turned = Shot(**{**vars(shot), "camera_to_first": release_trajectories(FRAMES, torch.Generator())[4]})
    assert not torch.equal(backend.imagine(turned, heard.append), latents)


def test_vace_sees_cache_and_holes(tokenizer: Any, shot: Shot) -> None:
    """Its video is the warped cache, grey in the holes; its mask is white there; its frames are encoded as they are."""
    told: dict[str, Any] = {}
    frames = torch.rand(FRAMES, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2))

    def pipeline(**arguments: Any) -> Any:
        told.update(arguments)
        return type("Output", (), {"frames": [frames]})

    backend = WanVaceBackend(pipeline, tokenizer, torch.device("cpu"), torch.float32, steps=2)
    latents = backend.imagine(shot, lambda share: None)
    wanted = encode_raw(tokenizer, frames.movedim(0, 1)[None] * 2 - 1)[0]
    torch.testing.assert_close(latents, wanted)
    last = torch.stack([torch.from_numpy(np.array(told[name][-1])).flatten(0, 1) for name in ("video", "mask")])
    hole = last[1, :, 0] == 255
    assert 0 < int(hole.sum()) < hole.numel() and set(last[1].flatten().tolist()) == {0, 255}
    assert (last[0][hole] == 128).all()
    assert len(told["video"]) == FRAMES and told["video"][0].size == (WIDTH, HEIGHT)


def test_frames_of_another_size_are_refused(tokenizer: Any, shot: Shot) -> None:
    """A model that rounds sizes on its own would shift every ray."""
    smaller = type("Output", (), {"frames": [torch.rand(FRAMES, 3, HEIGHT, WIDTH // 2)]})
    backend = WanVaceBackend(lambda **_: smaller, tokenizer, torch.device("cpu"), torch.float32, steps=2)
    with pytest.raises(InputError, match=f"{WIDTH // 2}x{HEIGHT} where 9 of {WIDTH}x{HEIGHT}"):
        backend.imagine(shot, lambda share: None)


def test_pipelines_are_read_from_a_folder(tmp_path: Path) -> None:
    """What was saved is loaded; a folder without one is refused in a sentence."""
    wan_pipeline().save_pretrained(tmp_path / "wan")
    loaded = load_pipeline("WanVACEPipeline", tmp_path / "wan", torch.device("cpu"))
    assert isinstance(loaded, WanVACEPipeline)
    with pytest.raises(InputError, match="does not hold a WanVACEPipeline"):
        load_pipeline("WanVACEPipeline", tmp_path, torch.device("cpu"))
