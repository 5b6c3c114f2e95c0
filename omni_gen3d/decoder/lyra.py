"""The decoder of the official Lyra model, static and dynamic, rebuilt for official checkpoints (arXiv 2509.19296).

Video latents of all views become one sequence of tokens, which fourteen bidirectional Mamba-2 blocks and two blocks of
full attention mix; a transposed convolution turns them into one Gaussian for every frame and every 8x8 pixels. The
residual stream and the norms stay in float32; ``to_bfloat16`` gives the matrix products of the blocks a faster type.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import nn

from omni_gen3d.decoder.lyra_checkpoint import DECODER_HINT, read_checkpoint
from omni_gen3d.decoder.scan_torch import accumulation_dtype
from omni_gen3d.decoder.state_space import MambaBlock
from omni_gen3d.errors import InputError
from omni_gen3d.geometry import rgb_to_sh_dc
from omni_gen3d.tensor_file import refuse_differences, refuse_infinities
from omni_gen3d.types import Gaussians

LATENT_CHANNELS = 16
PLUCKER_CHANNELS = 32
FRAMES_PER_LATENT = 8
# Rows and columns of latent cells in a token.
_PATCH = 2
# Distance 1, colour 3, scale 3, rotation 4, opacity 1.
_MAP_CHANNELS = (1, 3, 3, 4, 1)
_NEAR, _FAR, _DISTANCE_SHIFT = 0.1, 500.0, 1.65
_MAX_SCALE, _OPACITY_SHIFT = 0.3, 2.0
_EMBED_EPS, _BLOCK_EPS = 1e-5, 1e-6


class LayerNorm(nn.LayerNorm):
    """Layer norm over the last axis that never computes below float32."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        x = input.to(accumulation_dtype(input.dtype))
        return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


class PatchEmbed(nn.Module):
    """A convolution whose kernel is its stride (1, 2, 2), then a norm."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(in_channels, channels, (1, _PATCH, _PATCH), stride=(1, _PATCH, _PATCH))
        self.norm = LayerNorm(channels, eps=_EMBED_EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(V, T, in, h, w)`` to tokens in time-row-column order, ``(V, T h/2 w/2, C)``."""
        dtype = accumulation_dtype(self.proj.weight.dtype)
        # Without overlap the convolution is one matrix product over patches.
        patches = F.pixel_unshuffle(x.to(dtype), _PATCH).permute(0, 1, 3, 4, 2)
        weight, bias = self.proj.weight.flatten(1).to(dtype), self.proj.bias
        return self.norm(F.linear(patches.flatten(1, 3), weight, None if bias is None else bias.to(dtype)))


class Attention(nn.Module):
    """Full self-attention over all tokens, ``(B, N, C)`` in and out."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.heads = heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(attend(q, k, v).transpose(1, 2).flatten(2))


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention, ``(B, heads, N, channels)`` in and out, that never holds an N x N matrix on CUDA.

    There the first of the fused kernels that takes the type and size serves; where none does, an error is better than
    hundreds of gigabytes.
    """
    if not q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v)
    from torch.nn.attention import SDPBackend, sdpa_kernel

    fused = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    with sdpa_kernel(fused, set_priority=True):
        return F.scaled_dot_product_attention(q, k, v)


