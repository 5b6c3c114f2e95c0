"""The verbs ``omni-gen3d lyra ...``: what the official model needs once, and whether it would fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from omni_gen3d.console import reported, tell
from omni_gen3d.request import Device, OfficialOptions, pick_device

lyra_app = typer.Typer(no_args_is_help=True, help="Prepare the official Lyra model (preset lyra).")

WeightsOption = Annotated[
    Path | None,
    typer.Option("--weights", metavar="DIR", help="Folder of the official weights. [default: the hub's cache]"),
]
MaxMemoryOption = Annotated[
    float | None, typer.Option("--max-memory", metavar="GB", help="Of each card. [default: what is free]")
]


@lyra_app.callback()
def _lyra() -> None:
    """Keep every command a verb of its own: an app of one command would swallow its name."""


@lyra_app.command("embed-text")
@reported
def embed_text(
    t5: Annotated[Path, typer.Option("--t5", metavar="DIR", help="A local copy of google-t5/t5-11b.")],
    prompt: Annotated[list[str] | None, typer.Option(help="To embed beside the two; may be repeated.")] = None,
    weights: WeightsOption = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .safetensors file. [default: where preset lyra looks]")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where the encoder runs; it takes 22 GB.")] = Device.cpu,
) -> None:
    """Embed the empty and the negative prompt once, so that the T5 is not needed again; prints the file."""
    from omni_gen3d.official_weights import embeddings_path
    from omni_gen3d.video.gen3c.text import embed_prompts

    target = embeddings_path(weights) if out is None else out
    target.parent.mkdir(parents=True, exist_ok=True)
    typer.echo(embed_prompts(t5, target, prompt or [], device=pick_device(device)))


@lyra_app.command()
@reported
def plan(
    preset: Annotated[str, typer.Option(help="A preset of the family lyra.")] = "lyra",
    weights: WeightsOption = None,
    max_memory: MaxMemoryOption = None,
    device: Annotated[Device, typer.Option(help="For which the plan is.")] = Device.auto,
) -> None:
    """Find every file, and print the memory plan that a run would take."""
    from omni_gen3d.config import load_preset
    from omni_gen3d.official_setup import devices_of, find_files, make_plan

    settings, options = load_preset(preset), OfficialOptions(weights, max_memory)
    files = find_files(settings, weights, needs_picture=False)
    devices = devices_of(pick_device(device))
    found = make_plan(settings, files, devices, options)
    tell(f"on {', '.join(map(str, devices))}:")
    typer.echo("no plan: this backend manages its memory itself" if found is None else str(found))
