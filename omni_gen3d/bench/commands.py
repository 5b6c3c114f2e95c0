"""The verbs ``omni-gen3d bench ...``."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from omni_gen3d.bench.report import publish
from omni_gen3d.console import reported, tell
from omni_gen3d.errors import InputError
from omni_gen3d.request import Device, pick_device

bench_app = typer.Typer(no_args_is_help=True, help="Measure speed, memory and accuracy beside others, in one run.")

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]


@bench_app.callback()
def _bench() -> None:
    """Keep every benchmark a verb of its own: an app of one command would swallow its name."""


@bench_app.command()
@reported
def export(
    num_gaussians: Annotated[
        int, typer.Option("--num-gaussians", metavar="N", help="Random Gaussians of degree 3 to export.")
    ] = 500_000,
    repeats: Annotated[int, typer.Option(metavar="N", help="Runs of ours; the rival runs once.")] = 5,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the random Gaussians.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """PLY to USD beside usd-convert-gsplat: seconds, memory, bytes. Takes some two minutes."""
    from omni_gen3d.bench.export import run_export

    publish(run_export(num_gaussians, repeats, seed), as_json)


@bench_app.command()
@reported
def proxy(
    views: Annotated[int, typer.Option(metavar="N", help="Cameras in each room.")] = 96,
    toy: Annotated[bool, typer.Option("--toy", help="One room with few Gaussians: to see that it runs.")] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the rooms and of their flaws.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Collision proxies of rooms of known shape, beside open3d's TSDF and Poisson. Takes some three minutes."""
    from omni_gen3d.bench.proxy import bench_proxy

    publish(bench_proxy(views, toy=toy, seed=seed, report=tell), as_json)


