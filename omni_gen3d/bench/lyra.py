"""Time and memory of the official model at full size with random weights: the decoder, its parts, its kernels, GEN3C.

Where Triton's kernels serve they are compared with plain torch, in time and in numbers; scan time is measured over a
range of lengths to show that it grows with their number and no faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from omni_gen3d.bench.clock import Clock, Tell, Timing
from omni_gen3d.bench.gen3c import bench_gen3c
from omni_gen3d.bench.report import Check, Report, Value, cpu_name
from omni_gen3d.decoder import scan_torch
from omni_gen3d.decoder.lyra import LATENT_CHANNELS, PLUCKER_CHANNELS, LatentGaussianDecoder, attend
from omni_gen3d.decoder.state_space import BidirectionalMamba, DirectedScan, MambaBlock, ScanBackend, scan_backend
from omni_gen3d.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

SCAN_TOKENS = (10_000, 20_000, 40_000, 80_000, 160_000, 338_000)
_DECODER_SECONDS, _DECODER_GB = 3.2, 24.0
_LINEARITY = 1.3
# Lengths up to this one give the cost of a token to which the longest is held.
_SHORT_TOKENS = 80_000
_SCAN_DIFFERENCE, _ATTENTION_DIFFERENCE = 1e-3, 1e-2
_CHECKED_TOKENS = 32_768
# Of the official mixers.
_STATE_HEADS, _HEAD_CHANNELS, _STATE_CHANNELS = 16, 64, 256


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
    clock = Clock(device, minutes, tell)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        decoder = LatentGaussianDecoder().to(device).eval().requires_grad_(False)
        if device.type == "cuda":
            decoder.to_bfloat16()
        inputs = _random_inputs(device, views, frames, width, height)
        tokens = inputs["latents"].shape[1] * (width // 16) * (height // 16)
        default, *others = _backends(device)
        rows, checks, timing = _time_decoder(clock, decoder, inputs, tokens, default)
        del inputs
        if "triton" in _backends(device):
            row, check = _compare_scans(clock)
            rows, checks = [*rows, row], [*checks, check]
        if device.type == "cuda" and clock.left():
            row, check = _compare_attention(clock, tokens)
            rows, checks = [*rows, row], [*checks, check]
        mixer = next(block.mamba for block in decoder.enc_blocks if isinstance(block, MambaBlock))
        more_rows, more_checks = _time_scans(clock, mixer, sorted(set(scan_tokens)))
        rows, checks = rows + more_rows, checks + more_checks
        if gen3c_sizes is not None:
            found = bench_gen3c(
                clock, frames=frames, width=width, height=height, decoder_gb=timing.reserved_gb, sizes=gen3c_sizes
            )
            rows, checks = rows + found[0], checks + found[1]
        for backend in others:
            if clock.left():
                inputs = _random_inputs(device, views, frames, width, height)
                rows = rows + _time_decoder(clock, decoder, inputs, tokens, backend)[0]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    return Report(f"{name}, torch {torch.__version__}", rows, checks)


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


def _time_decoder(
    clock: Clock, decoder: LatentGaussianDecoder, inputs: dict[str, Any], tokens: int, backend: ScanBackend
) -> tuple[list[dict[str, Value]], list[Check], Timing]:
    with _backend(decoder, backend):
        timing = clock.measure(f"decoder, {tokens} tokens, {backend} scan", lambda: decoder(**inputs))
    rows: list[dict[str, Value]] = [{"what": "decoder", "scan": backend, "tokens": tokens, **timing.row()}]
    checks = [
        Check("decoder_s", timing.median, "<=", _DECODER_SECONDS),
        Check("decoder_peak_gb", timing.reserved_gb, "<=", _DECODER_GB),
    ]
    return rows + _time_parts(clock, decoder, inputs, tokens, backend), checks, timing


def _time_parts(
    clock: Clock, decoder: LatentGaussianDecoder, inputs: dict[str, Any], tokens: int, backend: ScanBackend
) -> list[dict[str, Value]]:
    """Where the seconds of one pass go; what no module does is placing and pruning. Waiting between parts adds some."""
    seconds: dict[str, float] = {}
    started: list[float] = []

    def enter(_module: torch.nn.Module, _inputs: object) -> None:
        started.append(clock.synchronize())

    def leave(module: torch.nn.Module, _inputs: object, _output: object) -> None:
        name = type(module).__name__
        seconds[name] = seconds.get(name, 0.0) + clock.synchronize() - started.pop()

    parts = [part for part in decoder.children() if not isinstance(part, torch.nn.ModuleList)] + [*decoder.enc_blocks]
    hooks = [hook for part in parts for hook in _hooks(part, enter, leave)]
    try:
        start = clock.synchronize()
        decoder(**inputs)
        total = clock.synchronize() - start
    finally:
        for hook in hooks:
            hook.remove()
    seconds["all else"] = total - sum(seconds.values())
    return [
        {"what": f"of it: {name}", "scan": backend, "tokens": tokens, "seconds": value, "runs": 1}
        for name, value in seconds.items()
    ]


def _hooks(part: torch.nn.Module, enter: Callable[..., None], leave: Callable[..., None]) -> tuple[Any, Any]:
    return part.register_forward_pre_hook(enter), part.register_forward_hook(leave)


def _time_scans(
    clock: Clock, mixer: BidirectionalMamba, lengths: Sequence[int]
) -> tuple[list[dict[str, Value]], list[Check]]:
    """One bidirectional mixer, projections included, over the lengths."""
    rows: list[dict[str, Value]] = []
    ratio = None
    for backend in _backends(clock.device):
        costs: dict[int, float] = {}
        for length in lengths:
            if not clock.left():
                clock.tell(f"out of time: {backend} scan of {length} tokens is not measured")
                continue
            x = torch.randn(1, length, mixer.in_proj.in_features, device=clock.device).to(mixer.in_proj.weight.dtype)
            with _backend(mixer, backend):
                timing = clock.measure(f"{backend} scan of {length} tokens", lambda x=x: mixer(x))
            costs[length] = 1e6 * timing.median / length
            row = {"what": "mixer", "scan": backend, "tokens": length, **timing.row()}
            rows.append({**row, "us_per_token": costs[length]})
        short = [cost for length, cost in costs.items() if length <= min(_SHORT_TOKENS, lengths[-1] - 1)]
        if ratio is None and short and lengths[-1] in costs:
            ratio = costs[lengths[-1]] / min(short)
    return rows, [Check("scan_cost_per_token_longest_over_short", ratio, "<=", _LINEARITY)]


def _compare_scans(clock: Clock) -> tuple[dict[str, Value], Check]:
    """Triton's kernels on one segment against plain torch in float32 on the same bfloat16 inputs."""
    from omni_gen3d.decoder import scan_triton

    clock.tell("Triton's scan against plain torch in float32 ...")
    device, inner = clock.device, _STATE_HEADS * _HEAD_CHANNELS
    widths = (inner, _STATE_CHANNELS, _STATE_CHANNELS)
    x, B, C = (torch.randn(1, _CHECKED_TOKENS, width, device=device).bfloat16() for width in widths)
    x = x.unflatten(-1, (_STATE_HEADS, _HEAD_CHANNELS))
    dt = torch.rand(1, _CHECKED_TOKENS, _STATE_HEADS, device=device) * 0.1
    decay_rate = -torch.linspace(1, 16, _STATE_HEADS, device=device)
    skip = torch.ones(_STATE_HEADS, device=device)
    state = torch.randn(1, _STATE_HEADS, _HEAD_CHANNELS, _STATE_CHANNELS, device=device)
    ours = scan_triton.scan(x, dt, decay_rate, B, C, skip, state)
    theirs = scan_torch.scan(x.float(), dt, decay_rate, B.float(), C.float(), skip, state)
    difference = max(_relative_difference(a, b) for a, b in zip(ours, theirs, strict=True))
    row: dict[str, Value] = {"what": "scan against float32", "scan": "triton", "tokens": _CHECKED_TOKENS}
    return row | {"rel_diff": difference}, Check("scan_difference", difference, "<=", _SCAN_DIFFERENCE)


def _compare_attention(clock: Clock, tokens: int) -> tuple[dict[str, Value], Check]:
    """Attention over all tokens against flash attention, in time and in numbers."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    q, k, v = torch.randn(3, 1, 8, tokens, 64, device=clock.device).bfloat16().unbind(0)

    def flash() -> torch.Tensor:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return F.scaled_dot_product_attention(q, k, v)

    ours = clock.measure("attention", lambda: attend(q, k, v))
    theirs = clock.measure("flash attention", flash)
    difference = _relative_difference(attend(q, k, v), flash())
    row: dict[str, Value] = {"what": "attention, one layer", "tokens": tokens, **ours.row()}
    row |= {"flash_s": theirs.median, "rel_diff": difference}
    return row, Check("attention_difference", difference, "<=", _ATTENTION_DIFFERENCE)


def _relative_difference(value: torch.Tensor, reference: torch.Tensor) -> float:
    return float((value.float() - reference.float()).norm() / reference.float().norm())
