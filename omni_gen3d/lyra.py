"""The official family, from a prompt or a picture to Gaussians around the first camera, on the cards present.

Each stage brings its networks and takes them away again, so that the largest alone decides how much memory is needed.
"""

from __future__ import annotations

import gc
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from omni_gen3d.checkpoints import digest_files
from omni_gen3d.config import Preset
from omni_gen3d.decoder.lyra import LatentGaussianDecoder
from omni_gen3d.decoder.lyra_inputs import decoder_inputs
from omni_gen3d.errors import InputError
from omni_gen3d.finishing import Stages
from omni_gen3d.geometry import intrinsics_from_fov
from omni_gen3d.official_setup import (
    OfficialFiles,
    backend_maker,
    devices_of,
    find_files,
    load_tokenizer,
    make_plan,
    network_type,
)
from omni_gen3d.placing import ImaginedScene
from omni_gen3d.request import OfficialOptions
from omni_gen3d.types import Gaussians
from omni_gen3d.video.backend import Shot
from omni_gen3d.video.first_frame import picture_from_pipeline
from omni_gen3d.video.gen3c.text import read_embeddings
from omni_gen3d.video.gen3c.trajectories import DECODER_ORDER, release_trajectories
from omni_gen3d.video.ground import find_ground
from omni_gen3d.video.latent_store import LatentStore, request_digest
from omni_gen3d.video.metric_depth import estimate_metric_depth
from omni_gen3d.video.picture import Picture
from omni_gen3d.video.spread import imagine_all
from omni_gen3d.video.tokenizer import encode_raw
from omni_gen3d.video.trajectories import TRAJECTORY_NAMES, trajectory_cameras

# The release keeps the most opaque fifth.
_PRUNE_RATIO = 0.8
_log = logging.getLogger("omni_gen3d")


def imagine_officially(
    prompt: str,
    picture: Picture | None,
    settings: Preset,
    device: torch.device,
    seed: int,
    steps: int | None,
    stages: Stages,
    options: OfficialOptions,
) -> tuple[ImaginedScene, LatentStore]:
    """What the official model makes of a prompt or a picture, and where its latents wait in case of an interruption.

    A prompt alone becomes a picture by a text-to-image pipeline, and the video model then gets the empty prompt, as
    in the release. A prompt beside a picture goes to the video model; GEN3C must have it embedded.

    Raises:
        InputError: A file is missing or is not what it should be, or the memory does not suffice.
    """
    video_prompt = "" if picture is None else prompt
    video_steps = steps or settings.video_steps
    with stages.stage("load model"):
        files = find_files(settings, options.weights, needs_picture=picture is None)
        if files.texts is not None:
            read_embeddings(files.texts).of(video_prompt)
        devices = devices_of(device)
        plan = make_plan(settings, files, devices, options)
        notes = [] if plan is None else [f"memory plan on {', '.join(map(str, devices))}: {plan}."]
        if settings.compiled and plan is not None and not plan.resident:
            notes.append("the preset asks for compiled blocks, but streamed ones change their storage: not compiled.")
        for note in notes:
            _log.info(note)
        digest = digest_files([files.video, files.tokenizer, files.decoder])

    with stages.stage("picture"):
        if picture is None:
            assert files.picture is not None
            fov = math.radians(settings.picture_fov_deg)
            rgb = picture_from_pipeline(
                files.picture,
                prompt,
                width=settings.width,
                height=settings.height,
                steps=settings.picture_steps,
                guidance=settings.picture_guidance,
                seed=seed,
                device=device,
                report=stages.report,
            )
            notes.append(f"pictures made from text are taken to be {settings.picture_fov_deg:.0f} degrees wide.")
        else:
            rgb, fov = picture.rgb, picture.fov_x_rad
            notes += picture.notes
        _free(device)

    with stages.stage("depth"):
        metres, seen_fov_deg = estimate_metric_depth(files.depth, rgb, device)
        _free(device)
        if fov is None:
            fov = math.radians(seen_fov_deg or settings.picture_fov_deg)
            how = "estimated from the picture" if seen_fov_deg else "assumed, for this depth model does not tell it"
            notes.append(
                f"the field of view was {how}: {math.degrees(fov):.0f} degrees across; sizes and distances depend on "
                "it. Give --fov if it is known."
            )
        metres_per_unit = float(metres.median())
        depth = metres / metres_per_unit
        intrinsics = intrinsics_from_fov(fov, settings.width, settings.height).float()
        ground = find_ground(depth, intrinsics, np.random.default_rng(seed))

    with stages.stage("trajectories"):
        camera_to_first = release_trajectories(settings.num_frames, torch.Generator().manual_seed(seed))
        shots = [
            Shot(name, rgb * 2 - 1, depth, intrinsics, camera_to_first[i], video_prompt, seed + i)
            for i, name in enumerate(TRAJECTORY_NAMES)
        ]
        store = _store(shots, settings, video_steps, digest)
        missing = sum(store.load(shot.name) is None for shot in shots)
        if missing < len(shots):
            _log.info("%d of %d trajectories were finished by an earlier run", len(shots) - missing, len(shots))
        make_backend = backend_maker(settings, files, video_steps, plan, options)
        try:
            backends = [(each, make_backend(each)) for each in devices[:missing]]
            latents = imagine_all(backends, shots, store, stages.report)
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"the card ran out of memory ({' '.join(str(error).split())[:120]}); something else uses it, or the "
                "plan is too tight. Give --max-memory a smaller number, so that weights are streamed; the trajectories "
                "that are finished are kept."
            ) from error
        del backends
        _free(device)

    with stages.stage("splats"):
        gaussians = _decode(files, latents, camera_to_first, intrinsics, settings, devices[0])
    cameras = trajectory_cameras(camera_to_first, intrinsics, settings.width, settings.height)
    return ImaginedScene(gaussians, cameras, ground, metres_per_unit, tuple(notes), digest), store


