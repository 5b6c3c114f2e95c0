"""Rooms that ``generate --extent room`` grows: how much floor, how closed, how true to the picture, how drivable."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from omni_gen3d.bench.newton_drive import ROBOT_RADIUS_M, drive
from omni_gen3d.bench.report import Check, Report, Value, cpu_name
from omni_gen3d.config import PACKAGED_WEIGHTS, load_preset
from omni_gen3d.envs.occupancy import FREE, occupancy_map
from omni_gen3d.errors import InputError
from omni_gen3d.geometry import intrinsics_from_focal, intrinsics_from_fov, look_at
from omni_gen3d.pipeline import generate, load_model
from omni_gen3d.render import render
from omni_gen3d.render.picture import color_to_image
from omni_gen3d.types import Cameras
from omni_gen3d.usd import Environment, read_environment
from omni_gen3d.video.depth import estimate_depth
from omni_gen3d.video.ground import find_ground
from omni_gen3d.video.imagine import draw_noise, picture_from_text
from omni_gen3d.video.text import encode_text

PROMPTS = (
    "a large warehouse with a concrete floor",
    "a living room with a sofa and wooden floor",
    "an office with a desk and grey carpet",
    "a corridor with white walls and a tiled floor",
    "a workshop with a workbench and a green floor",
    "a small warehouse with pallets and a concrete floor",
    "a kitchen with white cabinets and a tiled floor",
    "a living room with a coffee table and a bookcase",
    "an office with two desks and wooden floor",
    "a warehouse with shelf racks and white walls",
)
LOOP_M = 3.0
# A room may take so long on each kind of device [s].
MAX_SECONDS = {"cuda": 12.0, "cpu": 180.0}
_HEADINGS = 12
# A column of pixels is closed where this share of it shows a surface.
_CLOSED_SHARE, _MIN_ALPHA = 0.9, 0.5


def bench_room(
    seeds: int, device: torch.device, *, out: Path | None = None, report: Callable[[str], None] = print
) -> Report:
    """Grow rooms out of pictures made from text, beside the same pictures with ``--extent view``.

    Columns: ``s`` of all stages of the room but the writing; ``floor_m2`` where the centre of the robot may be;
    ``square_m``: side of the largest square of free floor; ``span_m``: shorter side of the box around the connected
    free floor; ``closed_deg``: headings at the first camera in which the splats close the view; ``loss_db``: PSNR of
    the input view against the picture, that of ``view`` less that of ``room``; ``within_5cm``: share of the collider
    within 5 cm of the splats; ``warnings`` about it; ``driven_%`` of a loop of 3 m in Newton, and what stopped the
    robot.

    Args:
        seeds: How many, from 0; the prompts take turns.
        device: Where the networks run.
        out: Folder that keeps the environments; a temporary one where None. Those that are there are not made again.
        report: Told what is being done.

    Raises:
        InputError: Newton does not load, or there is no seed.
    """
    if seeds < 1:
        raise InputError(f"--seeds is {seeds}; at least 1 is needed.")
    _require_newton()
    rows: list[dict[str, Value]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if out is None else out
        folder.mkdir(parents=True, exist_ok=True)
        for seed in range(seeds):
            prompt = PROMPTS[seed % len(PROMPTS)]
            report(f"seed {seed}: {prompt}")
            picture = folder / f"picture_{seed}.png"
            if not picture.is_file():
                _write_picture(prompt, seed, device, picture)
            rows.append({"seed": seed, "prompt": prompt, **_grow(prompt, seed, device.type, folder, picture)})
            report(json.dumps(rows[-1]))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    return Report(name, rows, checks_of(rows, device.type))


def checks_of(rows: list[dict[str, Value]], device: str) -> list[Check]:
    """The figures that the issue of explorable environments names; the worst row counts, of drives the share."""

    def values(column: str) -> list[float]:
        return [float(row[column] or 0.0) for row in rows]

    def share(column: str, least: float) -> float:
        return float(np.mean(np.array(values(column)) >= least))

    return [
        Check("seeds with a square of free floor of 4 m [share]", share("square_m", 4.0), ">=", 0.9),
        Check("closed view, worst seed [degrees]", min(values("closed_deg")), ">=", 360.0),
        Check("loss of the input view, worst seed [dB]", max(values("loss_db")), "<=", 1.0),
        Check("seeds in which the robot drives 3 m [share]", share("drove", 1.0), ">=", 0.9),
        Check("collider within 5 cm of the splats, worst seed [share]", min(values("within_5cm")), ">=", 0.5),
        Check("seconds, slowest seed", max(values("s")), "<=", MAX_SECONDS[device]),
    ]


def _require_newton() -> None:
    try:
        import newton  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"newton does not load ({error}); install it with: pip install 'omni_gen3d[newton]'."
        ) from error


def _write_picture(prompt: str, seed: int, device: torch.device, file: Path) -> None:
    """A picture of the prompt; of several the one that is most evenly floor and other things."""
    preset = load_preset("mini")
    generator = torch.Generator(device).manual_seed(seed)
    model, _ = load_model(PACKAGED_WEIGHTS, device)
    count, size = preset.picture_candidates, (preset.height, preset.width)
    pictures, _ = picture_from_text(
        model,
        encode_text([prompt] * count, device),
        draw_noise(count, 1, *size, generator),
        steps=preset.picture_steps,
        guidance=preset.picture_guidance,
    )
    fov = math.radians(preset.picture_fov_deg)
    lens = intrinsics_from_fov(fov, preset.width, preset.height)
    worth = []
    for picture in pictures:
        ground = find_ground(estimate_depth(model.depth, picture, fov), lens, np.random.default_rng(seed))
        share = 0.0 if ground is None else float(ground.pixels.float().mean())
        worth.append(min(share, 1 - share))
    pixels = color_to_image(pictures[int(np.argmax(worth))].movedim(0, -1).cpu() / 2 + 0.5)
    Image.fromarray(pixels).save(file)


def _grow(prompt: str, seed: int, device: str, folder: Path, picture: Path) -> dict[str, Value]:
    """One row: both extents of one picture."""
    pixels = np.asarray(Image.open(picture), np.float32) / 255
    fidelity, environment = {}, None
    for extent in ("view", "room"):
        target = folder / f"{extent}_{seed}"
        if not target.exists():
            generate(
                prompt,
                image=picture,
                fov_deg=load_preset("mini").picture_fov_deg,
                out=target,
                seed=seed,
                device=device,
                extent=extent,
                collision="mesh" if extent == "room" else "none",
            )
        environment = read_environment(target)
        seen = render(environment.gaussians, environment.cameras[:1]).color[0]
        fidelity[extent] = -10 * math.log10(float(np.square(seen.cpu().numpy() - pixels).mean()))
    assert environment is not None
    plan = occupancy_map(environment.manifest, robot_height=0.6)
    free = plan.cells == FREE
    return {
        "s": round(sum(environment.manifest.timings_s.values()), 1),
        "gaussians": len(environment.gaussians.means),
        "floor_m2": round(float(environment.manifest.proxy["traversable_area_m2"] or 0.0), 2),
        "square_m": round(largest_square(free) * plan.resolution, 2),
        "span_m": round(_span(free) * plan.resolution, 2),
        "closed_deg": closed_degrees(environment),
        "psnr_db": round(fidelity["room"], 2),
        "loss_db": round(fidelity["view"] - fidelity["room"], 2),
        "within_5cm": environment.manifest.proxy["depth_agreement_within_5cm"],
        "decimation_mm": environment.manifest.proxy["decimation_error_mm"],
        "warnings": len(environment.manifest.warnings),
        **_drive(environment, free, plan.origin, plan.resolution),
    }


def largest_square(free: np.ndarray) -> int:
    """Side of the largest square of true cells of ``(X, Y)``."""
    side, mask = 0, free
    while mask.any():
        side += 1
        # A square of side n + 1 stands where four of side n do.
        mask = mask[:-1, :-1] & mask[1:, :-1] & mask[:-1, 1:] & mask[1:, 1:]
    return side


def _span(free: np.ndarray) -> int:
    """Shorter side of the box around the largest connected piece of ``(X, Y)``."""
    labels, count = ndimage.label(free)  # pyright: ignore[reportGeneralTypeIssues]
    if count == 0:
        return 0
    largest = labels == 1 + int(np.bincount(labels.ravel())[1:].argmax())
    return int(min(np.ptp(cells) + 1 for cells in np.nonzero(largest)))


def closed_degrees(environment: Environment) -> float:
    """In how many degrees around the first camera the splats close the view, level with it."""
    first = environment.cameras[:1]
    eye = first.positions[0]
    angles = 2 * math.pi * torch.arange(_HEADINGS) / _HEADINGS
    ahead = torch.stack([angles.cos(), angles.sin(), torch.zeros(_HEADINGS)], -1)
    # Square pictures of 30 degrees side by side; tangents fall together at the borders.
    size = 64
    lens = intrinsics_from_focal(size / 2 / math.tan(math.pi / _HEADINGS), size, size).expand(_HEADINGS, 3, 3)
    around = Cameras(look_at(eye.expand(_HEADINGS, 3), eye + ahead), lens.contiguous(), size, size)
    alpha = render(environment.gaussians, around).alpha
    closed = (alpha >= _MIN_ALPHA).float().mean(1) >= _CLOSED_SHARE
    return round(360 * float(closed.float().mean()), 1)


def _drive(
    environment: Environment, free: np.ndarray, origin: tuple[float, float], resolution: float
) -> dict[str, Value]:
    """A loop of 3 m around the roomiest place."""
    radius = LOOP_M / (2 * math.pi)
    room = np.asarray(ndimage.distance_transform_edt(np.pad(free, 1)))[1:-1, 1:-1] * resolution
    if room.max() < radius + ROBOT_RADIUS_M:
        return {"drove": False, "driven_%": 0.0, "stopped_by": "no room for the loop"}
    cell = np.array(np.unravel_index(int(room.argmax()), room.shape))
    centre = np.array(origin) + (cell + 0.5) * resolution
    angle = np.linspace(0, 2 * math.pi, 121)
    result = drive(environment.parts, centre + radius * np.stack([np.cos(angle), np.sin(angle)], 1))
    return {
        "drove": result.failure is None,
        "driven_%": round(100 * result.share, 1),
        "stopped_by": result.failure or "",
    }
