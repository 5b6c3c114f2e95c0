"""The bidirectional mixer: segments, directions, kernels."""

from __future__ import annotations

import pytest
import torch

from omni_gen3d.decoder import scan_torch
from omni_gen3d.decoder.state_space import BidirectionalMamba, MambaBlock, scan_backend


@pytest.fixture
def mixer() -> BidirectionalMamba:
    torch.manual_seed(0)
    return BidirectionalMamba(channels=8, inner_channels=16, state_channels=8, heads=4, conv_width=4).double()


def test_segments_leave_no_trace(mixer: BidirectionalMamba, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sequence worked off in five segments gives what one segment gives."""
    x = torch.randn(2, 600, 8, dtype=torch.float64)
    whole = mixer(x)
    monkeypatch.setattr(scan_torch, "SEGMENT_TOKENS", 128)
    torch.testing.assert_close(mixer(x), whole, atol=1e-12, rtol=1e-12)


def test_directions_mirror_each_other(mixer: BidirectionalMamba) -> None:
    """With its two scans exchanged, the mixer of the reversed sequence is the reversed result."""
    x = torch.randn(1, 200, 8, dtype=torch.float64)
    straight = mixer(x)
    mixer.mamba_scans = torch.nn.ModuleList(reversed(list(mixer.mamba_scans)))
    torch.testing.assert_close(mixer(x.flip(1)).flip(1), straight, atol=1e-12, rtol=1e-12)


def test_every_token_reaches_every_other(mixer: BidirectionalMamba) -> None:
    """Both ends of the sequence have a gradient from the middle."""
    x = torch.randn(1, 31, 8, dtype=torch.float64, requires_grad=True)
    mixer(x)[0, 15].sum().backward()
    assert x.grad is not None and (x.grad.abs().sum(-1) > 0).all()


def test_residual_stream_stays_in_float32() -> None:
    """A block whose products are in bfloat16 still adds to a float32 stream."""
    block = MambaBlock(channels=8, inner_channels=16, state_channels=8, heads=4, conv_width=4)
    block.mamba.in_proj.bfloat16()
    block.mamba.out_proj.bfloat16()
    x = torch.randn(1, 20, 8)
    assert block(x).dtype == torch.float32


def test_cpu_scans_in_torch() -> None:
    """Where there is no CUDA device plain torch serves, whatever the type."""
    assert {scan_backend(torch.zeros(1, dtype=dtype), 64, 256) for dtype in (torch.bfloat16, torch.float32)} == {
        "torch"
    }
