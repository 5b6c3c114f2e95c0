"""How many Gaussians of the mini decoder are worth keeping: fidelity, file size and render time by their number."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from omni_gen3d.bench.report import Check, Report, Value, cpu_name
from omni_gen3d.checkpoints import load_network
from omni_gen3d.config import load_preset
from omni_gen3d.decoder.mini import MiniDecoder, one_scene
from omni_gen3d.errors import InputError
from omni_gen3d.render import render
from omni_gen3d.training.clips import TEXT_FOCAL, caption_pictures, sample_pictures
from omni_gen3d.training.decoder import fused_maps, keep_first, load_video_model, order_shown
from omni_gen3d.training.losses import psnr
from omni_gen3d.training.rasterize import FAR, NEAR, draw_scenes
from omni_gen3d.training.scenes import Scenes, first_frames_from_prompts, imagine_along, imagine_scenes
from omni_gen3d.training.scoring import Tally, add_novel, seventh_trajectory
from omni_gen3d.training.worlds import world_generator
from omni_gen3d.types import Cameras, Gaussians
from omni_gen3d.usd.splats import author_splats
from omni_gen3d.usd.stage import new_stage, save_stage
from omni_gen3d.video.trajectories import TRAJECTORY_NAMES

COUNTS = (5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 320_000)
MAX_SCENES = 64
# What the shipped number may cost against the best of the table.
_MAX_LOSS_DB = 0.5
_RENDERS = 5
# Of the far half of a trajectory every second frame is drawn.
_FRAME_STRIDE = 2


@torch.no_grad()
def bench_density(
    weights: Path,
    scenes: int,
    *,
    device: torch.device,
    counts: Sequence[int] = COUNTS,
    seed: int = 0,
    height: int = 176,
    width: int = 320,
    num_frames: int = 17,
    report: Callable[[str], None] = print,
) -> Report:
    """Decode scenes made from held-out captions once, and keep fewer and fewer of the Gaussians that show most.

    Columns: ``kept`` of each scene; ``a_pixel``: of the first picture; ``a_pixel_frame``: of all imagined frames;
    ``share`` of what the decoder makes; ``fidelity_psnr_db`` and ``novel_psnr_db`` as in ``eval mini``, the former over
    every second frame of the far halves; ``least_opacity`` kept; ``usd_mb`` and ``half_mb``, the layer of splats in
    single and half precision; ``render_ms``: one picture from the first camera, colours and depth, on the CPU.

    Args:
        weights: Folder with tokenizer, depth, diffusion and decoder.
        scenes: How many.
        device: Where the networks run.
        counts: Numbers to keep; larger ones than there are Gaussians all keep every one.
        seed: Of worlds and noise.
        height: Of the pictures, divisible by 16.
        width: Of the pictures, divisible by 16.
        num_frames: Of each trajectory, 8 (T - 1) + 1.
        report: Told what is being done.

    Raises:
        InputError: Weights are missing, or a number is out of range.
    """
    if not 1 <= scenes <= MAX_SCENES:
        raise InputError(f"the number of scenes is {scenes}; it must lie between 1 and {MAX_SCENES}.")
    if not counts or min(counts) < 1:
        raise InputError(f"the numbers to keep are {list(counts)}; at least one is needed, all positive.")
    model = load_video_model(weights / "tokenizer", weights / "depth", weights / "diffusion", device)
    decoder = load_network(MiniDecoder, weights / "decoder", device)
    generator, rng = world_generator(seed, "heldout", device), np.random.default_rng(seed)
    arc = seventh_trajectory(num_frames, device)[None, None]
    tallies: dict[int, Tally] = {count: Tally() for count in sorted(set(counts))}
    total = 0
    for index in range(scenes):
        views, clips = sample_pictures(1, height, width, generator, (TEXT_FOCAL, TEXT_FOCAL))
        captions = caption_pictures(views, clips, rng)
        report(f"{index + 1} of {scenes}: {captions[0]}")
        first = first_frames_from_prompts(model, captions, height, width, generator)
        made = imagine_scenes(model, first, num_frames, generator)
        novel = imagine_along(model, first, arc, generator)
        maps = fused_maps(decoder, made)
        order = order_shown(maps, made)
        total = maps["opacities"].shape[1]
        for count, tally in tallies.items():
            kept = keep_first(maps, order, count)
            tally.add({"fidelity_psnr_db": _fidelity(kept, made), "least_opacity": float(kept["opacities"].min())})
            add_novel(tally, kept, first, novel)
            tally.add(_costs(one_scene(kept, 0).to("cpu"), made, height, width))
    rows: list[dict[str, Value]] = []
    for count, tally in tallies.items():
        kept = min(count, total)
        rows.append({"kept": kept, "share": kept / total, "a_pixel": kept / (height * width)})
        rows[-1] |= {"a_pixel_frame": kept / (height * width * num_frames * len(TRAJECTORY_NAMES)), **tally.means()}
    return Report(cpu_name(), rows, _checks(rows))


def _fidelity(kept: dict[str, torch.Tensor], scenes: Scenes) -> float:
    """Renders against the RGB decoder's frames [dB]."""
    far = slice(scenes.teacher.shape[3] // 2, None, _FRAME_STRIDE)
    target = scenes.teacher[:, :, :, far].permute(0, 1, 3, 4, 5, 2)
    cameras = scenes.camera_to_first[:, :, far].flatten(1, 2)
    drawn = draw_scenes(kept, cameras, scenes.intrinsics, *target.shape[3:5]).color
    return psnr(drawn, target.flatten(1, 2))


def _costs(gaussians: Gaussians, scenes: Scenes, height: int, width: int) -> dict[str, float]:
    """Bytes on disk and milliseconds on a CPU."""
    here = Cameras(torch.eye(4)[None], scenes.intrinsics[:1].cpu(), width, height)
    seconds = []
    for _ in range(_RENDERS + 1):
        began = time.perf_counter()
        render(gaussians, here, near=NEAR, far=FAR)
        seconds.append(time.perf_counter() - began)
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, half in (("usd_mb", False), ("half_mb", True)):
            stage, path = new_stage("Splats"), Path(folder, f"{name}.usdc")
            author_splats(stage, "/Splats", gaussians, half=half)
            save_stage(stage, path)
            sizes[name] = path.stat().st_size / 1e6
    return {**sizes, "render_ms": 1000 * statistics.median(seconds[1:])}


def _checks(rows: list[dict[str, Value]]) -> list[Check]:
    """What the shipped number loses against the best of the table, None where the table does not hold it."""
    shipped = load_preset("mini").max_gaussians
    levels = {row["kept"]: float(row["fidelity_psnr_db"] or 0.0) for row in rows}
    loss = max(levels.values()) - levels[shipped] if shipped in levels else None
    return [Check(f"fidelity of {shipped} below the best [dB]", loss, "<=", _MAX_LOSS_DB)]
