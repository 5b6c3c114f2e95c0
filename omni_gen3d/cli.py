"""The command line: generate, convert, inspect, validate and render environments.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 internal error or findings,
2 bad input, 130 interrupted. What is heavy loads inside the verb that needs it.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import omni_gen3d
from omni_gen3d.bench.commands import bench_app
from omni_gen3d.console import one_line, reported, shown, stage_progress, stop_on_signals, tell, told_log
from omni_gen3d.envs.commands import envs_app
from omni_gen3d.errors import InputError
from omni_gen3d.lyra_commands import MaxMemoryOption, WeightsOption, lyra_app
from omni_gen3d.request import DEFAULT_TIMES, MAX_STEPS, Device, Extent, check_extent, check_request
from omni_gen3d.training.commands import eval_app, train_app
from omni_gen3d.view_commands import EnvironmentArgument, environment_folder, render

if TYPE_CHECKING:
    from omni_gen3d.envs.filling import Wish
    from omni_gen3d.finishing import GeneratedEnvironment

app = typer.Typer(
    name="omni-gen3d",
    help="Make simulation-ready environments of a sentence, a picture or a splat file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: loading rich would double its time
)
app.add_typer(train_app, name="train")
app.add_typer(eval_app, name="eval")
app.add_typer(bench_app, name="bench")
app.add_typer(envs_app, name="envs")
app.add_typer(lyra_app, name="lyra")

MAX_SLUG_CHARS = 48
# Importing torch and OpenUSD makes hundreds of thousands of objects that stay: looking for garbage among them after
# every 700 costs a tenth of the start.
_OBJECTS_BETWEEN_COLLECTIONS = 100_000
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
RegisterOption = Annotated[
    bool, typer.Option("--register", help="Write it into the library of environments (see envs), not to --out.")
]


def main() -> None:
    """Entry point of ``omni-gen3d``. Ends the process at once: tearing torch and OpenUSD down takes half a second."""
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    try:
        app()
    except SystemExit as stop:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(stop.code if isinstance(stop.code, int) else int(stop.code is not None))


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(omni_gen3d.__version__)
        raise typer.Exit


@app.command()
@reported
def generate(
    prompt: Annotated[
        str | None, typer.Argument(help="What it is. May be left out with --image or --video.", show_default=False)
    ] = None,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A picture to start from; camera 0 is the camera that took it.")
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A film, or a folder of its frames: a scene that moves."),
    ] = None,
    poses: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where the film's camera was, as JSON or TUM's text. [default: odometry, if it moved]",
        ),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(metavar="F", help="Times taken of a second of the film. [default: 8]")
    ] = None,
    times: Annotated[
        int | None, typer.Option(metavar="N", help="How many times the scene has at most. [default: 17]")
    ] = None,
    fov: Annotated[
        float | None,
        typer.Option(metavar="DEG", help="Horizontal field of view of the picture; else its EXIF, else estimated."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed gives the same environment.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder to write. [default: named after prompt and seed]")
    ] = None,
    preset: Annotated[str, typer.Option(help="The model and its sizes.")] = "mini",
    device: Annotated[Device, typer.Option(help="Where the networks run; auto takes cuda if there.")] = Device.auto,
    steps: Annotated[
        int | None, typer.Option(metavar="N", help=f"Denoising steps, 1 to {MAX_STEPS}. [default: the preset's]")
    ] = None,
    extent: Annotated[
        Extent, typer.Option(help="view: what the picture and a step around it see; room: all around, takes longer.")
    ] = Extent.view,
    count: Annotated[
        int, typer.Option(metavar="N", help="Make so many, with this seed and those after it; see --prompts.")
    ] = 1,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Make an environment of every line, in folders below --out or else in the library; what is there "
            "already is skipped. Exit code 1 where some failed.",
        ),
    ] = None,
    weights: WeightsOption = None,
    max_memory: MaxMemoryOption = None,
    register: RegisterOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make an environment. The last line of standard output is the path of its environment.usda."""
    # Read when torch loads: large networks leave less of a card unused.
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    from omni_gen3d.envs.filling import Wish, read_prompts
    from omni_gen3d.usd import check_target

    if prompts is not None and prompt is not None:
        raise InputError("a prompt and --prompts exclude each other; give one of them.")
    if register and out is not None:
        raise InputError("--out and --register exclude each other; give one of them.")
    sentences = [prompt] if prompts is None else read_prompts(prompts)
    if image is not None and video is not None:
        raise InputError("--image and --video exclude each other; give one of them.")
    if video is None and not (fps is None and times is None and poses is None):
        raise InputError("--fps, --times and --poses belong to --video; give it, too.")
    check_extent(extent.value, of_film=video is not None)
    source = image or video
    for sentence in sentences:
        check_request(sentence, image=source, fov_deg=fov, seed=seed, steps=steps)

    with stop_on_signals() as cancelled:

        def write(wish: Wish, folder: Path) -> GeneratedEnvironment:
            with told_log(), stage_progress() as progress:
                if video is not None:
                    return omni_gen3d.generate_from_video(
                        video,
                        wish.prompt,
                        fov_deg=fov,
                        frames_per_second=fps,
                        times=DEFAULT_TIMES if times is None else times,
                        poses=poses,
                        out=folder,
                        seed=wish.seed,
                        preset=preset,
                        device=device.value,
                        steps=steps,
                        progress=progress,
                        cancelled=cancelled,
                    )
                return omni_gen3d.generate(
                    wish.prompt,
                    image=image,
                    fov_deg=fov,
                    out=folder,
                    seed=wish.seed,
                    preset=preset,
                    device=device.value,
                    steps=steps,
                    extent=extent.value,
                    weights=weights,
                    max_memory=max_memory,
                    progress=progress,
                    cancelled=cancelled,
                )

        if prompts is None and count == 1:
            target = None if register else check_target(out or Path(_default_folder_name(prompt, source, seed)))
            _print_result(_written(partial(write, Wish(prompt, None, seed, preset)), target), as_json)
        else:
            wishes = _wishes(sentences, source, seed, count, preset)
            _make_all(wishes, write, out, cancelled, as_json)


