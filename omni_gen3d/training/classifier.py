"""The judge of prompts: a small convolutional network that names what a picture of a procedural world shows.

It is trained on fresh pictures whenever it is needed, measured on held-out true frames, and never shipped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from omni_gen3d.errors import InputError
from omni_gen3d.layers import ResidualBlock
from omni_gen3d.training.captions import (
    FLOOR_NAMES,
    OBJECT_TYPES,
    WALL_NAMES,
    Attributes,
    attributes,
    named_attributes,
)
from omni_gen3d.training.clips import Pool, caption_pictures, sample_pictures, to_bytes
from omni_gen3d.training.depth import disturb
from omni_gen3d.training.optimizer import MovingAverage, Muon
from omni_gen3d.training.raycast import FIRST_WALL, FLOOR_SURFACE
from omni_gen3d.training.worlds import WORLD_KINDS, Worlds, compile_renderer, world_generator

GROUPS = ("kind", "floor", "wall", "objects")
# A group that the network cannot tell on true frames this often judges nothing.
MIN_GROUP_ACCURACY = 0.9
# Shares of the pixels from which on a floor, the walls or a type of object can be decided.
_DECIDABLE_FLOOR, _DECIDABLE_WALL, _DECIDABLE_OBJECT = 0.03, 0.03, 0.03
_LEARNING_RATE = 2e-3
_BATCH_SIZE = 128
_POOL_SIZE = 12_000
_FILL_SHARE = 0.35
_FLAT_SHARE = 0.4
_WARM_UP_STEPS = 50
_STEPS_PER_CHUNK = 4
_MAX_DISTURBANCE = 0.5


class AttributeClassifier(nn.Module):
    """Strided residual stages, then the mean and the maximum over the picture, then one linear layer; 1.5 M weights."""

    def __init__(self, channels: tuple[int, ...] = (32, 64, 128, 192), depths: tuple[int, ...] = (1, 1, 2, 1)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4 * 3, channels[0], 3, padding=1)
        stages: list[nn.Module] = []
        for i, (width, depth) in enumerate(zip(channels, depths, strict=True)):
            stages += [nn.Conv2d(channels[i - 1], width, 2, stride=2)] if i else []
            stages += [ResidualBlock(width) for _ in range(depth)]
        self.stages = nn.Sequential(*stages)
        self.sizes = (len(WORLD_KINDS), len(FLOOR_NAMES), len(WALL_NAMES), len(OBJECT_TYPES))
        self.head = nn.Linear(2 * channels[-1], sum(self.sizes))

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits of every group from pictures in [0, 1], shape ``(B, 3, H, W)``, sides divisible by 16.

        Returns:
            ``kind`` (B, 6), ``floor`` (B, 7) and ``wall`` (B, 6), of which one holds; ``objects`` (B, 18), each on its
            own, positive where visible.
        """
        logits = self.head(self.features(pictures)).float()
        return dict(zip(GROUPS, logits.split(self.sizes, dim=1), strict=True))

    def features(self, pictures: torch.Tensor) -> torch.Tensor:
        """What the logits are read from, shape ``(B, C)``."""
        x = F.silu(self.stages(self.stem(F.pixel_unshuffle(pictures * 2 - 1, 2))))
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)


@dataclass(frozen=True)
class AttributeScores:
    """How often a classifier found what captions name.

    Attributes:
        groups: Share of the named attributes that were found, for each group; None where none was named.
        accuracy: The same over all groups that were asked for.
        complete: Share of the captions, among those that ask for something, all of whose attributes were found.
        chance: ``accuracy`` when every caption is held against the pictures of all others.
        chance_complete: ``complete`` likewise.
    """

    groups: dict[str, float | None]
    accuracy: float
    complete: float
    chance: float
    chance_complete: float


@dataclass(frozen=True)
class TrainedClassifier:
    """A classifier and what it is worth.

    Attributes:
        network: In evaluation mode.
        true_frames: Its scores on held-out true frames with their captions, over ``groups_used``.
        groups_used: The groups it tells on at least 90 % of the true frames; only these judge renders.
        absent_rejected: Share of the object types not in sight that it does not claim to see on true frames.
        steps: Of training.
        seconds: That the training took.
    """

    network: AttributeClassifier
    true_frames: AttributeScores
    groups_used: tuple[str, ...]
    absent_rejected: float
    steps: int
    seconds: float


