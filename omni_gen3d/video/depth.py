"""The depth network of the mini model: one picture to metric depth, and to a field of view when none is known."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from omni_gen3d.geometry import intrinsics_from_fov, pixel_rays
from omni_gen3d.layers import ResidualBlock, TransformerBlock, as_trained, ascend, descend
from omni_gen3d.video.cache3d import warp

MIN_DEPTH_M, MAX_DEPTH_M = 0.2, 30.0
# Where depths around a pixel differ by more than this there is an edge, and the colour tells on which side it lies;
# a pixel away counts as much as this difference of colours [of 2].
_EDGE, _COLOR_OF_A_PIXEL = 0.1, 0.02
# Change of a 3x3 mean, of colours in [-1, 1], below which a pixel of a film still shows the same.
_STILL_COLOR = 0.06


class DepthNetwork(ModelMixin, ConfigMixin):
    """A U-Net over one picture, with self-attention at 1/16 of the resolution.

    It sees the picture and, where the camera is known, the direction of every pixel's ray; a second head reads the
    horizontal field of view from the picture alone. Every pixel has ``num_modes`` candidate depths, of which the
    likeliest is taken: at an outline the depth of the thing or of what lies behind it, never one between (the idea of
    SMD-Nets, Tosi et al. 2021).
    """

    @register_to_config
    def __init__(
        self, channels: tuple[int, ...] = (48, 96, 160, 224), num_attention_layers: int = 3, num_modes: int = 1
    ) -> None:
        super().__init__()
        self.num_modes = num_modes
        self.stem = nn.Conv2d(4 * 5, channels[0], 3, padding=1)
        self.encode = nn.ModuleList([ResidualBlock(c) for c in channels])
        self.down = nn.ModuleList([nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(channels)])
        self.attention = nn.ModuleList([TransformerBlock(channels[-1], 32) for _ in range(num_attention_layers)])
        self.up = nn.ModuleList([nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(channels)])
        self.decode = nn.ModuleList([ResidualBlock(c) for c in channels[:-1]])
        self.depth_head = nn.Conv2d(channels[0], 4 * (2 * num_modes - 1), 3, padding=1)
        self.fov_head = nn.Linear(channels[-1], 1)

    def forward(self, image: torch.Tensor, rays: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict log depth and field of view.

        Args:
            image: RGB in [-1, 1], shape ``(B, 3, H, W)``, sides divisible by 16.
            rays: x / z and y / z of every pixel's ray, zeros where the camera is unknown, shape ``(B, 2, H, W)``.

        Returns:
            Natural logarithm of the depth along z [m], shape ``(B, H, W)``, and the tangent of half the horizontal
            field of view, shape ``(B,)``; the latter is trained with zero rays.
        """
        candidates, logits, tangent = self.candidates(image, rays)
        return likeliest(candidates, logits), tangent

    def candidates(self, image: torch.Tensor, rays: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The candidates for log depth and the logits of their probabilities, both ``(B, num_modes, H, W)``, and the
        tangent; see ``forward``."""
        x = self.stem(F.pixel_unshuffle(torch.cat([image, rays], dim=1), 2))
        tokens, size, skips = descend(x, self.encode, self.down, self.attention)
        tangent = F.softplus(self.fov_head(tokens.mean(1)))[:, 0]
        x = ascend(tokens, size, self.up, self.decode, skips)
        maps = F.pixel_shuffle(self.depth_head(F.silu(x)), 2).float()
        candidates, logits = maps.split([self.num_modes, self.num_modes - 1], 1)
        # The logit of the first candidate is zero.
        return 1.0 + candidates, F.pad(logits, (0, 0, 0, 0, 1, 0)), tangent.float()


def likeliest(candidates: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Of K candidates a pixel, shape ``(B, K, H, W)``, that of the highest logit, shape ``(B, H, W)``."""
    return candidates.gather(1, logits.argmax(1, keepdim=True))[:, 0]


def ray_image(intrinsics: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """x / z and y / z of every pixel's ray, shape ``(B, 2, H, W)``, for ``intrinsics (B, 3, 3)``."""
    return pixel_rays(intrinsics, height, width)[..., :2].permute(0, 3, 1, 2)


@torch.no_grad()
def estimate_log_depth(network: DepthNetwork, pictures: torch.Tensor, intrinsics: torch.Tensor) -> torch.Tensor:
    """Natural logarithm of the depth along z [m], shape ``(B, H, W)``: the mean of each picture's and of its mirror
    image's.

    Args:
        pictures: In [-1, 1], shape ``(B, 3, H, W)``, sides divisible by 16.
        intrinsics: Shape ``(B, 3, 3)`` or ``(1, 3, 3)``.
    """
    small, shrunk = as_trained(pictures)
    lens = torch.cat([intrinsics[:, :2] / shrunk, intrinsics[:, 2:]], 1)
    rays = ray_image(lens, *small.shape[-2:]).expand(len(small), -1, -1, -1)
    mirrored = torch.stack([-rays[:, 0], rays[:, 1]], 1).flip(-1)
    here, there = network(torch.cat([small, small.flip(-1)]), torch.cat([rays, mirrored]))[0].chunk(2)
    log_depth = (here + there.flip(-1)) / 2
    return log_depth if shrunk == 1 else _carried(log_depth, small, pictures)


def _carried(log_depth: torch.Tensor, small: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """Log depth ``(B, h, w)`` of small pictures at the pixels of large ones: linear on surfaces; at edges that of the
    nearby small pixel which looks most alike."""
    size = pictures.shape[-2:]
    smooth = F.interpolate(log_depth[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    best = torch.full_like(smooth, torch.inf)
    chosen, low, high = smooth, smooth, smooth
    padded = F.pad(torch.cat([small, log_depth[:, None].to(small)], 1), (1, 1, 1, 1), mode="replicate")
    for row in range(3):
        for column in range(3):
            around = padded[..., row : row + small.shape[-2], column : column + small.shape[-1]]
            around = F.interpolate(around, size=size, mode="nearest")
            depth = around[:, 3].to(smooth)
            unlike = (around[:, :3] - pictures).abs().mean(1) + _COLOR_OF_A_PIXEL * (abs(row - 1) + abs(column - 1))
            chosen, best = torch.where(unlike < best, depth, chosen), torch.minimum(best, unlike.to(best))
            low, high = torch.minimum(low, depth), torch.maximum(high, depth)
    return torch.where(high - low > _EDGE, chosen, smooth)


@torch.no_grad()
def estimate_fov(network: DepthNetwork, image: torch.Tensor) -> float:
    """Horizontal field of view [rad] of one picture in [-1, 1], shape ``(3, H, W)``."""
    small, _ = as_trained(image[None])
    _, tangent = network(small, torch.zeros_like(small[:, :2]))
    return 2 * float(torch.atan(tangent[0]))


def estimate_depth(network: DepthNetwork, image: torch.Tensor, fov_x_rad: float) -> torch.Tensor:
    """Depth along z [m], shape ``(H, W)``, of one picture in [-1, 1], shape ``(3, H, W)``."""
    return _metres(estimate_log_depth(network, image[None], _lens(image, fov_x_rad)))[0]


def steady_depth(frames: torch.Tensor, log_depth: torch.Tensor) -> torch.Tensor:
    """Make the depth of a film agree with itself, where the camera stood still.

    Every frame is brought to one scale by the median over the pixels that stay as they are; a pixel that shows what it
    shows most of the time gets the median depth of those times.

    Args:
        frames: In [-1, 1], shape ``(B, 3, L, H, W)``.
        log_depth: Natural logarithm of each frame's own estimate, shape ``(B, L, H, W)``.

    Returns:
        Depth along z, unit of the estimates, shape ``(B, L, H, W)``.
    """
    blurred = F.avg_pool2d(frames.flatten(0, 1), 3, stride=1, padding=1, count_include_pad=False)
    blurred = blurred.unflatten(0, frames.shape[:2])
    usual = blurred.median(2, keepdim=True).values
    still = (blurred - usual).abs().amax(1) < _STILL_COLOR
    always = still.all(1, keepdim=True)
    shift = log_depth - log_depth.median(1, keepdim=True).values
    shift = torch.where(always, shift, torch.nan).flatten(2).nanmedian(-1).values.nan_to_num(0.0)
    log_depth = log_depth - shift[..., None, None]
    behind = torch.where(still, log_depth, torch.nan).nanmedian(1, keepdim=True).values
    return torch.where(still, behind, log_depth).exp()


def estimate_film_log_depth(network: DepthNetwork, films: torch.Tensor, intrinsics: torch.Tensor) -> torch.Tensor:
    """``estimate_log_depth`` of every frame by itself, shape ``(B, L, H, W)``, of films ``(B, 3, L, H, W)``."""
    return torch.stack([estimate_log_depth(network, frame, intrinsics) for frame in films.unbind(2)], 1)


def estimate_video_depth(network: DepthNetwork, frames: torch.Tensor, fov_x_rad: float) -> torch.Tensor:
    """Depth along z [m], shape ``(L, H, W)``, of a film in [-1, 1] by a still camera, shape ``(3, L, H, W)``."""
    log_depth = estimate_film_log_depth(network, frames[None], _lens(frames, fov_x_rad))
    return steady_depth(frames[None], log_depth)[0].clamp(MIN_DEPTH_M, MAX_DEPTH_M)


def estimate_frame_depth(network: DepthNetwork, frames: torch.Tensor, fov_x_rad: float) -> torch.Tensor:
    """``estimate_video_depth`` of a camera that moves: every frame by itself."""
    return _metres(estimate_film_log_depth(network, frames[None], _lens(frames, fov_x_rad)))[0]


def agreeing_depth(depth: torch.Tensor, intrinsics: torch.Tensor, camera_to_first: torch.Tensor) -> torch.Tensor:
    """Bring every frame's depth to the scale of the one before, where both see the same.

    Args:
        depth: Along z [unit of the poses], shape ``(L, H, W)``.
        intrinsics: Shape ``(3, 3)``.
        camera_to_first: Shape ``(L, 4, 4)``.
    """
    agreed = [depth[0]]
    for before, after, here in zip(camera_to_first[:-1], camera_to_first[1:], depth[1:], strict=True):
        pose = torch.linalg.inv(before) @ after
        seen = warp(agreed[-1].expand(1, 3, -1, -1), agreed[-1][None], intrinsics[None], pose[None, None])
        shared = seen.mask[0, 0, 0] > 0
        ratio = (seen.depth[0, 0, 0] / here)[shared]
        agreed.append(here * (ratio.median() if len(ratio) else 1.0))
    return torch.stack(agreed)


def _lens(pictures: torch.Tensor, fov_x_rad: float) -> torch.Tensor:
    height, width = pictures.shape[-2:]
    return intrinsics_from_fov(fov_x_rad, width, height).to(pictures)[None]


def _metres(log_depth: torch.Tensor) -> torch.Tensor:
    return log_depth.exp().clamp(MIN_DEPTH_M, MAX_DEPTH_M)
