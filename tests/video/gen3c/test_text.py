"""Embedded prompts: made once by a T5, read without it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel
from typer.testing import CliRunner

from omni_gen3d.cli import app
from omni_gen3d.errors import InputError
from omni_gen3d.video.gen3c.network import TEXT_CHANNELS, TEXT_TOKENS
from omni_gen3d.video.gen3c.text import NEGATIVE, embed_prompts, prompt_key, read_embeddings


def save_t5(folder: Path, width: int) -> Path:
    torch.manual_seed(0)
    encoder = T5Config(vocab_size=8, d_model=width, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    T5EncoderModel(encoder).save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "room": 4}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


def test_prompts_are_embedded_and_read_back(tmp_path: Path) -> None:
    """The two and one more, zero beyond their words; the command writes the file where the preset looks."""
    t5 = save_t5(tmp_path / "t5", TEXT_CHANNELS)
    arguments = ["lyra", "embed-text", "--t5", str(t5), "--prompt", "a room", "--weights", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    path = tmp_path / "text_embeddings.safetensors"
    assert result.stdout.strip() == str(path)
    texts = read_embeddings(path)
    room = texts.of("a room")
    assert room.shape == (TEXT_TOKENS, TEXT_CHANNELS) and torch.equal(texts.of(" a room "), room)
    assert room[:2].abs().amin() >= 0 and float(room[:2].abs().sum()) > 0 and not room[2:].any()
    assert float(texts.of(None).abs().sum()) > 0 and not torch.equal(texts.of(None), room)
    with pytest.raises(InputError, match=r"'a hall'.*embed-text --t5"):
        texts.of("a hall")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t5", "text_embeddings.safetensors"]


def test_what_is_no_t5_is_refused(tmp_path: Path) -> None:
    """An empty folder, an encoder of another width, a file of another kind."""
    with pytest.raises(InputError, match=r"holds no T5.*t5-11b"):
        embed_prompts(tmp_path, tmp_path / "out.safetensors")
    small = save_t5(tmp_path / "small", 8)
    with pytest.raises(InputError, match="8 channels wide"):
        embed_prompts(small, tmp_path / "out.safetensors")
    with pytest.raises(InputError, match=r"'\.npz'"):
        embed_prompts(small, tmp_path / "out.npz")
    assert not (tmp_path / "out.safetensors").exists()


def test_incomplete_files_are_refused(tmp_path: Path) -> None:
    """Missing, or without one of the two embeddings that every run needs."""
    with pytest.raises(InputError, match="embed-text"):
        read_embeddings(tmp_path / "none.safetensors")
    for kept in (NEGATIVE, prompt_key("")):
        save_file({kept: torch.zeros(2, 2)}, tmp_path / "half.safetensors")
        with pytest.raises(InputError, match="lacks the embedding"):
            read_embeddings(tmp_path / "half.safetensors")
