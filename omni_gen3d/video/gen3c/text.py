"""Embedded prompts: what an 11 B text encoder says about them, computed once and kept in a file of a few megabytes."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from omni_gen3d.errors import InputError
from omni_gen3d.tensor_file import read_tensors
from omni_gen3d.video.gen3c.network import TEXT_CHANNELS, TEXT_TOKENS

NEGATIVE = "negative"
EMPTY_PROMPT = ""
_MAX_FILE_BYTES = 2**30


@dataclass(frozen=True)
class PromptEmbeddings:
    """Embeddings by prompt.

    Attributes:
        path: Where they were read.
        tensors: The negative prompt's under ``negative``, the others' under the digest of their text; ``(512, 1024)``.
    """

    path: Path
    tensors: dict[str, torch.Tensor]

    def of(self, prompt: str | None) -> torch.Tensor:
        """The embedding of a prompt, of the negative one for None.

        Raises:
            InputError: It was not embedded.
        """
        found = self.tensors.get(NEGATIVE if prompt is None else prompt_key(prompt))
        if found is None:
            raise InputError(
                f"{self.path} holds no embedding of the prompt {prompt!r}. Embed it with the T5 at hand: omni-gen3d "
                f'lyra embed-text --t5 DIR --out {self.path} --prompt "..."; or leave the prompt out and let the '
                "picture alone decide, as the release does."
            )
        return found


def prompt_key(prompt: str) -> str:
    """The name under which a prompt's embedding is kept: a digest, for a prompt may hold any character."""
    return "prompt-" + hashlib.sha256(prompt.strip().encode()).hexdigest()[:32]


def read_embeddings(path: Path) -> PromptEmbeddings:
    """Read the file that ``embed_prompts`` wrote.

    Raises:
        InputError: It is missing, unreadable, or lacks the empty or the negative prompt.
    """
    hint = "Make it with: omni-gen3d lyra embed-text --t5 DIR (google-t5/t5-11b, 45 GB, Apache-2.0)."
    tensors = read_tensors(path, max_bytes=_MAX_FILE_BYTES, hint=hint)
    for name in (NEGATIVE, prompt_key(EMPTY_PROMPT)):
        if name not in tensors:
            raise InputError(f"{path} lacks the embedding {name!r}. {hint}")
    return PromptEmbeddings(path, tensors)


@torch.no_grad()
def embed_prompts(t5: Path, out: Path, prompts: Sequence[str] = (), *, device: torch.device | str = "cpu") -> Path:
    """Embed the empty prompt, Cosmos' negative prompt and others, and write them atomically.

    Padding beyond a prompt's tokens is zero, as Cosmos does it.

    Args:
        t5: Folder of a T5 encoder and its tokenizer, in transformers' format.
        out: The ``.safetensors`` file to write.
        prompts: To embed beside the two.
        device: Where the encoder runs.

    Raises:
        InputError: The folder holds no T5, one of another width, or ``out`` is no ``.safetensors`` file.
    """
    from diffusers.pipelines.cosmos.pipeline_cosmos_video2world import DEFAULT_NEGATIVE_PROMPT
    from transformers import AutoTokenizer, T5EncoderModel

    if out.suffix != ".safetensors":
        raise InputError(f"{out} ends in {out.suffix!r}; the embeddings go into a .safetensors file.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(t5, local_files_only=True)
        encoder = T5EncoderModel.from_pretrained(t5, local_files_only=True, dtype=torch.bfloat16)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"{t5} holds no T5 encoder ({first}); point at a local copy of google-t5/t5-11b (Apache-2.0)."
        ) from error
    encoder.to(device).eval()  # pyright: ignore[reportArgumentType]
    tensors = {}
    for name, text in [(NEGATIVE, DEFAULT_NEGATIVE_PROMPT), *((prompt_key(p), p) for p in (EMPTY_PROMPT, *prompts))]:
        tokens = tokenizer(text, padding="max_length", max_length=TEXT_TOKENS, truncation=True, return_tensors="pt").to(
            device
        )
        hidden = encoder(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state[0]
        tensors[name] = (hidden * tokens.attention_mask[0, :, None]).to("cpu", torch.bfloat16).contiguous()
    width = tensors[NEGATIVE].shape[-1]
    if width != TEXT_CHANNELS:
        raise InputError(f"the T5 in {t5} is {width} channels wide; GEN3C was trained with {TEXT_CHANNELS} (t5-11b).")
    handle, temporary = tempfile.mkstemp(dir=out.resolve().parent, prefix=f".{out.name}.")
    os.close(handle)
    try:
        save_file(tensors, temporary)
        os.replace(temporary, out)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return out
