"""Training of the diffusion network: pictures from text, alone or completing what a 3D cache shows of them, and videos
from a first frame, a 3D cache and text.

Half of the videos fly through rooms that stand still, along the 3D cache of their first frame; half through rooms that
move, along the 4D cache of a film by a still camera. Caches are warped with the depth network's own depth, brought to
the true scale by its median as a depth map brought to a camera path would be; ground truth depth steers nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLCosmos, CosmosTransformer3DModel

from omni_gen3d.checkpoints import load_network
from omni_gen3d.training.clips import (
    TEXT_FOCAL,
    Clips,
    Pool,
    along_trajectories,
    caption_pictures,
    render_clips,
    sample_pictures,
    sample_views,
)
from omni_gen3d.training.loop import Host, TrainingConfig, fit
from omni_gen3d.training.losses import psnr
from omni_gen3d.training.moving import (
    MovingClips,
    caption_moving,
    moving_trajectories,
    render_moving,
    sample_moving_views,
)
from omni_gen3d.training.preview import write_contact_sheet
from omni_gen3d.training.turning import turning_cameras
from omni_gen3d.training.worlds import compile_renderer, world_generator
from omni_gen3d.video.cache3d import Warp, latent_coverage, nearest, warp
from omni_gen3d.video.cache4d import warp_video
from omni_gen3d.video.depth import DepthNetwork, ray_image, steady_depth
from omni_gen3d.video.diffusion import INPUT_CHANNELS, denoise, sample, warp_condition
from omni_gen3d.video.imagine import VideoModel, draw_noise, picture_from_text
from omni_gen3d.video.text import TEXT_CHANNELS, encode_text
from omni_gen3d.video.tokenizer import (
    SIGMA_DATA,
    accelerate_tokenizer,
    decode_raw,
    encode_raw,
    to_diffusion_domain,
    to_raw_domain,
)
from omni_gen3d.video.trajectories import TRAJECTORY_NAMES

DEFAULTS = TrainingConfig(minutes=8, batch_size=96, learning_rate=2e-3, ema_decay=0.997, log_every_s=60, pool_size=3000)
_PICTURES_PER_STEP = 3  # pictures from text alone for each video and each completed picture of the batch
_PICTURE_POOL = 20  # pictures for each video of the pool
_COMPLETION_POOL = 5  # completions for each video of the pool
_VALIDATION_COMPLETIONS = 16
_PICTURES_PER_CHUNK = 64
_CLIPS_PER_CHUNK = 16
_VALIDATION_CLIPS = 16
_FILL_SHARE = 0.2
# Steps between additions to one of the pools.
_REFRESH_STEPS = 4
_TEXT_DROPOUT = 0.12
# Mean and deviation of ln sigma: pictures are decided at high noise, videos follow their cache.
_PICTURE_NOISE = (0.2, 1.5)
_VIDEO_NOISE = (-0.4, 1.4)
_SAMPLE_PROMPTS = (
    "a small warehouse with pallets and a concrete floor",
    "a living room with a red sofa and wooden floor",
    "an office with two desks and white walls",
    "a kitchen with a counter and a refrigerator",
    "a corridor with blue walls",
    "a workshop with a workbench and crates",
    "a warehouse with shelves and cardboard boxes",
    "a bright room with a green sofa and a low table",
)


def make_denoiser() -> CosmosTransformer3DModel:
    """The mini diffusion transformer, 16 M parameters."""
    return CosmosTransformer3DModel(
        in_channels=INPUT_CHANNELS,
        out_channels=16,
        num_attention_heads=5,
        attention_head_dim=64,
        num_layers=9,
        mlp_ratio=4.0,
        text_embed_dim=TEXT_CHANNELS,
        adaln_lora_dim=32,
        max_size=(16, 44, 80),
        patch_size=(1, 2, 2),
        rope_scale=(1.0, 1.0, 1.0),
        concat_padding_mask=False,
        extra_pos_embed_type="learnable",
    )


def diffusion_loss(
    network: Callable[..., tuple[torch.Tensor]],
    latents: torch.Tensor,
    text: torch.Tensor,
    condition: torch.Tensor,
    noise_level: tuple[float, float],
) -> torch.Tensor:
    """EDM's weighted denoising error of a batch of pictures, or of videos, whose first frame is given.

    ``condition`` is as in ``denoise``, zeros where the 3D cache covers nothing.
    """
    mean, deviation = noise_level
    sigma = (torch.randn(len(latents), device=latents.device) * deviation + mean).exp()
    s = sigma.reshape(-1, 1, 1, 1, 1)
    kept = torch.rand(len(text), device=text.device) >= _TEXT_DROPOUT
    first = latents[:, :, :1] if latents.shape[2] > 1 else None
    noisy = latents + s * torch.randn_like(latents)
    clean = denoise(network, noisy, sigma, first, condition, text * kept[:, None, None])
    error = (clean - latents).square() if first is None else (clean - latents)[:, :, 1:].square()
    return (error * (s.square() + SIGMA_DATA**2) / (s * SIGMA_DATA).square()).mean()


class _Material:
    """Makes latents of pictures and clips with the frozen tokenizer, depth network and text encoder."""

    def __init__(
        self, config: TrainingConfig, tokenizer: AutoencoderKLCosmos, depth: DepthNetwork, device: torch.device
    ) -> None:
        self.config, self.tokenizer, self.depth, self.device = config, tokenizer, depth, device
        self.autocast = torch.autocast(device.type, torch.bfloat16)

    @torch.no_grad()
    def encode(self, video: torch.Tensor) -> torch.Tensor:
        with self.autocast:
            raw = torch.cat([encode_raw(self.tokenizer, part) for part in video.split(_CLIPS_PER_CHUNK)])
        return to_diffusion_domain(self.tokenizer, raw)

    @torch.no_grad()
    def text(self, captions: list[str]) -> torch.Tensor:
        with self.autocast:
            return encode_text(captions, self.device).half()

    @torch.no_grad()
    def warp_first_frame(self, clips: Clips, camera_to_first: torch.Tensor) -> Warp:
        """The first frame's cache, its depth estimated and of true median scale, seen from ``(B, L, 4, 4)`` [m]."""
        picture = clips.rgb[:, :, 0] * 2 - 1
        with self.autocast:
            log_depth, _ = self.depth(picture, ray_image(clips.intrinsics, *picture.shape[-2:]))
        estimate = log_depth.exp()
        scale = (clips.depth[:, 0] / estimate).flatten(1).median(1).values
        return warp(picture, estimate * scale[:, None, None], clips.intrinsics, camera_to_first)

    @torch.no_grad()
    def warp_film(self, film: Clips, camera_to_first: torch.Tensor) -> Warp:
        """The 4D cache of a film with estimated depth of true median scale, seen along a trajectory."""
        frames = film.rgb * 2 - 1
        rays = ray_image(film.intrinsics, *frames.shape[-2:])
        with self.autocast:
            log_depth = torch.stack([self.depth(frame, rays)[0] for frame in frames.unbind(2)], 1)
        estimate = steady_depth(frames, log_depth)
        scale = (film.depth[:, 0] / estimate[:, 0]).flatten(1).median(1).values
        return warp_video(frames, estimate * scale[:, None, None, None], film.intrinsics, camera_to_first)

    def rows(self, clips: Clips, seen: Warp, captions: list[str]) -> dict[str, torch.Tensor]:
        """What a video's loss needs."""
        return {
            "latents": self.encode(clips.rgb * 2 - 1).half(),
            "condition": warp_condition(self.encode(seen.rgb), latent_coverage(seen.mask)).half(),
            "text": self.text(captions),
        }

    @torch.no_grad()
    def pictures(self, generator: torch.Generator, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        focal = (TEXT_FOCAL, TEXT_FOCAL)
        size = (self.config.height, self.config.width)
        views, clips = sample_pictures(_PICTURES_PER_CHUNK, *size, generator, focal)
        captions = caption_pictures(views, clips, rng)
        return {"latents": self.encode(clips.rgb * 2 - 1).half(), "text": self.text(captions)}

    @torch.no_grad()
    def completions(
        self, generator: torch.Generator, rng: np.random.Generator
    ) -> tuple[dict[str, torch.Tensor], Clips, Warp]:
        """Pictures of which one or two others know a part; the caption tells the first of those.

        Returns:
            The rows, the pictures as clips of one frame, and what is known of them.
        """
        config = self.config
        views = sample_views(_PICTURES_PER_CHUNK, config.width, config.height, generator)
        cameras, second_known = turning_cameras(views, generator)
        view, first, second = (
            render_clips(views, camera, config.height, config.width) for camera in cameras.split(1, dim=1)
        )
        known = [
            self.warp_first_frame(clips, torch.linalg.inv(clips.camera_to_first) @ view.camera_to_first)
            for clips in (first, second)
        ]
        kept = second_known[:, None, None, None, None]
        known[1] = Warp(known[1].rgb * kept, known[1].mask * kept, known[1].depth * kept)
        seen = nearest(known)
        rows = {
            "latents": self.encode(view.rgb * 2 - 1).half(),
            "condition": warp_condition(self.encode(seen.rgb), latent_coverage(seen.mask)).half(),
            "text": self.text(caption_pictures(views, first, rng)),
        }
        return rows, view, seen

    @torch.no_grad()
    def clips(
        self, generator: torch.Generator, rng: np.random.Generator
    ) -> tuple[dict[str, torch.Tensor], Clips, Warp]:
        config = self.config
        views = sample_views(_CLIPS_PER_CHUNK, config.width, config.height, generator)
        trajectory = torch.randint(
            len(TRAJECTORY_NAMES), (_CLIPS_PER_CHUNK,), generator=generator, device=generator.device
        )
        cameras = along_trajectories(views, trajectory, config.num_frames, generator)
        clips = render_clips(views, cameras, config.height, config.width)
        seen = self.warp_first_frame(clips, clips.camera_to_first)
        return self.rows(clips, seen, caption_pictures(views, clips, rng)), clips, seen

    @torch.no_grad()
    def moving_clips(
        self, generator: torch.Generator, rng: np.random.Generator
    ) -> tuple[dict[str, torch.Tensor], MovingClips, Warp]:
        config = self.config
        size = (config.height, config.width)
        views = sample_moving_views(_CLIPS_PER_CHUNK, config.width, config.height, config.num_frames, generator)
        trajectory = torch.randint(len(TRAJECTORY_NAMES), (len(views),), generator=generator, device=generator.device)
        cameras = moving_trajectories(views, trajectory, generator)
        here = torch.eye(4, device=cameras.device).expand_as(cameras)
        film, clips = render_moving(views, here, *size), render_moving(views, cameras, *size)
        seen = self.warp_film(film.clips, cameras)
        return self.rows(clips.clips, seen, caption_moving(views, film, rng)), clips, seen


def train_diffusion(
    config: TrainingConfig, host: Host, out: Path, resume: Path | None, tokenizer_folder: Path, depth_folder: Path
) -> None:
    """Train on pictures and videos alternately, with the frozen tokenizer and depth network of the given folders."""
    started_at = time.time()
    torch.manual_seed(config.seed)
    network = make_denoiser() if resume is None else load_network(CosmosTransformer3DModel, resume)
    network.train().requires_grad_(True).to(host.device)  # pyright: ignore[reportArgumentType]
    tokenizer = accelerate_tokenizer(load_network(AutoencoderKLCosmos, tokenizer_folder, host.device))
    depth = load_network(DepthNetwork, depth_folder, host.device)
    if host.compiles:
        compile_renderer()
        for block in network.transformer_blocks:
            block.compile(dynamic=False)
    torch.manual_seed(config.seed + host.rank)
    material = _Material(config, tokenizer, depth, host.device)
    model = VideoModel(tokenizer, depth, network)
    generator = world_generator(config.seed * 1000 + 700 + host.rank, "train", host.device)
    rng = np.random.default_rng(config.seed * 1000 + host.rank)
    videos, pictures = Pool(config.pool_size), Pool(config.pool_size * _PICTURE_POOL)
    completions = Pool(config.pool_size * _COMPLETION_POOL)

    additions = 0

    def add_clips() -> None:
        """Clips of still and of moving worlds in turn."""
        nonlocal additions
        additions += 1
        make = material.moving_clips if additions % 2 else material.clips
        videos.add(**make(generator, rng)[0])

    def add_pictures() -> None:
        pictures.add(**material.pictures(generator, rng))

    def add_completions() -> None:
        completions.add(**material.completions(generator, rng)[0])

    add_clips()
    add_pictures()
    add_completions()
    filling_began = time.time()
    while time.time() - filling_began < _FILL_SHARE * config.minutes * 60:
        if videos.size < config.pool_size:
            add_clips()
        for _ in range(_CLIPS_PER_CHUNK * _PICTURE_POOL // _PICTURES_PER_CHUNK):
            add_pictures()
        if videos.size % _PICTURES_PER_CHUNK < _CLIPS_PER_CHUNK:
            for _ in range(_COMPLETION_POOL):
                add_completions()
        if videos.size == config.pool_size and pictures.size == pictures.capacity:
            break
    heldout = world_generator(config.seed, "heldout", host.device)
    rows, truth, seen = material.clips(heldout, np.random.default_rng(0))
    partial, whole, known = material.completions(heldout, np.random.default_rng(0))
    partial = {name: value[:_VALIDATION_COMPLETIONS].float() for name, value in partial.items()}
    moving_rows, moving_truth, moving_seen = material.moving_clips(heldout, np.random.default_rng(0))
    prompts: list[str] = list(_SAMPLE_PROMPTS)
    steps = 0

    def network_in_bfloat16(*args, **kwargs):
        with torch.autocast(host.device.type, torch.bfloat16):
            return network(*args, **kwargs)

    def draw_pictures() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Latents, texts and conditions: a picture from text completes a view of which nothing is known."""
        free, partly_known = pictures.draw(config.batch_size * _PICTURES_PER_STEP), completions.draw(config.batch_size)
        latents, text = (torch.cat([free[name], partly_known[name]]).float() for name in ("latents", "text"))
        condition = partly_known["condition"].float()
        nothing = condition.new_zeros(len(free["latents"]), *condition.shape[1:])
        return latents, text, torch.cat([nothing, condition])

    def step_loss(progress: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        nonlocal steps
        steps += 1
        if steps % _REFRESH_STEPS == 0:
            (add_clips, add_pictures, add_completions, add_pictures)[steps // _REFRESH_STEPS % 4]()
        picture_loss = diffusion_loss(network_in_bfloat16, *draw_pictures(), _PICTURE_NOISE)
        drawn = videos.draw(config.batch_size)
        video_loss = diffusion_loss(
            network_in_bfloat16,
            drawn["latents"].float(),
            drawn["text"].float(),
            drawn["condition"].float(),
            _VIDEO_NOISE,
        )
        figures = {"picture_loss": picture_loss.detach(), "video_loss": video_loss.detach()}
        return picture_loss + video_loss, figures

    def sampled(rows: dict[str, torch.Tensor], noise_from: torch.Generator) -> torch.Tensor:
        """Four-step samples of held-out videos in [0, 1]."""
        first, condition, text = rows["latents"].float()[:, :, :1], rows["condition"].float(), rows["text"].float()
        noise = torch.randn(rows["latents"].shape, generator=noise_from, device=host.device)
        latents = sample(network, noise, text, first=first, condition=condition, steps=4)
        return decode_raw(tokenizer, to_raw_domain(tokenizer, latents)) / 2 + 0.5

    def evaluate() -> dict[str, float]:
        noise_from = torch.Generator(host.device).manual_seed(0)
        with torch.compiler.set_stance("force_eager"), torch.autocast(host.device.type, torch.bfloat16):
            decoded, moving_decoded = sampled(rows, noise_from), sampled(moving_rows, noise_from)
            noise = draw_noise(len(prompts), 1, config.height, config.width, noise_from)
            text = material.text(prompts).float()
            made, _ = picture_from_text(model, text, noise, steps=24, guidance=3.0)
            noise = draw_noise(_VALIDATION_COMPLETIONS, 1, config.height, config.width, noise_from)
            completed = sample(network, noise, partial["text"], condition=partial["condition"], steps=12)
            completed = decode_raw(tokenizer, to_raw_domain(tokenizer, completed)) / 2 + 0.5
        write_contact_sheet(made / 2 + 0.5, out / "pictures.png", columns=2)
        moving_rgb, moves = moving_truth.clips.rgb, moving_truth.moving[:, None]
        sheets = [
            torch.stack([true[:, :, -1], warped.rgb[:, :, -1] / 2 + 0.5, video[:, :, -1]], 1).flatten(0, 1)[:12]
            for true, warped, video in ((truth.rgb, seen, decoded), (moving_rgb, moving_seen, moving_decoded))
        ]
        write_contact_sheet(torch.cat(sheets), out / "videos.png", columns=3)
        count = _VALIDATION_COMPLETIONS
        triples = [known.rgb[:count, :, 0] / 2 + 0.5, completed[:, :, 0], whole.rgb[:count, :, 0]]
        write_contact_sheet(torch.stack(triples, 1).flatten(0, 1), out / "completions.png", columns=3)
        hole = (seen.mask < 0.5)[:, :, 1:]
        figures = {
            "known_psnr_db": psnr(completed, whole.rgb[:count], known.mask[:count] > 0.5),
            "psnr_db": psnr(decoded[:, :, 1:], truth.rgb[:, :, 1:]),
            "hole_psnr_db": psnr(decoded[:, :, 1:], truth.rgb[:, :, 1:], hole),
            "repeat_psnr_db": psnr(truth.rgb[:, :, :1].expand_as(truth.rgb)[:, :, 1:], truth.rgb[:, :, 1:]),
            "moving_clips_psnr_db": psnr(moving_decoded[:, :, 1:], moving_rgb[:, :, 1:]),
            "video_pool": float(videos.size),
            "picture_pool": float(pictures.size),
        }
        if moves[:, :, 1:].any():
            figures["moving_pixels_psnr_db"] = psnr(moving_decoded[:, :, 1:], moving_rgb[:, :, 1:], moves[:, :, 1:])
        return figures

    fit(
        network,
        step_loss,
        evaluate,
        config,
        host,
        out,
        started_at=started_at,
        adam_names=("patch_embed", "proj_out", "pos_emb", "time_embed"),
    )
