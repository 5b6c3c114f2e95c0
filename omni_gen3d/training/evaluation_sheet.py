"""``omni-gen3d eval sheet``: what held-out prompts become, four views of each, by one or two sets of weights."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from omni_gen3d.checkpoints import digest_folder, load_network
from omni_gen3d.config import load_preset
from omni_gen3d.decoder.mini import MiniDecoder, decode
from omni_gen3d.errors import InputError
from omni_gen3d.render import render
from omni_gen3d.render.picture import color_to_image
from omni_gen3d.training.clips import TEXT_FOCAL, caption_pictures, sample_pictures
from omni_gen3d.training.decoder import load_video_model
from omni_gen3d.training.rasterize import FAR, NEAR
from omni_gen3d.training.scenes import first_frames_from_prompts, imagine_latents
from omni_gen3d.training.scoring import seventh_trajectory
from omni_gen3d.training.worlds import world_generator
from omni_gen3d.types import Cameras
from omni_gen3d.video.imagine import VideoModel
from omni_gen3d.video.trajectories import TRAJECTORY_NAMES

MAX_PROMPTS = 64
_PROMPTS_A_SHEET = 8
_ENDS = tuple(TRAJECTORY_NAMES.index(name) for name in ("left", "right"))
_FONT_PX, _LINE_PX, _MARGIN_PX, _PIXELS_A_LETTER = 15, 18, 4, 7.5
_JPEG_QUALITY = 80


def write_sheets(
    weights: Path,
    prompts: int,
    device: torch.device | str,
    out: Path,
    seed: int = 0,
    *,
    against: Path | None = None,
    report: Callable[[str], None] = lambda text: None,
    height: int = 176,
    width: int = 320,
    num_frames: int = 17,
) -> list[Path]:
    """Make scenes of the captions of held-out worlds, the first ones of a seed, and render them as they are.

    Of each: the first camera, the ends of the trajectories to the left and to the right, and the end of a seventh that
    nothing was imagined along. With two sets of weights every scene has two rows, from the same prompt and noise. A row
    is a file of its own, named after all that it depends on but the code: a run that was stopped goes on where it was.

    Args:
        weights: Folder with tokenizer, depth, diffusion and decoder.
        prompts: How many.
        device: Where the networks run.
        out: Folder for the rows and for sheet_1.jpg and so on, eight prompts on each.
        seed: Of worlds and noise.
        against: Folder of other weights, whose rows stand above.
        report: Takes a line of progress.
        height: Of the pictures, divisible by 16.
        width: Of the pictures, divisible by 16.
        num_frames: Of each trajectory, 8 (T - 1) + 1.

    Returns:
        The sheets.

    Raises:
        InputError: Weights are missing, or the number is out of range.
    """
    if not 1 <= prompts <= MAX_PROMPTS:
        raise InputError(f"the number of prompts is {prompts}; it must lie between 1 and {MAX_PROMPTS}.")
    place = torch.device(device)
    captions = _heldout_captions(prompts, seed, place, height, width)
    painters = [_Painter(folder, place) for folder in ((weights,) if against is None else (against, weights))]
    out.mkdir(parents=True, exist_ok=True)
    rows: list[list[Path]] = []
    for index, caption in enumerate(captions):
        rows.append([])
        for painter in painters:
            told = f"{painter.digest} {place.type} {seed} {width} {height} {num_frames} {caption}"
            row = out / f"{index + 1:02}-{hashlib.sha256(told.encode()).hexdigest()[:12]}.png"
            rows[-1].append(row)
            if row.exists():
                continue
            report(f"{index + 1} of {prompts}, {painter.folder}: {caption}")
            generator = torch.Generator(place).manual_seed(seed * MAX_PROMPTS + index)
            staging = row.with_suffix(".part")
            painter.four_views(caption, generator, height, width, num_frames).save(staging, format="PNG")
            staging.replace(row)
    sheets = []
    for first in range(0, prompts, _PROMPTS_A_SHEET):
        part = slice(first, first + _PROMPTS_A_SHEET)
        sheets.append(out / f"sheet_{len(sheets) + 1}.jpg")
        _sheet(captions[part], rows[part]).save(sheets[-1], quality=_JPEG_QUALITY)
    return sheets


def _heldout_captions(count: int, seed: int, device: torch.device, height: int, width: int) -> list[str]:
    """Drawn one by one, so that the first ones do not depend on how many there are."""
    generator, rng = world_generator(seed, "heldout", device), np.random.default_rng(seed)
    captions = []
    for _ in range(count):
        captions += caption_pictures(*sample_pictures(1, height, width, generator, (TEXT_FOCAL, TEXT_FOCAL)), rng)
    return captions


class _Painter:
    """One set of weights."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.folder = folder
        self.model: VideoModel = load_video_model(folder / "tokenizer", folder / "depth", folder / "diffusion", device)
        self.decoder: MiniDecoder = load_network(MiniDecoder, folder / "decoder", device)
        self.digest = digest_folder(folder)

    @torch.no_grad()
    def four_views(
        self, caption: str, generator: torch.Generator, height: int, width: int, num_frames: int
    ) -> Image.Image:
        """One scene, its views side by side."""
        first = first_frames_from_prompts(self.model, [caption], height, width, generator)
        video = imagine_latents(self.model, first, num_frames, generator)
        gaussians = decode(self.decoder, video, load_preset("mini").max_gaussians)
        ends = video.cameras.world_to_camera.unflatten(0, (-1, num_frames))[:, -1]
        seventh = torch.linalg.inv(seventh_trajectory(num_frames, generator.device)[-1])
        poses = torch.stack([torch.eye(4).to(seventh), *(ends[index] for index in _ENDS), seventh])
        cameras = Cameras(poses, first.intrinsics.expand(len(poses), 3, 3), width, height)
        color = render(gaussians, cameras, near=NEAR, far=FAR).color
        return Image.fromarray(color_to_image(color.transpose(0, 1).flatten(1, 2)))


def _sheet(captions: list[str], rows: list[list[Path]]) -> Image.Image:
    """Every caption above its rows, on white."""
    pictures = [[Image.open(path, formats=("PNG",)) for path in paths] for paths in rows]
    width, height = pictures[0][0].size
    lines = [textwrap.wrap(caption, int(width / _PIXELS_A_LETTER)) for caption in captions]
    block_px = [
        _LINE_PX * len(text) + (height + _MARGIN_PX) * len(row) for text, row in zip(lines, pictures, strict=True)
    ]
    sheet = Image.new("RGB", (width, sum(block_px)), "white")
    draw, font, y = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_PX), 0
    for text, row in zip(lines, pictures, strict=True):
        for line in text:
            draw.text((_MARGIN_PX, y), line, fill="black", font=font)
            y += _LINE_PX
        for picture in row:
            sheet.paste(picture, (0, y))
            y += height + _MARGIN_PX
    return sheet
