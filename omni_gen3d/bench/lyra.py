"""Time and memory of the official model at full size with random weights: the decoder, its parts, its kernels, GEN3C.

Where Triton's kernels serve they are compared with plain torch, in time and in numbers; scan time is measured over a
range of lengths to show that it grows with their number and no faster.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F

from omni_gen3d.bench.clock import Clock, Tell, Timing
from omni_gen3d.bench.gen3c import RESIDENT_GB, STREAMED_GB, Gen3cBench, context_gb
from omni_gen3d.bench.report import Findings, Report, Value, cpu_name
from omni_gen3d.decoder import scan_torch
from omni_gen3d.decoder.lyra import LATENT_CHANNELS, PLUCKER_CHANNELS, LatentGaussianDecoder, attend
from omni_gen3d.decoder.state_space import BidirectionalMamba, DirectedScan, MambaBlock, ScanBackend, scan_backend
from omni_gen3d.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

SCAN_TOKENS = (10_000, 20_000, 40_000, 80_000, 160_000, 338_000)
# Lengths up to this one give the cost of a token to which the longest is held.
_SHORT_TOKENS = 80_000
_CHECKED_TOKENS = 32_768
# Of the official mixers.
_STATE_HEADS, _HEAD_CHANNELS, _STATE_CHANNELS = 16, 64, 256
Targets = dict[str, tuple[Literal[">=", "<="], float]]
_DECODER_TARGETS: Targets = {
    "decoder_s": ("<=", 3.2),
    "decoder_peak_gb": ("<=", 24.0),
    "scan_cost_per_token_longest_over_short": ("<=", 1.3),
}
_KERNEL_TARGETS: Targets = {"scan_difference": ("<=", 1e-3), "attention_difference": ("<=", 1e-2)}
_GEN3C_TARGETS: Targets = {
    # What the release's users report for one trajectory on an A100 or H100.
    "gen3c_minutes_a_trajectory": ("<=", 12.0),
    "compiled_gain": (">=", 1.0),
    "step_cache_skipped_pass_gain": (">=", 2.0),
    f"plan_{STREAMED_GB}_gb_peak_gb": ("<=", STREAMED_GB),
    f"plan_{RESIDENT_GB}_gb_peak_gb": ("<=", RESIDENT_GB),
}


@torch.no_grad()
def bench_lyra(
    *,
    device: torch.device,
    views: int = 6,
    frames: int = 121,
    width: int = 1280,
    height: int = 704,
    scan_tokens: Sequence[int] = SCAN_TOKENS,
    gen3c_sizes: Mapping[str, Any] | None = None,
    minutes: float = 5.0,
    tell: Tell,
) -> Report:
    """Measure the official sizes with random weights; products in bfloat16 on CUDA, else in float32.

    Every row and figure is told when it is known, what needs the longest is measured first, and what fails becomes a
    row. A figure that was not measured fails its check.

    Args:
        device: Where to run.
        views: Trajectories in one pass.
        frames: Of each trajectory, ``8 k + 1``.
        width: Of the video [pixels], a multiple of 16.
        height: Of the video [pixels], a multiple of 16.
        scan_tokens: Lengths at which one bidirectional mixer is timed.
        gen3c_sizes: Where to depart from GEN3C's official sizes; None leaves GEN3C out.
        minutes: After these nothing new is started; what was not measured is missing in the table.
        tell: Takes one line of progress.

    Raises:
        InputError: A number does not fit.
    """
    if views < 1 or frames < 1 or frames % 8 != 1:
        raise InputError(f"{views} views of {frames} frames: at least one view is needed, of 8 k + 1 frames.")
    if min(width, height) < 16 or width % 16 or height % 16:
        raise InputError(f"the size is {width}x{height}; both sides must be multiples of 16.")
    if not scan_tokens or min(scan_tokens) < 1:
        raise InputError(f"the token counts are {list(scan_tokens)}; at least one is needed, all positive.")
    clock, findings = Clock(device, minutes, tell), Findings(tell)
    on_cuda = device.type == "cuda"
    targets = _DECODER_TARGETS | (_KERNEL_TARGETS if on_cuda else {}) | ({} if gen3c_sizes is None else _GEN3C_TARGETS)
    with torch.random.fork_rng(devices=[device] if on_cuda else []):
        torch.manual_seed(0)
        decoder = _DecoderBench(clock, findings, views, frames, width, height)
        gen3c = None
        if gen3c_sizes is not None:
            gen3c = Gen3cBench(clock, findings, frames=frames, width=width, height=height, sizes=gen3c_sizes)
        parts: list[tuple[str, Callable[[], None] | None]] = [
            ("GEN3C, streamed", gen3c and gen3c.measure_streamed),
            ("scans", lambda: decoder.measure_scans(sorted(set(scan_tokens)))),
            ("GEN3C, resident", gen3c and gen3c.measure_resident),
            ("decoder", decoder.measure),
            ("attention", decoder.compare_attention if on_cuda else None),
            ("GEN3C, others", gen3c and gen3c.measure_others),
            ("decoder, other scans", decoder.measure_other_scans),
        ]
        for what, measure in parts:
            if measure is None:
                continue
            if not clock.left():
                tell(f"out of time: {what} is not measured")
                continue
            with findings.part(what):
                measure()
            gc.collect()  # networks refer to themselves; what they hold would count as the next part's
        _sum_up_plans(findings, device)
    name = torch.cuda.get_device_name(device) if on_cuda else cpu_name()
    return Report(f"{name}, torch {torch.__version__}", findings.rows, findings.checks(targets))


def _sum_up_plans(findings: Findings, device: torch.device) -> None:
    """What each plan takes of the card in all: its greatest stage, of which the decoder is one, and the context."""
    context, decoder = context_gb(device), findings.figures.get("decoder_peak_gb")
    if context is None or decoder is None:
        return
    findings.add({"what": "CUDA context", "reserved_gb": context})
    for limit in (STREAMED_GB, RESIDENT_GB):
        stages = findings.figures.get(f"stages_{limit}_gb")
        findings.figure(f"plan_{limit}_gb_peak_gb", None if stages is None else max(stages, decoder) + context)


class _DecoderBench:
    """The decoder with random weights and its kernels; rows and figures go to the findings."""

    def __init__(self, clock: Clock, findings: Findings, views: int, frames: int, width: int, height: int) -> None:
        self.clock, self.device, self.findings = clock, clock.device, findings
        self.sizes = (views, frames, width, height)
        self.tokens = views * ((frames - 1) // 8 + 1) * (width // 16) * (height // 16)
        self.decoder = LatentGaussianDecoder().to(self.device).eval().requires_grad_(False)
        if self.device.type == "cuda":
            self.decoder.to_bfloat16()
        backends = _backends(self.device)
        self.backend: ScanBackend = backends[0]
        self.others: list[ScanBackend] = backends[1:]

    def measure(self) -> None:
        """The whole pass with the default kernels, then its parts."""
        inputs = _random_inputs(self.device, *self.sizes)
        timing = self._time(inputs, self.backend)
        self.findings.figure("decoder_s", timing.median)
        self.findings.figure("decoder_peak_gb", timing.reserved_gb)
        self._time_parts(inputs)

    def measure_other_scans(self) -> None:
        """The whole pass with the kernels that are not the default."""
        for backend in self.others:
            if self.clock.left():
                self._time(_random_inputs(self.device, *self.sizes), backend)

    def _time(self, inputs: dict[str, Any], backend: ScanBackend) -> Timing:
        with _backend(self.decoder, backend):
            timing = self.clock.measure(
                f"decoder, {self.tokens} tokens, {backend} scan", lambda: self.decoder(**inputs), repeats=3
            )
        self.findings.add({"what": "decoder", "scan": backend, "tokens": self.tokens, **timing.row()})
        return timing

    def _time_parts(self, inputs: dict[str, Any]) -> None:
        """Where the seconds of one pass go; what no module does is placing and pruning. Waiting between adds some."""
        seconds: dict[str, float] = {}
        started: list[float] = []

        def enter(_module: torch.nn.Module, _inputs: object) -> None:
            started.append(self.clock.synchronize())

        def leave(module: torch.nn.Module, _inputs: object, _output: object) -> None:
            name = type(module).__name__
            seconds[name] = seconds.get(name, 0.0) + self.clock.synchronize() - started.pop()

        parts = [part for part in self.decoder.children() if not isinstance(part, torch.nn.ModuleList)]
        hooks = [hook for part in (*parts, *self.decoder.enc_blocks) for hook in _hooks(part, enter, leave)]
        try:
            start = self.clock.synchronize()
            self.decoder(**inputs)
            total = self.clock.synchronize() - start
        finally:
            for hook in hooks:
                hook.remove()
        seconds["all else"] = total - sum(seconds.values())
        about: dict[str, Value] = {"scan": self.backend, "tokens": self.tokens, "runs": 1}
        for name, value in seconds.items():
            self.findings.add({"what": f"of it: {name}", **about, "seconds": value})

    def measure_scans(self, lengths: Sequence[int]) -> None:
        """Numbers of Triton's kernels, then one bidirectional mixer, projections included, over the lengths."""
        if self.backend == "triton":
            self._compare_scans()
        mixer = next(block.mamba for block in self.decoder.enc_blocks if isinstance(block, MambaBlock))
        for backend in (self.backend, *self.others):
            costs = self._time_mixer(mixer, backend, lengths)
            short = [cost for length, cost in costs.items() if length <= min(_SHORT_TOKENS, lengths[-1] - 1)]
            if backend == self.backend and short and lengths[-1] in costs:
                self.findings.figure("scan_cost_per_token_longest_over_short", costs[lengths[-1]] / min(short))

    def _time_mixer(self, mixer: BidirectionalMamba, backend: ScanBackend, lengths: Sequence[int]) -> dict[int, float]:
        """Microseconds a token by length, of the lengths for which there is time."""
        costs: dict[int, float] = {}
        for length in lengths:
            if not self.clock.left():
                self.clock.tell(f"out of time: {backend} scan of {length} tokens is not measured")
                continue
            x = torch.randn(1, length, mixer.in_proj.in_features, device=self.device).to(mixer.in_proj.weight.dtype)
            with _backend(mixer, backend):
                timing = self.clock.measure(f"{backend} scan of {length} tokens", lambda x=x: mixer(x))
            costs[length] = 1e6 * timing.median / length
            row = {"what": "mixer", "scan": backend, "tokens": length, **timing.row()}
            self.findings.add({**row, "us_per_token": costs[length]})
        return costs

    def _compare_scans(self) -> None:
        """Triton's kernels on one segment against plain torch in float32 on the same bfloat16 inputs."""
        from omni_gen3d.decoder import scan_triton

        self.clock.tell("Triton's scan against plain torch in float32 ...")
        inner = _STATE_HEADS * _HEAD_CHANNELS
        widths = (inner, _STATE_CHANNELS, _STATE_CHANNELS)
        x, B, C = (torch.randn(1, _CHECKED_TOKENS, width, device=self.device).bfloat16() for width in widths)
        x = x.unflatten(-1, (_STATE_HEADS, _HEAD_CHANNELS))
        dt = torch.rand(1, _CHECKED_TOKENS, _STATE_HEADS, device=self.device) * 0.1
        decay_rate = -torch.linspace(1, 16, _STATE_HEADS, device=self.device)
        skip = torch.ones(_STATE_HEADS, device=self.device)
        state = torch.randn(1, _STATE_HEADS, _HEAD_CHANNELS, _STATE_CHANNELS, device=self.device)
        ours = scan_triton.scan(x, dt, decay_rate, B, C, skip, state)
        theirs = scan_torch.scan(x.float(), dt, decay_rate, B.float(), C.float(), skip, state)
        difference = max(_relative_difference(a, b) for a, b in zip(ours, theirs, strict=True))
        about: dict[str, Value] = {"what": "scan against float32", "scan": "triton", "tokens": _CHECKED_TOKENS}
        self.findings.add({**about, "rel_diff": difference})
        self.findings.figure("scan_difference", difference)

    def compare_attention(self) -> None:
        """Attention over all tokens against flash attention, in time and in numbers."""
        from torch.nn.attention import SDPBackend, sdpa_kernel

        q, k, v = torch.randn(3, 1, 8, self.tokens, 64, device=self.device).bfloat16().unbind(0)

        def flash() -> torch.Tensor:
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                return F.scaled_dot_product_attention(q, k, v)

        ours = self.clock.measure("attention", lambda: attend(q, k, v), repeats=1)
        theirs = self.clock.measure("flash attention", flash, repeats=1)
        difference = _relative_difference(attend(q, k, v), flash())
        row: dict[str, Value] = {"what": "attention, one layer", "tokens": self.tokens, **ours.row()}
        self.findings.add({**row, "flash_s": theirs.median, "rel_diff": difference})
        self.findings.figure("attention_difference", difference)


