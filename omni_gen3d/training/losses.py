"""Loss terms that several trainings share, and PSNR."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCosmos

# Finite cap for identical pictures: 10 log10(1 / 1e-10).
_MIN_ERROR = 1e-10


def psnr(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor | None = None) -> float:
    """Peak signal-to-noise ratio [dB] of pictures in [0, 1], over the pixels where ``mask`` (broadcastable) is true."""
    error = (a.clamp(0, 1) - b.clamp(0, 1)).square()
    mean = error.mean() if mask is None else error[mask.expand_as(error)].mean()
    return float(-10 * torch.log10(mean.clamp(min=_MIN_ERROR)))


def gradient_difference(a: torch.Tensor, b: torch.Tensor, scales: int = 3) -> torch.Tensor:
    """L1 between the spatial derivatives of two ``(..., H, W)`` stacks, summed over dyadic scales."""
    total = a.new_zeros(())
    a, b = a.flatten(0, -4), b.flatten(0, -4)
    for scale in range(scales):
        if scale:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        for axis in (-1, -2):
            total = total + (torch.diff(a, dim=axis) - torch.diff(b, dim=axis)).abs().mean()
    return total


def chroma_difference(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """L1 between two videos ``(B, 3, ...)`` after their mean over the colours is taken away."""
    difference = a - b
    return (difference - difference.mean(1, keepdim=True)).abs().mean()


class TokenizerFeatures(torch.nn.Module):
    """A perceptual distance in the first stage of the frozen tokenizer's encoder. It is not LPIPS.

    Features are unit-normalised over the channels, as LPIPS does, so that contrast does not dominate.
    """

    def __init__(self, tokenizer: AutoencoderKLCosmos) -> None:
        super().__init__()
        self._encoder = tokenizer.encoder

    def _features(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        first = self._encoder.conv_in(self._encoder.patch_embed(pictures[:, :, None]))
        second = self._encoder.down_blocks[0].resnets[0](first)  # pyright: ignore[reportIndexIssue, reportCallIssue]
        return [first.float(), second.float()]

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Mean squared distance of pictures in [-1, 1], shape ``(N, 3, H, W)``; differentiable in ``a``."""
        with torch.no_grad():
            targets = self._features(b)
        distances = [
            (F.normalize(x, dim=1) - F.normalize(y, dim=1)).square().sum(1).mean()
            for x, y in zip(self._features(a), targets, strict=True)
        ]
        return torch.stack(distances).sum()
