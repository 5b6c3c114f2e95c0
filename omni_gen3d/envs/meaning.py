"""How near environments are to a phrase, by the text encoder of the video model; loads torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omni_gen3d.envs.entry import Description
from omni_gen3d.envs.index import Index
from omni_gen3d.video.text import encode_text

_BATCH = 32


def similarities(words: str, entries: Sequence[Description], index: Index) -> list[float]:
    """Cosine between the vector of ``words`` and that of each entry, in their order.

    Vectors of entries are kept in the index; those that it lacks are computed and stored.

    Raises:
        MissingDependencyError: The text encoder is not installed.
    """
    texts = {entry.id: _text_of(entry) for entry in entries}
    with index.reading() as transaction:
        stored = transaction.embeddings()
    vectors = {
        id_: np.frombuffer(blob, dtype="<f4")
        for id_, (text, blob) in stored.items()
        if texts.get(id_) == text and len(blob) % 4 == 0
    }
    missing = [id_ for id_ in texts if id_ not in vectors]
    query, *found = embed([words, *(texts[id_] for id_ in missing)])
    vectors.update(zip(missing, found, strict=True))
    if missing:
        rows = [(id_, texts[id_], vectors[id_].astype("<f4").tobytes()) for id_ in missing]
        with index.writing() as transaction:
            transaction.put_embeddings(rows)
    return [float(vectors[entry.id] @ query) for entry in entries]


def embed(texts: Sequence[str]) -> list[np.ndarray]:
    """One unit vector for each text, the mean over its tokens, float32, shape ``(384,)``."""
    vectors: list[np.ndarray] = []
    for start in range(0, len(texts), _BATCH):
        tokens = encode_text(list(texts[start : start + _BATCH]), "cpu").numpy()
        # Padding holds zeros, so a sum over all tokens is one over those of the text, and a mean but for its length.
        sums = tokens.sum(axis=1)
        vectors.extend(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12))
    return vectors


def _text_of(entry: Description) -> str:
    words = entry.prompt or entry.title
    return ". ".join([words, *entry.tags])
