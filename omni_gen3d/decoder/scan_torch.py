"""The three steps of a Mamba-2 scan over one segment of tokens, in plain torch: convolution, recurrence, gate.

The recurrence of one head (arXiv 2405.21060) is ``S_t = exp(dt_t A) S_{t-1} + dt_t x_t B_t^T`` with the output
``y_t = S_t C_t + D x_t``. Inside a chunk it is a masked matrix product; from chunk to chunk only the state passes.
``scan_triton`` holds the same three functions for CUDA.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

CHUNK_TOKENS = 128
SEGMENT_TOKENS = 64 * CHUNK_TOKENS


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """In which sums over many tokens are kept: float32, or float64 where the input is."""
    return torch.promote_types(dtype, torch.float32)


def convolve(sequence: torch.Tensor, segment: slice, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Depthwise causal convolution, then SiLU, of one segment, which looks back into the one before.

    Args:
        sequence: All tokens, shape ``(batch, L, C)``; before the first are zeros.
        segment: Which of them to compute.
        weight: Of the current token last, shape ``(C, 1, K)``.
        bias: Shape ``(C,)``.

    Returns:
        Shape ``(batch, segment, C)``, in the type of the sequence.
    """
    taps = weight[:, 0].to(accumulation_dtype(sequence.dtype)).unbind(1)
    first = segment.start - len(taps) + 1
    window = F.pad(sequence[:, max(first, 0) : segment.stop], (0, 0, max(-first, 0), 0)).to(taps[0].dtype)
    total = bias.to(window.dtype).expand(window.shape[0], segment.stop - segment.start, -1)
    for k, tap in enumerate(taps):
        total = torch.addcmul(total, window[:, k : k + total.shape[1]], tap)
    return F.silu(total).to(sequence.dtype)


def gate(y: torch.Tensor, z: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """``rms_norm(y * silu(z)) * weight`` over the channels.

    Args:
        y: In the accumulation type, shape ``(batch, L, C)``.
        z: Shape ``(batch, L, C)``.
        weight: Shape ``(C,)``.
        eps: Added to the mean square.

    Returns:
        Shape ``(batch, L, C)``, in the type of z.
    """
    gated = y * F.silu(z.to(y.dtype))
    return (gated * torch.rsqrt(gated.square().mean(-1, keepdim=True) + eps) * weight).to(z.dtype)


def scan(
    x: torch.Tensor,
    dt: torch.Tensor,
    decay_rate: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    skip: torch.Tensor,
    state: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the recurrence over one segment with matrix products of the inputs' type.

    Args:
        x: Inputs of L tokens in H heads of P channels, shape ``(batch, L, H, P)``.
        dt: Step sizes, positive, in the accumulation type, shape ``(batch, L, H)``.
        decay_rate: A, negative, in the accumulation type, shape ``(H,)``.
        B: How an input enters the N state channels, the same for all heads, shape ``(batch, L, N)``.
        C: How the state is read, shape ``(batch, L, N)``.
        skip: D, shape ``(H,)``.
        state: Before the first token, in the accumulation type, shape ``(batch, H, P, N)``.

    Returns:
        Outputs ``(batch, L, H, P)`` and the state after the last token, both in the accumulation type.
    """
    length, heads = x.shape[1:3]
    chunk = min(CHUNK_TOKENS, length)
    # A padded token has dt = 0: it neither decays the state nor adds to it.
    padding = -length % chunk
    dt, B, C = (F.pad(value, (0, 0, 0, padding)).unflatten(1, (-1, chunk)) for value in (dt, B, C))
    inputs = F.pad(x, (0, 0, 0, 0, 0, padding)).unflatten(1, (-1, chunk)) * dt[..., None]
    log_decay = (dt * decay_rate).mT.cumsum(-1)  # (batch, chunk, H, token): from the chunk's start through the token

    weights = (_decay_between(log_decay) * (C @ B.mT)[:, :, None]).to(x.dtype)
    within = weights @ inputs.to(x.dtype).transpose(2, 3)  # (batch, chunk, H, token, P)

    to_chunk_end = (log_decay[..., -1:] - log_decay).exp().mT[..., None]
    added = (inputs * to_chunk_end).to(x.dtype).flatten(-2).mT @ B  # (batch, chunk, H P, N)
    before, state = _pass_states(added.unflatten(2, (heads, -1)), log_decay[..., -1], state)

    carried = (C @ before.to(x.dtype).flatten(2, 3).mT).unflatten(-1, (heads, -1)) * log_decay.exp().mT[..., None]
    y = (within.transpose(2, 3) + carried).flatten(1, 2)[:, :length]
    return y + skip[:, None] * x, state


def _decay_between(log_decay: torch.Tensor) -> torch.Tensor:
    """From running sums ``(..., n)`` to what is left at place i of what entered at j <= i, else 0; ``(..., n, n)``."""
    places = torch.arange(log_decay.shape[-1], device=log_decay.device)
    later = places > places[:, None]
    return (log_decay[..., :, None] - log_decay[..., None, :]).masked_fill(later, -torch.inf).exp()


def _pass_states(
    added: torch.Tensor, log_decay: torch.Tensor, state: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """From what each chunk adds ``(batch, c, H, P, N)`` to the state before each chunk, and the state after the last.

    One product with the triangle of decays between chunks takes the place of a loop.
    """
    elapsed = F.pad(log_decay.mT.cumsum(-1), (1, 0))  # (batch, H, c + 1)
    sources = torch.cat([state[:, None], added.to(state.dtype)], dim=1).transpose(1, 2).flatten(3)
    states = (_decay_between(elapsed) @ sources).unflatten(-1, state.shape[-2:]).transpose(1, 2)
    return states[:, :-1], states[:, -1]
