"""Training of the depth network on single pictures: procedural worlds, some with a mover in them, and real objects."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F

from omni_gen3d.checkpoints import load_network
from omni_gen3d.training.clips import FOCAL_RANGE, Pool, sample_pictures, to_bytes
from omni_gen3d.training.loop import Host, TrainingConfig, fit
from omni_gen3d.training.losses import gradient_difference
from omni_gen3d.training.moving import MovingClips, render_times, sample_moving_views
from omni_gen3d.training.object_caster import open_objects
from omni_gen3d.training.object_pictures import FOCAL_RANGE as PHOTO_FOCAL_RANGE
from omni_gen3d.training.object_pictures import sample_object_pictures
from omni_gen3d.training.worlds import compile_renderer, world_generator
from omni_gen3d.video.depth import MAX_DEPTH_M, MIN_DEPTH_M, DepthNetwork, likeliest, ray_image

DEFAULTS = TrainingConfig(
    minutes=6, batch_size=64, learning_rate=2e-3, ema_decay=0.995, log_every_s=60, pool_size=20_000
)
_PICTURES_PER_CHUNK = 64
_VALIDATION_PICTURES = 64
_FILL_SHARE = 0.15
# What chunks of pictures show, in turn. A mover is seen at one of a few times.
_Shown = Literal["rooms", "movers", "objects", "rooms as photographed"]
_ROOMS: tuple[_Shown, ...] = ("rooms", "movers")
_ROOMS_AND_OBJECTS: tuple[_Shown, ...] = ("objects", "rooms", "objects", "movers", "objects", "movers") * 2 + (
    "objects", "rooms as photographed", "objects", "movers", "objects", "rooms",
)  # fmt: skip
_MOVING_TIMES = 5
# How much more a pixel of what moves counts: there are few, and colliders are made of them.
_MOVING_WEIGHT = 4.0
_NUM_ATTENTION_LAYERS = 6
# Candidates for the depth of a pixel, and the width of their Laplace distributions in log depth.
_NUM_MODES, _MODE_WIDTH = 2, 0.05
_UNKNOWN_CAMERA_SHARE = 0.3
# Pictures as they were rendered: what films and decoded videos look like.
_UNDISTURBED_SHARE = 0.25
# Pictures that have no colour, as old and industrial cameras take them.
_GREY_SHARE = 0.1
_SCALES = (0.35, 0.5, 0.7)  # to which some batches are shrunk and brought back


def disturb(pictures: torch.Tensor) -> torch.Tensor:
    """What lenses, sensors, tone curves and compression do, so that decoded and real pictures are no surprise.

    Random exposure, contrast, tint, saturation, darkening towards the corners, loss of detail, sharpening, noise.

    Args:
        pictures: In [0, 1], shape ``(B, 3, H, W)``.
    """
    count, _, height, width = pictures.shape
    device = pictures.device

    def uniform(low: float, high: float, channels: int = 1) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, channels, 1, 1, device=device)

    pictures = pictures.clamp(1e-4, 1) ** uniform(0.6, 1.6) * uniform(0.7, 1.3) * uniform(0.85, 1.15, 3)
    mean = pictures.mean((1, 2, 3), keepdim=True)
    pictures = mean + (pictures - mean) * uniform(0.65, 1.25)
    grey = pictures.mean(1, keepdim=True)
    colorless = torch.rand(count, 1, 1, 1, device=device) < _GREY_SHARE
    pictures = torch.lerp(grey, pictures, torch.where(colorless, 0.0, uniform(0.6, 1.3)))
    y, x = (torch.linspace(-1, 1, n, device=device) for n in (height, width))
    pictures = pictures * (1 - uniform(-0.1, 0.3) * (y[:, None] ** 2 + x**2) / 2)
    scale = _SCALES[int(torch.randint(len(_SCALES), ()))]
    small = F.interpolate(pictures, scale_factor=scale, mode="area")
    coarse = F.interpolate(small, size=(height, width), mode="bilinear", align_corners=False)
    pictures = torch.lerp(pictures, coarse, (uniform(-1.0, 1.0)).clamp(min=0))
    blurred = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    pictures = torch.lerp(pictures, blurred, uniform(-0.5, 1.0))
    return (pictures + uniform(0, 0.05) * torch.randn_like(pictures)).clamp(0, 1)


def picture_movers(count: int, height: int, width: int, generator: torch.Generator) -> MovingClips:
    """Fresh pictures of moving worlds, each at a random time of its motion."""
    device = generator.device
    views = sample_moving_views(count, width, height, _MOVING_TIMES, generator)
    times = torch.randint(_MOVING_TIMES, (count, 1), generator=generator, device=device)
    return render_times(views, torch.eye(4, device=device).repeat(count, 1, 1, 1), times, height, width)


def deepened(trained: DepthNetwork, num_attention_layers: int) -> DepthNetwork:
    """A network with more attention layers, which at first hand on what they get, so that it says what it said."""
    network = DepthNetwork(trained.config["channels"], num_attention_layers, trained.num_modes)
    silent = {
        name: torch.zeros_like(value)
        for name, value in network.attention.state_dict(prefix="attention.").items()
        if name.endswith(("proj.weight", "proj.bias", "mlp.2.weight", "mlp.2.bias"))
    }
    network.load_state_dict(network.state_dict() | silent | trained.state_dict())
    return network


def _network_to_train(resume: Path | None) -> DepthNetwork:
    if resume is None:
        return DepthNetwork(num_attention_layers=_NUM_ATTENTION_LAYERS, num_modes=_NUM_MODES)
    trained = load_network(DepthNetwork, resume)
    shallow = len(trained.attention) < _NUM_ATTENTION_LAYERS
    network = deepened(trained, _NUM_ATTENTION_LAYERS) if shallow else trained
    return network.train().requires_grad_(True)


def depth_error(candidates: torch.Tensor, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """How far candidates are from the truth in log depth, shape ``(B, H, W)``.

    Negative log likelihood of a mixture of Laplace distributions times their common width, without its constant: with
    one candidate the absolute difference.

    Args:
        candidates: Log depths, shape ``(B, K, H, W)``.
        logits: Of their probabilities, same shape.
        target: Natural logarithm of the true depth [m], shape ``(B, H, W)``.
    """
    distance = (candidates - target[:, None]).abs()
    return -_MODE_WIDTH * torch.logsumexp(logits.log_softmax(1) - distance / _MODE_WIDTH, 1)


def train_depth(
    config: TrainingConfig, host: Host, out: Path, resume: Path | None, objects: Path | None = None
) -> None:
    """Train depth and field of view: ``depth_error``, in which what moves counts more, + L1 of each picture's mean log
    depth, of its gradients, and of the log tangent of half the field of view on the pictures whose rays are withheld.

    Args:
        objects: Folder of ``train fetch-assets``: half of the pictures then show rooms of real objects, and some of
            the procedural rooms that stand still are seen through lenses of 33 to 90 degrees.
    """
    started_at = time.time()
    torch.manual_seed(config.seed)
    network = _network_to_train(resume)
    network.to(host.device)  # pyright: ignore[reportArgumentType]
    propose = torch.compile(network.candidates, dynamic=False) if host.compiles else network.candidates
    if host.compiles:
        compile_renderer()
    torch.manual_seed(config.seed + host.rank)
    generator = world_generator(config.seed * 1000 + 500 + host.rank, "train", host.device)
    pool = Pool(config.pool_size)

    caster = None if objects is None else open_objects(objects, host.device)
    size = (_PICTURES_PER_CHUNK, config.height, config.width)
    additions = 0

    def add(
        rgb: torch.Tensor, depth: torch.Tensor, intrinsics: torch.Tensor, moving: torch.Tensor | None = None
    ) -> None:
        if moving is None:
            moving = torch.zeros_like(depth, dtype=torch.bool)
        pool.add(rgb=to_bytes(rgb), depth=depth.half(), moving=moving, intrinsics=intrinsics)

    def add_pictures() -> None:
        nonlocal additions
        turns = _ROOMS if caster is None else _ROOMS_AND_OBJECTS
        shown = turns[additions % len(turns)]
        if shown == "objects" and caster is not None:
            pictures = sample_object_pictures(*size, caster, generator)
            add(pictures.rgb, pictures.depth, pictures.intrinsics)
        elif shown == "movers":
            seen = picture_movers(*size, generator)
            add(seen.clips.rgb[:, :, 0], seen.clips.depth[:, 0], seen.clips.intrinsics, seen.moving[:, 0])
        else:
            lenses = FOCAL_RANGE if shown == "rooms" else PHOTO_FOCAL_RANGE
            clips = sample_pictures(*size, generator, lenses)[1]
            add(clips.rgb[:, :, 0], clips.depth[:, 0], clips.intrinsics)
        additions += 1

    add_pictures()
    filling_began = time.time()
    while pool.size < config.pool_size and time.time() - filling_began < _FILL_SHARE * config.minutes * 60:
        add_pictures()
    heldout = world_generator(config.seed, "heldout", host.device)
    _, validation = sample_pictures(_VALIDATION_PICTURES, config.height, config.width, heldout)
    movers = picture_movers(_VALIDATION_PICTURES, config.height, config.width, heldout)
    of_objects = None
    if caster is not None:
        of_objects = sample_object_pictures(_VALIDATION_PICTURES, config.height, config.width, caster, heldout)
    steps = 0

    def predict(pictures: torch.Tensor, rays: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast(host.device.type, torch.bfloat16):
            return network(pictures * 2 - 1, rays)

    def step_loss(progress: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        nonlocal steps
        steps += 1
        if steps % 4 == 0:
            add_pictures()
        batch = pool.draw(config.batch_size)
        flipped = torch.rand(config.batch_size, device=host.device) < 0.5
        rgb = torch.where(flipped[:, None, None, None], batch["rgb"].flip(-1), batch["rgb"])
        depth, moving = (
            torch.where(flipped[:, None, None], batch[name].flip(-1), batch[name]).float()
            for name in ("depth", "moving")
        )
        unknown = torch.rand(config.batch_size, device=host.device) < _UNKNOWN_CAMERA_SHARE
        rays = ray_image(batch["intrinsics"], config.height, config.width) * (~unknown)[:, None, None, None]
        untouched = torch.rand(config.batch_size, 1, 1, 1, device=host.device) < _UNDISTURBED_SHARE
        rendered = rgb.float() / 255
        pictures = torch.where(untouched, rendered, disturb(rendered))
        with torch.autocast(host.device.type, torch.bfloat16):
            candidates, logits, tangent = propose(pictures * 2 - 1, rays)
        target = depth.clamp(MIN_DEPTH_M, MAX_DEPTH_M).log()
        weight = 1 + (_MOVING_WEIGHT - 1) * moving
        error = (depth_error(candidates, logits, target) * weight).sum() / weight.sum()
        log_depth = likeliest(candidates, logits)
        true_tangent = config.width / 2 / batch["intrinsics"][:, 0, 0]
        fov_error = ((tangent.clamp(min=1e-3) / true_tangent).log().abs() * unknown).sum() / unknown.sum().clamp(min=1)
        scale_error = (log_depth - target).mean((1, 2)).abs().mean()
        loss = error + scale_error + 0.5 * gradient_difference(log_depth[:, None], target[:, None]) + 0.2 * fov_error
        return loss, {
            "log_depth_l1": (log_depth - target).abs().mean().detach(),
            "log_scale_l1": scale_error.detach(),
            "log_tangent_l1": fov_error.detach(),
            "depth_error": error.detach(),
        }

    def evaluate() -> dict[str, float]:
        pictures, true = validation.rgb[:, :, 0], validation.depth[:, 0].clamp(MIN_DEPTH_M, MAX_DEPTH_M)
        rays = ray_image(validation.intrinsics, config.height, config.width)
        log_depth, _ = predict(pictures, rays)
        _, tangent = predict(pictures, torch.zeros_like(rays))
        relative = ((log_depth.exp() - true).abs() / true).mean()
        moving_rays = ray_image(movers.clips.intrinsics, config.height, config.width)
        of_movers, _ = predict(movers.clips.rgb[:, :, 0], moving_rays)
        true = movers.clips.depth[:, 0].clamp(MIN_DEPTH_M, MAX_DEPTH_M)
        moving_error = (((of_movers.exp() - true).abs() / true) * movers.moving[:, 0]).sum()
        scale_error = (of_movers - true.log()).flatten(1).median(1).values.abs().mean()
        fov_error = (tangent.atan() - (config.width / 2 / validation.intrinsics[:, 0, 0]).atan()).abs().mean() * 2
        figures = {}
        if of_objects is not None:
            object_rays = ray_image(of_objects.intrinsics, config.height, config.width)
            log_depth, _ = predict(of_objects.rgb, object_rays)
            true = of_objects.depth.clamp(MIN_DEPTH_M, MAX_DEPTH_M)
            figures["objects_absrel"] = float(((log_depth.exp() - true).abs() / true).mean())
        return figures | {
            "absrel": float(relative),
            "moving_absrel": float(moving_error / movers.moving.sum().clamp(min=1)),
            "scale_error": float(scale_error),
            "fov_error_deg": float(torch.rad2deg(fov_error)),
        }

    fit(
        network,
        step_loss,
        evaluate,
        config,
        host,
        out,
        started_at=started_at,
        adam_names=("stem", "depth_head", "fov_head"),
    )