class Mlp(nn.Module):
    """Two layers with an exact GELU between; ``(..., C)`` in and out."""

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden_channels)
        self.fc2 = nn.Linear(hidden_channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class AttentionBlock(nn.Module):
    """Pre-norm attention and MLP; the residual stream never leaves float32."""

    def __init__(self, channels: int, heads: int, hidden_channels: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(channels, eps=_BLOCK_EPS)
        self.attn = Attention(channels, heads)
        self.norm2 = LayerNorm(channels, eps=_BLOCK_EPS)
        self.mlp = Mlp(channels, hidden_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        product_dtype = self.mlp.fc1.weight.dtype
        x = x + self.attn(self.norm1(x).to(product_dtype))
        return x + self.mlp(self.norm2(x).to(product_dtype))


class Upsampler(nn.Module):
    """Transposed convolution of kernel (9, 2, 2), stride (8, 2, 2) and padding (4, 0, 0).

    Kernels tile rows and columns and share one frame with their neighbours in time, so the convolution is one matrix
    product, an addition at the shared frames and a cut of four frames at both ends.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        kernel = (FRAMES_PER_LATENT + 1, _PATCH, _PATCH)
        self.weight = nn.Parameter(torch.randn(channels, out_channels, *kernel) / math.sqrt(channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """``(T, rows, columns, C)`` to ``(8 (T - 1) + 1, 2 rows, 2 columns, out)``."""
        count, rows, columns, _ = tokens.shape
        taps = tokens @ self.weight.flatten(1).to(tokens.dtype)
        taps = taps.unflatten(-1, self.weight.shape[1:]).permute(0, 4, 1, 5, 2, 6, 3)
        own, shared = taps.split([FRAMES_PER_LATENT, 1], dim=1)
        own, shared = (t.reshape(count, -1, _PATCH * rows, _PATCH * columns, len(self.bias)) for t in (own, shared))
        first = own[:, :1] + F.pad(shared[:-1], (0, 0) * 4 + (1, 0))
        frames = torch.cat([first, own[:, 1:]], dim=1).flatten(0, 1)
        cut = FRAMES_PER_LATENT // 2
        return frames[cut : cut + FRAMES_PER_LATENT * (count - 1) + 1] + self.bias


class LatentGaussianDecoder(nn.Module):
    """Latents of V views to Gaussians.

    The parameters carry the names of official checkpoints, which lie under the key ``module`` of their file: the
    mapping is the identity. The defaults are the official sizes: 32,753,996 parameters.

    Args:
        channels: Of a token.
        depth: How many blocks.
        attention_blocks: Indices of those that attend; the others are Mamba-2.
        num_attention_heads: Must divide ``channels``.
        hidden_channels: Of the MLPs in the attention blocks.
        inner_channels: Of the Mamba-2 mixers.
        state_channels: N of the recurrence.
        num_state_heads: Heads of the recurrence; must divide ``inner_channels``.
        conv_width: Tokens that the mixers' convolution sees.
    """

    def __init__(
        self,
        *,
        channels: int = 512,
        depth: int = 16,
        attention_blocks: Sequence[int] = (7, 15),
        num_attention_heads: int = 8,
        hidden_channels: int = 2048,
        inner_channels: int = 1024,
        state_channels: int = 256,
        num_state_heads: int = 16,
        conv_width: int = 4,
    ) -> None:
        super().__init__()
        if num_attention_heads < 1 or channels % num_attention_heads:
            raise InputError(f"num_attention_heads is {num_attention_heads}; it must divide {channels} channels.")
        if num_state_heads < 1 or inner_channels % num_state_heads:
            raise InputError(f"num_state_heads is {num_state_heads}; it must divide {inner_channels} inner channels.")
        self.patch_embed = PatchEmbed(LATENT_CHANNELS, channels)
        self.patch_plucker_embed = PatchEmbed(PLUCKER_CHANNELS, channels)
        self.patch_time_embed = PatchEmbed(LATENT_CHANNELS, channels)
        self.patch_time_embed_tgt = PatchEmbed(LATENT_CHANNELS, channels)
        self.enc_blocks = nn.ModuleList(
            AttentionBlock(channels, num_attention_heads, hidden_channels)
            if index in attention_blocks
            else MambaBlock(channels, inner_channels, state_channels, num_state_heads, conv_width)
            for index in range(depth)
        )
        self.enc_norm = LayerNorm(channels, eps=_BLOCK_EPS)
        self.deconv = Upsampler(channels, sum(_MAP_CHANNELS))

    @classmethod
    def from_lyra_checkpoint(cls, path: Path | str, num_attention_heads: int = 8) -> Self:
        """Read an official checkpoint, in float32, for inference; every size but the heads follows from the shapes.

        Args:
            path: A ``.safetensors`` file, or one written by ``torch.save`` (``.pt``, ``.pth``, ``.ckpt``, ``.bin``)
                that holds tensors alone; both flat or under the key ``module``.
            num_attention_heads: 8 in the official model.

        Raises:
            InputError: The file is missing, unreadable or tries to run code, or its tensors are not those of this
                network: the message names the first that differ.
        """
        state, sizes = read_checkpoint(Path(path))
        with torch.device("meta"):
            decoder = cls(**sizes, num_attention_heads=num_attention_heads)
        wanted = decoder.state_dict()
        refuse_differences(Path(path), state, wanted, network="this decoder", hint=DECODER_HINT)
        refuse_infinities(Path(path), state, hint=DECODER_HINT)
        own = {
            name: value.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
            for name, value in state.items()
        }
        decoder.load_state_dict(own, assign=True)
        return decoder.eval().requires_grad_(False)

    def to_bfloat16(self) -> Self:
        """Give the blocks' matrix products bfloat16 operands, in place.

        Embeddings, norms, convolutions, steps and decays of the recurrence, residual stream and head keep their type.
        """
        for module in self.enc_blocks.modules():
            if isinstance(module, nn.Linear):
                module.to(torch.bfloat16)
        return self

    def forward(
        self,
        latents: torch.Tensor,
        plucker_latents: torch.Tensor,
        ray_origins: torch.Tensor,
        ray_directions: torch.Tensor,
        *,
        num_views: int,
        time_latents: torch.Tensor | None = None,
        prune_ratio: float = 0.8,
    ) -> list[Gaussians]:
        """Decode V views of T latent frames, which are L = 8 (T - 1) + 1 frames.

        Args:
            latents: Raw tokenizer domain, one view after the other, shape ``(B, V T, 16, h, w)``, h and w even.
            plucker_latents: Encoded moments, then directions, shape ``(B, V T, 32, h, w)``.
            ray_origins: Of every frame, at the latents' resolution [scene units], shape ``(B, V L, 3, h, w)``.
            ray_directions: Unit length, shape ``(B, V L, 3, h, w)``.
            num_views: V.
            time_latents: Encoded times of the T source latent frames, then of the target time, for a scene that moves;
                shape ``(B, T + 1, 16, h, w)``.
            prune_ratio: Which share of the Gaussians to drop, the least opaque first, in [0, 1); of equals the later
                in order goes first.

        Returns:
            One set for each item of the batch, in the frame of the rays [scene units], in float32, in
            view-time-row-column order; ``int(N (1 - prune_ratio))`` of N = V L h w, at least one.

        Raises:
            InputError: A shape or number does not fit.
        """
        _check(latents, plucker_latents, ray_origins, ray_directions, num_views, time_latents, prune_ratio)
        batch, maps, _, height, width = latents.shape
        grid = (num_views, maps // num_views, height // _PATCH, width // _PATCH)
        x = torch.stack(
            [
                self._embed(latents[i], plucker_latents[i], None if time_latents is None else time_latents[i], grid)
                for i in range(batch)
            ]
        )
        for block in self.enc_blocks:
            x = block(x)
        x = self.enc_norm(x).unflatten(1, grid)
        return [prune(self._place(x[i], ray_origins[i], ray_directions[i]), prune_ratio) for i in range(batch)]

    def _embed(
        self,
        latents: torch.Tensor,
        plucker_latents: torch.Tensor,
        time_latents: torch.Tensor | None,
        grid: tuple[int, int, int, int],
    ) -> torch.Tensor:
        """One scene's tokens in view-time-row-column order, ``(V T h/2 w/2, C)``."""
        x = self.patch_embed(latents.unflatten(0, grid[:2]))
        if time_latents is not None:
            source, target = time_latents.split([grid[1], 1])
            x = x + self.patch_time_embed(source[None])
            x = x + self.patch_time_embed_tgt(target[None]).repeat(1, grid[1], 1)
        x = x + self.patch_plucker_embed(plucker_latents.unflatten(0, grid[:2]))
        return x.flatten(0, 1)

    def _place(self, tokens: torch.Tensor, ray_origins: torch.Tensor, ray_directions: torch.Tensor) -> Gaussians:
        """One scene's Gaussians, a view at a time, from ``(V, T, h/2, w/2, C)``."""
        rays = (value.unflatten(0, (len(tokens), -1)) for value in (ray_origins, ray_directions))
        views = [
            activate(self.deconv(view), origins.to(tokens.dtype), directions.to(tokens.dtype))
            for view, origins, directions in zip(tokens, *rays, strict=True)
        ]
        names = ("means", "quats", "scales", "opacities", "sh")
        return Gaussians(*(torch.cat([getattr(view, name) for view in views]) for name in names))


def activate(maps: torch.Tensor, ray_origins: torch.Tensor, ray_directions: torch.Tensor) -> Gaussians:
    """Raw maps of one view to Gaussians on its rays.

    Args:
        maps: Shape ``(L, h, w, 12)``.
        ray_origins: Shape ``(L, 3, h, w)``.
        ray_directions: Shape ``(L, 3, h, w)``.
    """
    origins, directions = (value.permute(0, 2, 3, 1).reshape(-1, 3) for value in (ray_origins, ray_directions))
    distance, colour, scale, rotation, opacity = maps.flatten(0, 2).split(_MAP_CHANNELS, dim=-1)
    far = torch.sigmoid(distance - _DISTANCE_SHIFT)
    return Gaussians(
        means=origins + directions * (_NEAR * (1 - far) + _FAR * far),
        quats=F.normalize(rotation, dim=-1),
        scales=torch.exp(scale - (1 - math.log(_MAX_SCALE))).clamp(max=_MAX_SCALE),
        opacities=torch.sigmoid(opacity - _OPACITY_SHIFT)[:, 0],
        sh=rgb_to_sh_dc(0.5 * torch.tanh(colour) + 0.5)[:, None],
    )


def prune(gaussians: Gaussians, ratio: float) -> Gaussians:
    """Without the least opaque share ``ratio``; the others keep their order, and of equals the earlier stay."""
    if ratio == 0:
        return gaussians
    count = max(int(len(gaussians) * (1 - ratio)), 1)
    order = torch.sort(gaussians.opacities, descending=True, stable=True).indices
    return gaussians[order[:count].sort().values]


def _check(
    latents: torch.Tensor,
    plucker_latents: torch.Tensor,
    ray_origins: torch.Tensor,
    ray_directions: torch.Tensor,
    num_views: int,
    time_latents: torch.Tensor | None,
    prune_ratio: float,
) -> None:
    if latents.ndim != 5 or 0 in latents.shape:
        raise InputError(f"latents has shape {tuple(latents.shape)}; expected (B, V * T, {LATENT_CHANNELS}, h, w).")
    batch, maps, _, height, width = latents.shape
    if num_views < 1 or maps % num_views:
        raise InputError(f"num_views is {num_views}; it must divide the {maps} maps of latents, which are views * T.")
    if height % _PATCH or width % _PATCH:
        raise InputError(f"latents are {width} x {height} cells; both must be even.")
    if not 0 <= prune_ratio < 1:
        raise InputError(f"prune_ratio is {prune_ratio}; it must be at least 0 and less than 1.")
    latent_frames = maps // num_views
    ray_maps = num_views * (FRAMES_PER_LATENT * (latent_frames - 1) + 1)
    expected = {
        "latents": (latents, (batch, maps, LATENT_CHANNELS, height, width)),
        "plucker_latents": (plucker_latents, (batch, maps, PLUCKER_CHANNELS, height, width)),
        "ray_origins": (ray_origins, (batch, ray_maps, 3, height, width)),
        "ray_directions": (ray_directions, (batch, ray_maps, 3, height, width)),
    }
    if time_latents is not None:
        expected["time_latents"] = (time_latents, (batch, latent_frames + 1, LATENT_CHANNELS, height, width))
    for name, (value, shape) in expected.items():
        if tuple(value.shape) != shape:
            raise InputError(f"{name} has shape {tuple(value.shape)}; {num_views} views of {maps} maps need {shape}.")