def type_shares(worlds: Worlds, surface: torch.Tensor) -> torch.Tensor:
    """Share of the pixels ``surface (B, H, W)`` that each type of object covers, shape ``(B, 18)``."""
    slots = torch.arange(FIRST_WALL, device=surface.device)
    share = torch.stack([(surface == slot).flatten(1).float().mean(1) for slot in slots], 1)
    types = torch.arange(len(OBJECT_TYPES), device=surface.device)
    return (share[..., None] * (worlds.object_type[..., None] == types)).sum(1)


def decidable_attributes(captions: list[str], worlds: Worlds, surface: torch.Tensor) -> Attributes:
    """What the captions name *and* the pictures ``surface (B, H, W)`` of their worlds show well enough to be told."""
    named = named_attributes(captions)
    kind, floor, wall = (x.to(surface.device) for x in (named.kind, named.floor, named.wall))
    sees_floor = (surface == FLOOR_SURFACE).flatten(1).float().mean(1) > _DECIDABLE_FLOOR
    is_wall = (surface >= FIRST_WALL) & (surface < FLOOR_SURFACE)
    sees_wall = is_wall.flatten(1).float().mean(1) > _DECIDABLE_WALL
    return Attributes(
        kind=kind,
        floor=torch.where(sees_floor, floor, -1),
        wall=torch.where(sees_wall, wall, -1),
        objects=named.objects.to(surface.device) & (type_shares(worlds, surface) > _DECIDABLE_OBJECT),
    )


def attribute_scores(
    logits: dict[str, torch.Tensor], wanted: Attributes, groups: tuple[str, ...] = GROUPS
) -> AttributeScores:
    """Hold every caption's attributes against its own picture, and against all others for the chance level.

    Args:
        logits: Of B pictures.
        wanted: Of their B captions, B >= 2.
        groups: That count.
    """
    count = len(wanted.kind)
    if count < 2:
        raise InputError(f"{count} pictures give no chance level; at least 2 are needed.")
    hits, counts = torch.zeros(count, count), torch.zeros(count)
    own: dict[str, float | None] = {}
    for group in groups:
        value = getattr(wanted, group)
        if group == "objects":
            group_hits = value.float() @ (logits[group] > 0).float().T
            group_counts = value.float().sum(1)
        else:
            group_counts = (value >= 0).float()
            group_hits = (value[:, None] == logits[group].argmax(1)) * group_counts[:, None]
        total = float(group_counts.sum())
        own[group] = float(group_hits.diagonal().sum()) / total if total else None
        hits, counts = hits + group_hits.cpu(), counts + group_counts.cpu()
    asking = counts > 0
    complete = ((hits == counts[:, None]) & asking[:, None]).float()
    named, captions = max(float(counts.sum()), 1.0), max(int(asking.sum()), 1)

    def of_others(matrix: torch.Tensor) -> float:
        return float(matrix.sum() - matrix.diagonal().sum()) / (count - 1)

    return AttributeScores(
        groups=own,
        accuracy=float(hits.diagonal().sum()) / named,
        complete=float(complete.diagonal().sum()) / captions,
        chance=of_others(hits) / named,
        chance_complete=of_others(complete) / captions,
    )


