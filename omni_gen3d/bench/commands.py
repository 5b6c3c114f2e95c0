"""The verbs ``omni-gen3d bench ...``."""

from __future__ import annotations

from typing import Annotated

import typer

from omni_gen3d.console import reported, tell

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
    from omni_gen3d.bench.report import publish

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
    from omni_gen3d.bench.report import publish

    publish(bench_proxy(views, toy=toy, seed=seed, report=tell), as_json)
