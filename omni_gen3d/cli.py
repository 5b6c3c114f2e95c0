"""The command line: generate, convert, inspect, validate and render environments.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 internal error or findings,
2 bad input, 130 interrupted. What is heavy loads inside the verb that needs it.
"""

from __future__ import annotations

import gc
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
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
from omni_gen3d.request import DEFAULT_TIMES, MAX_STEPS, Device, check_request
from omni_gen3d.training.commands import eval_app, train_app

if TYPE_CHECKING:
    import numpy as np

    from omni_gen3d.envs.filling import Wish
    from omni_gen3d.finishing import GeneratedEnvironment
    from omni_gen3d.render import RenderedViews
    from omni_gen3d.types import Cameras

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
# every 700 costs a sixth of the start.
_OBJECTS_BETWEEN_COLLECTIONS = 100_000
RENDER_SIDES = (16, 4096)
EnvironmentArgument = Annotated[Path, typer.Argument(metavar="DIR", help="An environment folder.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
RegisterOption = Annotated[
    bool, typer.Option("--register", help="Write it into the library of environments (see envs), not to --out.")
]


class Look(StrEnum):
    """A variant of appearance."""

    neutral = "neutral"
    warm = "warm"
    cool = "cool"
    dim = "dim"


class Aov(StrEnum):
    """What a picture shows."""

    color = "color"
    depth = "depth"
    alpha = "alpha"


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
        typer.Option(metavar="FILE", help="A film by a still camera, or a folder of its frames: a scene that moves."),
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
    if video is None and (fps is not None or times is not None):
        raise InputError("--fps and --times belong to --video; give it, too.")
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

    manifest = Manifest.read(_environment_folder(directory) / "environment.yaml")
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


@app.command()
@reported
def render(
    directory: EnvironmentArgument,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="The picture to write.", show_default=False)
    ] = None,
    video: Annotated[
        Path | None, typer.Option(metavar="FILE.mp4", help="A film to write instead, from the first time to the last.")
    ] = None,
    camera: Annotated[int | None, typer.Option(metavar="I", help="One of the generating cameras. [default: 0]")] = None,
    eye: Annotated[
        tuple[float, float, float] | None, typer.Option(metavar="X Y Z", help="Look from here [m], with the lens of 0.")
    ] = None,
    target: Annotated[
        tuple[float, float, float] | None, typer.Option(metavar="X Y Z", help="Look at this [m].")
    ] = None,
    to_camera: Annotated[int | None, typer.Option(metavar="J", help="Where a film's camera travels to.")] = None,
    to_eye: Annotated[
        tuple[float, float, float] | None, typer.Option(metavar="X Y Z", help="Or: travel here [m].")
    ] = None,
    to_target: Annotated[
        tuple[float, float, float] | None, typer.Option(metavar="X Y Z", help="And look at this in the end [m].")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(metavar="S", help="Length of a film. [default: of the scene, else 4]")
    ] = None,
    fps: Annotated[float, typer.Option(metavar="F", help="Pictures a second of a film.")] = 24.0,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Pixels. [default: the camera's]")] = None,
    aov: Annotated[Aov, typer.Option(help="What to show.")] = Aov.color,
    appearance: Annotated[
        Look | None, typer.Option(help="The look of the splats. [default: the one that is selected]")
    ] = None,
    time: Annotated[
        float | None, typer.Option(metavar="T", help="Frame of a scene that moves. [default: its first]")
    ] = None,
) -> None:
    """Render a picture of an environment, or a film through space and time; print its path."""
    if (out is None) == (video is None):
        raise InputError("give either --out for a picture or --video for a film.")
    travels = any(value is not None for value in (to_camera, to_eye, to_target, seconds))
    if video is None and travels:
        raise InputError(
            "--to-camera, --to-eye, --to-target and --seconds belong to --video; give it instead of --out."
        )
    if video is not None and aov is not Aov.color:
        raise InputError(f"a film shows colours, not {aov.value}; render pictures with --out.")
    _check_viewpoint(camera, eye, target, "")
    _check_viewpoint(to_camera, to_eye, to_target, "to-")
    pixels = None if size is None else _parse_size(size)
    for path, suffix, option in ((out, ".png", "--out"), (video, ".mp4", "--video")):
        if path is not None:
            _check_picture_target(path, suffix, option)

    from omni_gen3d.render import render as render_views
    from omni_gen3d.usd import read_environment

    look = None if appearance is None else appearance.value
    folder = _environment_folder(directory)
    environment = read_environment(folder, appearance=look, time=time)
    view = _viewpoint(environment.cameras, camera or 0, eye, target, pixels)
    if out is not None:
        _write_picture(_image_of(render_views(environment.gaussians, view), aov), out)
        typer.echo(out)
        return
    from omni_gen3d.render.film import film_environment

    end = view
    if to_camera is not None or to_eye is not None:
        end = _viewpoint(environment.cameras, to_camera or 0, to_eye, to_target, pixels)
    assert video is not None
    with stop_on_signals() as cancelled, stage_progress() as progress:
        film_environment(
            folder,
            (view, end),
            video,
            time=time,
            appearance=look,
            seconds=seconds,
            frames_per_second=fps,
            progress=lambda share: progress("film", share),
            cancelled=cancelled,
        )
    typer.echo(video)


def _check_viewpoint(camera: int | None, eye: object, target: object, prefix: str) -> None:
    if camera is not None and (eye or target):
        raise InputError(f"--{prefix}camera and --{prefix}eye exclude each other; give one of them.")
    if (eye is None) != (target is None):
        raise InputError(f"--{prefix}eye and --{prefix}target belong together; give both, or --{prefix}camera.")


def _viewpoint(
    cameras: Cameras,
    index: int,
    eye: tuple[float, float, float] | None,
    target: tuple[float, float, float] | None,
    pixels: tuple[int, int] | None,
) -> Cameras:
    """One of the cameras, or the lens of camera 0 elsewhere, at the wanted size."""
    from omni_gen3d.render.view import pick_camera, resize_cameras, turn_camera

    view = pick_camera(cameras, index)
    if eye is not None and target is not None:
        view = turn_camera(view, eye, target)
    return view if pixels is None else resize_cameras(view, *pixels)


def _default_folder_name(prompt: str | None, image: Path | None, seed: int) -> str:
    """A slug of the prompt's first words, else of the picture's name, and the seed, so that variants stay apart."""
    from omni_gen3d.envs.entry import slug

    source = prompt if prompt and prompt.strip() else image.stem if image else ""
    return f"{slug(source, MAX_SLUG_CHARS)}-seed{seed}"


def _environment_folder(path: Path) -> Path:
    """The folder itself, also when its environment.usda is named, which is what ``generate`` prints."""
    if not path.exists():
        raise InputError(f"{path} does not exist; name an environment folder.")
    return path.parent if path.name == "environment.usda" else path


def _numbers(option: str, text: str, count: int) -> list[float]:
    """Numbers with commas between them."""
    try:
        values = [float(number) for number in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count:
        raise InputError(f"{option} holds '{text}'; write {count} numbers with commas between them and no blanks.")
    return values


def _parse_size(text: str) -> tuple[int, int]:
    low, high = RENDER_SIDES
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None or not all(low <= int(side) <= high for side in match.groups()):
        raise InputError(f"--size is '{text}'; write WIDTHxHEIGHT, each from {low} to {high} pixels, such as 640x352.")
    return int(match[1]), int(match[2])


def _check_picture_target(out: Path, suffix: str, option: str) -> None:
    """Refuse, before any work, a path that could not be written."""
    if out.suffix.lower() != suffix:
        raise InputError(f"{option} is '{out}'; its name must end in {suffix}.")
    if out.is_dir():
        raise InputError(f"{option} '{out}' is a folder; name a file in it.")
    if not out.parent.is_dir():
        raise InputError(f"{option} '{out}' lies in no existing folder; create {out.parent} first.")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise InputError(f"{option} '{out}' cannot be written: {out.parent} is not writable.")


def _image_of(views: RenderedViews, aov: Aov) -> np.ndarray:
    """uint8, ``(H, W, 3)`` or, for alpha, ``(H, W)``."""
    from omni_gen3d.render.picture import alpha_to_image, color_to_image, depth_to_image

    if aov is Aov.depth:
        return depth_to_image(views.depth[0], views.alpha[0])
    return alpha_to_image(views.alpha[0]) if aov is Aov.alpha else color_to_image(views.color[0])


def _write_picture(image: np.ndarray, out: Path) -> None:
    """Write a PNG whole or not at all."""
    from PIL import Image

    staging = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        Image.fromarray(image).save(staging, format="PNG")
        staging.replace(out)
    except OSError as error:
        raise InputError(f"--out '{out}' cannot be written: {error.strerror or error}.") from error
    finally:
        staging.unlink(missing_ok=True)


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
