"""What a worker can be asked for. Every task takes plain values and a job, and returns plain values."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import omni_gen3d
from omni_gen3d.envs.plain import from_plain
from omni_gen3d.errors import InputError
from omni_gen3d.request import Collision, Device, Extent, check_extent
from omni_gen3d.worker.protocol import VIDEO_SUFFIXES

if TYPE_CHECKING:
    from omni_gen3d.envs.ranges import Randomization
    from omni_gen3d.envs.registry import Registry
    from omni_gen3d.finishing import GeneratedEnvironment
    from omni_gen3d.worker.serving import Job
    from omni_gen3d.worker.viewing import Viewer

# What an environment of the embedded model takes, twice over.
_MIN_FREE_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class Generation:
    """A request for a new environment, see ``omni_gen3d.generate``.

    ``input`` is a picture or a film; ``weights`` counts for presets of the official family, the others bring their own.
    """

    prompt: str = ""
    input: str | None = None
    seed: int = 0
    preset: str = "mini"
    device: str = Device.auto.value
    extent: str = Extent.view.value
    collision: Collision = "mesh"
    robot_radius: float | None = None
    weights: str | None = None


@dataclass(frozen=True, kw_only=True)
class Variation:
    """A request for sample ``index`` of the series of ``seed`` of the environment in ``folder``, as a layer."""

    folder: str
    layer: str
    seed: int = 0
    index: int = 0
    ranges: str = ""
    appearance: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Id:
    id: str


@dataclass(frozen=True, kw_only=True)
class _Words:
    words: str
    limit: int = 50


def describe_models(values: dict[str, Any], job: Job) -> dict[str, Any]:
    """The presets that exist and the folder of the library; clears what writers left that were killed."""
    from omni_gen3d.config import preset_names
    from omni_gen3d.envs.registry import Registry

    home = Registry().home
    home.create()
    return {"presets": preset_names(), "library": str(home.directory), "cleared": home.clear_leftovers()}


def list_entries(values: dict[str, Any], job: Job) -> dict[str, Any]:
    """All environments of the library."""
    from omni_gen3d.envs.registry import Registry

    return {"entries": [entry.to_dict() for entry in Registry().entries()]}


def search_entries(values: dict[str, Any], job: Job) -> dict[str, Any]:
    """Ids of the environments nearest in meaning, the nearest first."""
    from omni_gen3d.envs.registry import Registry

    request = from_plain(_Words, values, "the request")
    return {"ids": [match.entry.id for match in Registry().search(request.words, limit=request.limit)]}


def remove_entry(values: dict[str, Any], job: Job) -> dict[str, Any]:
    """Take an environment out of the library and delete it."""
    from omni_gen3d.envs.registry import Registry

    return {"removed": Registry().remove(from_plain(_Id, values, "the request").id).id}


def generate_entry(values: dict[str, Any], job: Job) -> dict[str, Any]:
    """Generate an environment straight into the library."""
    from omni_gen3d.envs.registry import Registry

    request = from_plain(Generation, values, "the request")
    registry = Registry()
    registry.home.create()
    if shutil.disk_usage(registry.home.directory).free < _MIN_FREE_BYTES:
        raise InputError(_disk_is_full(registry))
    job.progress("load libraries", 0.0)
    make = _maker(request)
    job.progress("load libraries", 1.0)
    try:
        with registry.receiving() as receipt:
            made = make(
                prompt=request.prompt or None,
                out=receipt.folder,
                seed=request.seed,
                preset=request.preset,
                device=request.device,
                collision=request.collision,
                robot_radius=request.robot_radius,
                progress=job.progress,
                cancelled=job.cancelled,
            )
    except InputError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(_disk_is_full(registry)) from error
        raise
    return {
        "entry": receipt.entry.to_dict(),
        "notes": list(made.notes),
        "warnings": list(made.warnings),
        "timings_s": made.timings_s,
    }


def _maker(request: Generation) -> Callable[..., GeneratedEnvironment]:
    """What generates from the request's input; loads it."""
    from omni_gen3d.config import load_preset

    film = request.input if request.input is not None and request.input.lower().endswith(VIDEO_SUFFIXES) else None
    check_extent(request.extent, of_film=film is not None)
    if film is not None:
        return partial(omni_gen3d.generate_from_video, film)
    weights = request.weights if load_preset(request.preset).family == "lyra" else None
    return partial(omni_gen3d.generate, image=request.input, extent=request.extent, weights=weights)


def _disk_is_full(registry: Registry) -> str:
    free = shutil.disk_usage(registry.home.directory).free
    return (
        f"the disk is full: {free / 2**20:.0f} MiB are free in {registry.home.directory}, an environment may need "
        f"{_MIN_FREE_BYTES / 2**20:.0f}. Remove environments or set OMNI_GEN3D_HOME to another disk."
    )


def vary_environment(values: dict[str, Any], job: Job) -> dict[str, Any]:
    """Draw a sample of an environment and write what it changes as a layer over its ``/World``."""
    from omni_gen3d.envs.applying import apply_to_stage
    from omni_gen3d.envs.entry import entry_of_folder
    from omni_gen3d.envs.randomize import draw, pool_of
    from omni_gen3d.envs.ranges import load_randomization
    from omni_gen3d.usd.root_layer import select_variants
    from omni_gen3d.usd.stage import open_stage
    from omni_gen3d.usd.target import ROOT_NAME

    request = from_plain(Variation, values, "the request")
    folder = Path(request.folder)
    environment = entry_of_folder(folder)
    ranges = load_randomization(request.ranges) if request.ranges else _usual_ranges()
    sample = draw(ranges, [environment], seed=request.seed, index=request.index)
    stage = open_stage(folder / ROOT_NAME)
    select_variants(stage, appearance=request.appearance)
    apply_to_stage(stage, sample, pool=pool_of(ranges))
    session = stage.GetSessionLayer()
    session.defaultPrim = "World"
    if not session.Export(request.layer):
        raise InputError(f"the layer {request.layer} cannot be written.")
    return {"sample": sample.to_dict()}


def _usual_ranges() -> Randomization:
    """Other light and other friction; the scene stays where it is, under the robot."""
    from omni_gen3d.envs.ranges import AppearanceRanges, ContactRanges, Randomization, Range

    return Randomization(
        appearance=AppearanceRanges(
            exposure=Range(-1.0, 0.7),
            warmth=Range(-0.6, 0.6),
            tint=Range(-0.1, 0.1),
            hue=Range(-0.3, 0.3),
            contrast=Range(0.8, 1.2),
        ),
        contact=ContactRanges(static_friction=Range(0.4, 1.0), dynamic_share=Range(0.6, 1.0)),
    )


def render_view(values: dict[str, Any], job: Job) -> dict[str, Any]:
    """One picture of environments from a camera, see ``viewing.View``."""
    from omni_gen3d.worker.viewing import View

    return _viewer().draw(from_plain(View, values, "the request"))


@cache
def _viewer() -> Viewer:
    from omni_gen3d.worker.viewing import Viewer

    return Viewer()


TASKS: dict[str, Callable[[dict[str, Any], Job], dict[str, Any]]] = {
    "models": describe_models,
    "entries": list_entries,
    "search": search_entries,
    "remove": remove_entry,
    "generate": generate_entry,
    "vary": vary_environment,
    "render": render_view,
}