@app.command()
@reported
def convert(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .ply, .compressed.ply or .spz file of splats.", show_default=False)
    ],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="The folder to write.", show_default=False)] = None,
    up_axis: Annotated[
        str,
        typer.Option(metavar="auto|y|-y|z", help="Which axis of the file points up; auto looks for the floor."),
    ] = "auto",
    level: Annotated[bool, typer.Option(help="Turn the floor level and the walls parallel to X and Y.")] = True,
    scale: Annotated[float | None, typer.Option(metavar="S", help="Metres per unit of the file. [default: 1]")] = None,
    camera_height: Annotated[
        float | None, typer.Option(metavar="M", help="Instead: metres from the floor up to the file's origin.")
    ] = None,
    reference_length: Annotated[
        tuple[str, str, float] | None,
        typer.Option(metavar="A B M", help="Instead: points x,y,z and x,y,z of the file that are M metres apart."),
    ] = None,
    floor_at_zero: Annotated[bool, typer.Option(help="Put the floor at z = 0.")] = True,
    sh_degree: Annotated[
        int | None, typer.Option(metavar="0..3", help="Leave out spherical harmonics above. [default: the file's]")
    ] = None,
    max_gaussians: Annotated[
        int | None, typer.Option(metavar="N", help="Keep those with the largest opacity times area. [default: all]")
    ] = None,
    crop: Annotated[
        str | None, typer.Option(metavar="X,Y,Z,X,Y,Z", help="Keep the box between two corners of the result [m].")
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Write half precision: half the size.")] = False,
    collision: Annotated[
        str, typer.Option(metavar="mesh|convex|none", help="The collider; none builds none.")
    ] = "mesh",
    robot_radius: Annotated[float, typer.Option(metavar="M", help="For which spawn poses are sought.")] = 0.25,
    robot_height: Annotated[float, typer.Option(metavar="M", help="For which spawn poses are sought.")] = 0.6,
    ground_truth: Annotated[
        Path | None, typer.Option(metavar="MESH", help="The true surface (.ply, .obj, .stl, .glb) to score against.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="One line. [default: the file's name]")] = None,
    usdz: Annotated[bool, typer.Option("--usdz", help="Write environment.usdz too.")] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed gives the same bytes.")] = 0,
    register: RegisterOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make an environment of a splat file. The last line of standard output is the path of its environment.usda."""
    if register == (out is not None):
        raise InputError("a place to write to is needed: give either --out or --register.")
    points = None
    if reference_length is not None:
        start, end, metres = reference_length
        points = _numbers("--reference-length", start, 3), _numbers("--reference-length", end, 3), metres
    box = None if crop is None else _numbers("--crop", crop, 6)

    def write(folder: Path) -> GeneratedEnvironment:
        with stop_on_signals() as cancelled, stage_progress() as progress:
            return omni_gen3d.convert(
                file,
                folder,
                up_axis=up_axis,  # pyright: ignore[reportArgumentType] -- checked inside, like all values
                level=level,
                scale=scale,
                camera_height=camera_height,
                reference_length=points,
                floor_at_zero=floor_at_zero,
                sh_degree=sh_degree,
                max_gaussians=max_gaussians,
                crop=box,
                half=half,
                collision=collision,  # pyright: ignore[reportArgumentType]
                robot_radius=robot_radius,
                robot_height=robot_height,
                ground_truth=ground_truth,
                title=title,
                usdz=usdz,
                seed=seed,
                progress=progress,
                cancelled=cancelled,
            )

    _print_result(_written(write, out), as_json)


@app.command()
@reported
def inspect(directory: EnvironmentArgument, as_json: JsonOption = False) -> None:
    """Show what an environment is, where it came from and how good its collision proxy is."""
    from omni_gen3d.usd import Manifest

    manifest = Manifest.read(environment_folder(directory) / "environment.yaml")
    values = manifest.to_dict()
    if values["free_space"] is not None:
        del values["free_space"]["data"]  # packed bits say nothing to a reader
    if as_json:
        typer.echo(json.dumps(values, indent=2))
        return
    _print_table("environment", {name: value for name, value in values.items() if not isinstance(value, dict | list)})
    low, high = values["bounds_m"]
    _print_table("bounds [m]", {axis: f"{a:.2f} to {b:.2f}" for axis, a, b in zip("xyz", low, high, strict=True)})
    _print_table("collision proxy", {**values["proxy"], "spawn_poses": len(values["spawn_poses"])})
    _print_table("files", {name: f"{f['bytes']:,} bytes, {f['sha256'][:16]}" for name, f in values["files"].items()})
    _print_table("tools", values["tool_versions"])
    _print_table("seconds", {stage: f"{seconds:.2f}" for stage, seconds in values["timings_s"].items()})
    _tell_remarks(manifest.notes, manifest.warnings)


@app.command()
@reported
def validate(
    path: Annotated[Path, typer.Argument(help="An environment folder or a USD file.", show_default=False)],
) -> None:
    """Check an environment; print one finding a line. Exit code 0 only without errors, 1 with errors."""
    findings = omni_gen3d.validate(path)
    for finding in findings:
        typer.echo(one_line(finding))
    errors = sum(finding.severity == "error" for finding in findings)
    tell(f"{errors} errors, {len(findings) - errors} warnings")
    if errors:
        raise typer.Exit(1)


app.command()(render)


def _default_folder_name(prompt: str | None, image: Path | None, seed: int) -> str:
    """A slug of the prompt's first words, else of the picture's name, and the seed, so that variants stay apart."""
    from omni_gen3d.envs.entry import slug

    source = prompt if prompt and prompt.strip() else image.stem if image else ""
    return f"{slug(source, MAX_SLUG_CHARS)}-seed{seed}"


def _numbers(option: str, text: str, count: int) -> list[float]:
    """Numbers with commas between them."""
    try:
        values = [float(number) for number in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count:
        raise InputError(f"{option} holds '{text}'; write {count} numbers with commas between them and no blanks.")
    return values


def _print_table(title: str, rows: Mapping[str, object]) -> None:
    """Names and values in two columns under a title."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", show_header=False, box=box.SIMPLE)
    for name, value in rows.items():
        table.add_row(Text(one_line(name)), Text(shown(value), overflow="fold"))
    Console().print(table)


def _written(write: Callable[[Path], GeneratedEnvironment], folder: Path | None) -> GeneratedEnvironment:
    """What ``write`` makes in a folder, or straight in the library where there is none."""
    if folder is not None:
        return write(folder)
    from omni_gen3d.envs.filling import write_to_library
    from omni_gen3d.envs.registry import Registry

    return write_to_library(Registry(), write)


def _wishes(prompts: Sequence[str | None], image: Path | None, seed: int, count: int, preset: str) -> list[Wish]:
    """What ``--prompts`` and ``--count`` ask for."""
    from omni_gen3d.config import load_preset
    from omni_gen3d.envs.filling import wishes_for
    from omni_gen3d.usd.manifest import FileDigest

    try:
        digest = None if image is None else FileDigest.of(image.expanduser()).sha256
    except OSError as error:
        raise InputError(f"{image} cannot be read: {error.strerror}.") from error
    return wishes_for(prompts, input_sha256=digest, seed=seed, count=count, model=load_preset(preset).family)


def _make_all(
    wishes: Sequence[Wish],
    write: Callable[[Wish, Path], GeneratedEnvironment],
    out: Path | None,
    cancelled: Callable[[], bool],
    as_json: bool,
) -> None:
    """Make what is not there yet; print a line each, or one object when all is done or the run is stopped."""
    from omni_gen3d.envs.filling import Folders, Library, Outcome, fill
    from omni_gen3d.envs.registry import Registry

    outcomes: list[Outcome] = []
    place = Library(Registry()) if out is None else Folders(out)

    def begun(number: int, wish: Wish) -> None:
        tell(f"environment {number + 1} of {len(wishes)}: {wish}")

    try:
        for outcome in fill(wishes, place, write, cancelled=cancelled, begun=begun):
            outcomes.append(outcome)
            if outcome.made is not None and not as_json:
                _tell_remarks(outcome.made.notes, outcome.made.warnings)
            if outcome.error is not None:
                tell(f"failed: {outcome.wish}: {outcome.error}")
            elif not as_json:
                typer.echo(outcome.usd)
    finally:
        states = [outcome.state for outcome in outcomes]
        counts = {state: states.count(state) for state in ("made", "found", "failed")}
        tell(", ".join(f"{number} {state}" for state, number in counts.items()))
        if as_json:
            typer.echo(json.dumps({**counts, "environments": [outcome.to_dict() for outcome in outcomes]}))
    if counts["failed"]:
        raise typer.Exit(1)


def _print_result(result: GeneratedEnvironment, as_json: bool) -> None:
    """Where the environment is, as the last line of standard output; remarks on standard error."""
    if as_json:
        values = {
            "usd": str(result.usd),
            "environment": str(result.environment),
            "timings_s": result.timings_s,
            "num_gaussians": result.num_gaussians,
            "notes": list(result.notes),
            "warnings": list(result.warnings),
        }
        typer.echo(json.dumps(values if result.usdz is None else {**values, "usdz": str(result.usdz)}))
        return
    _tell_remarks(result.notes, result.warnings)
    typer.echo(result.usd)


def _tell_remarks(notes: Sequence[str], warnings: Sequence[str]) -> None:
    for note in notes:
        tell(f"note: {note}")
    for warning in warnings:
        tell(f"warning: {warning}")
