"""The verbs ``omni-gen3d envs ...``."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni_gen3d.console import one_line, reported, shown, tell
from omni_gen3d.errors import InputError

if TYPE_CHECKING:
    from omni_gen3d.envs.entry import Entry, Filter

envs_app = typer.Typer(no_args_is_help=True, help="Keep, find and draw environments in a library on this machine.")

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Or the beginning of one.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
TagsOption = Annotated[list[str] | None, typer.Option("--tag", metavar="WORD", help="Give it this tag; repeatable.")]
KindOption = Annotated[str | None, typer.Option("--kind", metavar="static|dynamic", help="Only of this kind.")]
SplitOption = Annotated[str | None, typer.Option("--split", metavar="train|heldout", help="Only of this split.")]
WithTagsOption = Annotated[list[str] | None, typer.Option("--tag", metavar="WORD", help="Only with; repeatable.")]
MinAreaOption = Annotated[float | None, typer.Option("--min-area", metavar="M2", help="Only with this footprint.")]
MaxAreaOption = Annotated[float | None, typer.Option("--max-area", metavar="M2", help="Only up to this footprint.")]
ScoresOption = Annotated[
    list[str] | None,
    typer.Option("--score", metavar="NAME>=X", help="Only with this score of the proxy, >= or <=; repeatable."),
]


@envs_app.command("list")
@reported
def list_entries(
    kind: KindOption = None,
    split: SplitOption = None,
    tag: WithTagsOption = None,
    min_area: MinAreaOption = None,
    max_area: MaxAreaOption = None,
    score: ScoresOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the environments of the library."""
    from omni_gen3d.envs.registry import Registry

    registry = Registry()
    entries = registry.entries(_filter(kind, split, tag, min_area, max_area, score))
    _print_entries(entries, as_json)
    if not entries and not as_json:
        tell(f"no environment in {registry.home.directory}; 'envs add DIR' adds one, 'envs repair' reads its folders")


@envs_app.command()
@reported
def show(id_: IdArgument, as_json: JsonOption = False) -> None:
    """Show what the library knows of an environment; the last line is the path of its environment.usda."""
    from omni_gen3d.envs.registry import Registry

    entry = Registry().get(id_)
    values = entry.to_dict()
    if as_json:
        typer.echo(json.dumps(values, indent=2))
        return
    low, high = values.pop("bounds_m")
    values["size_m"] = " x ".join(f"{b - a:.2f}" for a, b in zip(low, high, strict=True))
    values["tags"], values["spawn_poses"] = " ".join(values["tags"]), len(values["spawn_poses"])
    scores, usd = values.pop("scores"), values.pop("usd")
    _print_table(["", ""], [[name, shown(value)] for name, value in (values | scores).items()])
    typer.echo(usd)


