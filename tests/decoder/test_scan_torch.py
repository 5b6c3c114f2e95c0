"""The chunked recurrence beside a token-by-token one; convolution and gate beside torch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from omni_gen3d.decoder.scan_torch import CHUNK_TOKENS, convolve, gate, scan

HEADS, CHANNELS, STATE = 3, 4, 8


def inputs(length: int, batch: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(length)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "x": normal(batch, length, HEADS, CHANNELS),
        "dt": F.softplus(normal(batch, length, HEADS)),
        "decay_rate": -normal(HEADS).exp(),
        "B": normal(batch, length, STATE),
        "C": normal(batch, length, STATE),
        "skip": normal(HEADS),
        "state": normal(batch, HEADS, CHANNELS, STATE),
    }


def sequential_scan(
    x: torch.Tensor,
    dt: torch.Tensor,
    decay_rate: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    skip: torch.Tensor,
    state: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The recurrence as it is written, one token after the other."""
    outputs = []
    for t in range(x.shape[1]):
        added = torch.einsum("bh,bhp,bn->bhpn", dt[:, t], x[:, t], B[:, t])
        state = (dt[:, t] * decay_rate).exp()[..., None, None] * state + added
        outputs.append(torch.einsum("bhpn,bn->bhp", state, C[:, t]) + skip[:, None] * x[:, t])
    return torch.stack(outputs, dim=1), state


@pytest.mark.parametrize("length", [1, CHUNK_TOKENS - 1, CHUNK_TOKENS, CHUNK_TOKENS + 1, 5 * CHUNK_TOKENS + 17])
def test_chunks_give_what_the_recurrence_gives(length: int) -> None:
    """Within one chunk, at its borders and over several, outputs and last state agree to 1e-12 in float64."""
    values = inputs(length)
    for ours, theirs in zip(scan(**values), sequential_scan(**values), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


def test_a_sequence_may_be_cut_anywhere() -> None:
    """Two scans, the second from the state that the first left, are one scan over both."""
    values = inputs(300)
    whole, last = scan(**values)
    per_token = ("x", "dt", "B", "C")
    first, state = scan(**values | {name: values[name][:, :130] for name in per_token})
    second, end = scan(**values | {name: values[name][:, 130:] for name in per_token} | {"state": state})
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(end, last, atol=1e-12, rtol=1e-12)


def test_bfloat16_rounds_products_and_nothing_else() -> None:
    """With bfloat16 operands the sums stay in float32 and the result within a few roundings of the exact one."""
    values = {name: value.bfloat16() if name in "xBC" else value.float() for name, value in inputs(300).items()}
    y, state = scan(**values)
    exact, last = scan(**{name: value.double() for name, value in values.items()})
    assert y.dtype == state.dtype == torch.float32
    assert float((y - exact).norm() / exact.norm()) < 4e-3
    assert float((state - last).norm() / last.norm()) < 4e-3


def test_scan_is_differentiable_where_decay_underflows() -> None:
    """Steps so long that nothing survives a token give finite gradients."""
    values = inputs(40, batch=1)
    x = values["x"].requires_grad_()
    y, _ = scan(**values | {"dt": 500 * values["dt"]})
    y.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_convolution_of_segments_is_that_of_the_whole() -> None:
    """Segments, the first with zeros before it, give torch's depthwise convolution and SiLU."""
    sequence = torch.randn(2, 50, 6, dtype=torch.float64)
    weight, bias = torch.randn(6, 1, 4, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    ours = torch.cat([convolve(sequence, slice(a, b), weight, bias) for a, b in ((0, 2), (2, 3), (3, 50))], dim=1)
    theirs = F.silu(F.conv1d(F.pad(sequence.mT, (3, 0)), weight, bias, groups=6)).mT
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


def test_gate_comes_before_the_norm() -> None:
    """``gate`` is torch's RMS norm of the gated values."""
    y, z, weight = (torch.randn(*shape, dtype=torch.float64) for shape in ((2, 5, 8), (2, 5, 8), (8,)))
    torch.testing.assert_close(gate(y, z, weight, 1e-5), F.rms_norm(y * F.silu(z), (8,), weight, 1e-5))
