"""The three steps of a Mamba-2 scan over one segment of tokens as Triton kernels, for bfloat16 on CUDA, inference only.

The same functions as in ``scan_torch``; load this file only where Triton is installed. A float32 factor of a matrix
product is split into two bfloat16 summands, so that tensor cores round nothing but what came in as bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

CHUNK_TOKENS = 128
SEGMENT_TOKENS = 256 * CHUNK_TOKENS
_BLOCK_TOKENS = 64
_SLAB_CHANNELS = 64
_STATE_CELLS = 1024
_CONVOLVED_TOKENS, _CONVOLVED_CHANNELS = 16, 256


class _Kernel(Protocol):
    """Launched by ``kernel[grid](...)``, inlined where another kernel calls it."""

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]: ...

    def __call__(self, *arguments: Any) -> Any: ...


def _kernel(function: Callable[..., Any]) -> _Kernel:
    compiled: Any = triton.jit(function)
    return compiled


def convolve(sequence: torch.Tensor, segment: slice, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Depthwise causal convolution, then SiLU, of one segment; ``scan_torch.convolve`` says what goes in and out."""
    batch, _, channels = sequence.shape
    length = segment.stop - segment.start
    out = sequence.new_empty(batch, length, channels)
    grid = (triton.cdiv(length, _CONVOLVED_TOKENS), triton.cdiv(channels, _CONVOLVED_CHANNELS), batch)
    _convolve[grid](
        sequence,
        weight.contiguous(),
        bias,
        out,
        sequence.stride(0),
        sequence.stride(1),
        segment.start,
        length,
        channels,
        TAPS=weight.shape[-1],
        TOKENS=_CONVOLVED_TOKENS,
        BLOCK=_CONVOLVED_CHANNELS,
    )
    return out


