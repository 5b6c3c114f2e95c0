"""The whole line: a prompt or a picture becomes an environment folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from omni_gen3d.checkpoints import digest_folder, load_network
from omni_gen3d.config import PACKAGED_WEIGHTS, Preset, load_preset
from omni_gen3d.decoder.mini import MiniDecoder, decode
from omni_gen3d.errors import InputError
from omni_gen3d.finishing import GeneratedEnvironment, Progress, Stages, finish_environment, plan_collider
from omni_gen3d.geometry import intrinsics_from_fov
from omni_gen3d.placing import ImaginedScene, place_upright
from omni_gen3d.render.threads import torch_on
from omni_gen3d.request import Collision, OfficialOptions, check_extent, check_request, pick_device
from omni_gen3d.room import make_room
from omni_gen3d.types import Provenance, VideoLatents
from omni_gen3d.usd import check_target
from omni_gen3d.video.depth import DepthNetwork, estimate_depth, estimate_fov
from omni_gen3d.video.exploring import Anchor
from omni_gen3d.video.ground import find_ground
from omni_gen3d.video.imagine import VideoModel, draw_noise, imagine, latent_of_picture, picture_from_text
from omni_gen3d.video.picture import Picture, load_picture
from omni_gen3d.video.text import encode_text
from omni_gen3d.video.tokenizer import TEMPORAL_COMPRESSION, accelerate_tokenizer
from omni_gen3d.video.trajectories import TRAJECTORY_NAMES, six_trajectories, trajectory_cameras

if TYPE_CHECKING:
    from diffusers import CosmosTransformer3DModel

_CORES_BESIDE_GPU = 4


def generate(
    prompt: str | None = None,
    *,
    image: Path | str | None = None,
    fov_deg: float | None = None,
    out: Path | str,
    seed: int = 0,
    preset: str = "mini",
    device: str = "auto",
    steps: int | None = None,
    collision: Collision = "mesh",
    robot_radius: float | None = None,
    extent: str = "view",
    weights: Path | str | None = None,
    max_memory: float | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> GeneratedEnvironment:
    """Generate an environment and write it to a folder.

    Args:
        prompt: What the environment is; may be None with an image.
        image: A picture file to start from; the camera that took it becomes camera 0.
        fov_deg: Horizontal field of view of the picture; else its EXIF data, else estimated.
        out: The folder to write; all of it is there in the end, or nothing.
        seed: The same seed on the same device gives the same bytes.
        preset: Name of a file in configs/.
        device: auto, cpu or cuda.
        steps: Denoising steps of the trajectories; the preset's where None.
        collision: The collider that is selected when the environment is opened; ``none`` builds no collider at all.
        robot_radius: For which spawn poses are sought [m]; the preset's where None.
        extent: ``view`` reaches as far as the picture and a step around its camera see; ``room`` looks all around.
        weights: Folder of the official model's weights (docs/models.md); the hub's cache where None.
        max_memory: What the official model may use of each card [GB]; all that is free where None.
        progress: Called with the stage's name and the share of it that is done.
        cancelled: Polled between steps; True stops the generation.

    Raises:
        InputError: A value or file cannot be used, or a room is to grow from a picture that shows no floor.
        CancelledError: ``cancelled`` returned True; nothing was written.
    """
    check_request(prompt, image=image, fov_deg=fov_deg, seed=seed, steps=steps)
    check_extent(extent)
    settings = load_preset(preset)
    collider = plan_collider(settings, collision, robot_radius, extent)
    official = OfficialOptions(None if weights is None else Path(weights), max_memory)
    if settings.family != "lyra" and official != OfficialOptions():
        raise InputError(f"the preset {preset!r} brings its own weights and plan; leave out weights and max_memory.")
    if settings.family == "lyra" and extent != "view":
        raise InputError(f"the preset {preset!r} has the extent view alone; the preset mini can make a room.")
    target = check_target(Path(out))
    torch_device = pick_device(device)
    picture = None if image is None else load_picture(Path(image), settings.width, settings.height, fov_deg)
    stages = Stages(progress, cancelled)
    with deterministic_kernels(), cores_beside(torch_device):
        if settings.family == "lyra":
            from omni_gen3d.lyra import imagine_officially

            scene, store = imagine_officially(
                prompt or "", picture, settings, torch_device, seed, steps, stages, official
            )
        else:
            scene, store = _imagine(prompt or "", picture, settings, torch_device, seed, steps, extent, stages), None
        with stages.stage("levelling"):
            gaussians, cameras, notes = place_upright(scene, seed)
        provenance = Provenance(
            kind="static",
            prompt=prompt or None,
            input_sha256=None if picture is None else picture.sha256,
            seed=seed,
            model=settings.family,
            model_sha256=scene.model_sha256,
            notes=notes,
        )
        made = finish_environment(gaussians, cameras, target, provenance, stages, collider)
        if store is not None:
            store.discard()
        return made


@contextmanager
def deterministic_kernels() -> Iterator[None]:
    """Have torch pick kernels that give the same bytes every time, and put its settings back.

    Fresh memory is not filled, which torch would do besides, with hundreds of kernels in a pass of a network; nothing
    here reads what it has not written.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic  # A property that no stub knows.
    filled, memory.fill_uninitialized_memory = memory.fill_uninitialized_memory, False
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = filled


