"""The verbs ``omni-gen3d train tokenizer|depth|diffusion|decoder|bodies|ship`` and ``eval mini|photos|sheet``.

Start the training verbs with ``torchrun`` for several GPUs.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from omni_gen3d.console import reported, tell
from omni_gen3d.errors import InputError
from omni_gen3d.request import Device, pick_device

train_app = typer.Typer(no_args_is_help=True, help="Train the networks of the mini model on procedural worlds.")
eval_app = typer.Typer(no_args_is_help=True, help="Measure trained networks on held-out worlds and real photographs.")

Out = Annotated[Path, typer.Option(help="Folder for the checkpoint and log.jsonl.")]
Minutes = Annotated[float | None, typer.Option(help="Budget, compilation and data included.")]
BatchSize = Annotated[int | None, typer.Option(help="Items a step and process.")]
PoolSize = Annotated[int | None, typer.Option(help="Items kept on the device.")]
Seed = Annotated[int, typer.Option(help="Of initialisation and data.")]
Size = Annotated[str, typer.Option(help="Width x height of the frames, both divisible by 16.")]
LargerSize = Annotated[
    str | None, typer.Option(metavar="WIDTHxHEIGHT", help="Some of the steps learn from frames of this size.")
]
LearningRate = Annotated[float | None, typer.Option(help="Peak; lower it where a training goes on.")]
LogEvery = Annotated[float | None, typer.Option(help="Seconds between evaluations and checkpoints.")]
Resume = Annotated[Path | None, typer.Option(help="Start from the weights of this checkpoint.")]
Objects = Annotated[Path | None, typer.Option(metavar="DIR", help="Mix in rooms of real objects; see fetch-assets.")]
TokenizerFolder = Annotated[Path, typer.Option("--tokenizer", help="Trained tokenizer.")]
DepthFolder = Annotated[Path, typer.Option("--depth", help="Trained depth network.")]
DiffusionFolder = Annotated[Path, typer.Option("--diffusion", help="Trained diffusion network.")]

DeviceOption = Annotated[Device, typer.Option(help="Where the networks run; auto takes cuda if there.")]
Weights = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Holds tokenizer, depth, diffusion, decoder. [default: the shipped ones]"),
]


def _config(
    defaults: Any,
    minutes: float | None,
    batch_size: int | None,
    pool_size: int | None,
    seed: int,
    size: str,
    log_every: float | None,
    learning_rate: float | None,
) -> Any:
    width, height = _parsed_size("--size", size)
    given = {"minutes": minutes, "batch_size": batch_size, "pool_size": pool_size, "log_every_s": log_every}
    given |= {"learning_rate": learning_rate}
    given = {name: value for name, value in given.items() if value is not None}
    return replace(defaults, seed=seed, width=width, height=height, **given)


def _larger(config: Any, size: str | None) -> Any:
    return None if size is None else config.of_size(*_parsed_size("--larger-size", size))


def _parsed_size(option: str, size: str) -> tuple[int, int]:
    given, _, other = size.partition("x")
    width, height = (int(side) if side.isdecimal() else 0 for side in (given, other))
    if not (width and height) or width % 16 or height % 16:
        raise InputError(f"{option} is {size!r}; write WIDTHxHEIGHT, both divisible by 16, for example 320x176.")
    return width, height


@train_app.command()
@reported
def tokenizer(
    out: Out,
    minutes: Minutes = None,
    batch_size: BatchSize = None,
    pool_size: PoolSize = None,
    seed: Seed = 0,
    size: Size = "320x176",
    log_every: LogEvery = None,
    learning_rate: LearningRate = None,
    resume: Resume = None,
    objects: Objects = None,
    keep_latents: Annotated[bool, typer.Option("--keep-latents", help="Train the decoding half alone.")] = False,
) -> None:
    """Train the video tokenizer."""
    from omni_gen3d.training.loop import training_host
    from omni_gen3d.training.tokenizer import DEFAULTS, train_tokenizer

    config = _config(DEFAULTS, minutes, batch_size, pool_size, seed, size, log_every, learning_rate)
    with training_host() as host:
        train_tokenizer(config, host, out, resume, objects, keep_latents)


@train_app.command()
@reported
def depth(
    out: Out,
    minutes: Minutes = None,
    batch_size: BatchSize = None,
    pool_size: PoolSize = None,
    seed: Seed = 0,
    size: Size = "320x176",
    log_every: LogEvery = None,
    learning_rate: LearningRate = None,
    resume: Resume = None,
    objects: Objects = None,
) -> None:
    """Train the depth network."""
    from omni_gen3d.training.depth import DEFAULTS, train_depth
    from omni_gen3d.training.loop import training_host

    config = _config(DEFAULTS, minutes, batch_size, pool_size, seed, size, log_every, learning_rate)
    with training_host() as host:
        train_depth(config, host, out, resume, objects)


@train_app.command()
@reported
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
    learning_rate: LearningRate = None,
    resume: Resume = None,
    larger_size: LargerSize = None,
) -> None:
    """Train the diffusion network."""
    from omni_gen3d.training.diffusion import DEFAULTS, train_diffusion
    from omni_gen3d.training.loop import training_host

    config = _config(DEFAULTS, minutes, batch_size, pool_size, seed, size, log_every, learning_rate)
    with training_host() as host:
        train_diffusion(config, host, out, resume, tokenizer, depth, _larger(config, larger_size))


@train_app.command()
@reported
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
    learning_rate: LearningRate = None,
    resume: Resume = None,
    larger_size: LargerSize = None,
    films: Annotated[bool, typer.Option(help="Half of the scenes move.")] = True,
) -> None:
    """Train the Gaussian decoder on the diffusion network's own scenes (needs a GPU and gsplat)."""
    from omni_gen3d.training.decoder import DEFAULTS, train_decoder
    from omni_gen3d.training.loop import training_host

    config = _config(DEFAULTS, minutes, batch_size, pool_size, seed, size, log_every, learning_rate)
    with training_host() as host:
        train_decoder(config, host, out, resume, tokenizer, depth, diffusion, films, _larger(config, larger_size))