@envs_app.command()
@reported
def search(
    words: Annotated[str, typer.Argument(help="What it is like, such as 'narrow corridor'.", show_default=False)],
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", help="At most so many.")] = 10,
    kind: KindOption = None,
    split: SplitOption = None,
    tag: WithTagsOption = None,
    min_area: MinAreaOption = None,
    max_area: MaxAreaOption = None,
    score: ScoresOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find environments by the meaning of their title and tags, the nearest first."""
    from omni_gen3d.envs.registry import Registry

    matches = Registry().search(words, limit=limit, wanted=_filter(kind, split, tag, min_area, max_area, score))
    if as_json:
        found = [{"similarity": match.similarity, **match.entry.to_dict()} for match in matches]
        typer.echo(json.dumps({"environments": found}))
        return
    rows = [[f"{match.similarity:.3f}", match.entry.id, match.entry.title] for match in matches]
    _print_table(["similarity", "id", "title"], rows)


@envs_app.command()
@reported
def sample(
    count: Annotated[int, typer.Argument(metavar="N", help="How many.", show_default=False)],
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed and library give the same ones.")] = 0,
    replacement: Annotated[bool, typer.Option("--replacement", help="One may be drawn several times.")] = False,
    kind: KindOption = None,
    split: SplitOption = None,
    tag: WithTagsOption = None,
    min_area: MinAreaOption = None,
    max_area: MaxAreaOption = None,
    score: ScoresOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw environments at random; print the path of each environment.usda on a line."""
    import numpy as np

    from omni_gen3d.envs.registry import Registry

    if seed < 0:
        raise InputError(f"the seed is {seed}; it must be at least 0.")
    wanted = _filter(kind, split, tag, min_area, max_area, score)
    drawn = Registry().sample(count, np.random.default_rng(seed), wanted=wanted, replacement=replacement)
    if as_json:
        typer.echo(json.dumps({"environments": [entry.to_dict() for entry in drawn]}))
        return
    for entry in drawn:
        typer.echo(entry.usd)


@envs_app.command()
@reported
def add(
    directories: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Environment folders; they are copied.", show_default=False)
    ],
    tag: TagsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add environments to the library; print the id of each."""
    from omni_gen3d.envs.registry import Registry

    registry = Registry()
    _print_ids([registry.add(directory, tags=tag or ()) for directory in directories], as_json)


@envs_app.command()
@reported
def remove(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Or beginnings.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Delete environments of the library; print the id of each."""
    from omni_gen3d.envs.registry import Registry

    registry = Registry()
    _print_ids([registry.remove(id_) for id_ in ids], as_json)


@envs_app.command()
@reported
def export(
    id_: IdArgument,
    out: Annotated[Path, typer.Option(metavar="FILE.zip", help="The file to write.", show_default=False)],
) -> None:
    """Write an environment and its tags as one file; print its path."""
    from omni_gen3d.envs.registry import Registry

    typer.echo(Registry().export(id_, out))


@envs_app.command("import")
@reported
def import_archives(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="That export wrote.", show_default=False)],
    tag: TagsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add the environments of exported files to the library; print the id of each."""
    from omni_gen3d.envs.registry import Registry

    registry = Registry()
    _print_ids([registry.import_archive(file, tags=tag or ()) for file in files], as_json)


@envs_app.command()
@reported
def repair(as_json: JsonOption = False) -> None:
    """Make the index again from the folders and clear leftovers. Exit code 1 where a folder is broken."""
    from omni_gen3d.envs.plain import to_plain
    from omni_gen3d.envs.registry import Registry

    done = Registry().repair()
    if as_json:
        typer.echo(json.dumps(to_plain(done)))
    else:
        for name, reason in done.broken.items():
            typer.echo(one_line(f"broken: {name}: {reason}"))
        tell(
            f"{done.entries} environments; {len(done.added)} added, {len(done.dropped)} dropped, "
            f"{len(done.broken)} broken, {done.leftovers} leftovers cleared"
        )
    if done.broken:
        raise typer.Exit(1)


@envs_app.command("map")
@reported
def draw_map(
    id_: IdArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Gets map.pgm and map.yaml.", show_default=False)],
    robot_height: Annotated[float, typer.Option(metavar="M", help="What must be free above the floor.")] = 0.6,
    robot_radius: Annotated[
        float, typer.Option(metavar="M", help="Keep this far from obstacles; 0 where the navigation stack does.")
    ] = 0.0,
    resolution: Annotated[
        float | None, typer.Option(metavar="M", help="Edge of a cell. [default: of the free-space voxels]")
    ] = None,
) -> None:
    """Draw the free floor of an environment as a ROS occupancy map; print the path of map.yaml."""
    from omni_gen3d.envs.occupancy import occupancy_map
    from omni_gen3d.envs.registry import Registry
    from omni_gen3d.usd import Manifest

    manifest = Manifest.read(Registry().get(id_).folder / "environment.yaml")
    drawn = occupancy_map(manifest, robot_height=robot_height, robot_radius=robot_radius, resolution=resolution)
    typer.echo(drawn.write(out))


def _filter(
    kind: str | None,
    split: str | None,
    tags: Sequence[str] | None,
    min_area: float | None,
    max_area: float | None,
    scores: Sequence[str] | None,
) -> Filter:
    from omni_gen3d.envs.entry import Filter

    least: dict[str, float] = {}
    most: dict[str, float] = {}
    for text in scores or ():
        match = re.fullmatch(r"(\w+)(>=|<=)(-?\d+(?:\.\d+)?)", text)
        if match is None:
            raise InputError(f"--score is '{text}'; write a name, >= or <=, and a number: traversable_area_m2>=5.")
        name, relation, number = match.groups()
        (least if relation == ">=" else most)[name] = float(number)
    return Filter(
        kind=kind,  # pyright: ignore[reportArgumentType] -- checked inside, like all values
        split=split,  # pyright: ignore[reportArgumentType]
        tags=tuple(tags or ()),
        min_area_m2=min_area,
        max_area_m2=max_area,
        min_scores=least,
        max_scores=most,
    )


def _print_entries(entries: Sequence[Entry], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"environments": [entry.to_dict() for entry in entries]}))
        return
    rows = [
        [
            entry.id,
            entry.title,
            entry.kind,
            entry.split,
            f"{entry.area_m2:.1f}",
            f"{entry.num_gaussians:,}",
            f"{entry.bytes / 1e6:.1f}",
            " ".join(entry.tags),
        ]
        for entry in entries
    ]
    if rows:
        _print_table(["id", "title", "kind", "split", "m2", "splats", "MB", "tags"], rows)


def _print_ids(entries: Sequence[Entry], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"environments": [entry.to_dict() for entry in entries]}))
        return
    for entry in entries:
        typer.echo(entry.id)


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, show_header=any(header))
    for name in header:
        # An id that is cut cannot be passed on; a title may be a thousand characters.
        table.add_column(name, overflow="fold", no_wrap=name == "id", max_width=None if name == "id" else 80)
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    # As wide as it needs to be: a narrow terminal wraps lines better than columns of three letters.
    Console(width=Console(width=1000).measure(table).maximum).print(table)
