"""The training loop that the networks share: a budget in minutes, a schedule over it, checkpoints and a log.

Started by ``torchrun`` it trains data-parallel on every GPU of the host: each process makes its own data, gradients
are averaged, and all processes read the clock of the first.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist

from omni_gen3d.checkpoints import save_network
from omni_gen3d.errors import InputError
from omni_gen3d.training.optimizer import MovingAverage, Muon

_WARM_UP_STEPS = 100
USUAL_PIXELS = 320 * 176
_FLAT_SHARE = 0.4


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how to train.

    Attributes:
        minutes: Budget of this network's training, compilation and data included.
        batch_size: Items a step and process.
        learning_rate: Peak; 100 steps of warm-up, flat to 40 % of the budget, then linear to zero.
        ema_decay: Of the weights that are evaluated and saved.
        log_every_s: Seconds between evaluations; a checkpoint is written at each.
        seed: Of initialisation and data.
        height: Pixels, divisible by 16.
        width: Pixels, divisible by 16.
        num_frames: Frames of a trajectory, 8 (T - 1) + 1.
        pool_size: Clips (or pictures) kept on the device; refreshed while training.
    """

    minutes: float
    batch_size: int
    learning_rate: float
    ema_decay: float
    log_every_s: float
    seed: int = 0
    height: int = 176
    width: int = 320
    num_frames: int = 17
    pool_size: int = 1000

    def __post_init__(self) -> None:
        if self.minutes <= 0:
            raise InputError(f"minutes is {self.minutes}; give a positive budget.")
        if not self.learning_rate > 0:
            raise InputError(f"the learning rate is {self.learning_rate}; it must be positive.")
        if self.height % 16 or self.width % 16 or self.num_frames % 8 != 1:
            raise InputError(
                f"size {self.width}x{self.height} and {self.num_frames} frames: sides must be divisible by 16 and "
                "frames be 8 (T - 1) + 1."
            )

    def of_size(self, width: int, height: int) -> TrainingConfig:
        """The same for frames of another size, with about as many pixels in a step and in the pools."""
        share = self.width * self.height / (width * height)
        batch_size, pool_size = (max(1, round(share * count)) for count in (self.batch_size, self.pool_size))
        return replace(self, width=width, height=height, batch_size=batch_size, pool_size=pool_size)


def items_at_once(count: int, config: TrainingConfig) -> int:
    """How many items of the config's size have no more pixels than ``count`` of 320 x 176."""
    return max(1, min(count, count * USUAL_PIXELS // (config.width * config.height)))


@dataclass(frozen=True)
class Host:
    """Where this process trains."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def compiles(self) -> bool:
        return self.device.type == "cuda"


@contextmanager
def training_host():
    """Join the process group that ``torchrun`` announces, or train alone; yields a ``Host``."""
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    else:
        device = torch.device("cpu")
    if world_size > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Host(rank, world_size, device)
    finally:
        if world_size > 1:
            dist.destroy_process_group()


def _average_over_processes(network: torch.nn.Module, elapsed_s: float, host: Host) -> float:
    """Average the gradients of all processes in place; returns the first process's clock [s]."""
    if host.world_size == 1:
        return elapsed_s
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    clock = torch.tensor([elapsed_s if host.is_first else 0.0], device=host.device)
    flat = torch.cat([gradient.flatten() for gradient in gradients] + [clock])
    dist.all_reduce(flat)
    offset = 0
    for gradient in gradients:
        gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient) / host.world_size)
        offset += gradient.numel()
    return float(flat[-1])


def _agree(value: float, host: Host) -> float:
    """The first process's value, in every process."""
    if host.world_size == 1:
        return value
    shared = torch.tensor([value], dtype=torch.float64, device=host.device)
    dist.broadcast(shared, src=0)
    return float(shared)


def fit(
    network: torch.nn.Module,
    step_loss: Callable[[float], tuple[torch.Tensor, dict[str, torch.Tensor]]],
    evaluate: Callable[[], dict[str, float]],
    config: TrainingConfig,
    host: Host,
    out: Path,
    *,
    started_at: float,
    adam_names: Collection[str],
    before_save: Callable[[], None] | None = None,
) -> None:
    """Train until the budget is spent.

    Args:
        network: Trained in place; ends holding the averaged weights.
        step_loss: From the share of the budget spent to the loss of a fresh batch and figures to log.
        evaluate: Figures of the averaged weights on held-out data; runs on the first process only.
        started_at: ``time.time()`` when the budget began to run.
        adam_names: See ``Muon``.
        before_save: Called before each checkpoint.
        out: Folder of the checkpoint; ``log.jsonl`` beside the weights.
    """
    optimizer = Muon(network, adam_names)
    average = MovingAverage(network, config.ema_decay)
    training_began = time.time()
    budget_s = _agree(config.minutes * 60 - (training_began - started_at), host)
    next_log_s, step, figures = config.log_every_s, 0, {}
    if host.is_first:
        out.mkdir(parents=True, exist_ok=True)
        _log(out, {"config": asdict(config), "processes": host.world_size, "prepared_s": training_began - started_at})

    def checkpoint(elapsed_s: float) -> None:
        average.swap()
        with torch.no_grad():
            scores = evaluate()
        if before_save is not None:
            before_save()
        save_network(network, out, "float16")
        average.swap()
        record = {"elapsed_s": round(elapsed_s, 1), "step": step, "steps_per_s": round(step / elapsed_s, 2)}
        record |= {name: round(float(value), 4) for name, value in figures.items()}
        if host.device.type == "cuda":
            record["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
        _log(out, record | {name: round(value, 4) for name, value in scores.items()})

    elapsed_s = time.time() - training_began
    while elapsed_s < budget_s:
        progress = elapsed_s / budget_s
        loss, figures = step_loss(progress)
        optimizer.zero_grad()
        loss.backward()
        elapsed_s = _average_over_processes(network, time.time() - training_began, host)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        warm_up, cool_down = (step + 1) / _WARM_UP_STEPS, (1 - progress) / (1 - _FLAT_SHARE)
        optimizer.step(config.learning_rate * min(1.0, warm_up, max(cool_down, 0.01)))
        average.update(step)
        step += 1
        if host.is_first and elapsed_s > next_log_s:
            checkpoint(elapsed_s)
            next_log_s = elapsed_s + config.log_every_s
    if host.is_first:
        checkpoint(elapsed_s)
    average.swap()


def _log(out: Path, record: dict) -> None:
    line = json.dumps(record)
    print(line, flush=True)
    with (out / "log.jsonl").open("a") as file:
        file.write(line + "\n")
