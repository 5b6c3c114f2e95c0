"""Time and memory of GEN3C at full size with random weights: one denoising step, each speed-up, the memory plans.

A step is two passes through the transformer, and a trajectory 35 steps; its minutes are projected from one pass or
step. Nothing else of a trajectory takes more than seconds.
"""

from __future__ import annotations

import gc
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCosmos

from omni_gen3d.bench.clock import Clock, Timing
from omni_gen3d.bench.report import Check, Value
from omni_gen3d.geometry import intrinsics_from_fov
from omni_gen3d.video.gen3c.cache import warp
from omni_gen3d.video.gen3c.memory import MemoryPlan, Workload, plan_memory
from omni_gen3d.video.gen3c.network import (
    CACHE_CHANNELS,
    LATENT_CHANNELS,
    TEXT_CHANNELS,
    TEXT_TOKENS,
    Gen3cTransformer,
    random_network,
)
from omni_gen3d.video.gen3c.placement import cache_steps, limit_memory, place
from omni_gen3d.video.gen3c.sampling import STEPS, Conditions, predict, sample
from omni_gen3d.video.gen3c.trajectories import release_trajectories
from omni_gen3d.video.tokenizer import accelerate_tokenizer, encode_raw

PLAN_LIMITS_GB = (24.0, 16.0)
# What the release's users report for one trajectory on an A100 or H100.
_RELEASE_MINUTES = 12.0
_PASSES = 2
_PLENTY_GB = 1000.0


