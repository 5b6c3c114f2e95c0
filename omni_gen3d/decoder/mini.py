"""The latent 3DGS decoder of the mini model: video latents of several trajectories to one fused set of Gaussians.

After Lyra (arXiv 2509.19296) the decoder reads raw video latents and Plücker rays and places Gaussians along the rays;
all trajectories attend to each other, so that one view can leave to another what that one sees better. Ours also
reads the depth of the 3D cache that steered the video: where the cache is known it refines that depth, elsewhere it
predicts its own. The first latent frame, which all trajectories share, is decoded once.

Of a scene that moves one pass gives the Gaussians of one time (Lyra's bullet time). Such a pass also reads what the 4D
cache shows at that time, its colours and depth, and a code of the time; without them the network is the static one.
The latents show every place at their own time: where the cache contradicts the colour that they lead to, it is right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from omni_gen3d.decoder.pruning import most_shown
from omni_gen3d.geometry import matrix_to_quat, quat_multiply, rgb_to_sh_dc
from omni_gen3d.layers import ResidualBlock, TransformerBlock
from omni_gen3d.types import Cameras, Gaussians, VideoLatents

STRIDE = 2
_OUTPUT_CHANNELS = 14
_LATENT_SCALE = 1.2
_FRAMES_PER_LATENT = 8
# How far the decoder may move a depth that the 3D cache knows, in natural logarithms.
_DEPTH_REFINEMENT = 0.25
_LOG_DEPTH_RANGE = (-2.5, 2.5)
_TIME_OCTAVES = 3
# A Gaussian whose colour differs from that of the 4D cache by this in any channel was imagined at another time.
_OTHER_COLOR = 0.1


class Moment(NamedTuple):
    """The time that a pass over a moving scene shows.

    Attributes:
        rgb: What the 4D cache shows at that time, in [0, 1], 0 where its depth is unknown, shape ``(B, M, 3, 4h, 4w)``.
        source: Share of the clip at which each map's latent frame ends, shape ``(M,)``.
        target: Share of the clip at the wanted time, shape ``(B,)``.
    """

    rgb: torch.Tensor
    source: torch.Tensor
    target: torch.Tensor


def time_code(share: torch.Tensor) -> torch.Tensor:
    """A time in [0, 1] and its sines and cosines over one half, one and two periods: ``(...)`` to ``(..., 7)``."""
    angles = share[..., None] * math.pi * 2.0 ** torch.arange(_TIME_OCTAVES, device=share.device)
    return torch.cat([share[..., None], angles.sin(), angles.cos()], -1)


class MiniDecoder(ModelMixin, ConfigMixin):
    """Convolutional stem, transformer over the tokens of all views, convolutional upsampler to stride 2.

    With ``knows_time`` it has the layers that read a ``Moment``; they start at zero, so that weights trained without
    them go on unchanged. A network without them sees a moment through its depth alone.
    """

    @register_to_config
    def __init__(
        self,
        channels: int = 128,
        token_channels: int = 256,
        num_layers: int = 5,
        latent_frames: int = 3,
        token_rows: int = 11,
        token_columns: int = 20,
        knows_time: bool = False,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(16 + 12 + 16 + 16, channels, 3, padding=1)
        self.encode = nn.Sequential(ResidualBlock(channels), ResidualBlock(channels))
        self.to_tokens = nn.Conv2d(channels, token_channels, 2, stride=2)
        self.position = nn.Parameter(torch.zeros(1, token_channels, token_rows, token_columns))
        self.frame = nn.Parameter(torch.zeros(latent_frames, token_channels))
        self.blocks = nn.ModuleList([TransformerBlock(token_channels) for _ in range(num_layers)])
        self.from_tokens = nn.Conv2d(token_channels, 4 * channels, 1)
        self.decode = nn.Sequential(ResidualBlock(channels), ResidualBlock(channels))
        self.up1 = nn.Conv2d(channels, 4 * 96, 3, padding=1)
        self.refine1 = ResidualBlock(96)
        self.up2 = nn.Conv2d(96, 4 * 64, 3, padding=1)
        self.refine2 = ResidualBlock(64)
        self.head = nn.Conv2d(64, _OUTPUT_CHANNELS, 3, padding=1)
        if knows_time:
            self.moment_stem = nn.Conv2d(3 * 16, channels, 3, padding=1)
            self.moment_detail = nn.Conv2d(3 + 1, 64, 3, padding=1)
            self.source_time = nn.Linear(1 + 2 * _TIME_OCTAVES, token_channels)
            self.target_time = nn.Linear(1 + 2 * _TIME_OCTAVES, token_channels)
            for layer in (self.moment_stem, self.moment_detail, self.source_time, self.target_time):
                for parameter in layer.parameters():
                    nn.init.zeros_(parameter)

    def forward(
        self,
        latents: torch.Tensor,
        plucker: torch.Tensor,
        cache_depth: torch.Tensor,
        frame: torch.Tensor,
        moment: Moment | None = None,
    ) -> torch.Tensor:
        """Predict Gaussian maps.

        Args:
            latents: Raw latents of M latent frames, shape ``(B, M, 16, h, w)``.
            plucker: Moments and directions of their rays, at the frame and halfway to the one before,
                shape ``(B, M, 12, h, w)``.
            cache_depth: Cache depth [scene units], 0 where unknown, shape ``(B, M, 4h, 4w)``.
            frame: Which latent frame of its trajectory each map is, shape ``(M,)``, long.
            moment: The time to show, whose depth ``cache_depth`` then is; None for a scene that stands still.

        Returns:
            Raw outputs, shape ``(B, M, 14, 4h, 4w)``.
        """
        batch, maps = latents.shape[:2]
        known = (cache_depth > 0).to(latents.dtype)
        log_depth = torch.where(cache_depth > 0, cache_depth.clamp(min=1e-3).log(), 0.0)
        cells = [F.pixel_unshuffle(x.flatten(0, 1)[:, None], 4) for x in (log_depth, known)]
        x = torch.cat([latents.flatten(0, 1) / _LATENT_SCALE, plucker.flatten(0, 1), *cells], dim=1)
        x = self.stem(x)
        timed = moment is not None and self.config["knows_time"]
        if moment is not None and timed:
            x = x + self.moment_stem(F.pixel_unshuffle(moment.rgb.flatten(0, 1), 4))
        x = self.encode(x)
        tokens = self.to_tokens(x)
        rows, columns = tokens.shape[-2:]
        tokens = tokens + F.interpolate(self.position, (rows, columns), mode="bilinear", align_corners=False)
        tokens = tokens.unflatten(0, (batch, maps)) + self.frame[frame][:, :, None, None]
        if moment is not None and timed:
            code = self.source_time(time_code(moment.source)) + self.target_time(time_code(moment.target))[:, None]
            tokens = tokens + code[..., None, None]
        tokens = tokens.permute(0, 1, 3, 4, 2).flatten(1, 3)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = tokens.unflatten(1, (maps, rows, columns)).flatten(0, 1).permute(0, 3, 1, 2)
        x = self.decode(x + F.pixel_shuffle(self.from_tokens(tokens), 2))
        x = self.refine1(F.pixel_shuffle(self.up1(x), 2))
        x = F.pixel_shuffle(self.up2(x), 2)
        if moment is not None and timed:
            seen = torch.cat([moment.rgb.flatten(0, 1), known.flatten(0, 1)[:, None]], 1)
            x = x + self.moment_detail(seen)
        x = self.refine2(x)
        return self.head(F.silu(x)).float().unflatten(0, (batch, maps))


def plucker_rays(camera_to_first: torch.Tensor, intrinsics: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Moment ``o x d`` and unit direction ``d`` of every cell's ray.

    Args:
        camera_to_first: Shape ``(..., 4, 4)``.
        intrinsics: Of the full image [pixels], shape ``(..., 3, 3)``.
        height: Rows of the latent grid; a cell is 8 pixels wide.
        width: Columns of the latent grid.

    Returns:
        Shape ``(..., 6, height, width)``.
    """
    local = _grid_rays(intrinsics, height, width, stride=8)
    directions = F.normalize(local @ camera_to_first[..., None, :3, :3].mT, dim=-1)
    origins = camera_to_first[..., None, None, :3, 3].expand_as(directions)
    rays = torch.cat([torch.linalg.cross(origins, directions, dim=-1), directions], dim=-1)
    return rays.movedim(-1, -3)