@train_app.command()
@reported
def bodies(
    out: Out,
    depth: DepthFolder,
    minutes: Minutes = None,
    batch_size: BatchSize = None,
    pool_size: PoolSize = None,
    seed: Seed = 0,
    size: Size = "320x176",
    log_every: LogEvery = None,
    learning_rate: LearningRate = None,
    resume: Resume = None,
) -> None:
    """Train the network that sees bodies in films."""
    from omni_gen3d.training.bodies import DEFAULTS, train_bodies
    from omni_gen3d.training.loop import training_host

    config = _config(DEFAULTS, minutes, batch_size, pool_size, seed, size, log_every, learning_rate)
    with training_host() as host:
        train_bodies(config, host, out, resume, depth)


@train_app.command()
@reported
def ship(
    trained: Annotated[Path, typer.Argument(metavar="FOLDER", help="Holds some of the networks, each in its folder.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Gets the same networks, half as large or less.")],
) -> None:
    """Write trained networks as they are shipped, in eight and six bits a value."""
    from omni_gen3d.training.shipping import ship_weights

    for name, size in ship_weights(trained, out).items():
        typer.echo(f"{name}: {size:,} bytes")


@train_app.command("fetch-assets")
@reported
def fetch_assets(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the set; what is there and right is kept.")],
) -> None:
    """Fetch furniture, textures and photographs in their packages and convert them for training.

    Needs apt-get and pip, 500 MB of disk and some minutes. ATTRIBUTION.txt says whose work it is.
    """
    from omni_gen3d.training.asset_fetching import fetch_assets as fetch

    said = ""

    def told(what: str, share: float) -> None:
        nonlocal said
        if what != said:
            said = what
            tell(what)

    typer.echo(fetch(out, told))