def _random_inputs(device: torch.device, views: int, frames: int, width: int, height: int) -> dict[str, Any]:
    maps, rows, columns = views * ((frames - 1) // 8 + 1), height // 8, width // 8
    directions = F.normalize(torch.randn(1, views * frames, 3, rows, columns, device=device), dim=2)
    return {
        "latents": torch.randn(1, maps, LATENT_CHANNELS, rows, columns, device=device),
        "plucker_latents": torch.randn(1, maps, PLUCKER_CHANNELS, rows, columns, device=device),
        "ray_origins": torch.zeros_like(directions),
        "ray_directions": directions,
        "num_views": views,
    }


@contextmanager
def _backend(module: torch.nn.Module, backend: ScanBackend) -> Iterator[None]:
    """Scan with these kernels inside the block."""
    scans = [part for part in module.modules() if isinstance(part, DirectedScan)]
    for part in scans:
        part.backend = backend
    try:
        yield
    finally:
        for part in scans:
            part.backend = None


def _backends(device: torch.device) -> list[ScanBackend]:
    """The kernels that serve there, the default first."""
    default = scan_backend(torch.empty(1, dtype=torch.bfloat16, device=device), _HEAD_CHANNELS, _STATE_CHANNELS)
    return [default] if default == "torch" else [default, "torch"]


def _hooks(part: torch.nn.Module, enter: Callable[..., None], leave: Callable[..., None]) -> tuple[Any, Any]:
    return part.register_forward_pre_hook(enter), part.register_forward_hook(leave)


def _relative_difference(value: torch.Tensor, reference: torch.Tensor) -> float:
    return float((value.float() - reference.float()).norm() / reference.float().norm())