def _grid_rays(intrinsics: torch.Tensor, height: int, width: int, stride: int) -> torch.Tensor:
    """Rays of z = 1 through the centres of cells ``stride`` pixels wide, in the camera's frame, ``(..., h, w, 3)``."""
    row = (torch.arange(height, device=intrinsics.device) + 0.5)[:, None] * stride
    column = (torch.arange(width, device=intrinsics.device) + 0.5)[None] * stride
    x = (column - intrinsics[..., 0, 2, None, None]) / intrinsics[..., 0, 0, None, None]
    y = (row - intrinsics[..., 1, 2, None, None]) / intrinsics[..., 1, 1, None, None]
    return torch.stack(torch.broadcast_tensors(x, y, x.new_ones(())), dim=-1)


def shared_first(x: torch.Tensor) -> torch.Tensor:
    """``(B, V, T, ...)`` to ``(B, 1 + V (T - 1), ...)``: the first latent frame once, then the others."""
    return torch.cat([x[:, :1, 0], x[:, :, 1:].flatten(1, 2)], dim=1)


def decode_maps(
    network: Callable[..., torch.Tensor],
    latents: torch.Tensor,
    cache_depth: torch.Tensor,
    camera_to_first: torch.Tensor,
    intrinsics: torch.Tensor,
    cache_rgb: torch.Tensor | None = None,
    time: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """All Gaussians of a batch of scenes, in the first camera's frame and scene units, differentiable.

    Args:
        network: ``MiniDecoder`` or its compiled twin.
        latents: Raw latents, shape ``(B, V, 16, T, h, w)``.
        cache_depth: Shape ``(B, V, T, 4h, 4w)``.
        camera_to_first: Every video frame's camera, shape ``(B, V, L, 4, 4)``.
        intrinsics: Shape ``(B, 3, 3)``.
        cache_rgb: Of scenes that move: what the 4D cache shows at the wanted time, whose depth ``cache_depth`` then is,
            shape ``(B, V, T, 3, 4h, 4w)``.
        time: Of scenes that move: the wanted time, share of the clip, shape ``(B,)``.

    Returns:
        means ``(B, N, 3)``, quats ``(B, N, 4)``, scales ``(B, N, 3)``, opacities ``(B, N)``, rgb ``(B, N, 3)``.
    """
    views, _, latent_frames, rows, columns = latents.shape[1:]
    last_frame = torch.arange(latent_frames, device=latents.device) * _FRAMES_PER_LATENT
    middle_frame = (last_frame - _FRAMES_PER_LATENT // 2).clamp(min=0)
    camera = shared_first(camera_to_first[:, :, last_frame])
    middle = shared_first(camera_to_first[:, :, middle_frame])
    depth = shared_first(cache_depth)
    frame = torch.arange(1, latent_frames, device=latents.device).repeat(views)
    frame = torch.cat([frame.new_zeros(1), frame])
    lens = intrinsics[:, None]
    plucker = torch.cat([plucker_rays(c, lens, rows, columns) for c in (camera, middle)], dim=2)
    moment = ()
    if cache_rgb is not None and time is not None:
        moment = (Moment(shared_first(cache_rgb), frame / max(latent_frames - 1, 1), time),)
    raw = network(shared_first(latents.transpose(2, 3)), plucker, depth, frame, *moment)
    maps = _activate(raw.permute(0, 1, 3, 4, 2), depth, camera, lens)
    return maps | {"rgb": _colors_at(maps["rgb"], moment[0].rgb, depth)} if moment else maps


def _colors_at(rgb: torch.Tensor, cache_rgb: torch.Tensor, cache_depth: torch.Tensor) -> torch.Tensor:
    """Colours ``(B, N, 3)``, those of the cache ``(B, M, 3, H/2, W/2)`` where it knows better."""
    seen = cache_rgb.permute(0, 1, 3, 4, 2).flatten(1, 3)
    outdated = (cache_depth.flatten(1) > 0) & ((rgb - seen).abs().amax(-1) > _OTHER_COLOR)
    return torch.where(outdated[..., None], seen, rgb)


def _activate(
    raw: torch.Tensor, cache_depth: torch.Tensor, camera: torch.Tensor, intrinsics: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Raw maps ``(B, M, H/2, W/2, 14)`` to Gaussians: depth 1, offset 2, scale 3, rotation 4, opacity 1, colour 3."""
    depth, offset, scale, rotation, opacity, rgb = raw.split([1, 2, 3, 4, 1, 3], dim=-1)
    height, width = raw.shape[2:4]
    local = _grid_rays(intrinsics, height, width, stride=STRIDE)
    cell = STRIDE / intrinsics[..., 0, 0, None, None, None]
    known = cache_depth[..., None] > 0
    refined = cache_depth[..., None].clamp(min=1e-3).log() + _DEPTH_REFINEMENT * torch.tanh(depth)
    depth = torch.where(known, refined, (0.3 + 2 * depth).clamp(*_LOG_DEPTH_RANGE)).exp()
    local = local + F.pad(0.75 * torch.tanh(offset), (0, 1)) * cell
    means = (local * depth) @ camera[:, :, None, :3, :3].mT + camera[:, :, None, None, :3, 3]
    scales = 0.6 * cell * depth * torch.exp((2 * scale).clamp(-3.0, 1.5))
    rotation = F.normalize(2 * rotation + rotation.new_tensor([1.0, 0, 0, 0]), dim=-1)
    quats = quat_multiply(matrix_to_quat(camera[..., :3, :3])[:, :, None, None], rotation)
    return {
        "means": means.flatten(1, 3),
        "quats": quats.flatten(1, 3),
        "scales": scales.flatten(1, 3),
        "opacities": torch.sigmoid(2 * opacity + 1).flatten(1),
        "rgb": torch.sigmoid(4 * rgb).flatten(1, 3),
    }


def one_scene(gaussians: dict[str, torch.Tensor], item: int) -> Gaussians:
    """One set of a batch of maps, see ``decode_maps``, in float32."""
    one = {name: value[item].float() for name, value in gaussians.items()}
    return Gaussians(
        means=one["means"],
        quats=F.normalize(one["quats"], dim=-1),
        scales=one["scales"],
        opacities=one["opacities"],
        sh=rgb_to_sh_dc(one["rgb"])[:, None],
    )


@torch.no_grad()
def decode(network: nn.Module, video: VideoLatents, max_gaussians: int) -> Gaussians:
    """The Gaussians of one scene that its pictures show, in the first camera's frame and scene units.

    Args:
        network: The trained ``MiniDecoder``.
        video: Latents of the trajectories.
        max_gaussians: How many to keep, see ``most_shown``.
    """
    views = len(video.latents)
    camera_to_first = video.cameras.camera_to_world.unflatten(0, (views, video.num_frames))
    maps = decode_maps(
        network, video.latents[None], video.cache_depth[None], camera_to_first[None], video.cameras.intrinsics[:1]
    )
    gaussians = one_scene(maps, 0)
    return gaussians[most_shown(gaussians, decoded_cameras(video.cameras, video.num_frames), max_gaussians)]


def decoded_cameras(cameras: Cameras, num_frames: int) -> Cameras:
    """The cameras whose pictures become Gaussians: the first, and the last of every other latent frame.

    Args:
        cameras: Of all frames of the trajectories, one trajectory after the other.
        num_frames: Of each.
    """
    frames = torch.arange(len(cameras.world_to_camera))
    at = frames % num_frames
    return cameras[(frames == 0) | ((at > 0) & (at % _FRAMES_PER_LATENT == 0))]
