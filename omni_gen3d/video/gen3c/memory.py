"""What a card holds: how much each stage of the official model needs, and the plan that fits into what is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from omni_gen3d.errors import InputError

Weights = Literal["bfloat16", "float8"]

# Measured on one NVIDIA H100 by `bench lyra`, PyTorch 2.11. Bytes that a stage holds beside its weights: for a token
# and channel of the transformer, for a pixel and frame of the tokenizer, for a token of the decoder.
_PASS_BYTES = 29.5
_TOKENIZER_BYTES = 55.0
_DECODER_BYTES = 21_000.0
_TOKENIZER_GB, _DECODER_GB = 0.21, 0.14
# The CUDA context, which the allocator does not count, 0.7 GB, and what lies idle between the allocator's blocks.
_OVERHEAD_GB = 2.0
# Blocks on the card while their neighbours travel: the one at work, the next one and the one that leaves.
_BLOCKS_IN_FLIGHT = 3
_FLOAT8_SHARE = 0.55  # of the bytes in bfloat16; adaptive norms and embeddings keep their type


@dataclass(frozen=True)
class Workload:
    """Sizes that decide how much memory is needed; the defaults are the official ones.

    Attributes:
        frames: Of each trajectory.
        height: Of the frames [pixels].
        width: Of the frames [pixels].
        views: Trajectories that the decoder fuses.
        channels: Of the transformer.
        layers: Its blocks.
        parameters: Of the whole transformer.
    """

    frames: int = 121
    height: int = 704
    width: int = 1280
    views: int = 6
    channels: int = 4096
    layers: int = 28
    parameters: int = 7_237_257_216

    @property
    def tokens(self) -> int:
        """Of one trajectory, in the transformer and in the decoder alike."""
        return ((self.frames - 1) // 8 + 1) * (self.height // 16) * (self.width // 16)


@dataclass(frozen=True)
class MemoryPlan:
    """Where the transformer's weights lie and what each stage then takes.

    Attributes:
        weights: Type in which they are stored; products are always in bfloat16.
        resident: They lie on the card; else they travel block by block, prefetched on a second stream.
        stages_gb: Expected peak of each stage on the card, CUDA context included [GB].
        host_gb: Pinned memory that streaming takes [GB].
    """

    weights: Weights
    resident: bool
    stages_gb: dict[str, float]
    host_gb: float

    @property
    def peak_gb(self) -> float:
        return max(self.stages_gb.values())

    def __str__(self) -> str:
        where = "on the card" if self.resident else f"streamed from {self.host_gb:.1f} GB of pinned host memory"
        stages = ", ".join(f"{name} {gb:.1f} GB" for name, gb in self.stages_gb.items())
        return f"transformer in {self.weights} {where}; expected peaks: {stages}"


def available_plans(workload: Workload) -> list[MemoryPlan]:
    """Every way to run it, the best pictures and the quickest first."""
    tokenizer = (
        _TOKENIZER_GB + _OVERHEAD_GB + workload.frames * workload.height * workload.width * _TOKENIZER_BYTES / 1e9
    )
    decoder = _DECODER_GB + _OVERHEAD_GB + workload.views * workload.tokens * _DECODER_BYTES / 1e9
    activations = _OVERHEAD_GB + workload.tokens * workload.channels * _PASS_BYTES / 1e9
    plans = []
    for weights in ("bfloat16", "float8"):
        total = 2 * workload.parameters / 1e9 * (1.0 if weights == "bfloat16" else _FLOAT8_SHARE)
        for resident in (True, False):
            held = total if resident else total / workload.layers * min(_BLOCKS_IN_FLIGHT, workload.layers)
            stages = {"tokenizer": tokenizer + held, "transformer": activations + held, "decoder": decoder}
            plans.append(MemoryPlan(weights, resident, stages, 0.0 if resident else total))
    return plans


def plan_memory(
    workload: Workload, *, card_gb: float, host_gb: float, weights: Weights | None = None, limit_gb: float | None = None
) -> MemoryPlan:
    """The first plan that fits.

    Args:
        workload: What is to run.
        card_gb: Free memory of the card [GB].
        host_gb: Free memory of the machine [GB].
        weights: Insist on this type.
        limit_gb: Use no more of the card than this [GB].

    Raises:
        InputError: None fits; the message says how much is needed.
    """
    allowed = card_gb if limit_gb is None else min(card_gb, limit_gb)
    plans = [plan for plan in available_plans(workload) if weights in (None, plan.weights)]
    for plan in plans:
        if plan.peak_gb <= allowed and plan.host_gb <= host_gb:
            return plan
    least = min(plans, key=lambda plan: plan.peak_gb)
    what = f"--max-memory is {limit_gb:g} GB" if limit_gb is not None and limit_gb < card_gb else "of the card"
    have = what if what != "of the card" else f"{card_gb:.1f} GB of the card are free"
    fits_card = [plan for plan in plans if plan.peak_gb <= allowed]
    if fits_card:
        need = min(plan.host_gb for plan in fits_card)
        raise InputError(
            f"{have} and {host_gb:.1f} GB of the machine's memory: with so little on the card the weights are "
            f"streamed, which needs {need:.1f} GB of the machine's. Free some, or allow the card more."
        )
    raise InputError(
        f"{have}; this size needs at least {least.peak_gb:.1f} GB on the card ({least}). Allow that much, or take a "
        "smaller preset."
    )


def free_memory(device: torch.device) -> tuple[float, float]:
    """Free memory of the card and of the machine [GB]; a machine without a card counts its own twice."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line)
    host = float(fields["MemAvailable"].split()[0]) * 1024 / 1e9
    return (torch.cuda.mem_get_info(device)[0] / 1e9 if device.type == "cuda" else host), host
