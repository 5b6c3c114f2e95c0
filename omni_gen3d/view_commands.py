"""``omni-gen3d render``: pictures and films of an environment."""

from __future__ import annotations

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni_gen3d.console import reported, stage_progress, stop_on_signals
from omni_gen3d.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from omni_gen3d.render import RenderedViews
    from omni_gen3d.types import Cameras

RENDER_SIDES = (16, 4096)
EnvironmentArgument = Annotated[Path, typer.Argument(metavar="DIR", help="An environment folder.", show_default=False)]


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
    folder = environment_folder(directory)
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


def environment_folder(path: Path) -> Path:
    """The folder itself, also when its environment.usda is named, which is what ``generate`` prints."""
    if not path.exists():
        raise InputError(f"{path} does not exist; name an environment folder.")
    return path.parent if path.name == "environment.usda" else path


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
