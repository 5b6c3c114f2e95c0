"""The verbs ``omni-gen3d train tokenizer|depth|diffusion|decoder``; start them with ``torchrun`` for several GPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

train_app = typer.Typer(no_args_is_help=True, help="Train the networks of the mini model on procedural worlds.")

Out = Annotated[Path, typer.Option(help="Folder for the checkpoint and log.jsonl.")]
Minutes = Annotated[float | None, typer.Option(help="Budget, compilation and data included.")]
BatchSize = Annotated[int | None, typer.Option(help="Items a step and process.")]
PoolSize = Annotated[int | None, typer.Option(help="Items kept on the device.")]
Seed = Annotated[int, typer.Option(help="Of initialisation and data.")]
Size = Annotated[str, typer.Option(help="Width x height of the frames, both divisible by 16.")]
LogEvery = Annotated[float | None, typer.Option(help="Seconds between evaluations and checkpoints.")]
Resume = Annotated[Path | None, typer.Option(help="Start from the weights of this checkpoint.")]
TokenizerFolder = Annotated[Path, typer.Option("--tokenizer", help="Trained tokenizer.")]
DepthFolder = Annotated[Path, typer.Option("--depth", help="Trained depth network.")]
DiffusionFolder = Annotated[Path, typer.Option("--diffusion", help="Trained diffusion network.")]


def _config(
    defaults: Any,
    minutes: float | None,
    batch_size: int | None,
    pool_size: int | None,
    seed: int,
    size: str,
    log_every: float | None,
) -> Any:
    from omni_gen3d.errors import InputError

    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise InputError(f"--size is {size!r}; write WIDTHxHEIGHT, for example 320x176.")
    given = {"minutes": minutes, "batch_size": batch_size, "pool_size": pool_size, "log_every_s": log_every}
    given = {name: value for name, value in given.items() if value is not None}
    return replace(defaults, seed=seed, width=int(width), height=int(height), **given)


@train_app.command()
def tokenizer(
    out: Out,
    minutes: Minutes = None,
    batch_size: BatchSize = None,
    pool_size: PoolSize = None,
    seed: Seed = 0,
    size: Size = "320x176",
    log_every: LogEvery = None,
    resume: Resume = None,
) -> None:
    """Train the video tokenizer."""
    from omni_gen3d.training.loop import training_host
    from omni_gen3d.training.tokenizer import DEFAULTS, train_tokenizer

    config = _config(DEFAULTS, minutes, batch_size, pool_size, seed, size, log_every)
    with training_host() as host:
        train_tokenizer(config, host, out, resume)


@train_app.command()
def depth(
    out: Out,
    minutes: Minutes = None,
    batch_size: BatchSize = None,
    pool_size: PoolSize = None,
    seed: Seed = 0,
    size: Size = "320x176",
    log_every: LogEvery = None,
    resume: Resume = None,
) -> None:
    """Train the depth network."""
    from omni_gen3d.training.depth import DEFAULTS, train_depth
    from omni_gen3d.training.loop import training_host

    config = _config(DEFAULTS, minutes, batch_size, pool_size, seed, size, log_every)
    with training_host() as host:
        train_depth(config, host, out, resume)


@train_app.command()
def diffusion(
    out: Out,
    tokenizer: TokenizerFolder,
    depth: DepthFolder,
    minutes: Minutes = None,
    batch_size: BatchSize = None,
    pool_size: PoolSize = None,
    seed: Seed = 0,
    size: Size = "320x176",
    log_every: LogEvery = None,
    resume: Resume = None,
) -> None:
    """Train the diffusion network."""
    from omni_gen3d.training.diffusion import DEFAULTS, train_diffusion
    from omni_gen3d.training.loop import training_host

    config = _config(DEFAULTS, minutes, batch_size, pool_size, seed, size, log_every)
    with training_host() as host:
        train_diffusion(config, host, out, resume, tokenizer, depth)


@train_app.command()
def decoder(
    out: Out,
    tokenizer: TokenizerFolder,
    depth: DepthFolder,
    diffusion: DiffusionFolder,
    minutes: Minutes = None,
    batch_size: BatchSize = None,
    pool_size: PoolSize = None,
    seed: Seed = 0,
    size: Size = "320x176",
    log_every: LogEvery = None,
    resume: Resume = None,
) -> None:
    """Train the Gaussian decoder on the diffusion network's own scenes (needs a GPU and gsplat)."""
    from omni_gen3d.training.decoder import DEFAULTS, train_decoder
    from omni_gen3d.training.loop import training_host

    config = _config(DEFAULTS, minutes, batch_size, pool_size, seed, size, log_every)
    with training_host() as host:
        train_decoder(config, host, out, resume, tokenizer, depth, diffusion)
