"""Training of the Gaussian decoder by self-distillation: no frame it learns from was ever photographed or rendered.

The student reads the latents of six imagined trajectories; the teacher is the RGB decoder's output of the same
latents. In the last stage only the most opaque Gaussians are drawn, in every second step only half of them, so that
opacity comes to mean importance. Half of every batch stands still, the other half moves and is shown at two random
times, pruned together.
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
from omni_gen3d.decoder.mini import MiniDecoder, decode_maps, decoded_cameras, one_scene, shared_first
from omni_gen3d.decoder.pruning import shown_order
from omni_gen3d.training.clips import Pool
from omni_gen3d.training.distillation import SceneSource, moving_rows, still_rows
from omni_gen3d.training.loop import USUAL_PIXELS, Host, TrainingConfig, fit
from omni_gen3d.training.losses import TokenizerFeatures, gradient_difference, psnr
from omni_gen3d.training.preview import write_contact_sheet
from omni_gen3d.training.rasterize import draw_scenes, rasterize
from omni_gen3d.training.scenes import Films, Scenes
from omni_gen3d.training.worlds import compile_renderer, world_generator
from omni_gen3d.types import Cameras
from omni_gen3d.video.cache4d import cache_at
from omni_gen3d.video.depth import DepthNetwork
from omni_gen3d.video.imagine import VideoModel
from omni_gen3d.video.tokenizer import TEMPORAL_COMPRESSION, accelerate_tokenizer

DEFAULTS = TrainingConfig(
    minutes=7, batch_size=4, learning_rate=1.5e-3, ema_decay=0.995, log_every_s=60, pool_size=1000
)
MAX_GAUSSIANS = 40_000
_FILL_SHARE = 0.25
# Every so many steps a second, larger size has its turn.
_LARGER_EVERY = 3
# Scenes that move, for each that stands still, in the pools; they are three times as large.
_MOVING_SHARE = 0.5
# Steps between eight new scenes.
_REFRESH_STEPS = 40
# From this share of the budget on only the MAX_GAUSSIANS most opaque Gaussians of a scene are drawn; from the start in
# a training that goes on.
_PRUNE_FROM = 0.3
# Every so many pruned steps only the more opaque half of them is drawn: it should be a picture already.
_HALF_STEPS = 2
# What looks the same at two times should be the same.
_STEADINESS_WEIGHT, _SAME_COLOR, _SAME_LOG_DEPTH = 0.2, 0.02, 2e-3
_PERCEPTUAL_WEIGHT, _DEPTH_WEIGHT = 0.05, 0.2
# All opacities are pushed down; once pruned, those that are kept are pulled up: the more opaque half to 1, the other to
# less, so that the order of opacities stays an order of importance and none saturates beyond recall.
_SPARSITY_WEIGHT, _OPAQUENESS_WEIGHT, _LESSER_OPACITY = 0.01, 0.012, 0.85
# Deviation, in logits, of what disturbs the order in which a half is chosen; it falls to zero over the budget.
_ORDER_NOISE = 1.0


def load_video_model(
    tokenizer_folder: Path, depth_folder: Path, diffusion_folder: Path, device: torch.device
) -> VideoModel:
    """The frozen networks that imagine."""
    return VideoModel(
        accelerate_tokenizer(load_network(AutoencoderKLCosmos, tokenizer_folder, device)),
        load_network(DepthNetwork, depth_folder, device),
        load_network(CosmosTransformer3DModel, diffusion_folder, device),
    )


def gaussians_kept(height: int, width: int) -> int:
    """How many Gaussians a scene keeps: as many for its pixels as ``MAX_GAUSSIANS`` for 320 x 176, and never fewer."""
    return MAX_GAUSSIANS * max(1, height * width // USUAL_PIXELS)


def keep_most_opaque(gaussians: dict[str, torch.Tensor], count: int) -> dict[str, torch.Tensor]:
    """The ``count`` most opaque Gaussians of each scene of a batch."""
    count = min(count, gaussians["opacities"].shape[1])
    return _gather(gaussians, gaussians["opacities"].topk(count, dim=1).indices)


def _gather(gaussians: dict[str, torch.Tensor], index: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        name: value.gather(1, index if value.ndim == 2 else index[..., None].expand(-1, -1, value.shape[-1]))
        for name, value in gaussians.items()
    }


def target_frames(views: int, num_frames: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """For each trajectory one frame from anywhere and one from the far half: view and frame indices ``(2 V,)``."""
    view = torch.arange(views, device=device).repeat(2)
    anywhere = torch.randint(num_frames, (views,), device=device)
    far = torch.randint(num_frames // 2, num_frames, (views,), device=device)
    return view, torch.cat([anywhere, far])


def kept_together(sets: list[dict[str, torch.Tensor]], count: int) -> list[dict[str, torch.Tensor]]:
    """Of one batch at several times the slots of greatest opacity over the times, as ``decode_times`` keeps them."""
    count = min(count, sets[0]["opacities"].shape[1])
    index = torch.stack([gaussians["opacities"] for gaussians in sets]).amax(0).topk(count, dim=1).indices
    return [_gather(gaussians, index) for gaussians in sets]


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
    """Fused and pruned, as ``generate`` keeps them."""
    maps = fused_maps(network, scenes)
    return keep_first(maps, order_shown(maps, scenes), max_gaussians)


def fused_maps(network: Callable[..., torch.Tensor], scenes: Scenes) -> dict[str, torch.Tensor]:
    """All Gaussians of scenes that stand still, see ``decode_maps``."""
    return decode_maps(network, scenes.latents, scenes.cache_depth, scenes.camera_to_first, scenes.intrinsics)


def order_shown(gaussians: dict[str, torch.Tensor], scenes: Scenes) -> torch.Tensor:
    """Indices of the Gaussians of each scene of a batch, what its pictures show most of first, see ``shown_order``."""
    height, width = scenes.teacher.shape[-2:]
    length = scenes.camera_to_first.shape[2]
    orders = []
    for b, poses in enumerate(scenes.camera_to_first.flatten(1, 2)):
        lens = scenes.intrinsics[b].expand(len(poses), 3, 3)
        cameras = decoded_cameras(Cameras(torch.linalg.inv(poses), lens, width, height), length)
        orders.append(shown_order(one_scene(gaussians, b), cameras))
    return torch.stack(orders)


def keep_first(gaussians: dict[str, torch.Tensor], order: torch.Tensor, count: int) -> dict[str, torch.Tensor]:
    """The first ``count`` Gaussians of each scene by an order ``(B, N)``, as they stood."""
    return _gather(gaussians, order[:, :count].sort(dim=1).values)


def maps_at(
    network: Callable[..., torch.Tensor],
    latents: torch.Tensor,
    camera_to_first: torch.Tensor,
    frames: torch.Tensor,
    depth: torch.Tensor,
    intrinsics: torch.Tensor,
    time: torch.Tensor,
) -> tuple[dict[str, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """One pass over B filmed scenes, each at a time of its own.

    Args:
        network: See ``decode_maps``.
        latents: Shape ``(B, V, 16, T, h, w)``.
        camera_to_first: Of the V trajectories, shape ``(B, V, L, 4, 4)``.
        frames: The films in [-1, 1], shape ``(B, 3, L, H, W)``.
        depth: Of the films [scene units], shape ``(B, L, H, W)``.
        intrinsics: Shape ``(B, 3, 3)``.
        time: Index of the wanted input frame, shape ``(B,)``.

    Returns:
        See ``decode_maps``; and the depth ``(B, V, T, 4h, 4w)`` and colours that the cache showed.
    """
    item = torch.arange(len(time), device=time.device)
    views = latents.shape[1]
    cameras = camera_to_first[:, :, ::TEMPORAL_COMPRESSION].flatten(1, 2)
    seen, rgb = cache_at(frames[item, :, time], depth[item, time], intrinsics, cameras)
    seen, rgb = seen.unflatten(1, (views, -1)), rgb.unflatten(1, (views, -1))
    share = time / (frames.shape[2] - 1)
    return decode_maps(network, latents, seen, camera_to_first, intrinsics, rgb, share), (seen, rgb)


def kept_moments(
    network: Callable[..., torch.Tensor], scenes: Scenes, films: Films, max_gaussians: int
) -> list[dict[str, torch.Tensor]]:
    """Fused and pruned at every time of the films, one set of B scenes a time."""
    return kept_together(
        [
            maps_at(
                network,
                scenes.latents,
                scenes.camera_to_first,
                films.frames,
                films.depth,
                films.intrinsics,
                torch.full((len(films.depth),), time, device=films.depth.device),
            )[0]
            for time in range(films.frames.shape[2])
        ],
        max_gaussians,
    )


def draw_moments(moments: list[dict[str, torch.Tensor]], scenes: Scenes) -> torch.Tensor:
    """Renders in [0, 1] along every trajectory, frame t at time t, shape ``(B, V, L, H, W, 3)``."""
    height, width = scenes.teacher.shape[-2:]
    drawn = [
        draw_scenes(gaussians, scenes.camera_to_first[:, :, time], scenes.intrinsics, height, width).color
        for time, gaussians in enumerate(moments)
    ]
    return torch.stack(drawn, 2)


def steadiness_loss(
    sets: list[dict[str, torch.Tensor]], caches: list[tuple[torch.Tensor, torch.Tensor]]
) -> torch.Tensor:
    """How much Gaussians change between two times where the cache shows the same at both."""
    (depth, rgb), (other_depth, other_rgb) = caches
    known = (depth > 0) & (other_depth > 0)
    log_ratio = (depth.clamp(min=1e-3) / other_depth.clamp(min=1e-3)).log().abs()
    same = known & (log_ratio < _SAME_LOG_DEPTH) & ((rgb - other_rgb).abs().amax(3) < _SAME_COLOR)
    weight = shared_first(same).flatten(1)
    a, b = sets
    change = (
        (a["rgb"] - b["rgb"]).abs().mean(-1)
        + (a["opacities"] - b["opacities"]).abs()
        + (a["means"] - b["means"]).abs().mean(-1)
        + 0.1 * (a["scales"].log() - b["scales"].log()).abs().mean(-1)
    )
    return (change * weight).sum() / weight.sum().clamp(min=1)


def _picture_terms(
    gaussians: dict[str, torch.Tensor],
    cameras: torch.Tensor,
    intrinsics: torch.Tensor,
    target: torch.Tensor,
    known: torch.Tensor,
    perceptual: TokenizerFeatures,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """L1 + MSE + gradient L1, a perceptual distance and log depth of renders from C cameras a scene.

    Args:
        cameras: Shape ``(B, C, 4, 4)``.
        target: The teacher's frames, uint8, shape ``(B, C, 3, H, W)``.
        known: Depth of the 3D cache, 0 where unknown, shape ``(B, C, H/2, W/2)``.
    """
    height, width = target.shape[-2:]
    background = torch.rand(3, device=target.device)
    drawn = rasterize(gaussians, cameras, intrinsics, height, width, background)
    color = drawn.color.permute(0, 1, 4, 2, 3).flatten(0, 1) * 2 - 1
    wanted = (target.float() / 127.5 - 1).flatten(0, 1)
    depth = F.avg_pool2d(drawn.depth.flatten(0, 1)[:, None], 2)[:, 0]
    known = known.float().flatten(0, 1)
    compared = (known > 0) & (depth > 0.02)
    log_ratio = (depth.clamp(min=0.02) / known.clamp(min=0.02)).log().abs().clamp(max=1.0)
    depth_error = (log_ratio * compared).sum() / compared.sum().clamp(min=1)
    error = (color - wanted).square().mean()
    with torch.autocast(color.device.type, torch.bfloat16):
        perceived = perceptual(color, wanted)
    loss = (color - wanted).abs().mean() + error + 0.25 * gradient_difference(color[:, None], wanted[:, None])
    loss = loss + _PERCEPTUAL_WEIGHT * perceived + _DEPTH_WEIGHT * depth_error
    return loss, {"psnr_db": -10 * torch.log10(error.detach() / 4), "depth_log_l1": depth_error.detach()}


def more_important_half(
    gaussians: dict[str, torch.Tensor], noise: float, generator: torch.Generator | None = None
) -> dict[str, torch.Tensor]:
    """Half of each scene of a batch, the more opaque one up to a normal disturbance of the logits.

    The forward pass draws the chosen ones as they are. Backwards their opacity also acts as a soft gate, one logit
    wide, at the limit between the halves (a straight-through estimate): what the picture needs moves into the half.
    """
    opacities = gaussians["opacities"]
    logits = torch.logit(opacities, eps=1e-6)
    disturbed = logits + noise * torch.randn(logits.shape, device=logits.device, generator=generator)
    top = disturbed.topk(opacities.shape[1] // 2, dim=1)
    half = _gather(gaussians, top.indices)
    gate = torch.sigmoid(top.values - top.values[:, -1:].detach())
    return half | {"opacities": half["opacities"] * (1 + gate - gate.detach())}


def _network_to_train(resume: Path | None, films: bool) -> MiniDecoder:
    """A fresh decoder, or that of a checkpoint; with ``films`` it has or gains the layers of time."""
    if resume is None:
        return MiniDecoder(knows_time=films)
    trained: MiniDecoder = load_network(MiniDecoder, resume)
    if films and not trained.config["knows_time"]:
        sizes = {name: value for name, value in trained.config.items() if not name.startswith("_")}
        network = MiniDecoder(**sizes | {"knows_time": True})
        network.load_state_dict(network.state_dict() | trained.state_dict())
        trained = network
    return trained.train().requires_grad_(True)


class _Stills:
    """Scenes of one size that stand still, from text and from pictures in turn.

    Args:
        source: Where they come from.
        config: Size, and how many are kept.
        batch_size: Scenes a step.
        max_gaussians: How many a scene keeps.
    """

    def __init__(self, source: SceneSource, config: TrainingConfig, batch_size: int, max_gaussians: int) -> None:
        self.pool, self.batch_size, self.max_gaussians = Pool(config.pool_size), batch_size, max_gaussians
        self._source, self._from_text = source, False

    def add(self) -> None:
        """Some more of them."""
        self._from_text = not self._from_text
        self.pool.add(**still_rows(self._source.still(self._from_text)))


def train_decoder(
    config: TrainingConfig,
    host: Host,
    out: Path,
    resume: Path | None,
    tokenizer_folder: Path,
    depth_folder: Path,
    diffusion_folder: Path,
    films: bool = True,
    larger: TrainingConfig | None = None,
) -> None:
    """Train the decoder on scenes sampled from the given networks.

    The loss of scenes that stand still and of scenes that move is L1 + MSE + gradient L1 against the teacher's frames,
    a perceptual distance, log depth against the cache, and opacity terms; of scenes that move also steadiness between
    two times.

    Args:
        films: Half of every batch moves; otherwise all scenes stand still, and the decoder gains no layers of time.
        larger: Size, batch and pool of every third step, whose scenes stand still and keep as many more Gaussians as
            they have pixels; without, all steps are of one size. Figures of it in the log begin with ``larger_``.
    """
    started_at = time.time()
    torch.manual_seed(config.seed)
    network = _network_to_train(resume, films)
    network.to(host.device)  # pyright: ignore[reportArgumentType]
    prune_from = _PRUNE_FROM if resume is None else 0.0
    model = load_video_model(tokenizer_folder, depth_folder, diffusion_folder, host.device)
    perceptual = TokenizerFeatures(model.tokenizer)
    if host.compiles:
        compile_renderer()
    torch.manual_seed(config.seed + host.rank)
    generator = world_generator(config.seed * 1000 + 900 + host.rank, "train", host.device)
    rng = np.random.default_rng(config.seed * 1000 + 900 + host.rank)
    half_batch = max(config.batch_size // 2, 1)
    source = SceneSource(model, config, generator, rng)
    still = _Stills(source, config, half_batch if films else config.batch_size, MAX_GAUSSIANS)
    moving = Pool(int(config.pool_size * _MOVING_SHARE))

    def in_bfloat16() -> torch.autocast:
        return torch.autocast(host.device.type, torch.bfloat16)

    def add_films() -> None:
        moving.add(**moving_rows(*source.moving()))

    heldout = world_generator(config.seed, "heldout", host.device)
    unseen = SceneSource(model, config, heldout, np.random.default_rng(0))
    validation = unseen.still(from_text=True)
    filmed, validation_moving, _ = unseen.moving()
    adds = [still.add, add_films] if films else [still.add]
    large = validation_large = None
    if larger is not None:
        source_large = SceneSource(model, larger, generator, rng)
        large = _Stills(source_large, larger, larger.batch_size, gaussians_kept(larger.height, larger.width))
        validation_large = SceneSource(model, larger, heldout, np.random.default_rng(0)).still(from_text=True)
        adds = [*adds, *adds, large.add]
    for add in dict.fromkeys(adds):
        add()
    additions = 0

    def add_scenes() -> None:
        nonlocal additions
        adds[additions % len(adds)]()
        additions += 1

    filling_began = time.time()
    while still.pool.size < config.pool_size and time.time() - filling_began < _FILL_SHARE * config.minutes * 60:
        add_scenes()
    steps = 0

    def student(*args: torch.Tensor) -> torch.Tensor:
        with in_bfloat16():
            return network(*args)

    def opacity_terms(opacities: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        """``kept`` are those of the kept Gaussians, falling."""
        loss = _SPARSITY_WEIGHT * opacities.mean()
        if kept is None:
            return loss
        more, less = kept.tensor_split([kept.shape[1] - kept.shape[1] // 2], dim=1)
        return loss + _OPAQUENESS_WEIGHT / 2 * ((1 - more).mean() + (_LESSER_OPACITY - less).abs().mean())

    def still_loss(scenes: _Stills, pruned: bool, noise: float | None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        batch = scenes.pool.draw(scenes.batch_size)
        gaussians = decode_maps(
            student, batch["latents"].float(), batch["cache_depth"].float(), batch["camera_to_first"],
            batch["intrinsics"],
        )  # fmt: skip
        opacities, kept = gaussians["opacities"], None
        if pruned:
            gaussians = keep_most_opaque(gaussians, scenes.max_gaussians)
            kept = gaussians["opacities"]
        if noise is not None:
            gaussians = more_important_half(gaussians, noise)
        view, frame = target_frames(batch["latents"].shape[1], config.num_frames, host.device)
        loss, figures = _picture_terms(
            gaussians, batch["camera_to_first"][:, view, frame], batch["intrinsics"],
            batch["teacher"][:, view, :, frame].transpose(0, 1), batch["warped_depth"][:, view, frame], perceptual,
        )  # fmt: skip
        return loss + opacity_terms(opacities, kept), figures

    def moving_loss(pruned: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Two random times a scene, each seen by half of the trajectories and of those turned round."""
        batch = moving.draw(half_batch)
        twice = torch.arange(half_batch, device=host.device).repeat(2)
        views = batch["latents"].shape[1]
        times = torch.randint(config.num_frames, (2 * half_batch,), device=host.device)
        maps, (depth, rgb) = maps_at(
            student, batch["latents"][twice].float(), batch["camera_to_first"][twice, :views],
            batch["frames"][twice].float() / 127.5 - 1, batch["depth"][twice].float(), batch["intrinsics"][twice],
            times,
        )  # fmt: skip
        pair = [
            {name: value[part] for name, value in maps.items()} for part in (slice(half_batch), slice(half_batch, None))
        ]
        caches = list(zip(depth.chunk(2), rgb.chunk(2), strict=True))
        steadiness = steadiness_loss(pair, caches)
        drawn = kept_together(pair, MAX_GAUSSIANS) if pruned else pair
        together = {name: torch.cat([gaussians[name] for gaussians in drawn]) for name in maps}
        view = torch.randperm(2 * views, device=host.device)[:views]
        terms, figures = _picture_terms(
            together, batch["camera_to_first"][twice[:, None], view, times[:, None]], batch["intrinsics"][twice],
            batch["teacher"][twice[:, None], view, :, times[:, None]],
            batch["warped_depth"][twice[:, None], view, times[:, None]], perceptual,
        )  # fmt: skip
        # A slot may be empty at one of the times: of a pair the more opaque one is pulled up.
        kept = torch.maximum(drawn[0]["opacities"], drawn[1]["opacities"]) if pruned else None
        loss = terms + _STEADINESS_WEIGHT * steadiness + opacity_terms(maps["opacities"], kept)
        return loss, figures | {"steadiness": steadiness.detach()}

    def step_loss(progress: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        nonlocal steps
        steps += 1
        if steps % _REFRESH_STEPS == 0:
            add_scenes()
        pruned = progress >= prune_from
        noise = _ORDER_NOISE * (1 - progress) if pruned and steps % _HALF_STEPS == 0 else None
        if large is not None and steps % _LARGER_EVERY == 0:
            loss, figures = still_loss(large, pruned, noise)
            return loss, {f"larger_{name}": value for name, value in figures.items()}
        loss, figures = still_loss(still, pruned, noise)
        figures = {f"train_{name}": value for name, value in figures.items()}
        if not films:
            return loss, figures
        moving_part, moving_figures = moving_loss(pruned)
        return loss + moving_part, figures | {f"moving_{name}": value for name, value in moving_figures.items()}

    def evaluate() -> dict[str, float]:
        kept = kept_gaussians(student, validation, MAX_GAUSSIANS)
        drawn = draw_trajectories(kept, validation)
        moments = draw_moments(kept_moments(student, validation_moving, filmed, MAX_GAUSSIANS), validation_moving)
        pairs = [
            torch.stack([scenes.teacher[:, :, :, -1], shown[:, :, -1].permute(0, 1, 4, 2, 3)], dim=2)[:2]
            for scenes, shown in ((validation, drawn), (validation_moving, moments))
        ]
        write_contact_sheet(torch.cat(pairs).flatten(0, 2), out / "renders.png", columns=12)
        target = validation_moving.teacher.permute(0, 1, 3, 4, 5, 2)
        figures = fidelity_scores(kept, drawn, validation) | {
            "moving_psnr_db": psnr(moments, target),
            "pool": float(still.pool.size),
            "moving_pool": float(moving.size),
        }
        if large is not None and validation_large is not None:
            kept = kept_gaussians(student, validation_large, large.max_gaussians)
            drawn = draw_trajectories(kept, validation_large)
            figures |= {f"larger_{name}": x for name, x in fidelity_scores(kept, drawn, validation_large).items()}
            figures["larger_pool"] = float(large.pool.size)
            pair = torch.stack([validation_large.teacher[:, :, :, -1], drawn[:, :, -1].permute(0, 1, 4, 2, 3)], dim=2)
            write_contact_sheet(pair[:2].flatten(0, 2), out / "renders_larger.png", columns=12)
        return figures

    fit(
        network,
        step_loss,
        evaluate,
        config,
        host,
        out,
        started_at=started_at,
        adam_names=("stem", "head", "position", "moment_detail", "time"),
    )
