"""Muon for hidden matrices, AdamW for the rest, and an exponential moving average of the weights."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection

import torch

# Quintic Newton-Schulz coefficients of Muon (Jordan et al. 2024).
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_NEWTON_SCHULZ_STEPS = 5


class Muon:
    """Orthogonalised momentum, scaled by 0.2 sqrt(max(rows, columns)) so that its size matches AdamW's.

    Args:
        network: Whose parameters to train; such as need no gradient stay.
        adam_names: Parameters whose name contains one of these go to AdamW: first and last layers, embeddings.
            Vectors and matrices with a side under 8 go there too.
        weight_decay: Decoupled, on the Muon matrices.
    """

    def __init__(
        self, network: torch.nn.Module, adam_names: Collection[str], weight_decay: float = 0.01, momentum: float = 0.95
    ) -> None:
        matrices: list[torch.nn.Parameter] = []
        others: list[torch.nn.Parameter] = []
        for name, parameter in network.named_parameters():
            if not parameter.requires_grad:
                continue
            rows, columns = len(parameter), parameter.numel() // max(len(parameter), 1)
            hidden = parameter.ndim >= 2 and min(rows, columns) >= 8 and not any(part in name for part in adam_names)
            (matrices if hidden else others).append(parameter)
        self._weight_decay, self._momentum = weight_decay, momentum
        self._buffers = {parameter: torch.zeros_like(parameter) for parameter in matrices}
        self._by_shape: dict[tuple[int, int], list[torch.nn.Parameter]] = defaultdict(list)
        for parameter in matrices:
            self._by_shape[len(parameter), parameter.numel() // len(parameter)].append(parameter)
        self._adam = torch.optim.AdamW(
            others, betas=(0.9, 0.95), weight_decay=0.0, fused=next(network.parameters()).is_cuda
        )

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Apply the gradients."""
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
        self._adam.step()
        for (rows, columns), same_shape in self._by_shape.items():
            parameters: list[torch.Tensor] = list(same_shape)
            updates = []
            for parameter in same_shape:
                assert parameter.grad is not None
                buffer = self._buffers[parameter].lerp_(parameter.grad, 1 - self._momentum)
                updates.append(parameter.grad.lerp(buffer, self._momentum).reshape(rows, columns))
            updates = _orthogonalise(torch.stack(updates)) * (learning_rate * 0.2 * math.sqrt(max(rows, columns)))
            torch._foreach_mul_(parameters, 1 - learning_rate * self._weight_decay)
            torch._foreach_sub_(
                parameters, [u.reshape(p.shape).to(p) for u, p in zip(updates, parameters, strict=True)]
            )

    def zero_grad(self) -> None:
        self._adam.zero_grad(set_to_none=True)
        for parameter in self._buffers:
            parameter.grad = None


def _orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """Roughly the nearest semi-orthogonal matrices, by Newton-Schulz in bfloat16; shape ``(K, rows, columns)``."""
    a, b, c = _NEWTON_SCHULZ
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    tall = x.shape[1] > x.shape[2]
    x = (x.mT if tall else x).bfloat16()
    for _ in range(_NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class MovingAverage:
    """Exponential moving average of a network's parameters, with a short memory at the start."""

    def __init__(self, network: torch.nn.Module, decay: float) -> None:
        self._live: list[torch.Tensor] = list(network.parameters())
        self._average = [parameter.detach().clone() for parameter in self._live]
        self._decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        torch._foreach_lerp_(self._average, self._live, 1 - min(self._decay, (1 + step) / (10 + step)))

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange live and averaged weights; call twice to return."""
        for live, average in zip(self._live, self._average, strict=True):
            kept = live.clone()
            live.copy_(average)
            average.copy_(kept)