@eval_app.command()
@reported
def mini(
    scenes: Annotated[int, typer.Option(metavar="N", help="From text, and as many from pictures; or films.")] = 64,
    device: DeviceOption = Device.auto,
    weights: Weights = None,
    against: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Other weights, measured on the same worlds beside these.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of worlds, noise and classifier.")] = 0,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Write contact sheets here.")] = None,
    classifier_seconds: Annotated[float, typer.Option(metavar="S", help="Budget of the classifier's training.")] = 75.0,
    size: Size = "320x176",
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Measure what it makes of films of moving worlds instead.")
    ] = False,
    apart: Annotated[
        int, typer.Option(metavar="N", help="With --dynamic: so many films are also taken apart into their parts.")
    ] = 4,
    worlds: Annotated[
        bool, typer.Option("--worlds", help="Measure the colliders of what it makes of worlds' first frames instead.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Print every figure of the mini model. Exit code 0 only if all checks hold, 1 if one fails."""
    from omni_gen3d.training.evaluation import evaluate_mini
    from omni_gen3d.training.evaluation_moving import evaluate_moving

    if dynamic and worlds:
        raise InputError("--dynamic and --worlds measure different things; give one of them.")
    width, height = _parsed_size("--size", size)
    if (dynamic or worlds) and size != "320x176":
        raise InputError(f"--size is {size}; films and colliders are measured at 320x176 alone.")
    folder = _folder(weights)
    if worlds:
        from omni_gen3d.training.evaluation_worlds import evaluate_worlds

        result = evaluate_worlds(folder, scenes, pick_device(device), seed, against=against, report=tell)
    elif dynamic:
        result = evaluate_moving(folder, scenes, pick_device(device), seed, against=against, out=out, apart=apart)
    else:
        result = evaluate_mini(
            folder,
            scenes,
            pick_device(device),
            seed,
            against=against,
            out=out,
            classifier_seconds=classifier_seconds,
            height=height,
            width=width,
        )
    if as_json:
        typer.echo(json.dumps(result))
    else:
        _print_evaluation(result)
    if not all(check["ok"] for check in result["checks"]):
        raise typer.Exit(1)


@eval_app.command()
@reported
def photos(
    pairs: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Rectified pairs besides the garage; see fetch-assets.")
    ] = None,
    device: DeviceOption = Device.auto,
    weights: Weights = None,
    against: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Other weights, measured beside.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the noise.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Make scenes, and write sheets of depth and renders here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Measure depth on real photographs. Exit code 0 only if all checks hold, 1 if one fails."""
    from omni_gen3d.training.evaluation_photos import evaluate_photos

    result = evaluate_photos(_folder(weights), pick_device(device), folder=pairs, against=against, out=out, seed=seed)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        typer.echo(f"{len(result['photos'])} photographs, {result['device']}")
        for name, score in result["photos"].items():
            told = ", ".join(f"{field} {value:.3f}" for field, value in score.items())
            typer.echo(f"{name}: {told}")
        _print_rows(result)
        for name, figures in result.get("renders", {}).items():
            typer.echo(f"renders of {name}: " + ", ".join(f"{view} {level:.2f}" for view, level in figures.items()))
    if not all(check["ok"] for check in result["checks"]):
        raise typer.Exit(1)


@eval_app.command()
@reported
def sheet(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="For the sheets; rows that lie there are kept.")],
    prompts: Annotated[int, typer.Option(metavar="N", help="The first captions of held-out worlds.")] = 16,
    device: DeviceOption = Device.auto,
    weights: Weights = None,
    against: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Other weights, whose rows stand above these.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of worlds and noise.")] = 0,
) -> None:
    """Render four views of scenes from held-out prompts, to look at. Some 15 s a row on a CPU; resumable."""
    from omni_gen3d.training.evaluation_sheet import write_sheets

    place = pick_device(device)
    for path in write_sheets(_folder(weights), prompts, place, out, seed, against=against, report=tell):
        typer.echo(path)


def _folder(weights: Path | None) -> Path:
    """Of the shipped weights where no other is given."""
    from omni_gen3d.config import PACKAGED_WEIGHTS

    return PACKAGED_WEIGHTS if weights is None else weights


def _print_evaluation(result: dict[str, Any]) -> None:
    given = "scenes from text and as many from pictures" if "classifier" in result else "films of moving worlds"
    given = "worlds given their first frame" if "proxy_f" in result else given
    typer.echo(f"{result['scenes']} {given}, seed {result['seed']}, {result['device']}")
    _print_rows(result)


def _print_rows(result: dict[str, Any]) -> None:
    for row in result["rows"]:
        beside = "" if row["against"] is None else f"{_number(row['against']):>8}"
        typer.echo(f"{row['name']:<28}{_number(row['value']):>8}{beside}  {row['meaning']}")
    if "classifier" in result:
        _print_classifier(result)
    for check in result["checks"]:
        verdict = "ok" if check["ok"] else "FAILED"
        bound = "most" if check.get("at_most") else "least"
        typer.echo(f"{verdict}: {check['name']} is {_number(check['value'])}, at {bound} {check['target']:.3g} wanted")


def _print_classifier(result: dict[str, Any]) -> None:
    for stage, seconds in result["seconds_per_scene"].items():
        typer.echo(f"{'seconds':<28}{_number(seconds):>8}  {stage}, each scene")
    classifier = result["classifier"]
    for title, groups in (("true frames", classifier["groups"]), ("renders", classifier["prompt_groups"])):
        told = ", ".join(f"{name} {_number(value)}" for name, value in groups.items())
        typer.echo(f"classifier on {title}: {told}")
    typer.echo(f"classifier's groups that judge prompts: {', '.join(classifier['groups_used']) or 'none'}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
