"""``omni-gen3d eval photos``: depth and renders of real photographs, beside what knows nothing of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from omni_gen3d.checkpoints import load_network
from omni_gen3d.decoder.mini import MiniDecoder, decode
from omni_gen3d.render import render
from omni_gen3d.training.decoder import MAX_GAUSSIANS, load_video_model
from omni_gen3d.training.losses import psnr
from omni_gen3d.training.photos import Photo, garage, pairs
from omni_gen3d.training.preview import write_contact_sheet
from omni_gen3d.training.rasterize import FAR, NEAR
from omni_gen3d.training.scenes import first_frames_from_pictures, imagine_latents
from omni_gen3d.types import Cameras
from omni_gen3d.video.depth import DepthNetwork, estimate_depth, estimate_fov

MAX_ALIGNED_ABSREL = 0.12
_SHOWN = 8  # best and worst renders on a sheet
_PLANE_ROUNDS = 30
_GREYS_M = (0.5, 12.0)  # depths shown as black and white


@dataclass(frozen=True)
class DepthScore:
    """Of one photograph; relative errors are means of |estimate - truth| / truth over the measured pixels.

    Attributes:
        absrel: Of the depth as it is estimated, in metres.
        aligned_absrel: Once its median is brought to the truth's.
        constant_absrel: Of the true median everywhere.
        plane_absrel: Of the inverse depth that is linear in the pixel and fits best.
        near_share: Of the pixels are within a factor of 1.25, aligned.
        fov_error_deg: Of the field of view that is estimated where none is given.
        measured_share: Of the pixels have a measured depth.
    """

    absrel: float
    aligned_absrel: float
    constant_absrel: float
    plane_absrel: float
    near_share: float
    fov_error_deg: float
    measured_share: float


def score_depth(network: DepthNetwork, photo: Photo, device: torch.device | str) -> tuple[DepthScore, torch.Tensor]:
    """The score of one photograph whose field of view is given, and the aligned depth ``(H, W)`` [m]."""
    fov = 2 * float(torch.atan(photo.depth.shape[1] / 2 / photo.intrinsics[0, 0]))
    picture = (photo.rgb * 2 - 1).to(device)
    depth = estimate_depth(network, picture, fov).cpu()
    known = photo.depth.isfinite()
    truth, estimate = photo.depth[known], depth[known]
    aligned = depth * (truth.median() / estimate.median())
    ratio = aligned[known] / truth
    score = DepthScore(
        absrel=_absrel(estimate, truth),
        aligned_absrel=_absrel(aligned[known], truth),
        constant_absrel=_absrel(truth.median().expand_as(truth), truth),
        plane_absrel=_absrel(_fitted_plane(photo.depth)[known], truth),
        near_share=float((torch.maximum(ratio, 1 / ratio) < 1.25).float().mean()),
        fov_error_deg=abs(float(np.degrees(estimate_fov(network, picture) - fov))),
        measured_share=float(known.float().mean()),
    )
    return score, aligned


def _absrel(estimate: torch.Tensor, truth: torch.Tensor) -> float:
    return float(((estimate - truth).abs() / truth).mean())


def _fitted_plane(depth: torch.Tensor) -> torch.Tensor:
    """Depth whose inverse is linear in the pixel, of least mean |1 - depth / plane|: least squares, reweighted."""
    height, width = depth.shape
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    basis = torch.stack([torch.ones_like(x), x, y], -1).double()
    known = depth.isfinite()
    rows = basis[known] * depth[known].double()[:, None]
    weights = torch.ones(len(rows), dtype=torch.float64)
    for _ in range(_PLANE_ROUNDS):
        scaled = weights.sqrt()[:, None]
        plane = torch.linalg.lstsq(rows * scaled, scaled).solution[:, 0]
        weights = 1 / (1 - rows @ plane).abs().clamp(min=1e-3)
    return (1 / (basis @ plane).clamp(min=1e-3)).float()


def evaluate_photos(
    weights: Path,
    device: torch.device | str,
    *,
    folder: Path | None = None,
    against: Path | None = None,
    out: Path | None = None,
    seed: int = 0,
    height: int = 176,
    width: int = 320,
    num_frames: int = 17,
) -> dict[str, Any]:
    """Measure a mini model on real photographs; no network has seen them, nor their truth.

    Args:
        weights: Folder with depth, and for ``out`` with tokenizer, diffusion and decoder.
        device: Where the networks run.
        folder: Of rectified pairs, see ``photos.pairs``; without, only the garage is measured.
        against: Folder of other weights, whose depth is measured beside.
        out: Folder for sheets: depth.png, every photograph with its true and its estimated depth, nearer is darker;
            best.png and worst.png, photographs of both cameras of the pairs beside renders, by the render's PSNR.
        seed: Of the noise of what is imagined.
        height: Of the pictures, divisible by 16.
        width: Of the pictures, divisible by 16.
        num_frames: Of each trajectory, 8 (T - 1) + 1.

    Returns:
        device, photos (a score of each, by name), rows (name, value, against, meaning) and checks; with ``out`` also
        renders, the PSNR of both cameras' by the photograph's name.

    Raises:
        InputError: Weights or pairs are missing.
    """
    photos = [garage(width, height)] + ([] if folder is None else pairs(folder, width, height))
    networks = [load_network(DepthNetwork, path / "depth", device) for path in (weights, against) if path is not None]
    measured = [[score_depth(network, photo, device) for photo in photos] for network in networks]
    scores = [[score for score, _ in column] for column in measured]
    rows = [_row(name, scores, figure, meaning) for name, figure, meaning in _figures(photos)]
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else "cpu",
        "photos": {photo.name: vars(score) for photo, score in zip(photos, scores[0], strict=True)},
        "rows": rows,
        "checks": [
            _at_most("garage, aligned depth error", scores[0][0].aligned_absrel, MAX_ALIGNED_ABSREL),
            _at_most("the same, against a fitted plane", scores[0][0].aligned_absrel, scores[0][0].plane_absrel),
        ],
    }
    if out is not None:
        shown = [
            torch.stack([photo.rgb, _grey(photo.depth), _grey(aligned)])
            for photo, (_, aligned) in zip(photos, measured[0], strict=True)
        ]
        write_contact_sheet(torch.cat(shown), out / "depth.png", columns=6)
        result["renders"] = _write_renders(weights, photos, device, out, seed, num_frames)
    return result


def _figures(photos: list[Photo]) -> list[tuple[str, Any, str]]:
    others = slice(1, None)
    figures: list[tuple[str, Any, str]] = [
        ("garage_aligned_absrel", lambda s: s[0].aligned_absrel, "depth of the garage, scale-aligned"),
        ("garage_constant_absrel", lambda s: s[0].constant_absrel, "of a constant"),
        ("garage_plane_absrel", lambda s: s[0].plane_absrel, "of the best plane of inverse depth"),
        ("garage_absrel", lambda s: s[0].absrel, "in metres, as estimated"),
        ("garage_near_share", lambda s: s[0].near_share, "of its pixels within a factor of 1.25, scale-aligned"),
        ("garage_fov_error_deg", lambda s: s[0].fov_error_deg, "field of view when none is given"),
    ]
    if len(photos) > 1:
        for field, meaning in (
            ("aligned_absrel", "scale-aligned"),
            ("constant_absrel", "of a constant"),
            ("plane_absrel", "of the best plane of inverse depth"),
            ("absrel", "in metres, as estimated"),
            ("fov_error_deg", "field of view when none is given"),
        ):
            mean = f"mean over {len(photos) - 1} grey pairs: {meaning}"
            figures.append((f"pairs_{field}", lambda s, f=field: fmean(getattr(x, f) for x in s[others]), mean))
    return figures


def _row(name: str, scores: list[list[DepthScore]], figure: Any, meaning: str) -> dict[str, Any]:
    values = [figure(column) for column in scores]
    return {"name": name, "value": values[0], "against": values[1] if len(values) > 1 else None, "meaning": meaning}


def _at_most(name: str, value: float, target: float) -> dict[str, Any]:
    return {"name": name, "value": value, "target": target, "ok": value <= target, "at_most": True}


def _grey(depth: torch.Tensor) -> torch.Tensor:
    """Depth as grey, ``(3, H, W)``: black is near, white far or unknown."""
    low, high = (float(np.log(limit)) for limit in _GREYS_M)
    return ((depth.log().nan_to_num(nan=high) - low) / (high - low)).clamp(0, 1).expand(3, -1, -1)


def _write_renders(
    weights: Path, photos: list[Photo], device: torch.device | str, out: Path, seed: int, num_frames: int
) -> dict[str, dict[str, float]]:
    """Scenes of all photographs, seen by the camera that took the picture and by the second one of the pair."""
    model = load_video_model(weights / "tokenizer", weights / "depth", weights / "diffusion", torch.device(device))
    decoder = load_network(MiniDecoder, weights / "decoder", device)
    generator = torch.Generator(device).manual_seed(seed)
    found: list[tuple[float, torch.Tensor]] = []
    figures: dict[str, dict[str, float]] = {}
    for photo in photos:
        pictures, intrinsics = photo.rgb[None].to(device), photo.intrinsics[None].to(device)
        first = first_frames_from_pictures(model, pictures, intrinsics, [""])
        video = imagine_latents(model, first, num_frames, generator)
        with torch.no_grad():
            gaussians = decode(decoder, video, MAX_GAUSSIANS)
        known = photo.depth.isfinite()
        unit = float(photo.depth[known].median() / first.depth[0].cpu()[known].median())
        beside = torch.eye(4, device=device)
        beside[0, 3] = photo.baseline_m / unit
        height, width = photo.depth.shape
        figures[photo.name] = {}
        for name, camera, lens, truth in (
            ("input_psnr_db", torch.eye(4, device=device), photo.intrinsics, photo.rgb),
            ("second_camera_psnr_db", beside, photo.other_intrinsics, photo.other),
        ):
            view = Cameras(torch.linalg.inv(camera)[None], lens[None].to(device), width, height)
            shown = render(gaussians, view, near=NEAR, far=FAR).color[0].permute(2, 0, 1).cpu().clamp(0, 1)
            figures[photo.name][name] = psnr(shown, truth)
            found.append((figures[photo.name][name], torch.stack([truth, shown])))
    found.sort(key=lambda row: -row[0])
    write_contact_sheet(torch.cat([pair for _, pair in found[:_SHOWN]]), out / "best.png", columns=4)
    write_contact_sheet(torch.cat([pair for _, pair in found[-_SHOWN:]]), out / "worst.png", columns=4)
    return figures
