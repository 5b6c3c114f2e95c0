"""The video tokenizer: diffusers' ``AutoencoderKLCosmos`` with exact, faster forwards for the same weights.

Compression is 8 x 8 x 8 (time, height, width) into 16 channels, causal in time: L frames become (L - 1) / 8 + 1
latent frames, the first of which holds frame 0 alone. Two latent domains exist (Cosmos-Predict1's convention):
*raw*, what the encoder returns and the Gaussian decoder consumes, and *diffusion*, standardised per channel to a
standard deviation of ``SIGMA_DATA``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCosmos
from diffusers.models.autoencoders import autoencoder_kl_cosmos as cosmos

SIGMA_DATA = 0.5
TEMPORAL_COMPRESSION = 8
SPATIAL_COMPRESSION = 8
# Frames are normalised this many numbers at a time: full-size videos would otherwise take gigabytes in float32.
_NORM_NUMBERS_AT_ONCE = 2**26
# The class stores one mean and one deviation for each channel and each of this many latent frames.
_LATENT_FRAMES_STORED = 16


class _CausalConv3d(cosmos.CosmosCausalConv3d):
    """The factorised causal convolution as a 2-D convolution or a matrix product, channels last."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        kernel_time, kernel_height, _ = self.kernel_size
        batch, channels, frames, height, width = hidden_states.shape
        x = hidden_states.permute(0, 2, 3, 4, 1)
        if kernel_time == 1 and kernel_height == 1:
            return F.linear(x, self.weight.reshape(self.out_channels, channels), self.bias).permute(0, 4, 1, 2, 3)
        if kernel_time == 1:
            x = x.reshape(batch * frames, height, width, channels).permute(0, 3, 1, 2)
            x = F.conv2d(x, self.weight[:, :, 0], self.bias, stride=self.stride[1:], padding=self.spatial_pad[0])
            return x.permute(0, 2, 3, 1).unflatten(0, (batch, frames)).permute(0, 4, 1, 2, 3)
        if self.temporal_pad:
            x = torch.cat([x[:, :1].expand(-1, self.temporal_pad, -1, -1, -1), x], dim=1)
        x = x.reshape(batch, x.shape[1], height * width, channels).permute(0, 3, 1, 2)
        x = F.conv2d(x, self.weight[:, :, :, :, 0], self.bias, stride=(self.stride[0], 1))
        return x.permute(0, 2, 3, 1).unflatten(2, (height, width)).permute(0, 4, 1, 2, 3)