class _Gen3cBench:
    """Rows so far, and the inputs that every measurement shares."""

    def __init__(self, clock: Clock, frames: int, height: int, width: int, sizes: Mapping[str, Any]) -> None:
        self.clock, self.device, self.sizes = clock, clock.device, sizes
        self.frames, self.height, self.width = frames, height, width
        self.dtype = torch.bfloat16 if clock.device.type == "cuda" else torch.float32
        self.rows: list[dict[str, Value]] = []
        self.latents = (1, LATENT_CHANNELS, (frames - 1) // 8 + 1, height // 8, width // 8)
        self.conditions = self._random_conditions(self.latents)

    def _random_conditions(self, latents: tuple[int, ...]) -> Conditions:
        text = torch.randn(1, TEXT_TOKENS, self.sizes.get("text_embed_dim", TEXT_CHANNELS), device=self.device)
        cache = torch.randn(1, CACHE_CHANNELS, *latents[2:], device=self.device)
        return Conditions(torch.randn(latents, device=self.device), cache, text, text)

    def network(self) -> Gen3cTransformer:
        """A fresh one; the last one's memory is free only when the references inside it are collected."""
        gc.collect()
        return random_network(self.device, self.dtype, **self.sizes)

    def note(self, what: str, timing: Timing, passes: int) -> float:
        """Append a row; returns the seconds of one step."""
        step = timing.median * _PASSES / passes
        self.rows.append({"what": what, **timing.row(), "step_s": step, "minutes": STEPS * step / 60})
        return step

    def run_pass(self, network: Gen3cTransformer, conditions: Conditions | None = None) -> torch.Tensor:
        conditions = conditions or self.conditions
        timestep = torch.tensor(0.25, device=self.device)
        return predict(network, conditions, conditions.first, timestep, "guided", self.dtype)

    def time_pass(self, what: str, network: Gen3cTransformer, warm_up: Callable[[], object] | None = None) -> Timing:
        """One pass after a warm-up, by default at two latent frames."""
        small = self._random_conditions((*self.latents[:2], 2, *self.latents[3:]))
        run = warm_up or (lambda: self.run_pass(network, small))
        timing = self.clock.measure(f"pass, {what}", lambda: self.run_pass(network), repeats=1, warm_up=run)
        self.note(f"GEN3C pass, {what}", timing, passes=1)
        return timing

    def time_step(self, what: str, network: Gen3cTransformer) -> Timing:
        """One whole denoising step, both passes, through the sampler."""
        noise = torch.randn(self.latents, device=self.device)

        def step() -> object:
            return sample(network, self.conditions, noise, noise, steps=1, dtype=self.dtype)

        timing = self.clock.measure(f"step, {what}", step, repeats=1, warm_up=lambda: self.run_pass(network))
        self.note(f"GEN3C step, {what}", timing, passes=_PASSES)
        return timing

    def peak_of_stages(
        self, what: str, network: Gen3cTransformer, warm_up: Callable[[], object] | None = None
    ) -> float | None:
        """Time a pass, then the 3D cache and the tokenizer beside the network; returns the highest peak [GB]."""
        timings = [self.time_pass(what, network, warm_up), self.time_warp(), self.time_tokenizer()]
        peaks = [timing.reserved_gb for timing in timings]
        return max((peak for peak in peaks if peak is not None), default=None)

    def time_warp(self) -> Timing:
        """The 3D cache along one trajectory, foreground masking included, over depth with steps in it."""
        intrinsics = intrinsics_from_fov(math.radians(65.0), self.width, self.height).to(self.device, torch.float32)
        picture = torch.rand(3, self.height, self.width, device=self.device) * 2 - 1
        coarse = torch.rand(1, 1, self.height // 16, self.width // 16, device=self.device) + 0.5
        depth = F.interpolate(coarse, (self.height, self.width))[0, 0]
        cameras = release_trajectories(self.frames, torch.Generator(self.device).manual_seed(0))[-1]
        timing = self.clock.measure("3D cache", lambda: warp(picture, depth, intrinsics, cameras), repeats=1)
        self.rows.append({"what": "3D cache, one trajectory", **timing.row()})
        return timing

    def time_tokenizer(self) -> Timing:
        """Encode one trajectory's video; four of them and the first frame are encoded for each trajectory."""
        tokenizer = AutoencoderKLCosmos(
            latent_channels=16,
            encoder_block_out_channels=(128, 256, 512, 512),
            decode_block_out_channels=(256, 512, 512, 512),
            attention_resolutions=(32,),
            resolution=1024,
            num_layers=2,
            patch_size=4,
            spatial_compression_ratio=8,
            temporal_compression_ratio=8,
        )
        tokenizer.to(self.device, self.dtype)  # pyright: ignore[reportArgumentType]
        accelerate_tokenizer(tokenizer.eval().requires_grad_(False))
        video = torch.rand(1, 3, self.frames, self.height, self.width, device=self.device, dtype=self.dtype)
        timing = self.clock.measure("tokenizer", lambda: encode_raw(tokenizer, video), repeats=1)
        self.rows.append({"what": "tokenizer, one video", **timing.row()})
        return timing


@torch.no_grad()
def bench_gen3c(
    clock: Clock,
    *,
    frames: int,
    width: int,
    height: int,
    decoder_gb: float | None,
    sizes: Mapping[str, Any] | None = None,
) -> tuple[list[dict[str, Value]], list[Check]]:
    """Measure the tokenizer and the transformer, of official size unless told otherwise.

    Args:
        clock: Its device and its deadline.
        frames: Of a trajectory, ``8 k + 1``.
        width: Of the video [pixels].
        height: Of the video [pixels].
        decoder_gb: Peak of the decoder on all trajectories, which is a stage of every plan.
        sizes: Keywords of ``build_network`` in place of the official ones.
    """
    bench = _Gen3cBench(clock, frames, height, width, sizes or {})
    network = bench.network()
    workload = Workload(
        frames=frames,
        height=height,
        width=width,
        channels=network.patch_embed.proj.out_features,
        layers=len(network.transformer_blocks),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
    )
    wide, narrow = (
        plan_memory(workload, card_gb=_PLENTY_GB, host_gb=_PLENTY_GB, limit_gb=limit) for limit in PLAN_LIMITS_GB
    )
    for limit, plan in zip(PLAN_LIMITS_GB, (wide, narrow), strict=True):
        clock.tell(f"within {limit:g} GB: {plan}")
    bench.time_pass("diffusers as it is", network)
    place(network, wide, clock.device)
    peaks = [bench.peak_of_stages("cuDNN attention", network)]
    cache_steps(network, threshold=float("inf"))
    bench.time_pass("step cache, skipped", network, warm_up=lambda: bench.run_pass(network))
    network.disable_cache()
    if clock.device.type == "cuda" and clock.left():
        peaks.append(_within(bench, network, narrow, PLAN_LIMITS_GB[1]))
    del network
    if clock.left():
        network = bench.network()
        place(network, MemoryPlan("float8", resident=True, stages_gb={}, host_gb=0.0), clock.device)
        bench.time_pass("float8 weights", network)
        del network
    if clock.left():
        network = bench.network()
        place(network, wide, clock.device)
        network.compile_repeated_blocks(dynamic=False)
        bench.time_step("compiled", network)
        del network
    return bench.rows, _checks(bench, peaks, decoder_gb)


def _within(bench: _Gen3cBench, network: Gen3cTransformer, plan: MemoryPlan, limit_gb: float) -> float | None:
    """Peak of the stages under a plan, while the allocator is held to its limit."""
    place(network, plan, bench.device)
    torch.cuda.empty_cache()
    limit_memory(bench.device, limit_gb)
    try:
        # The first pass records the order of the blocks.
        return bench.peak_of_stages("streamed weights", network, warm_up=lambda: bench.run_pass(network))
    finally:
        limit_memory(bench.device, _PLENTY_GB)


def _checks(bench: _Gen3cBench, peaks: Sequence[float | None], decoder_gb: float | None) -> list[Check]:
    minutes = [row["minutes"] for row in bench.rows if "minutes" in row and "skipped" not in str(row["what"])]
    checks = [Check("gen3c_minutes_a_trajectory", min(float(value or 0) for value in minutes), "<=", _RELEASE_MINUTES)]
    context = _context_gb(bench.device)
    for limit, peak in itertools.zip_longest(PLAN_LIMITS_GB, peaks):
        whole = None if peak is None or decoder_gb is None else max(peak, decoder_gb) + context
        checks.append(Check(f"plan_{limit:.0f}_gb_peak_gb", whole, "<=", limit))
    return checks


def _context_gb(device: torch.device) -> float:
    """What the driver holds beside the allocator's memory."""
    if device.type != "cuda":
        return 0.0
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    return (total - free - torch.cuda.memory_reserved(device)) / 1e9
