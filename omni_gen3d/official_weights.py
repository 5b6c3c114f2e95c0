"""Where the official weights lie: in a folder of the user's or in the hub's cache. Nothing is ever downloaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from omni_gen3d.errors import InputError

_OPEN_MODEL = "NVIDIA Open Model License"


@dataclass(frozen=True)
class OfficialFile:
    """One file that its owner publishes.

    Attributes:
        what: Its role.
        repository: On the Hugging Face hub.
        file: Path inside it.
        licence: That its user accepts.
    """

    what: str
    repository: str
    file: str
    licence: str

    @property
    def url(self) -> str:
        return f"https://huggingface.co/{self.repository}"

    @property
    def local(self) -> Path:
        """Below a folder of weights laid out as the release's ``checkpoints``."""
        return Path(self.repository.split("/")[-1], self.file)


GEN3C = OfficialFile("the video model GEN3C", "nvidia/Gen3C-Cosmos-7B", "model.pt", _OPEN_MODEL)
DECODER = OfficialFile("the 3DGS decoder of Lyra", "nvidia/Lyra", "lyra_static.pt", _OPEN_MODEL)
TOKENIZER = OfficialFile(
    "the video tokenizer in diffusers' format",
    "nvidia/Cosmos-1.0-Diffusion-7B-Video2World",
    "vae/config.json",
    _OPEN_MODEL,
)
TEXT_EMBEDDINGS = "text_embeddings.safetensors"


def model_of(what: str, repository: str, file: str = "config.json") -> OfficialFile:
    """A model that a preset names; its licence stands on its page."""
    return OfficialFile(what, repository, file, "see its page")


def find(wanted: OfficialFile, weights: Path | None) -> Path:
    """The file on this machine.

    Args:
        wanted: What to look for.
        weights: A folder laid out as ``<name of the repository>/<file>``; None looks into the hub's cache.

    Raises:
        InputError: It is not there; the message says where its owner publishes it and under which licence.
    """
    if weights is not None:
        path = weights / wanted.local
        if path.is_file():
            return path
        where = f"{path} is missing"
    else:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(wanted.repository, wanted.file)
        if isinstance(cached, str | os.PathLike):
            return Path(cached)
        where = f"{wanted.file} of {wanted.repository} is not in the hub's cache"
    raise InputError(
        f"{where}: {wanted.what}, published at {wanted.url} (licence: {wanted.licence}). Fetch it there, for example "
        f"with: hf download {wanted.repository} {wanted.file}"
        + (f" --local-dir {weights / wanted.local.parts[0]}" if weights is not None else "")
        + (". The other files of its folder are needed, too." if wanted.file.endswith(".json") else ".")
    )


def find_embeddings(weights: Path | None) -> Path:
    """The file of embedded prompts: in the folder of weights, else beside the hub's cache.

    Raises:
        InputError: It is not there; the message says how to make it.
    """
    path = embeddings_path(weights)
    if not path.is_file():
        raise InputError(
            f"{path} is missing: GEN3C's two text embeddings, made once from the T5 encoder published at "
            "https://huggingface.co/google-t5/t5-11b (licence: Apache-2.0). Make it with: omni-gen3d lyra embed-text "
            f"--t5 DIR --out {path}"
        )
    return path


def embeddings_path(weights: Path | None) -> Path:
    """Where the embedded prompts are kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "omni_gen3d"
    return (cache if weights is None else weights) / TEXT_EMBEDDINGS