class _CausalGroupNorm(cosmos.CosmosCausalGroupNorm):
    """Group normalisation with one group, frame by frame, from plain moments in float32."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        frames = hidden_states.permute(0, 2, 3, 4, 1)
        at_once = max(_NORM_NUMBERS_AT_ONCE // frames[:, 0].numel(), 1)
        return torch.cat([self._normalise(x) for x in frames.split(at_once, dim=1)], dim=1).permute(0, 4, 1, 2, 3)

    def _normalise(self, frames: torch.Tensor) -> torch.Tensor:
        x = frames.float()
        x = x - x.mean((2, 3, 4), keepdim=True)
        x = x * torch.rsqrt(x.square().mean((2, 3, 4), keepdim=True) + self.norm.eps)
        return (x * self.norm.weight + self.norm.bias).to(frames.dtype)


def _haar_matrix(device: torch.device) -> torch.Tensor:
    """Two levels of the 3-D Haar transform on a 4x4x4 block: rows are bands, columns pixels (t, y, x); ``(64, 64)``.

    Its inverse is 64 times its transpose.
    """
    bits = torch.tensor([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)], dtype=torch.float32, device=device)
    level = torch.where((bits @ bits.T) % 2 > 0, -1.0, 1.0).reshape(8, 2, 2, 2) / 8
    both = torch.einsum("ptyx,quvw->pqtuyvxw", level, level)
    return both.reshape(64, 64)


class _HaarPatchEmbed(cosmos.CosmosPatchEmbed3d):
    """The two-level Haar wavelet patching as one 64 x 64 matrix."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        x = torch.cat([hidden_states[:, :, :1].expand(-1, -1, 3, -1, -1), hidden_states], dim=2)
        batch, channels, frames, height, width = x.shape
        x = x.reshape(batch, channels, frames // 4, 4, height // 4, 4, width // 4, 4)
        x = x.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(batch, frames // 4, height // 4, width // 4, 64, channels)
        x = torch.einsum("pk,bthwkc->bthwpc", _haar_matrix(x.device), x.float())
        return x.flatten(4).permute(0, 4, 1, 2, 3).to(hidden_states.dtype)


class _HaarUnpatcher(cosmos.CosmosUnpatcher3d):
    """Inverse of ``_HaarPatchEmbed``; drops the three frames that causality added."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        batch, channels, frames, height, width = hidden_states.shape
        x = hidden_states.permute(0, 2, 3, 4, 1).float().reshape(batch, frames, height, width, 64, channels // 64)
        x = torch.einsum("pk,bthwpc->bthwkc", 64 * _haar_matrix(x.device), x)
        x = x.reshape(batch, frames, height, width, 4, 4, 4, -1).permute(0, 7, 1, 4, 2, 5, 3, 6)
        return x.reshape(batch, -1, frames * 4, height * 4, width * 4)[:, :, 3:].to(hidden_states.dtype)


_FASTER: dict[type, type] = {
    cosmos.CosmosCausalConv3d: _CausalConv3d,
    cosmos.CosmosCausalGroupNorm: _CausalGroupNorm,
    cosmos.CosmosPatchEmbed3d: _HaarPatchEmbed,
    cosmos.CosmosUnpatcher3d: _HaarUnpatcher,
}


def accelerate_tokenizer(tokenizer: AutoencoderKLCosmos) -> AutoencoderKLCosmos:
    """Swap the slow layers of this instance for their fast equals (same weights, relative error about 1e-6).

    On two CPU cores encoding 17 frames of 176x320 falls from 6 s or more to 0.5 s. The library's classes stay
    untouched.
    """
    assert tokenizer.config["patch_size"] == 4, "the Haar matrix is written for patches of 4"
    for module in tokenizer.modules():
        if type(module) in _FASTER:
            module.__class__ = _FASTER[type(module)]
    return tokenizer


def encode_raw(tokenizer: AutoencoderKLCosmos, video: torch.Tensor) -> torch.Tensor:
    """Raw latents ``(B, 16, T, H/8, W/8)`` of a video in [-1, 1], shape ``(B, 3, L, H, W)``, L = 8 (T - 1) + 1."""
    return tokenizer.quant_conv(tokenizer.encoder(video)).float()


def decode_raw(tokenizer: AutoencoderKLCosmos, latents: torch.Tensor) -> torch.Tensor:
    """The video ``(B, 3, L, H, W)`` of raw latents ``(B, 16, T, H/8, W/8)``, nominally in [-1, 1]; not clamped."""
    return tokenizer.decoder(tokenizer.post_quant_conv(latents)).float()


def _moments(tokenizer: AutoencoderKLCosmos, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    stored = (
        torch.tensor(tokenizer.config[name], device=latents.device).reshape(1, 16, _LATENT_FRAMES_STORED, 1, 1)
        for name in ("latents_mean", "latents_std")
    )
    mean, std = (values[:, :, : latents.shape[2]] for values in stored)
    return mean, std


def to_diffusion_domain(tokenizer: AutoencoderKLCosmos, raw: torch.Tensor) -> torch.Tensor:
    """Raw latents standardised per channel and frame, times ``SIGMA_DATA``; shape kept."""
    mean, std = _moments(tokenizer, raw)
    return (raw - mean) / std * SIGMA_DATA


def to_raw_domain(tokenizer: AutoencoderKLCosmos, latents: torch.Tensor) -> torch.Tensor:
    """Inverse of ``to_diffusion_domain``."""
    mean, std = _moments(tokenizer, latents)
    return latents / SIGMA_DATA * std + mean


def set_latent_moments(tokenizer: AutoencoderKLCosmos, mean: torch.Tensor, std: torch.Tensor) -> None:
    """Record the raw latents' per-channel mean and deviation, each shape ``(16,)``, in the tokenizer's config."""
    repeated = {
        "latents_mean": mean.repeat_interleave(_LATENT_FRAMES_STORED).tolist(),
        "latents_std": std.repeat_interleave(_LATENT_FRAMES_STORED).tolist(),
    }
    tokenizer.register_to_config(**repeated)