def cores_beside(device: torch.device) -> AbstractContextManager[None]:
    """How many cores torch has: beside a GPU its loops on the CPU are short, and dozens of threads would only wait."""
    return torch_on(_CORES_BESIDE_GPU) if device.type == "cuda" else nullcontext()


@lru_cache(maxsize=1)
def load_model(folder: Path, device: torch.device) -> tuple[VideoModel, MiniDecoder]:
    """The networks, which stay loaded for the next scene."""
    from diffusers import AutoencoderKLCosmos, CosmosTransformer3DModel

    denoiser: CosmosTransformer3DModel = load_network(CosmosTransformer3DModel, folder / "diffusion", device)
    tokenizer = accelerate_tokenizer(load_network(AutoencoderKLCosmos, folder / "tokenizer", device))
    depth = load_network(DepthNetwork, folder / "depth", device)
    return VideoModel(tokenizer, depth, denoiser), load_network(MiniDecoder, folder / "decoder", device)


def _imagine(
    prompt: str,
    picture: Picture | None,
    settings: Preset,
    device: torch.device,
    seed: int,
    steps: int | None,
    extent: str,
    stages: Stages,
) -> ImaginedScene:
    """What the embedded model makes of a prompt or a picture."""
    generator = torch.Generator(device).manual_seed(seed)
    notes: list[str] = []
    with stages.stage("load model"):
        model, decoder = load_model(PACKAGED_WEIGHTS, device)
        text = encode_text([prompt], device)

    with stages.stage("picture"):
        if picture is None:
            noise = draw_noise(settings.picture_candidates, 1, settings.height, settings.width, generator)
            frames, latents = picture_from_text(
                model,
                text.expand(settings.picture_candidates, -1, -1),
                noise,
                steps=settings.picture_steps,
                guidance=settings.picture_guidance,
                on_step=lambda i: stages.report(i / settings.picture_steps),
            )
            fov = math.radians(settings.picture_fov_deg)
        else:
            notes.extend(picture.notes)
            frames = (picture.rgb * 2 - 1).to(device)[None]
            latents = latent_of_picture(model, frames)
            fov = picture.fov_x_rad
            if fov is None:
                fov = estimate_fov(model.depth, frames[0])
                notes.append(
                    f"the field of view was estimated from the picture: {math.degrees(fov):.0f} degrees across after "
                    "cropping; sizes and distances depend on it. Give --fov if it is known."
                )

    with stages.stage("depth"):
        intrinsics = intrinsics_from_fov(fov, settings.width, settings.height).to(device, torch.float32)
        depths = [estimate_depth(model.depth, frame, fov) for frame in frames]
        grounds = [find_ground(depth / depth.median(), intrinsics, np.random.default_rng(seed)) for depth in depths]
        floor_shares = [0.0 if ground is None else float(ground.pixels.float().mean()) for ground in grounds]
        # A room grows from floor and walls: a picture of nothing but floor would cut its walls off.
        worth = [min(share, 1 - share) if extent == "room" else share for share in floor_shares]
        chosen = worth.index(max(worth))
        frame, first, depth, ground = frames[[chosen]], latents[[chosen]], depths[chosen], grounds[chosen]
        metres_per_unit = float(depth.median())
    video_steps = steps or settings.video_steps

    if extent == "room":
        if ground is None:
            raise InputError("the picture shows no floor from which a room could grow; take another, or --extent view.")
        anchor = Anchor(frame[0], depth / metres_per_unit, ground, torch.eye(4, device=device))
        gaussians, cameras = make_room(
            model, decoder, anchor, intrinsics, text, metres_per_unit, settings, generator, video_steps, stages
        )
        notes.append("the room was imagined all around the first picture; what that does not show follows the prompt.")
        digest = digest_folder(PACKAGED_WEIGHTS)
        return ImaginedScene(gaussians, cameras, ground, metres_per_unit, tuple(notes), digest)

    with stages.stage("trajectories"):
        camera_to_first = six_trajectories(settings.num_frames, generator, device)
        latent_frames = (settings.num_frames - 1) // TEMPORAL_COMPRESSION + 1
        noise = draw_noise(len(TRAJECTORY_NAMES), latent_frames, settings.height, settings.width, generator)
        imagined = imagine(
            model,
            frame,
            first,
            depth[None] / metres_per_unit,
            intrinsics[None],
            camera_to_first[None],
            text,
            noise,
            steps=video_steps,
            on_step=lambda i: stages.report((i + 1) / (video_steps + 1)),
        )
        cameras = trajectory_cameras(camera_to_first, intrinsics, settings.width, settings.height)
        video = VideoLatents(imagined.latents[0], imagined.cache_depth[0], cameras, settings.num_frames)

    with stages.stage("splats"):
        gaussians = decode(decoder, video, settings.max_gaussians).to("cpu")
    return ImaginedScene(
        gaussians, cameras.to("cpu"), ground, metres_per_unit, tuple(notes), digest_folder(PACKAGED_WEIGHTS)
    )