@bench_app.command()
@reported
def render(
    device: Annotated[Device, typer.Option(help="Where to run; auto takes cuda if there.")] = Device.auto,
    toy: Annotated[bool, typer.Option("--toy", help="A hundredth of the Gaussians: to see that it runs.")] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the room.")] = 0,
    sheet: Annotated[Path | None, typer.Option(help="PNG to write, one view in every kind of picture.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The render delegate beside Newton's camera on a CPU or bare gsplat on CUDA. Takes some seven minutes."""
    # Read when torch loads. By default idle threads of OpenMP spin, and on a busy machine the pools of torch and numba
    # then take the cores from each other: small pictures wait up to ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from omni_gen3d.bench.render import bench_render

    publish(bench_render(pick_device(device).type, toy=toy, seed=seed, sheet=sheet, report=tell), as_json)


@bench_app.command()
@reported
def registry(
    seconds: Annotated[float, typer.Option(metavar="S", help="For how long.")] = 60.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Of what the processes do.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Eight processes on one library of environments while others are killed; then a lost index. Takes a minute."""
    from omni_gen3d.bench.registry import bench_registry

    publish(bench_registry(seconds, seed, tell), as_json)


@bench_app.command()
@reported
def drive(
    environment: Annotated[Path, typer.Argument(help="Folder of an environment.")],
    picture: Annotated[Path, typer.Option(help="PNG or JPEG to write.")],
    seconds: Annotated[str, typer.Option(help="When pictures are taken, with commas between.")] = "0.3,2.5",
) -> None:
    """A wheeled robot that Newton simulates drives through an environment: colour, depth, labels. Takes a minute."""
    from PIL import Image

    from omni_gen3d.bench.drive import drive as drive_through

    try:
        moments = tuple(map(float, seconds.split(",")))
    except ValueError:
        raise InputError(f"--seconds is {seconds!r}; write numbers with commas between, for example 0.3,2.5.") from None
    if picture.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"--picture is {str(picture)!r}; its name must end in .png, .jpg or .jpeg.")
    Image.fromarray(drive_through(environment, moments, (480, 264), tell)).save(picture, quality=88)


@bench_app.command()
@reported
def density(
    scenes: Annotated[int, typer.Option(metavar="N", help="Made from held-out captions.")] = 4,
    device: Annotated[Device, typer.Option(help="Where the networks run; auto takes cuda if there.")] = Device.auto,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Holds tokenizer, depth, diffusion, decoder. [default: the shipped ones]"),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of worlds and noise.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Gaussians kept of a scene against fidelity, file size and render time. Some two minutes a scene on a CPU."""
    from omni_gen3d.bench.density import bench_density
    from omni_gen3d.config import PACKAGED_WEIGHTS

    folder = PACKAGED_WEIGHTS if weights is None else weights
    publish(bench_density(folder, scenes, device=pick_device(device), seed=seed, report=tell), as_json)


@bench_app.command()
@reported
def room(
    seeds: Annotated[int, typer.Option(metavar="N", help="Rooms, each from a picture of its own.")] = 10,
    device: Annotated[Device, typer.Option(help="Where the networks run; auto takes cuda if there.")] = Device.auto,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep pictures and environments here.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Rooms grown with --extent room, and a robot that drives 3 m in each. Minutes a seed on a CPU."""
    from omni_gen3d.bench.explored import bench_room

    publish(bench_room(seeds, pick_device(device), out=out, report=tell), as_json)


@bench_app.command("generate")
@reported
def generation(
    device: Annotated[Device, typer.Option(help="Where to run; auto takes cuda if there.")] = Device.auto,
    kinds: Annotated[str, typer.Option(help="What to make, with commas between.")] = "view,large,room,film",
    runs: Annotated[int, typer.Option(metavar="N", min=1, help="Of each kind, after one that is not counted.")] = 3,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the first one.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Views, rooms and films from the request to the folder on disk: seconds of every stage, process warm."""
    from omni_gen3d.bench.generate import KINDS, bench_generate

    wanted = kinds.split(",")
    if unknown := [kind for kind in wanted if kind not in KINDS]:
        raise InputError(f"--kinds names {unknown[0]!r}; allowed are: {', '.join(KINDS)}.")
    publish(bench_generate(pick_device(device), wanted, runs, seed, report=tell), as_json)


@bench_app.command()
@reported
def film(
    video: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A film by a still camera. [default: a board before a wall]")
    ] = None,
    long_times: Annotated[int, typer.Option(metavar="N", help="How many times of it the long run takes.")] = 300,
    as_json: JsonOption = False,
) -> None:
    """17 and 300 times of a film: seconds, memory, bytes. Takes a quarter of an hour on two cores."""
    from omni_gen3d.bench.film import bench_film

    publish(bench_film(video, long_times, report=tell), as_json)


@bench_app.command()
@reported
def lyra(
    device: Annotated[Device, typer.Option(help="Where to run; auto takes cuda if there.")] = Device.auto,
    views: Annotated[int, typer.Option(help="Trajectories in one pass.")] = 6,
    frames: Annotated[int, typer.Option(help="Of each trajectory, 8 k + 1.")] = 121,
    size: Annotated[str, typer.Option(help="Width x height of the video, both divisible by 16.")] = "1280x704",
    tokens: Annotated[
        str, typer.Option(help="Lengths at which the scan is timed.")
    ] = "10000,20000,40000,80000,160000,338000",
    gen3c: Annotated[
        bool | None, typer.Option(help="The 7B video model too. [default: on CUDA]", show_default=False)
    ] = None,
    minutes: Annotated[float, typer.Option(help="After these nothing new is started.")] = 5.0,
    as_json: JsonOption = False,
) -> None:
    """Time and memory of the official model at full size, with random weights."""
    # Read when torch loads. Without it the allocator holds 26 GB where 21 are in use.
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    from omni_gen3d.bench.lyra import bench_lyra

    width, _, height = size.partition("x")
    counts = tokens.split(",")
    if not all(text.isdecimal() for text in (width, height)):
        raise InputError(f"--size is {size!r}; write WIDTHxHEIGHT, for example 1280x704.")
    if not all(text.isdecimal() for text in counts):
        raise InputError(f"--tokens is {tokens!r}; write numbers with commas between, for example 10000,20000.")
    where = pick_device(device)
    report = bench_lyra(
        device=where,
        views=views,
        frames=frames,
        width=int(width),
        height=int(height),
        scan_tokens=[int(text) for text in counts],
        gen3c_sizes={} if gen3c or (gen3c is None and where.type == "cuda") else None,
        minutes=minutes,
        tell=tell,
    )
    publish(report, as_json)


HomeOption = Annotated[
    Path | None, typer.Option("--home", metavar="DIR", help="Library for the worlds; $OMNI_GEN3D_HOME where not given.")
]


@bench_app.command()
@reported
def envs(
    device: Annotated[Device, typer.Option(help="Where to run; auto takes cuda if there.")] = Device.auto,
    home: HomeOption = None,
    toy: Annotated[bool, typer.Option("--toy", help="Two robots, two worlds: to see that it runs.")] = False,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each measurement.")] = 2.0,
    minutes: Annotated[float, typer.Option(min=0, help="After these no further row is begun.")] = 15.0,
    as_json: JsonOption = False,
) -> None:
    """Robots in generated worlds: physics, vision and world swaps a second, memory. Generates 16 worlds if missing."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from omni_gen3d.bench.envs import bench_envs
    from omni_gen3d.envs.registry import Registry

    device_type = pick_device(device).type
    report = bench_envs(Registry(home), device=device_type, toy=toy, seconds=seconds, minutes=minutes, report=tell)
    publish(report, as_json)


@bench_app.command()
@reported
def train(
    device: Annotated[Device, typer.Option(help="Where to run; auto takes cuda if there.")] = Device.auto,
    home: HomeOption = None,
    toy: Annotated[bool, typer.Option("--toy", help="Two worlds, few steps: to see that it runs.")] = False,
    robots: Annotated[int, typer.Option(min=1, help="That learn at once.")] = 1024,
    test_robots: Annotated[int, typer.Option(min=1, help="Whose first episodes are the test at the end.")] = 1024,
    curve_robots: Annotated[int, typer.Option(min=1, help="Whose are each test in the course of learning.")] = 256,
    rehearsal: Annotated[int, typer.Option(min=1, help="Steps of all robots together without pictures.")] = 3_000_000,
    steps: Annotated[int, typer.Option(min=2, help="Those after them; a blind policy takes all of both.")] = 2_000_000,
    minutes: Annotated[float, typer.Option(min=0, help="After these a policy stops learning.")] = 10.0,
    seed: Annotated[int, typer.Option(min=0, help="Of networks, episodes and actions.")] = 0,
    plot: Annotated[Path | None, typer.Option(help="Picture of the learning curves to write.")] = None,
    as_json: JsonOption = False,
) -> None:
    """PPO by camera in 16 generated rooms, tested in 8 others: randomized, as generated, blind, side by side."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from omni_gen3d.bench.nav_learning import Plan
    from omni_gen3d.bench.train import bench_train
    from omni_gen3d.envs.registry import Registry

    plan = (
        Plan(train=1, heldout=1, envs=4, rehearsal=128, steps=256, test_envs=4, curve_envs=4, tests=1)
        if toy
        else Plan(
            envs=robots,
            rehearsal=rehearsal,
            steps=steps,
            minutes=minutes,
            test_envs=test_robots,
            curve_envs=curve_robots,
        )
    )
    device_type = pick_device(device).type
    with contextlib.redirect_stdout(sys.stderr):  # Newton and rsl-rl tell of themselves there
        found = bench_train(Registry(home), plan, device=device_type, seed=seed, plot=plot, report=tell)
    publish(found, as_json)