def classify(network: AttributeClassifier, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
    """Logits of pictures in [0, 1], shape ``(B, 3, H, W)``, a batch at a time."""
    on_gpu = pictures.device.type == "cuda"
    with torch.no_grad(), torch.autocast(pictures.device.type, torch.bfloat16, enabled=on_gpu):
        parts = [network(part) for part in pictures.split(_BATCH_SIZE)]
    return {group: torch.cat([part[group] for part in parts]).float() for group in GROUPS}


def train_classifier(
    seconds: float,
    device: torch.device | str,
    height: int,
    width: int,
    *,
    seed: int = 0,
    chunk: int = 64,
    heldout_pictures: int = 512,
) -> TrainedClassifier:
    """Train on fresh pictures of the training split within a budget, then measure on the held-out split.

    Args:
        seconds: Budget, compilation and data included; the measurement comes on top.
        device: Where; ``compile_renderer`` is called on cuda only.
        height: Of the pictures, divisible by 16.
        width: Of the pictures, divisible by 16.
        seed: Of initialisation and data.
        chunk: Pictures made at once.
        heldout_pictures: True frames that measure it.

    Raises:
        InputError: The budget is not positive or a side is not divisible by 16.
    """
    place = torch.device(device)
    if seconds <= 0:
        raise InputError(f"the classifier's budget is {seconds} s; give a positive one.")
    if height % 16 or width % 16:
        raise InputError(f"the pictures are {width}x{height}; both sides must be divisible by 16.")
    began = time.monotonic()
    torch.manual_seed(seed)
    network = AttributeClassifier().to(place)
    optimizer, average = Muon(network, ("stem", "head")), MovingAverage(network, 0.99)
    if place.type == "cuda":
        compile_renderer()
    generator = world_generator(seed * 1000 + 300, "train", place)
    pool = Pool(_POOL_SIZE)

    def add_pictures() -> None:
        views, clips = sample_pictures(chunk, height, width, generator)
        truth = attributes(views.worlds, clips.surface[:, 0])
        # Between a glimpse and the share from which an object can be told, the network is free.
        absent = type_shares(views.worlds, clips.surface[:, 0]) == 0
        pool.add(
            rgb=to_bytes(clips.rgb[:, :, 0]), kind=truth.kind, floor=truth.floor, wall=truth.wall,
            objects=truth.objects, told=truth.objects | absent,
        )  # fmt: skip

    add_pictures()
    while time.monotonic() - began < _FILL_SHARE * seconds and pool.size < pool.capacity:
        add_pictures()
    training_began, step = time.monotonic(), 0
    budget = seconds - (training_began - began)
    while (progress := (time.monotonic() - training_began) / budget if budget > 0 else 1.0) < 1:
        if step % _STEPS_PER_CHUNK == _STEPS_PER_CHUNK - 1:
            add_pictures()
        loss = _loss(network, pool.draw(min(_BATCH_SIZE, pool.size)))
        optimizer.zero_grad()
        loss.backward()
        warm_up, cool_down = (step + 1) / _WARM_UP_STEPS, (1 - progress) / (1 - _FLAT_SHARE)
        optimizer.step(_LEARNING_RATE * min(1.0, warm_up, cool_down))
        average.update(step)
        step += 1
    average.swap()
    spent = time.monotonic() - began
    scores, groups_used, rejected = _measure(network.eval(), heldout_pictures, chunk, height, width, seed, place)
    return TrainedClassifier(network, scores, groups_used, rejected, step, spent)


def _loss(network: AttributeClassifier, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of the three exclusive groups and binary cross-entropy of the objects that are told."""
    rgb = batch["rgb"].float() / 255
    flipped, mildness = torch.rand(2, len(rgb), 1, 1, 1, device=rgb.device)
    rgb = torch.where(flipped < 0.5, rgb.flip(-1), rgb)
    rgb = torch.lerp(rgb, disturb(rgb), _MAX_DISTURBANCE * mildness)
    with torch.autocast(rgb.device.type, torch.bfloat16, enabled=rgb.device.type == "cuda"):
        logits = network(rgb)
    loss = sum((F.cross_entropy(logits[group], batch[group]) for group in GROUPS[:3]), rgb.new_zeros(()))
    told = batch["told"].float()
    error = F.binary_cross_entropy_with_logits(logits["objects"], batch["objects"].float(), reduction="none")
    return loss + 5 * (error * told).sum() / told.sum()


def _measure(
    network: AttributeClassifier, count: int, chunk: int, height: int, width: int, seed: int, device: torch.device
) -> tuple[AttributeScores, tuple[str, ...], float]:
    """Scores on true frames of the held-out split, the groups good enough to judge, and absent objects rejected."""
    generator, rng = world_generator(seed * 1000 + 300, "heldout", device), np.random.default_rng(seed)
    logits: list[dict[str, torch.Tensor]] = []
    wanted: list[Attributes] = []
    absent: list[torch.Tensor] = []
    for _ in range(-(-count // chunk)):
        views, clips = sample_pictures(chunk, height, width, generator)
        surface = clips.surface[:, 0]
        logits.append(classify(network, clips.rgb[:, :, 0]))
        wanted.append(decidable_attributes(caption_pictures(views, clips, rng), views.worlds, surface))
        absent.append(type_shares(views.worlds, surface) == 0)
    merged = {group: torch.cat([part[group] for part in logits]) for group in GROUPS}
    targets = Attributes(*(torch.cat([getattr(part, group) for part in wanted]) for group in GROUPS))
    every_group = attribute_scores(merged, targets).groups
    used = tuple(group for group, share in every_group.items() if share is not None and share >= MIN_GROUP_ACCURACY)
    scores = attribute_scores(merged, targets, used)
    rejected = float((merged["objects"] <= 0)[torch.cat(absent)].float().mean())
    return replace(scores, groups=every_group), used, rejected
