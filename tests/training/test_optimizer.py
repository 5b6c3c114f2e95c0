"""Muon and the moving average."""

from __future__ import annotations

import torch
from torch import nn

from omni_gen3d.training.optimizer import MovingAverage, Muon, _orthogonalise


def test_updates_are_nearly_orthogonal():
    """Newton-Schulz brings the singular values of tall and wide matrices close to 1."""
    for rows, columns in ((32, 8), (8, 32), (16, 16)):
        update = _orthogonalise(torch.randn(3, rows, columns, generator=torch.Generator().manual_seed(0))).float()
        assert update.shape == (3, rows, columns)
        values = torch.linalg.svdvals(update)
        assert float(values.max()) < 1.3 and float(values.median()) > 0.6


def test_a_regression_is_learned():
    """Hidden matrices by Muon, the rest by AdamW: a small regression falls to a hundredth of its loss."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 16))
    optimizer = Muon(network, adam_names=("2.",))
    x = torch.randn(256, 16)
    y = torch.tanh(x @ torch.randn(16, 16) / 4)
    losses = []
    for step in range(200):
        loss = (network(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(0.02 * (1 - step / 200))
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.01 * losses[0]


def test_average_starts_short_and_swaps_back():
    """Early updates follow the live weights closely; swapping twice is the identity."""
    network = nn.Linear(2, 2)
    average = MovingAverage(network, 0.999)
    with torch.no_grad():
        network.weight.fill_(1.0)
    for step in range(50):
        average.update(step)
    live = network.weight.clone()
    average.swap()
    assert float((network.weight.detach() - 1).abs().max()) < 0.01
    average.swap()
    assert torch.equal(network.weight, live)