def gate(y: torch.Tensor, z: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """``rms_norm(y * silu(z)) * weight``; ``scan_torch.gate`` says what goes in and out."""
    batch, length, channels = z.shape
    out = z.new_empty(batch, length, channels)
    _gate[(length, batch)](
        y.contiguous(),
        z,
        weight,
        out,
        z.stride(0),
        z.stride(1),
        length,
        channels,
        eps,
        BLOCK=triton.next_power_of_2(channels),
    )
    return out


def scan(
    x: torch.Tensor,
    dt: torch.Tensor,
    decay_rate: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    skip: torch.Tensor,
    state: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the recurrence over one segment; ``scan_torch.scan`` says what goes in and out.

    P and N are powers of two of at least 16, N a multiple of 64; the last two axes of x lie next to each other, as do
    the channels of B and C.
    """
    batch, length, heads, channels = x.shape
    state_channels = B.shape[-1]
    steps = F.pad(dt, (0, 0, 0, -length % CHUNK_TOKENS)).unflatten(1, (-1, CHUNK_TOKENS)).mT.contiguous()
    log_decay = (steps * decay_rate[:, None]).cumsum(-1)  # (batch, chunk, H, token)
    chunks = steps.shape[1]
    states = state.new_empty(batch, chunks, heads, channels, state_channels)
    last = torch.empty_like(state)
    y = state.new_empty(batch, length, heads, channels)
    sizes = {"CHUNK": CHUNK_TOKENS, "P": channels, "N": state_channels}
    of_x, of_b, of_c = ((value.stride(0), value.stride(1)) for value in (x, B, C))
    _add_to_states[(chunks, heads, batch)](
        x, steps, log_decay, B, states, *of_x, *of_b, length, **sizes, BLOCK=_BLOCK_TOKENS, num_warps=8
    )
    cells = channels * state_channels
    _pass_states[(triton.cdiv(cells, _STATE_CELLS), heads, batch)](
        states, log_decay, state.contiguous(), last, chunks, cells, CHUNK=CHUNK_TOKENS, BLOCK=_STATE_CELLS
    )
    _read_states[(chunks * (CHUNK_TOKENS // _BLOCK_TOKENS), heads, batch)](
        x,
        steps,
        log_decay,
        B,
        C,
        skip,
        states,
        y,
        *of_x,
        *of_b,
        *of_c,
        length,
        **sizes,
        BLOCK=_BLOCK_TOKENS,
        SLAB=_SLAB_CHANNELS,
        num_warps=4,
    )
    return y, last


@_kernel
def _convolve(
    sequence,
    weight,
    bias,
    out,
    batch_stride,
    token_stride,
    start,
    length,
    channels,
    TAPS: tl.constexpr,
    TOKENS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    item = tl.program_id(2).to(tl.int64)
    token = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    held = channel < channels
    total = tl.zeros((TOKENS, BLOCK), tl.float32) + tl.load(bias + channel, mask=held, other=0.0).to(tl.float32)[None]
    for tap in tl.static_range(TAPS):
        place = (start + token - (TAPS - 1) + tap).to(tl.int64)
        inside = (place >= 0) & (token < length)
        value = tl.load(
            sequence + item * batch_stride + place[:, None] * token_stride + channel[None],
            mask=inside[:, None] & held[None],
            other=0.0,
        )
        total += (
            value.to(tl.float32) * tl.load(weight + channel * TAPS + tap, mask=held, other=0.0).to(tl.float32)[None]
        )
    total = total * tl.sigmoid(total)
    target = out + (item * length + token[:, None]) * channels + channel[None]
    tl.store(target, total.to(out.dtype.element_ty), mask=(token < length)[:, None] & held[None])


@_kernel
def _gate(y, z, weight, out, batch_stride, token_stride, length, channels, eps, BLOCK: tl.constexpr):
    token, item = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    channel = tl.arange(0, BLOCK)
    held = channel < channels
    row = (item * length + token) * channels + channel
    opened = tl.load(z + item * batch_stride + token * token_stride + channel, mask=held, other=0.0).to(tl.float32)
    gated = tl.load(y + row, mask=held, other=0.0) * opened * tl.sigmoid(opened)
    scale = 1.0 / tl.sqrt(tl.sum(gated * gated, axis=0) / channels + eps)
    normed = gated * scale * tl.load(weight + channel, mask=held, other=0.0).to(tl.float32)
    tl.store(out + row, normed.to(out.dtype.element_ty), mask=held)


@_kernel
def _split_dot(exact, wide, total):
    """``total + exact @ wide`` with float32 ``wide`` as two bfloat16 summands."""
    high = wide.to(tl.bfloat16)
    low = (wide - high.to(tl.float32)).to(tl.bfloat16)
    return tl.dot(exact, low, tl.dot(exact, high, total))


@_kernel
def _dot_split(wide, exact, total):
    """``total + wide @ exact`` with float32 ``wide`` as two bfloat16 summands."""
    high = wide.to(tl.bfloat16)
    low = (wide - high.to(tl.float32)).to(tl.bfloat16)
    return tl.dot(low, exact, tl.dot(high, exact, total))


@_kernel
def _add_to_states(
    x,
    steps,
    log_decay,
    B,
    states,
    x_batch,
    x_token,
    b_batch,
    b_token,
    length,
    CHUNK: tl.constexpr,
    P: tl.constexpr,
    N: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """What each chunk alone leaves in the state at its end."""
    chunk, head, item = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    row = (item * tl.num_programs(0) + chunk) * tl.num_programs(1) + head
    p, n = tl.arange(0, P), tl.arange(0, N)
    end = tl.load(log_decay + row * CHUNK + CHUNK - 1)
    total = tl.zeros((P, N), tl.float32)
    for start in range(0, CHUNK, BLOCK):
        place = start + tl.arange(0, BLOCK)
        token = chunk * CHUNK + place
        inside = token < length
        left = tl.load(steps + row * CHUNK + place) * tl.exp(end - tl.load(log_decay + row * CHUNK + place))
        inputs = tl.load(
            x + item * x_batch + token[None, :] * x_token + head * P + p[:, None], mask=inside[None, :], other=0.0
        )
        entering = tl.load(B + item * b_batch + token[:, None] * b_token + n[None, :], mask=inside[:, None], other=0.0)
        total = _dot_split(inputs.to(tl.float32) * left[None, :], entering, total)
    tl.store(states + (row * P + p[:, None]) * N + n[None, :], total)


@_kernel
def _pass_states(states, log_decay, state, last, chunks, cells, CHUNK: tl.constexpr, BLOCK: tl.constexpr):
    """Replace what each chunk adds by the state before that chunk."""
    head, item, heads = tl.program_id(1), tl.program_id(2).to(tl.int64), tl.num_programs(1)
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    held = cell < cells
    carry = tl.load(state + (item * heads + head) * cells + cell, mask=held, other=0.0)
    for chunk in range(chunks):
        row = (item * chunks + chunk) * heads + head
        added = tl.load(states + row * cells + cell, mask=held, other=0.0)
        tl.store(states + row * cells + cell, carry, mask=held)
        carry = carry * tl.exp(tl.load(log_decay + row * CHUNK + CHUNK - 1)) + added
    tl.store(last + (item * heads + head) * cells + cell, carry, mask=held)


@_kernel
def _read_states(
    x,
    steps,
    log_decay,
    B,
    C,
    skip,
    states,
    y,
    x_batch,
    x_token,
    b_batch,
    b_token,
    c_batch,
    c_token,
    length,
    CHUNK: tl.constexpr,
    P: tl.constexpr,
    N: tl.constexpr,
    BLOCK: tl.constexpr,
    SLAB: tl.constexpr,
):
    """Outputs of one block of tokens: from the state before its chunk, and from the tokens of the chunk up to it."""
    head, item, heads = tl.program_id(1), tl.program_id(2).to(tl.int64), tl.num_programs(1)
    chunk = tl.program_id(0) // (CHUNK // BLOCK)
    first = tl.program_id(0) % (CHUNK // BLOCK) * BLOCK
    row = (item * (tl.num_programs(0) // (CHUNK // BLOCK)) + chunk) * heads + head
    p, slab = tl.arange(0, P), tl.arange(0, SLAB)
    place = first + tl.arange(0, BLOCK)
    token = chunk * CHUNK + place
    inside = token < length
    elapsed = tl.load(log_decay + row * CHUNK + place)
    readers = C + item * c_batch + token[:, None] * c_token + slab[None, :]

    total = tl.zeros((BLOCK, P), tl.float32)
    for n in range(0, N, SLAB):
        reading = tl.load(readers + n, mask=inside[:, None], other=0.0)
        before = tl.load(states + (row * P + p[None, :]) * N + n + slab[:, None])
        total = _split_dot(reading, before, total)
    total *= tl.exp(elapsed)[:, None]

    for start in range(0, first + BLOCK, BLOCK):
        other = start + tl.arange(0, BLOCK)
        source = chunk * CHUNK + other
        known = source < length
        alike = tl.zeros((BLOCK, BLOCK), tl.float32)
        for n in range(0, N, SLAB):
            reading = tl.load(readers + n, mask=inside[:, None], other=0.0)
            entering = tl.load(
                B + item * b_batch + source[None, :] * b_token + n + slab[:, None], mask=known[None, :], other=0.0
            )
            alike = tl.dot(reading, entering, alike)
        since = tl.minimum(elapsed[:, None] - tl.load(log_decay + row * CHUNK + other)[None, :], 0.0)
        weights = alike * tl.exp(since) * tl.load(steps + row * CHUNK + other)[None, :]
        weights = tl.where(place[:, None] >= other[None, :], weights, 0.0)
        inputs = tl.load(
            x + item * x_batch + source[:, None] * x_token + head * P + p[None, :], mask=known[:, None], other=0.0
        )
        total = _dot_split(weights, inputs, total)

    own = tl.load(
        x + item * x_batch + token[:, None] * x_token + head * P + p[None, :], mask=inside[:, None], other=0.0
    )
    total += tl.load(skip + head) * own.to(tl.float32)
    target = y + ((item * length + token[:, None]) * heads + head) * P + p[None, :]
    tl.store(target, total, mask=inside[:, None])
