"""Bidirectional Mamba-2 (arXiv 2405.21060): two state-space scans over all tokens, linear in their number.

The sequence is worked off in segments, so that memory beside input and output does not grow with it.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from types import ModuleType
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from omni_gen3d.decoder import scan_torch
from omni_gen3d.decoder.scan_torch import accumulation_dtype

ScanBackend = Literal["torch", "triton"]
_RMS_EPS = 1e-5


def scan_backend(x: torch.Tensor, head_channels: int, state_channels: int) -> ScanBackend:
    """Which kernels scan a projection like ``x``: Triton's for bfloat16 on CUDA where no gradient is wanted.

    They take powers of two, at least 16 channels of a head and 64 of the state. Where they would serve but Triton is
    not installed, a warning says so.
    """
    wants_gradient = torch.is_grad_enabled() and x.requires_grad
    fits = all(n & (n - 1) == 0 for n in (head_channels, state_channels)) and head_channels >= 16 <= state_channels // 4
    if not x.is_cuda or x.dtype != torch.bfloat16 or wants_gradient or not fits:
        return "torch"
    if importlib.util.find_spec("triton") is None:
        warnings.warn("Triton is not installed: state-space scans run in plain torch, which is slower.", stacklevel=2)
        return "torch"
    return "triton"


def _kernels(backend: ScanBackend) -> ModuleType:
    return scan_torch if backend == "torch" else importlib.import_module("omni_gen3d.decoder.scan_triton")


class RmsNorm(nn.Module):
    """``x / sqrt(mean(x^2) + 1e-5) * weight`` over the channels; ``(..., C)`` in and out, never below float32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.to(accumulation_dtype(x.dtype))
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + _RMS_EPS) * self.weight


class DirectedScan(nn.Module):
    """One direction of a Mamba-2 mixer: causal convolution, recurrence, gate, norm.

    Attributes:
        backend: Kernels to use; None leaves the choice to ``scan_backend``.
    """

    def __init__(self, inner_channels: int, state_channels: int, heads: int, conv_width: int) -> None:
        super().__init__()
        convolved = inner_channels + 2 * state_channels
        # Steps from 0.001 to 0.1 and decay rates from 1 to 16, as Mamba-2 starts.
        self.dt_bias = nn.Parameter(torch.logspace(-3, -1, heads).expm1().log())
        self.A_log = nn.Parameter(torch.linspace(1, 16, heads).log())
        self.D = nn.Parameter(torch.ones(heads))
        self.conv1d = nn.Conv1d(convolved, convolved, conv_width, groups=convolved)
        self.norm = RmsNorm(inner_channels)
        self.split = (inner_channels, state_channels, state_channels)
        self.heads = heads
        self.backend: ScanBackend | None = None

    def forward(self, projected: torch.Tensor) -> torch.Tensor:
        """Mix tokens.

        Args:
            projected: Gate z, then x, B, C, then dt, shape ``(batch, L, 2 inner + 2 N + H)``.

        Returns:
            Shape ``(batch, L, inner)``, in the type of the input.
        """
        inner, state_channels, _ = self.split
        kernels = _kernels(self.backend or scan_backend(projected, inner // self.heads, state_channels))
        z, xbc, dt = projected.split([inner, sum(self.split), self.heads], dim=-1)
        batch, length = projected.shape[:2]
        accumulate = accumulation_dtype(projected.dtype)
        decay_rate = -self.A_log.to(accumulate).exp()
        state = decay_rate.new_zeros(batch, self.heads, inner // self.heads, state_channels)
        outputs = []
        with torch.cuda.device_of(projected):
            for start in range(0, length, kernels.SEGMENT_TOKENS):
                segment = slice(start, min(start + kernels.SEGMENT_TOKENS, length))
                convolved = kernels.convolve(xbc, segment, self.conv1d.weight, self.conv1d.bias)
                x, B, C = convolved.split(self.split, dim=-1)
                step = F.softplus(dt[:, segment].to(accumulate) + self.dt_bias)
                y, state = kernels.scan(x.unflatten(-1, (self.heads, -1)), step, decay_rate, B, C, self.D, state)
                outputs.append(kernels.gate(y.flatten(2), z[:, segment], self.norm.weight, _RMS_EPS))
        return torch.cat(outputs, dim=1)


class BidirectionalMamba(nn.Module):
    """Two scans over one projection, forwards and backwards, summed; ``(batch, L, channels)`` in and out."""

    def __init__(self, channels: int, inner_channels: int, state_channels: int, heads: int, conv_width: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(channels, 2 * inner_channels + 2 * state_channels + heads, bias=False)
        self.mamba_scans = nn.ModuleList(
            DirectedScan(inner_channels, state_channels, heads, conv_width) for _ in range(2)
        )
        self.out_proj = nn.Linear(inner_channels, channels, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        forwards, backwards = self.mamba_scans
        projected = self.in_proj(x)
        return self.out_proj(forwards(projected) + backwards(projected.flip(1)).flip(1))


class MambaBlock(nn.Module):
    """``x + mamba(norm(x))``; the residual stream never leaves float32, products take the type of the weights."""

    def __init__(self, channels: int, inner_channels: int, state_channels: int, heads: int, conv_width: int) -> None:
        super().__init__()
        self.norm = RmsNorm(channels)
        self.mamba = BidirectionalMamba(channels, inner_channels, state_channels, heads, conv_width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mamba(self.norm(x).to(self.mamba.in_proj.weight.dtype))
