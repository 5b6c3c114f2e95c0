"""Training of the video tokenizer on clips of procedural worlds, and of rooms of real objects."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from diffusers import AutoencoderKLCosmos

from omni_gen3d.checkpoints import load_network
from omni_gen3d.errors import InputError
from omni_gen3d.training.clips import Pool, sample_clips, to_bytes, to_signed
from omni_gen3d.training.loop import Host, TrainingConfig, fit
from omni_gen3d.training.losses import chroma_difference, gradient_difference, psnr
from omni_gen3d.training.object_caster import open_objects
from omni_gen3d.training.object_pictures import sample_object_clips
from omni_gen3d.training.worlds import compile_renderer, world_generator
from omni_gen3d.video.tokenizer import accelerate_tokenizer, decode_raw, encode_raw, set_latent_moments

DEFAULTS = TrainingConfig(minutes=8, batch_size=16, learning_rate=2e-3, ema_decay=0.99, log_every_s=60)
_LATENT_NOISE = 0.05
_CLIPS_PER_CHUNK = 8
_VALIDATION_CLIPS = 16
# The pool is filled for at most this share of the budget before training starts.
_FILL_SHARE = 0.05


def make_tokenizer() -> AutoencoderKLCosmos:
    """The mini tokenizer, 11.7 M parameters: 8 x 8 x 8 compression into 16 channels."""
    return AutoencoderKLCosmos(
        latent_channels=16,
        encoder_block_out_channels=(64, 96, 160, 192),
        decode_block_out_channels=(128, 144, 192, 224),
        attention_resolutions=(32,),
        resolution=128,
        num_layers=1,
        patch_size=4,
        spatial_compression_ratio=8,
        temporal_compression_ratio=8,
    )


class _RoundTrip(torch.nn.Module):
    """Encode, disturb, decode: what is compiled and trained."""

    def __init__(self, tokenizer: AutoencoderKLCosmos) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        latents = encode_raw(self.tokenizer, video)
        return latents, decode_raw(self.tokenizer, latents + _LATENT_NOISE * torch.randn_like(latents))


def train_tokenizer(
    config: TrainingConfig,
    host: Host,
    out: Path,
    resume: Path | None,
    objects: Path | None = None,
    keep_latents: bool = False,
) -> None:
    """Train the tokenizer and record its latents' moments; the loss is
    L1 + 2 MSE + 0.5 gradient L1 + 0.5 chroma L1 + 2e-4 |z|^2.

    Args:
        objects: Folder of ``train fetch-assets``: half of the clips then show rooms of real objects.
        keep_latents: Train the decoding half alone, so that networks that know the latents of ``resume`` stay right.

    Raises:
        InputError: There are no latents to keep.
    """
    started_at = time.time()
    torch.manual_seed(config.seed)
    if resume is not None:
        tokenizer = load_network(AutoencoderKLCosmos, resume).train().requires_grad_(True)
    elif keep_latents:
        raise InputError("--keep-latents trains the decoding half of a trained tokenizer; give it with --resume.")
    else:
        tokenizer = make_tokenizer()
    if keep_latents:
        tokenizer.encoder.requires_grad_(False)
        tokenizer.quant_conv.requires_grad_(False)
    tokenizer = accelerate_tokenizer(tokenizer).to(host.device)  # pyright: ignore[reportArgumentType]
    round_trip = _RoundTrip(tokenizer)
    if host.compiles:
        compile_renderer()
        round_trip.compile(dynamic=False)
    torch.manual_seed(config.seed + host.rank)
    generator = world_generator(config.seed * 1000 + host.rank, "train", host.device)
    size = (config.height, config.width, config.num_frames)
    pool = Pool(config.pool_size)
    caster = None if objects is None else open_objects(objects, host.device)
    additions = 0

    def add_clips() -> None:
        nonlocal additions
        additions += 1
        if caster is not None and additions % 2:
            clips, _ = sample_object_clips(_CLIPS_PER_CHUNK, *size, caster, generator)
        else:
            clips = sample_clips(_CLIPS_PER_CHUNK, *size, generator)
        pool.add(rgb=to_bytes(clips.rgb))

    add_clips()
    filling_began = time.time()
    while pool.size < config.pool_size and time.time() - filling_began < _FILL_SHARE * config.minutes * 60:
        add_clips()
    heldout = world_generator(config.seed, "heldout", host.device)
    chunks = [sample_clips(_CLIPS_PER_CHUNK, *size, heldout).rgb for _ in range(_VALIDATION_CLIPS // _CLIPS_PER_CHUNK)]
    validation = torch.cat(chunks)
    steps = 0

    def step_loss(progress: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        nonlocal steps
        steps += 1
        if steps % 4 == 0:
            add_clips()
        video = to_signed(pool.draw(config.batch_size)["rgb"])
        with torch.autocast(host.device.type, torch.bfloat16):
            latents, decoded = round_trip(video)
        difference, squared = (decoded - video).abs().mean(), (decoded - video).square().mean()
        loss = (
            difference
            + 2 * squared
            + 0.5 * gradient_difference(decoded, video)
            + 0.5 * chroma_difference(decoded, video)
        )
        return loss + 2e-4 * latents.square().mean(), {"l1": difference.detach(), "latent_std": latents.detach().std()}

    def evaluate() -> dict[str, float]:
        decoded, latents = [], []
        for clip in validation.split(_CLIPS_PER_CHUNK):
            with torch.autocast(host.device.type, torch.bfloat16):
                latents.append(encode_raw(tokenizer, clip * 2 - 1))
                decoded.append(decode_raw(tokenizer, latents[-1]) / 2 + 0.5)
        if not keep_latents:
            moments = torch.cat(latents)
            set_latent_moments(tokenizer, moments.mean((0, 2, 3, 4)), moments.std((0, 2, 3, 4)))
        return {"psnr_db": psnr(torch.cat(decoded), validation)}

    fit(
        tokenizer,
        step_loss,
        evaluate,
        config,
        host,
        out,
        started_at=started_at,
        adam_names=("encoder.conv_in", "decoder.conv_out"),
    )
