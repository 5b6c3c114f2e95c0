"""The text encoder that comes in a package."""

from __future__ import annotations

import pytest
import torch

from omni_gen3d.errors import MissingDependencyError
from omni_gen3d.video import text
from omni_gen3d.video.text import TEXT_CHANNELS, TEXT_TOKENS, encode_text


def test_tokens_are_padded_with_zeros():
    """A prompt fills its tokens with unit-variance vectors and the rest with zeros; an empty one is all zeros."""
    vectors = encode_text(["a red chair", ""], "cpu")
    assert vectors.shape == (2, TEXT_TOKENS, TEXT_CHANNELS)
    filled = vectors[0].abs().sum(-1) > 0
    assert filled.tolist() == [True] * 5 + [False] * (TEXT_TOKENS - 5)
    torch.testing.assert_close(vectors[0, :5].std(-1), torch.ones(5), atol=0.01, rtol=0)
    assert float(vectors[1].abs().max()) == 0.0


def test_meaning_decides_the_distance():
    """A warehouse is nearer to a storage hall than to a kitchen, and the same words give the same bytes."""
    vectors = encode_text(["a warehouse", "a storage hall", "a kitchen with a fridge"], "cpu").sum(1)
    similarity = torch.nn.functional.cosine_similarity(vectors[0], vectors[1:])
    assert similarity[0] > similarity[1]
    assert torch.equal(encode_text(["a warehouse"], "cpu"), encode_text(["a warehouse"], "cpu"))


def test_unknown_weights_are_refused(monkeypatch):
    """Weights of another digest than the pinned one are not loaded."""
    monkeypatch.setattr(text, "_WEIGHTS_SHA256", "0" * 64)
    text._load.cache_clear()
    with pytest.raises(MissingDependencyError, match="digest"):
        encode_text(["a room"], "cpu")
    monkeypatch.undo()
    text._load.cache_clear()
