"""``omni-gen3d eval mini --worlds``: colliders of environments made from pictures of held-out worlds, against them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import torch

from omni_gen3d.checkpoints import load_network
from omni_gen3d.config import load_preset
from omni_gen3d.decoder.mini import MiniDecoder, decode
from omni_gen3d.errors import InputError
from omni_gen3d.mesh.proxy import build_proxy
from omni_gen3d.placing import ImaginedScene, place_upright
from omni_gen3d.training.clips import Clips, Views, render_clips, sample_pictures
from omni_gen3d.training.decoder import load_video_model
from omni_gen3d.training.scenes import FirstFrames, first_frames_from_pictures, imagine_latents
from omni_gen3d.training.scoring import Tally, check, evaluation_report
from omni_gen3d.training.surfaces import TrueViews, score_proxy
from omni_gen3d.training.worlds import distance_to_nearest, world_generator
from omni_gen3d.types import CollisionProxy, ProxyPart, TriMesh, VideoLatents
from omni_gen3d.video.ground import find_ground

MAX_WORLDS = 256
# A camera nearer to anything than this, or behind a wall, shows nothing of the world [m].
_CLEARANCE_M = 0.1
_MEANINGS = {
    "proxy_f": "share of surfaces within max(5 cm, 5 %) of the distance, harmonic mean of both ways, scale corrected",
    "proxy_f_5cm": "the same within 5 cm",
    "proxy_precision": "of the collider's surface that faces a camera which observes it, within max(5 cm, 5 %)",
    "proxy_recall": "of the true surface that the cameras see, within max(5 cm, 5 %)",
    "floor_error_m": "mean height of the collider's observed floor",
    "floor_found_share": "of the scenes have a floor where the cameras look",
    "scale_error": "estimated median depth against the true one, as a share",
    "proxies_failed_share": "of the scenes show no surface or no free space; their F counts as 0",
    "seconds_a_scene": "from picture to scored collider",
}


def evaluate_worlds(
    weights: Path,
    scenes: int,
    device: torch.device | str,
    seed: int = 0,
    *,
    against: Path | None = None,
    report: Callable[[str], None] = lambda text: None,
    height: int = 176,
    width: int = 320,
    num_frames: int = 17,
) -> dict[str, Any]:
    """Give held-out worlds' first frames to the model and compare the colliders with the worlds.

    Every step is that of ``generate``: estimated depth and floor, six trajectories, levelling, proxy. The first camera
    then brings the collider into the world's frame, and one factor, of the true median depth over the estimated one,
    to its scale; ``scale_error`` tells what that forgives. Processors build the colliders, some seconds each.

    Args:
        weights: Folder with tokenizer, depth, diffusion and decoder.
        scenes: How many.
        device: Where the networks run.
        seed: Of the worlds and the noise.
        against: Folder of other weights, measured on the same worlds.
        report: Takes a line of progress.
        height: Of the pictures, divisible by 16.
        width: Of the pictures, divisible by 16.
        num_frames: Of each trajectory, 8 (T - 1) + 1.

    Returns:
        device, scenes, seed, every figure by its name, rows and checks as ``evaluate_mini``.

    Raises:
        InputError: Weights are missing, or the number is out of range.
    """
    if not 1 <= scenes <= MAX_WORLDS:
        raise InputError(f"the number of scenes is {scenes}; it must lie between 1 and {MAX_WORLDS}.")
    place = torch.device(device)

    def measure(folder: Path) -> dict[str, float]:
        model = load_video_model(folder / "tokenizer", folder / "depth", folder / "diffusion", place)
        decoder = load_network(MiniDecoder, folder / "decoder", place)
        generator, tally = world_generator(seed, "heldout", place), Tally()
        for index in range(scenes):
            began = time.perf_counter()
            views, clips = sample_pictures(1, height, width, generator)
            first = first_frames_from_pictures(model, clips.rgb[:, :, 0], clips.intrinsics, [""])
            video = imagine_latents(model, first, num_frames, generator)
            true_median = float(clips.depth[0, 0].median())
            estimated = float(first.metres_per_unit[0])
            tally.add({"scale_error": abs(estimated / true_median - 1)})
            truth = _true_views(views, clips, video, true_median)
            scene = _decoded(decoder, video, first, seed)
            figures = _score(scene, truth, true_median / estimated, seed)
            tally.add(figures | {"seconds_a_scene": time.perf_counter() - began})
            report(f"{index + 1} of {scenes}: F {100 * figures['proxy_f']:.1f} %, scale {estimated / true_median:.3f}")
        return tally.means()

    other = {} if against is None else measure(against)
    figures = measure(weights)
    checks = [
        check("proxy F at max(5 cm, 5 %)", figures["proxy_f"], 0.9),
        check("floor error [m]", figures.get("floor_error_m", nan), 0.03, at_most=True),
        check("scale error", figures["scale_error"], 0.05, at_most=True),
    ]
    return evaluation_report(place, scenes, seed, figures, other, _MEANINGS, checks)


def _true_views(views: Views, clips: Clips, video: VideoLatents, true_median: float) -> TrueViews:
    """The first camera and those at the ends of the six trajectories that stand clear of everything."""
    ends = video.cameras.camera_to_world.unflatten(0, (-1, video.num_frames))[:, -1].clone()
    ends[:, :3, 3] *= true_median
    centres = (views.camera_to_world[0] @ ends)[:, :3, 3]
    clear = distance_to_nearest(views.worlds, centres[None])[0] > _CLEARANCE_M
    path = torch.cat([torch.eye(4).to(ends)[None], ends[clear]])
    seen = render_clips(views, path[None], *clips.rgb.shape[-2:])
    return TrueViews.of(views.worlds, views.camera_to_world[0], seen)


def _decoded(decoder: MiniDecoder, video: VideoLatents, first: FirstFrames, seed: int) -> ImaginedScene:
    """What ``generate`` hands to the placing."""
    with torch.no_grad():
        gaussians = decode(decoder, video, load_preset("mini").max_gaussians).to("cpu")
    ground = find_ground(first.depth[0], first.intrinsics[0], np.random.default_rng(seed))
    return ImaginedScene(gaussians, video.cameras.to("cpu"), ground, float(first.metres_per_unit[0]), (), "")


def _score(scene: ImaginedScene, truth: TrueViews, scale: float, seed: int) -> dict[str, float]:
    settings = load_preset("mini")
    gaussians, cameras, _ = place_upright(scene, seed)
    try:
        proxy: CollisionProxy = build_proxy(
            gaussians,
            cameras,
            robot_radius=settings.robot_radius,
            robot_height=settings.robot_height,
            voxel_size=settings.voxel_size,
            max_faces=settings.max_faces,
        )
    except InputError:
        return {"proxy_f": 0.0, "proxy_f_5cm": 0.0, "proxies_failed_share": 1.0, "floor_found_share": 0.0}
    to_camera = cameras.world_to_camera[0].double().numpy()
    to_world = truth.camera_to_world[0]

    def in_the_world(part: ProxyPart) -> ProxyPart:
        local = part.mesh.vertices @ to_camera[:3, :3].T + to_camera[:3, 3]
        vertices = scale * local @ to_world[:3, :3].T + to_world[:3, 3]
        return replace(part, mesh=TriMesh(vertices.astype(np.float32), part.mesh.faces))

    figures = score_proxy(tuple(in_the_world(part) for part in proxy.parts), truth)
    found = float("floor_error_m" in figures)
    return figures | {"proxies_failed_share": 0.0, "floor_found_share": found}
