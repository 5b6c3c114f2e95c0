"""What the project's own networks share: the blocks and the U-Net that they are built from, and the size
of what they look at."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

# Networks that look at pictures were trained on this width; they see larger ones at a half, a third ... of their size.
_TRAINED_WIDTH = 320


class ResidualBlock(nn.Module):
    """Pre-norm convolutional residual block; ``(B, C, H, W)`` in and out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(self.norm(x)))))


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and MLP over all tokens; ``(B, N, C)`` in and out."""

    def __init__(self, channels: int, head_dim: int = 64) -> None:
        super().__init__()
        self.heads = channels // head_dim
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


def as_trained(pictures: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Pictures about as wide as those of the training, and by which whole number they were shrunk."""
    height, width = pictures.shape[-2:]
    shrunk = next(
        n for n in range(max(1, width // _TRAINED_WIDTH), 0, -1) if height % (16 * n) == width % (16 * n) == 0
    )
    return (pictures if shrunk == 1 else F.avg_pool2d(pictures, shrunk)), shrunk


def descend(
    x: torch.Tensor, encode: nn.ModuleList, down: nn.ModuleList, attention: nn.ModuleList
) -> tuple[torch.Tensor, torch.Size, list[torch.Tensor]]:
    """Down a U-Net and through the self-attention at its bottom: tokens ``(B, N, C)``, the height and width that they
    have together, and what is handed across at each level above, the finest first."""
    skips = []
    for i, block in enumerate(encode):
        x = block(x)
        if i < len(down):
            skips.append(x)
            x = down[i](x)
    tokens = x.flatten(2).transpose(1, 2)
    for block in attention:
        tokens = block(tokens)
    return tokens, x.shape[-2:], skips


def ascend(
    tokens: torch.Tensor, size: torch.Size, up: nn.ModuleList, decode: nn.ModuleList, skips: list[torch.Tensor]
) -> torch.Tensor:
    """Up again, to the level of the first of ``skips``, ``(B, C, H, W)``."""
    x = tokens.transpose(1, 2).unflatten(2, tuple(size))
    for widen, block, skip in zip(reversed(up), reversed(decode), reversed(skips), strict=True):
        x = block(skip + F.pixel_shuffle(widen(x), 2))
    return x