def _free(device: torch.device) -> None:
    """Give back what a stage's networks held: the modules of diffusers refer to each other, and to their memory."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _store(shots: Sequence[Shot], settings: Preset, steps: int, digest: str) -> LatentStore:
    """Where the latents of this very request are kept."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "omni_gen3d" / "latents"
    request = {**asdict(settings), "video_steps": steps, "model": digest, "prompt": shots[0].prompt}
    tensors = {"picture": shots[0].picture, "depth": shots[0].depth, "intrinsics": shots[0].intrinsics}
    tensors |= {f"cameras {shot.name}": shot.camera_to_first for shot in shots}
    return LatentStore(root, request_digest(request | {"seeds": [shot.seed for shot in shots]}, tensors))


@torch.no_grad()
def _decode(
    files: OfficialFiles,
    latents: Sequence[torch.Tensor],
    camera_to_first: torch.Tensor,
    intrinsics: torch.Tensor,
    settings: Preset,
    device: torch.device,
) -> Gaussians:
    """The most opaque Gaussians of all trajectories, in the first camera's frame, on the CPU."""
    tokenizer = load_tokenizer(files.tokenizer, device)
    decoder = LatentGaussianDecoder.from_lyra_checkpoint(files.decoder).to(device)
    if device.type == "cuda":
        decoder.to_bfloat16()
    order = list(DECODER_ORDER)
    inputs = decoder_inputs(
        lambda video: encode_raw(tokenizer, video.to(network_type(device))),
        [latents[i].to(device) for i in order],
        camera_to_first[order].to(device),
        intrinsics.to(device),
        ray_type="bfloat16" if settings.ray_type == "bfloat16" else "float32",
    )
    total = inputs["ray_origins"].shape[1] * inputs["ray_origins"].shape[3] * inputs["ray_origins"].shape[4]
    ratio = max(_PRUNE_RATIO, 1 - settings.max_gaussians / total)
    return decoder(**inputs, prune_ratio=ratio)[0].to("cpu")
