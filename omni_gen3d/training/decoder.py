"""Training of the Gaussian decoder by self-distillation: no frame it learns from was ever photographed or rendered.

The student reads the latents of six imagined trajectories; the teacher is the RGB decoder's output of the same
latents. In the last stage only the most opaque Gaussians are drawn, so that opacity comes to mean what it says.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCosmos, CosmosTransformer3DModel

from omni_gen3d.checkpoints import load_network
from omni_gen3d.decoder.mini import MiniDecoder, decode_maps
from omni_gen3d.training.clips import Pool, caption_pictures, sample_pictures, to_bytes
from omni_gen3d.training.loop import Host, TrainingConfig, fit
from omni_gen3d.training.losses import TokenizerFeatures, gradient_difference, psnr
from omni_gen3d.training.preview import write_contact_sheet
from omni_gen3d.training.rasterize import draw_scenes, rasterize
from omni_gen3d.training.scenes import Scenes, scenes_from_pictures, scenes_from_prompts
from omni_gen3d.training.worlds import compile_renderer, world_generator
from omni_gen3d.video.depth import DepthNetwork
from omni_gen3d.video.imagine import VideoModel
from omni_gen3d.video.tokenizer import accelerate_tokenizer

DEFAULTS = TrainingConfig(
    minutes=7, batch_size=4, learning_rate=1.5e-3, ema_decay=0.995, log_every_s=60, pool_size=1000
)
MAX_GAUSSIANS = 40_000
_SCENES_PER_CHUNK = 8
_PICTURES_PER_CHUNK = 64
_FILL_SHARE = 0.25
# From this share of the budget on only the MAX_GAUSSIANS most opaque Gaussians of a scene are drawn.
_PRUNE_FROM = 0.3
_PERCEPTUAL_WEIGHT, _DEPTH_WEIGHT = 0.05, 0.2
# All opacities are pushed down; once pruned, the ones that are kept are pulled up.
_SPARSITY_WEIGHT, _OPAQUENESS_WEIGHT = 0.01, 0.012


def load_video_model(
    tokenizer_folder: Path, depth_folder: Path, diffusion_folder: Path, device: torch.device
) -> VideoModel:
    """The frozen networks that imagine."""
    return VideoModel(
        accelerate_tokenizer(load_network(AutoencoderKLCosmos, tokenizer_folder, device)),
        load_network(DepthNetwork, depth_folder, device),
        load_network(CosmosTransformer3DModel, diffusion_folder, device),
    )


def keep_most_opaque(gaussians: dict[str, torch.Tensor], count: int) -> dict[str, torch.Tensor]:
    """The ``count`` most opaque Gaussians of each scene of a batch."""
    count = min(count, gaussians["opacities"].shape[1])
    index = gaussians["opacities"].topk(count, dim=1).indices
    return {
        name: value.gather(1, index if value.ndim == 2 else index[..., None].expand(-1, -1, value.shape[-1]))
        for name, value in gaussians.items()
    }


def _target_frames(views: int, num_frames: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """For each trajectory one frame from anywhere and one from the far half: view and frame indices ``(2 V,)``."""
    view = torch.arange(views, device=device).repeat(2)
    anywhere = torch.randint(num_frames, (views,), device=device)
    far = torch.randint(num_frames // 2, num_frames, (views,), device=device)
    return view, torch.cat([anywhere, far])


def draw_trajectories(gaussians: dict[str, torch.Tensor], scenes: Scenes) -> torch.Tensor:
    """Renders in [0, 1] along every trajectory of every scene, shape ``(B, V, L, H, W, 3)``."""
    height, width = scenes.teacher.shape[-2:]
    cameras = scenes.camera_to_first.flatten(1, 2)
    color = draw_scenes(gaussians, cameras, scenes.intrinsics, height, width).color
    return color.unflatten(1, scenes.camera_to_first.shape[1:3])


def fidelity_scores(kept: dict[str, torch.Tensor], drawn: torch.Tensor, scenes: Scenes) -> dict[str, float]:
    """Renders of the kept Gaussians against the teacher over the far half of every trajectory.

    Returns:
        fidelity_psnr_db, baseline_psnr_db (the first frame repeated), top_half_psnr_db (the more opaque half of the
        kept Gaussians), opacity_median.
    """
    target = scenes.teacher.permute(0, 1, 3, 4, 5, 2)
    half = draw_trajectories(keep_most_opaque(kept, kept["opacities"].shape[1] // 2), scenes)
    far = slice(target.shape[2] // 2, None)
    repeated = target[:, :, :1].expand_as(target)
    return {
        "fidelity_psnr_db": psnr(drawn[:, :, far], target[:, :, far]),
        "baseline_psnr_db": psnr(repeated[:, :, far], target[:, :, far]),
        "top_half_psnr_db": psnr(half[:, :, far], target[:, :, far]),
        "opacity_median": float(kept["opacities"].median()),
    }


def kept_gaussians(network: Callable[..., torch.Tensor], scenes: Scenes, max_gaussians: int) -> dict[str, torch.Tensor]:
    """Fused and pruned, as ``generate`` keeps them; see ``decode_maps``."""
    maps = decode_maps(network, scenes.latents, scenes.cache_depth, scenes.camera_to_first, scenes.intrinsics)
    return keep_most_opaque(maps, max_gaussians)


def train_decoder(
    config: TrainingConfig,
    host: Host,
    out: Path,
    resume: Path | None,
    tokenizer_folder: Path,
    depth_folder: Path,
    diffusion_folder: Path,
) -> None:
    """Train the decoder on scenes sampled from the given networks; the loss is L1 + MSE + gradient L1 against the
    teacher's frames, a perceptual distance, log depth against the 3D cache, and opacity terms."""
    started_at = time.time()
    torch.manual_seed(config.seed)
    network = MiniDecoder() if resume is None else load_network(MiniDecoder, resume).train().requires_grad_(True)
    network.to(host.device)  # pyright: ignore[reportArgumentType]
    model = load_video_model(tokenizer_folder, depth_folder, diffusion_folder, host.device)
    perceptual = TokenizerFeatures(model.tokenizer)
    if host.compiles:
        compile_renderer()
    torch.manual_seed(config.seed + host.rank)
    generator = world_generator(config.seed * 1000 + 900 + host.rank, "train", host.device)
    rng = np.random.default_rng(config.seed * 1000 + 900 + host.rank)
    size = (config.height, config.width, config.num_frames)
    pool = Pool(config.pool_size)
    waiting: list[tuple[torch.Tensor, torch.Tensor, str]] = []

    def in_bfloat16() -> torch.autocast:
        return torch.autocast(host.device.type, torch.bfloat16)

    def fresh_scenes(from_text: bool, generator: torch.Generator, rng: np.random.Generator) -> Scenes:
        """Scenes of new worlds: from their captions alone, or from their pictures."""
        if len(waiting) < _SCENES_PER_CHUNK:
            views, clips = sample_pictures(_PICTURES_PER_CHUNK, config.height, config.width, generator)
            captions = caption_pictures(views, clips, rng)
            waiting.extend(zip(clips.rgb[:, :, 0], clips.intrinsics, captions, strict=True))
        taken = [waiting.pop() for _ in range(_SCENES_PER_CHUNK)]
        prompts = [caption for _, _, caption in taken]
        with in_bfloat16():
            if from_text:
                return scenes_from_prompts(model, prompts, *size, generator)
            pictures = torch.stack([picture for picture, _, _ in taken])
            intrinsics = torch.stack([lens for _, lens, _ in taken])
            return scenes_from_pictures(model, pictures, intrinsics, prompts, config.num_frames, generator)

    def add_scenes(from_text: bool) -> None:
        scenes = fresh_scenes(from_text, generator, rng)
        pool.add(
            latents=scenes.latents.half(),
            cache_depth=scenes.cache_depth.half(),
            warped_depth=scenes.warped_depth.half(),
            teacher=to_bytes(scenes.teacher),
            camera_to_first=scenes.camera_to_first,
            intrinsics=scenes.intrinsics,
        )

    heldout = world_generator(config.seed, "heldout", host.device)
    validation = fresh_scenes(True, heldout, np.random.default_rng(0))
    waiting.clear()
    add_scenes(from_text=True)
    add_scenes(from_text=False)
    filling_began = time.time()
    while pool.size < config.pool_size and time.time() - filling_began < _FILL_SHARE * config.minutes * 60:
        add_scenes(from_text=True)
        add_scenes(from_text=False)
    steps = 0

    def student(*args: torch.Tensor) -> torch.Tensor:
        with in_bfloat16():
            return network(*args)

    def step_loss(progress: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        nonlocal steps
        steps += 1
        if steps % 32 == 0:
            add_scenes(from_text=steps % 64 == 0)
        batch = pool.draw(config.batch_size)
        gaussians = decode_maps(
            student,
            batch["latents"].float(),
            batch["cache_depth"].float(),
            batch["camera_to_first"],
            batch["intrinsics"],
        )
        opacities = gaussians["opacities"]
        if progress > _PRUNE_FROM:
            gaussians = keep_most_opaque(gaussians, MAX_GAUSSIANS)
        view, frame = _target_frames(batch["latents"].shape[1], config.num_frames, host.device)
        cameras = batch["camera_to_first"][:, view, frame]
        background = torch.rand(3, device=host.device)
        drawn = rasterize(gaussians, cameras, batch["intrinsics"], config.height, config.width, background)
        color = drawn.color.permute(0, 1, 4, 2, 3).flatten(0, 1) * 2 - 1
        target = (batch["teacher"][:, view, :, frame].transpose(0, 1).float() / 127.5 - 1).flatten(0, 1)
        known = batch["warped_depth"][:, view, frame].float().flatten(0, 1)
        depth = F.avg_pool2d(drawn.depth.flatten(0, 1)[:, None], 2)[:, 0]
        compared = (known > 0) & (depth > 0.02)
        log_ratio = (depth.clamp(min=0.02) / known.clamp(min=0.02)).log().abs().clamp(max=1.0)
        depth_error = (log_ratio * compared).sum() / compared.sum().clamp(min=1)
        error = (color - target).square().mean()
        with in_bfloat16():
            perceived = perceptual(color, target)
        loss = (color - target).abs().mean() + error + 0.25 * gradient_difference(color[:, None], target[:, None])
        loss = loss + _PERCEPTUAL_WEIGHT * perceived + _DEPTH_WEIGHT * depth_error
        loss = loss + _SPARSITY_WEIGHT * opacities.mean()
        if progress > _PRUNE_FROM:
            loss = loss + _OPAQUENESS_WEIGHT * (1 - gaussians["opacities"]).mean()
        train_psnr = -10 * torch.log10(error.detach() / 4)
        return loss, {
            "train_psnr_db": train_psnr,
            "depth_log_l1": depth_error.detach(),
            "perceptual": perceived.detach(),
        }

    def evaluate() -> dict[str, float]:
        kept = kept_gaussians(student, validation, MAX_GAUSSIANS)
        drawn = draw_trajectories(kept, validation)
        pairs = torch.stack([validation.teacher[:, :, :, -1], drawn[:, :, -1].permute(0, 1, 4, 2, 3)], dim=2)
        write_contact_sheet(pairs[:4].flatten(0, 2), out / "renders.png", columns=12)
        return fidelity_scores(kept, drawn, validation) | {"pool": float(pool.size)}

    fit(network, step_loss, evaluate, config, host, out, started_at=started_at, adam_names=("stem", "head", "position"))
