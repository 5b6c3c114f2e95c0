"""Training of the diffusion network: pictures from text, alone or completing what a 3D cache shows of them, and videos
from a first frame, a 3D cache and text.

Half of the videos fly through rooms that stand still, along the 3D cache of their first frame; half through rooms that
move, along the 4D cache of a film by a still camera. With a second size every other step learns from larger frames, so
that one network serves both (Lyra's third stage, which trains at the larger size alone, would forget the smaller).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLCosmos, CosmosTransformer3DModel

from omni_gen3d.checkpoints import load_network
from omni_gen3d.training.loop import Host, TrainingConfig, fit
from omni_gen3d.training.losses import psnr
from omni_gen3d.training.material import Material, Stock
from omni_gen3d.training.preview import write_contact_sheet
from omni_gen3d.training.worlds import compile_renderer, world_generator
from omni_gen3d.video.depth import DepthNetwork
from omni_gen3d.video.diffusion import INPUT_CHANNELS, denoise, sample
from omni_gen3d.video.imagine import VideoModel, draw_noise, picture_from_text
from omni_gen3d.video.text import TEXT_CHANNELS
from omni_gen3d.video.tokenizer import SIGMA_DATA, accelerate_tokenizer, decode_raw, to_raw_domain

DEFAULTS = TrainingConfig(minutes=8, batch_size=96, learning_rate=2e-3, ema_decay=0.997, log_every_s=60, pool_size=3000)
_VALIDATION_COMPLETIONS = 16
_FILL_SHARE = 0.2
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


class _Heldout:
    """Held-out pictures, completions and videos of one size."""

    def __init__(self, material: Material, seed: int) -> None:
        self._material = material
        heldout = world_generator(seed, "heldout", material.device)
        self._rows, self._truth, self._seen = material.clips(heldout, np.random.default_rng(0))
        partial, self._whole, self._known = material.completions(heldout, np.random.default_rng(0))
        self._partial = {name: value[:_VALIDATION_COMPLETIONS].float() for name, value in partial.items()}
        moving = material.moving_clips(heldout, np.random.default_rng(0))
        self._moving_rows, self._moving_truth, self._moving_seen = moving

    def scores(self, model: VideoModel, out: Path) -> dict[str, float]:
        """Figures of few-step samples; pictures from text, completions and last frames of videos go to sheets."""
        config, device = self._material.config, self._material.device
        prompts: list[str] = list(_SAMPLE_PROMPTS)
        count = len(self._partial["text"])
        noise_from = torch.Generator(device).manual_seed(0)
        with torch.compiler.set_stance("force_eager"), torch.autocast(device.type, torch.bfloat16):
            decoded, moving_decoded = (_sampled(model, rows, noise_from) for rows in (self._rows, self._moving_rows))
            noise = draw_noise(len(prompts), 1, config.height, config.width, noise_from)
            text = self._material.text(prompts).float()
            made, _ = picture_from_text(model, text, noise, steps=24, guidance=3.0)
            noise = draw_noise(count, 1, config.height, config.width, noise_from)
            partial = self._partial
            completed = sample(model.denoiser, noise, partial["text"], condition=partial["condition"], steps=12)
            completed = decode_raw(model.tokenizer, to_raw_domain(model.tokenizer, completed)) / 2 + 0.5
        write_contact_sheet(made / 2 + 0.5, out / "pictures.png", columns=2)
        truth, moving = self._truth.rgb, self._moving_truth.clips.rgb
        sheets = [
            torch.stack([true[:, :, -1], warped.rgb[:, :, -1] / 2 + 0.5, video[:, :, -1]], 1).flatten(0, 1)[:12]
            for true, warped, video in (
                (truth, self._seen, decoded),
                (moving, self._moving_seen, moving_decoded),
            )
        ]
        write_contact_sheet(torch.cat(sheets), out / "videos.png", columns=3)
        whole, known = self._whole.rgb[:count], self._known
        triples = [known.rgb[:count, :, 0] / 2 + 0.5, completed[:, :, 0], whole[:, :, 0]]
        write_contact_sheet(torch.stack(triples, 1).flatten(0, 1), out / "completions.png", columns=3)
        hole = (self._seen.mask < 0.5)[:, :, 1:]
        figures = {
            "known_psnr_db": psnr(completed, whole, known.mask[:count] > 0.5),
            "psnr_db": psnr(decoded[:, :, 1:], truth[:, :, 1:]),
            "hole_psnr_db": psnr(decoded[:, :, 1:], truth[:, :, 1:], hole),
            "repeat_psnr_db": psnr(truth[:, :, :1].expand_as(truth)[:, :, 1:], truth[:, :, 1:]),
            "moving_clips_psnr_db": psnr(moving_decoded[:, :, 1:], moving[:, :, 1:]),
        }
        moves = self._moving_truth.moving[:, None, 1:]
        if moves.any():
            figures["moving_pixels_psnr_db"] = psnr(moving_decoded[:, :, 1:], moving[:, :, 1:], moves)
        return figures


def _sampled(model: VideoModel, rows: dict[str, torch.Tensor], noise_from: torch.Generator) -> torch.Tensor:
    """Four-step samples of held-out videos in [0, 1]."""
    first, condition, text = rows["latents"].float()[:, :, :1], rows["condition"].float(), rows["text"].float()
    noise = torch.randn(rows["latents"].shape, generator=noise_from, device=noise_from.device)
    latents = sample(model.denoiser, noise, text, first=first, condition=condition, steps=4)
    return decode_raw(model.tokenizer, to_raw_domain(model.tokenizer, latents)) / 2 + 0.5


def train_diffusion(
    config: TrainingConfig,
    host: Host,
    out: Path,
    resume: Path | None,
    tokenizer_folder: Path,
    depth_folder: Path,
    larger: TrainingConfig | None = None,
) -> None:
    """Train on pictures and videos at once, with the frozen tokenizer and depth network of the given folders.

    Args:
        larger: Size, batch and pools of every second step; without, all steps are of one size. Its figures in the log
            begin with ``larger_``, its sheets lie in ``out / "larger"``.
    """
    started_at = time.time()
    torch.manual_seed(config.seed)
    network = make_denoiser() if resume is None else load_network(CosmosTransformer3DModel, resume)
    network.train().requires_grad_(True).to(host.device)  # pyright: ignore[reportArgumentType]
    tokenizer = accelerate_tokenizer(load_network(AutoencoderKLCosmos, tokenizer_folder, host.device))
    depth = load_network(DepthNetwork, depth_folder, host.device)
    if host.compiles:
        compile_renderer()
        # Every block is compiled for pictures and for videos of both sizes.
        torch._dynamo.config.recompile_limit = 4 * len(network.transformer_blocks)
        for block in network.transformer_blocks:
            block.compile(dynamic=False)
    torch.manual_seed(config.seed + host.rank)
    model = VideoModel(tokenizer, depth, network)
    generator = world_generator(config.seed * 1000 + 700 + host.rank, "train", host.device)
    rng = np.random.default_rng(config.seed * 1000 + host.rank)
    sizes = [config] if larger is None else [config, larger]
    materials = [Material(size, tokenizer, depth, host.device) for size in sizes]
    stocks = [Stock(material, generator, rng) for material in materials]
    for stock in stocks:
        stock.fill(_FILL_SHARE * config.minutes * 60 / len(stocks))
    heldout = [_Heldout(material, config.seed) for material in materials]
    steps = 0

    def network_in_bfloat16(*args, **kwargs):
        with torch.autocast(host.device.type, torch.bfloat16):
            return network(*args, **kwargs)

    def step_loss(progress: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        nonlocal steps
        stock = stocks[steps % len(stocks)]
        steps += 1
        stock.renew()
        picture_loss = diffusion_loss(network_in_bfloat16, *stock.draw_pictures(), _PICTURE_NOISE)
        video_loss = diffusion_loss(network_in_bfloat16, *stock.draw_videos(), _VIDEO_NOISE)
        figures = {"picture_loss": picture_loss.detach(), "video_loss": video_loss.detach()}
        return picture_loss + video_loss, figures

    def evaluate() -> dict[str, float]:
        figures = {"video_pool": float(stocks[0].videos.size), "picture_pool": float(stocks[0].pictures.size)}
        for prefix, folder, unseen in zip(("", "larger_"), (out, out / "larger"), heldout, strict=False):
            figures |= {prefix + name: value for name, value in unseen.scores(model, folder).items()}
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
