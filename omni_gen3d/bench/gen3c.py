"""Time and memory of GEN3C at full size with random weights: passes, each speed-up, the plans under their limits.

A denoising step is two passes through the transformer, and a trajectory 35 steps; its minutes are projected from one
pass. Nothing else of a trajectory takes more than seconds.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCosmos

from omni_gen3d.bench.clock import Clock, Timing
from omni_gen3d.bench.report import Findings
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

RESIDENT_GB, STREAMED_GB = 24, 16
_PASSES = 2
_PLENTY_GB = 1000.0


class Gen3cBench:
    """The measurements, each of which builds a network of its own; rows and figures go to the findings.

    Args:
        clock: Its device and its deadline.
        findings: Take rows, ``gen3c_minutes_a_trajectory``, the gains of the speed-ups, and the peak of the stages
            under each plan as ``stages_16_gb`` and ``stages_24_gb``.
        frames: Of a trajectory, ``8 k + 1``.
        width: Of the video [pixels].
        height: Of the video [pixels].
        sizes: Keywords of ``build_network`` in place of the official ones.
    """

    def __init__(
        self, clock: Clock, findings: Findings, *, frames: int, width: int, height: int, sizes: Mapping[str, Any]
    ) -> None:
        self.clock, self.device, self.findings, self.sizes = clock, clock.device, findings, sizes
        self.frames, self.height, self.width = frames, height, width
        self.dtype = torch.bfloat16 if clock.device.type == "cuda" else torch.float32
        self.latents = (1, LATENT_CHANNELS, (frames - 1) // 8 + 1, height // 8, width // 8)
        self.conditions = self._random_conditions(self.latents)

    def measure_streamed(self) -> None:
        """The stages while the allocator is held to 16 GB; the blocks travel from pinned host memory."""
        network = self._network()
        plan = self._place_within(network, STREAMED_GB)
        limit_memory(self.device, STREAMED_GB)
        try:
            # The first pass records the order of the blocks.
            self._peak_of_stages("streamed, 16 GB", network, STREAMED_GB, plan, lambda: self._run_pass(network))
        finally:
            limit_memory(self.device, _PLENTY_GB)

    def measure_resident(self) -> None:
        """The stages while the allocator is held to 24 GB, weights on the card; then the step cache, then compiled."""
        network = self._network()
        plan = self._place_within(network, RESIDENT_GB)
        limit_memory(self.device, RESIDENT_GB)
        try:
            plain = self._peak_of_stages("cuDNN attention, 24 GB", network, RESIDENT_GB, plan)
        finally:
            limit_memory(self.device, _PLENTY_GB)
        self.findings.figure("gen3c_minutes_a_trajectory", STEPS * _PASSES * plain.median / 60)
        if self.clock.left():
            cache_steps(network, threshold=float("inf"))
            skipped = self._time_pass("step cache, skipped", network, lambda: self._run_pass(network))
            self.findings.figure("step_cache_skipped_pass_gain", plain.median / skipped.median)
            network.disable_cache()
        if self.clock.left():
            network.compile_repeated_blocks(dynamic=False)
            compiled = self._time_pass("compiled", network, lambda: self._run_pass(network))
            self.findings.figure("compiled_gain", plain.median / compiled.median)

    def measure_others(self) -> None:
        """One whole step through the sampler, float8 weights, and diffusers' attention as it is."""
        network = self._network()
        self._time_pass("diffusers as it is", network)
        place(network, MemoryPlan("bfloat16", resident=True, stages_gb={}, host_gb=0.0), self.device)
        if self.clock.left():
            self._time_step("cuDNN attention", network)
        if self.clock.left():
            place(network, MemoryPlan("float8", resident=True, stages_gb={}, host_gb=0.0), self.device)
            self._time_pass("float8 weights", network)

    def _random_conditions(self, latents: tuple[int, ...]) -> Conditions:
        text = torch.randn(1, TEXT_TOKENS, self.sizes.get("text_embed_dim", TEXT_CHANNELS), device=self.device)
        cache = torch.randn(1, CACHE_CHANNELS, *latents[2:], device=self.device)
        return Conditions(torch.randn(latents, device=self.device), cache, text, text)

    def _network(self) -> Gen3cTransformer:
        """A fresh one; the last one's memory is free only when the references inside it are collected."""
        gc.collect()
        self.clock.tell("GEN3C: random weights ...")
        return random_network(self.device, self.dtype, **self.sizes)

    def _place_within(self, network: Gen3cTransformer, limit_gb: float) -> MemoryPlan:
        workload = Workload(
            frames=self.frames,
            height=self.height,
            width=self.width,
            channels=network.patch_embed.proj.out_features,
            layers=len(network.transformer_blocks),
            parameters=sum(parameter.numel() for parameter in network.parameters()),
        )
        plan = plan_memory(workload, card_gb=_PLENTY_GB, host_gb=_PLENTY_GB, limit_gb=limit_gb)
        self.clock.tell(f"within {limit_gb:g} GB: {plan}")
        place(network, plan, self.device)
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return plan

    def _run_pass(self, network: Gen3cTransformer, conditions: Conditions | None = None) -> torch.Tensor:
        conditions = conditions or self.conditions
        timestep = torch.tensor(0.25, device=self.device)
        return predict(network, conditions, conditions.first, timestep, "guided", self.dtype)

    def _time_pass(self, what: str, network: Gen3cTransformer, warm_up: Callable[[], object] | None = None) -> Timing:
        """One pass after a warm-up, by default at two latent frames."""
        small = self._random_conditions((*self.latents[:2], 2, *self.latents[3:]))
        run = warm_up or (lambda: self._run_pass(network, small))
        timing = self.clock.measure(f"pass, {what}", lambda: self._run_pass(network), repeats=1, warm_up=run)
        self._note(f"GEN3C pass, {what}", timing, passes=1)
        return timing

    def _time_step(self, what: str, network: Gen3cTransformer) -> None:
        """One whole denoising step, both passes, through the sampler."""
        noise = torch.randn(self.latents, device=self.device)

        def step() -> object:
            return sample(network, self.conditions, noise, noise, steps=1, dtype=self.dtype)

        timing = self.clock.measure(f"step, {what}", step, repeats=1, warm_up=lambda: None)
        self._note(f"GEN3C step, {what}", timing, passes=_PASSES)

    def _note(self, what: str, timing: Timing, passes: int) -> None:
        step = timing.median * _PASSES / passes
        self.findings.add({"what": what, **timing.row(), "step_s": step, "minutes": STEPS * step / 60})

    def _peak_of_stages(
        self,
        what: str,
        network: Gen3cTransformer,
        limit_gb: int,
        plan: MemoryPlan,
        warm_up: Callable[[], object] | None = None,
    ) -> Timing:
        """Time a pass, then the 3D cache and the tokenizer beside the network; returns the pass."""
        timings = [self._time_pass(what, network, warm_up), self._time_tokenizer(), self._time_warp()]
        peaks = [timing.reserved_gb for timing in timings if timing.reserved_gb is not None]
        if peaks:
            self.findings.figure(f"stages_{limit_gb}_gb", max(peaks))
        self.findings.add({"what": f"plan within {limit_gb} GB, expected", "reserved_gb": plan.peak_gb})
        return timings[0]

    def _time_warp(self) -> Timing:
        """The 3D cache along one trajectory, foreground masking included, over depth with steps in it."""
        intrinsics = intrinsics_from_fov(math.radians(65.0), self.width, self.height).to(self.device, torch.float32)
        picture = torch.rand(3, self.height, self.width, device=self.device) * 2 - 1
        coarse = torch.rand(1, 1, self.height // 16, self.width // 16, device=self.device) + 0.5
        depth = F.interpolate(coarse, (self.height, self.width))[0, 0]
        cameras = release_trajectories(self.frames, torch.Generator(self.device).manual_seed(0))[-1]
        timing = self.clock.measure(
            "3D cache",
            lambda: warp(picture, depth, intrinsics, cameras),
            repeats=1,
            warm_up=lambda: warp(picture, depth, intrinsics, cameras[:1]),
        )
        self.findings.add({"what": "3D cache, one trajectory", **timing.row()})
        return timing

    def _time_tokenizer(self) -> Timing:
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
        self.findings.add({"what": "tokenizer, one video", **timing.row()})
        return timing


def context_gb(device: torch.device) -> float | None:
    """What the driver holds beside the allocator's memory, None on a CPU; other programs on the card count, too."""
    if device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    return (total - free - torch.cuda.memory_reserved(device)) / 1e9
