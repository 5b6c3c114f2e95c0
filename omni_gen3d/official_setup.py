"""What a run of the official family needs before it starts: its files, its devices, its memory plan, its networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import torch

from omni_gen3d.config import Preset
from omni_gen3d.errors import InputError
from omni_gen3d.official_weights import (
    DECODER,
    GEN3C,
    TOKENIZER,
    find,
    find_embeddings,
    model_of,
)
from omni_gen3d.request import OfficialOptions
from omni_gen3d.tensor_file import refuse_infinities
from omni_gen3d.video.backend import VideoBackend, working_on
from omni_gen3d.video.frames import SanaWmBackend, WanVaceBackend, load_pipeline
from omni_gen3d.video.gen3c.backend import Gen3cBackend
from omni_gen3d.video.gen3c.checkpoint import load_network, read_network
from omni_gen3d.video.gen3c.memory import MemoryPlan, Weights, Workload, available_plans, free_memory, plan_memory
from omni_gen3d.video.gen3c.placement import cache_steps, limit_memory, place
from omni_gen3d.video.gen3c.text import read_embeddings
from omni_gen3d.video.tokenizer import accelerate_tokenizer

if TYPE_CHECKING:
    from diffusers import AutoencoderKLCosmos

_FRAME_BACKENDS = {"wan-vace": ("WanVACEPipeline", WanVaceBackend), "sana-wm": ("SanaWMPipeline", SanaWmBackend)}
BACKENDS = ("gen3c", *_FRAME_BACKENDS)


@dataclass(frozen=True)
class OfficialFiles:
    """Where everything lies that a run reads.

    Attributes:
        tokenizer: Folder.
        decoder: File.
        depth: Folder.
        video: GEN3C's file, or the folder of another backend's pipeline.
        texts: File of embedded prompts, of GEN3C alone.
        picture: Folder of the text-to-image pipeline, where a prompt has to become a picture.
    """

    tokenizer: Path
    decoder: Path
    depth: Path
    video: Path
    texts: Path | None
    picture: Path | None


def find_files(settings: Preset, weights: Path | None, *, needs_picture: bool) -> OfficialFiles:
    """Find all of them before anything is loaded.

    Raises:
        InputError: One is missing; the message says where its owner publishes it.
    """
    if settings.backend not in BACKENDS:
        raise InputError(f"the preset's backend is {settings.backend!r}; allowed are {', '.join(BACKENDS)}.")
    if weights is not None and not weights.is_dir():
        raise InputError(f"the weights are sought in {weights}, which is no folder; docs/models.md says what it holds.")
    own = settings.backend == "gen3c"
    video = GEN3C if own else model_of("the video model", settings.video_model, "model_index.json")
    found = find(video, weights)
    picture = model_of("the text-to-image pipeline", settings.picture_model, "model_index.json")
    return OfficialFiles(
        video=found if own else found.parent,
        tokenizer=find(TOKENIZER, weights).parent,
        decoder=find(DECODER, weights),
        texts=find_embeddings(weights) if own else None,
        depth=find(model_of("the depth model", settings.depth_model), weights).parent,
        picture=find(picture, weights).parent if needs_picture else None,
    )


def devices_of(device: torch.device) -> list[torch.device]:
    """Every card, or the CPU."""
    if device.type == "cpu":
        return [device]
    return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]


def network_type(device: torch.device) -> torch.dtype:
    """In which networks run there."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def make_plan(
    settings: Preset, files: OfficialFiles, devices: list[torch.device], options: OfficialOptions
) -> MemoryPlan | None:
    """The memory plan that all devices can keep; None for backends that it does not know.

    Raises:
        InputError: The checkpoint is not GEN3C's, or no plan fits.
    """
    if settings.weights_type and settings.weights_type not in get_args(Weights):
        raise InputError(
            f"the preset's weights_type is {settings.weights_type!r}; allowed are {', '.join(get_args(Weights))}, and "
            "nothing for what fits."
        )
    limited = options.max_memory is not None
    if limited and (settings.backend != "gen3c" or devices[0].type == "cpu"):
        raise InputError("max_memory is kept for GEN3C on a card; leave it out for other backends and on the CPU.")
    if settings.backend != "gen3c":
        return None
    network = read_network(files.video)
    workload = Workload(
        frames=settings.num_frames,
        height=settings.height,
        width=settings.width,
        channels=network.patch_embed.proj.out_features,
        layers=len(network.transformer_blocks),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
    )
    if devices[0].type == "cpu":
        return available_plans(workload)[0]
    free = [free_memory(device) for device in devices]
    weights: Weights | None = settings.weights_type or None  # pyright: ignore[reportAssignmentType]
    return plan_memory(
        workload,
        card_gb=min(card for card, _ in free),
        host_gb=free[0][1] / len(devices),
        weights=weights,
        limit_gb=options.max_memory,
    )


def load_tokenizer(folder: Path, device: torch.device) -> AutoencoderKLCosmos:
    """The video tokenizer with the faster layers.

    Raises:
        InputError: The folder does not hold it.
    """
    from diffusers import AutoencoderKLCosmos

    try:
        tokenizer = AutoencoderKLCosmos.from_pretrained(
            folder, dtype=network_type(device), local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{folder} does not hold the video tokenizer: {first}") from error
    if tokenizer.config["latents_mean"] is None or tokenizer.config["patch_size"] != 4:
        raise InputError(f"the tokenizer in {folder} lacks latents_mean or has patches of another size than 4.")
    refuse_infinities(folder, tokenizer.state_dict(), hint="Fetch it again.")
    tokenizer.to(device)  # pyright: ignore[reportArgumentType]
    return accelerate_tokenizer(tokenizer.eval().requires_grad_(False))


def backend_maker(
    settings: Preset, files: OfficialFiles, steps: int, plan: MemoryPlan | None, options: OfficialOptions
) -> Callable[[torch.device], VideoBackend]:
    """A function that loads the preset's video model onto a device."""

    def make(device: torch.device) -> VideoBackend:
        with working_on(device):
            return gen3c(device) if settings.backend == "gen3c" else frame_backend(device)

    def frame_backend(device: torch.device) -> VideoBackend:
        class_name, backend = _FRAME_BACKENDS[settings.backend]
        pipeline = load_pipeline(class_name, files.video, device)
        tokenizer = load_tokenizer(files.tokenizer, device)
        return backend(pipeline, tokenizer, device, network_type(device), steps, settings.video_guidance)

    def gen3c(device: torch.device) -> VideoBackend:
        assert plan is not None and files.texts is not None
        if options.max_memory is not None:
            limit_memory(device, options.max_memory)
        dtype = network_type(device)
        network = load_network(files.video, device=device if plan.resident else "cpu", dtype=dtype)
        place(network, plan, device)
        if settings.step_cache:
            cache_steps(network, settings.step_cache)
        if settings.compiled and plan.resident:  # streamed blocks change their storage at every pass
            network.compile_repeated_blocks(dynamic=False)
        tokenizer, texts = load_tokenizer(files.tokenizer, device), read_embeddings(files.texts)
        return Gen3cBackend(tokenizer, network, texts, device, dtype, steps, settings.video_guidance)

    return make
