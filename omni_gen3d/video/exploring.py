"""The anchor moves: from one picture of a room to pictures all around, each grown out of what the others know.

At every station the 3D cache of all pictures so far is warped into the next camera; the diffusion model completes the
picture from it, as it was trained to, and from the text; what is known also replaces its prediction at every noise
level (Lugmayr et al. 2022, "RePaint"); the depth of the new picture is estimated and bent until it continues the known
depth; what shows the floor is laid on the floor's plane, which is known since the first picture. The floor of the
clearing (clearing.py) is shown to the model as a sketch: it holds at the coarse noise levels, the fine ones paint over
it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from omni_gen3d.geometry import fov_x, pixel_rays
from omni_gen3d.types import Ground
from omni_gen3d.video.cache3d import Warp, latent_coverage, nearest, warp
from omni_gen3d.video.clearing import Clearing
from omni_gen3d.video.depth import estimate_depth
from omni_gen3d.video.diffusion import denoise_guided, evaluations, make_scheduler, warp_condition
from omni_gen3d.video.ground import ground_seen
from omni_gen3d.video.imagine import VideoModel, draw_noise, latent_of_picture
from omni_gen3d.video.tokenizer import decode_raw, to_raw_domain

# Left and right in turn, so that errors have but half a circle to grow in; the last view sees both ends.
RING_DEG = (45, -45, 90, -90, 135, -135, 180)
# Between these noise levels every step is taken this often: what is new has to come to terms with what is known.
_HARMONISED, _ROUNDS = (0.3, 20.0), 2
# From this noise level down what is only sketched may change.
_SKETCHED = 1.0
# Depths that differ by less than this factor from the floor's show it.
_FLOOR_TOLERANCE = 1.15
# Cells this close to the edge of the known are imagined again, and pixels this close blended.
_SEAM_CELLS, _SEAM_PX = 1, 7
# Reach of the known depth's say over the depth beside it, as a share of the picture's width.
_BEND_REACH = 0.12
_MAX_BEND = 0.5
# A picture takes part in the cache of cameras that look less than this far from where it looked.
_MAX_TURN_DEG = 100.0


@dataclass(frozen=True)
class Anchor:
    """A picture of the room and where it was taken; lengths in scene units, all in the first camera's frame.

    Attributes:
        picture: In [-1, 1], shape ``(3, H, W)``.
        depth: Along z, shape ``(H, W)``.
        ground: The floor in this camera's frame.
        camera_to_first: Shape ``(4, 4)``.
    """

    picture: torch.Tensor
    depth: torch.Tensor
    ground: Ground
    camera_to_first: torch.Tensor


def turn(degrees: float, ground: Ground) -> torch.Tensor:
    """The first camera turned on the spot about the vertical: camera to first camera, shape ``(4, 4)``."""
    angle, (x, y, z) = math.radians(degrees), ground.up.tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    camera_to_first = torch.eye(4)
    camera_to_first[:3, :3] += math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    return camera_to_first


def known_from(
    anchors: Sequence[Anchor], intrinsics: torch.Tensor, camera_to_first: torch.Tensor, unit: float = 1.0
) -> Warp:
    """The cache of all pictures that look roughly where the cameras look.

    Args:
        anchors: The pictures, the most trusted first.
        intrinsics: Of every camera, shape ``(3, 3)``.
        camera_to_first: Scene units, shape ``(L, 4, 4)``.
        unit: Of the depth that is returned [scene units].
    """
    ahead = camera_to_first[0, :3, 2]
    limit = math.cos(math.radians(_MAX_TURN_DEG))
    seen = []
    for anchor in anchors:
        if float(anchor.camera_to_first[:3, 2] @ ahead) > limit:
            relative = torch.linalg.inv(anchor.camera_to_first) @ camera_to_first
            relative[:, :3, 3] /= unit
            seen.append(warp(anchor.picture[None], anchor.depth[None] / unit, intrinsics[None], relative[None]))
    return nearest(seen)


def on_floor(first: Anchor, clearing: Clearing, intrinsics: torch.Tensor) -> Anchor:
    """The first picture with all of its floor: what was found, and what is close to the floor in the clearing."""
    reach, through_floor = clearing.seen_by(first.camera_to_first, intrinsics, *first.depth.shape)
    near = through_floor & ((first.depth / reach).log().abs() < math.log(_FLOOR_TOLERANCE))
    return replace(first, ground=replace(first.ground, pixels=first.ground.pixels | near.cpu()))


def sketch(known: Warp, reach: torch.Tensor, through_floor: torch.Tensor, colour: torch.Tensor) -> Warp:
    """What is known and, where nothing is, the floor of the clearing in the colours of the floor around it.

    Args:
        known: One frame, shape ``(1, 3, 1, H, W)``.
        reach: Depth at which each ray leaves the clearing, shape ``(H, W)``.
        through_floor: Which rays do so through its floor, shape ``(H, W)``, bool.
        colour: Of floor in views that know none of it, shape ``(3,)``.
    """
    laid = through_floor & (known.mask[0, 0, 0] == 0)
    shows_floor = through_floor & (known.depth[0, 0, 0] > reach / _FLOOR_TOLERANCE)
    paint = colour[:, None, None].expand(known.rgb[0, :, 0].shape)
    if shows_floor.any():
        paint = filled(known.rgb[:, :, 0], shows_floor[None, None].float())[0]
    return Warp(
        rgb=torch.where(laid, paint[None, :, None], known.rgb),
        mask=torch.where(laid, 1.0, known.mask),
        depth=torch.where(laid, reach, known.depth),
    )


def explore(
    model: VideoModel,
    first: Anchor,
    clearing: Clearing,
    intrinsics: torch.Tensor,
    text: torch.Tensor,
    metres_per_unit: float,
    generator: torch.Generator,
    *,
    candidates: int,
    steps: int,
    guidance: float,
    on_step: Callable[[float], None],
) -> list[Anchor]:
    """Pictures all around the first camera, the first among them.

    Args:
        model: The trained networks.
        first: The picture that everything grows from, its camera the origin.
        clearing: What later pictures keep free.
        intrinsics: Of every camera, shape ``(3, 3)``.
        text: Token vectors, shape ``(1, S, 384)``.
        metres_per_unit: Metres in a scene unit.
        generator: Of the noise, on the networks' device.
        candidates: Pictures made for each camera, of which the one that shows most floor is taken.
        steps: Noise levels of each picture.
        guidance: Classifier-free guidance of each picture.
        on_step: Called with the finished share; may raise to stop.
    """
    anchors = [first]
    floor_colour = first.picture[:, first.ground.pixels.to(first.picture.device)].mean(1)
    for i, degrees in enumerate(RING_DEG):
        camera = turn(degrees, first.ground).to(intrinsics)
        known = known_from(anchors, intrinsics, camera[None])
        reach, through_floor = clearing.seen_by(camera, intrinsics, *first.depth.shape)
        expected = sketch(known, reach, through_floor, floor_colour)

        def report(share: float, done: int = i) -> None:
            on_step((done + share) / len(RING_DEG))

        pictures = complete_pictures(
            model, known, expected, text, generator, count=candidates, steps=steps, guidance=guidance, on_step=report
        )
        up = camera[:3, :3].T @ first.ground.up.to(camera)
        lens = float(fov_x(intrinsics, pictures.shape[-1]))
        grown = []
        for picture in pictures:
            estimate = estimate_depth(model.depth, picture, lens) / metres_per_unit
            depth, ground = settle_depth(
                estimate, expected.depth[0, 0, 0], reach, intrinsics, up, first.ground.camera_height
            )
            grown.append(Anchor(picture, depth, ground, camera))
        anchors.append(max(grown, key=lambda anchor: int(anchor.ground.pixels.sum())))
    return anchors


@torch.no_grad()
def complete_pictures(
    model: VideoModel,
    known: Warp,
    expected: Warp,
    text: torch.Tensor,
    generator: torch.Generator,
    *,
    count: int,
    steps: int,
    guidance: float,
    on_step: Callable[[float], None],
) -> torch.Tensor:
    """Pictures in [-1, 1], shape ``(B, 3, H, W)``, that show what is known and continue it as the text says.

    Args:
        model: The trained networks.
        known: One frame, shape ``(1, 3, 1, H, W)``.
        expected: The same, and what is only a sketch.
        text: Token vectors, shape ``(1, S, 384)``.
        generator: Of the noise.
        count: B, how many.
        steps: Noise levels.
        guidance: Classifier-free guidance.
        on_step: Called with the finished share; may raise to stop.
    """
    height, width = known.rgb.shape[-2:]
    target = latent_of_picture(model, filled(expected.rgb[:, :, 0], expected.mask[:, :, 0]))
    seen = warp_condition(latent_of_picture(model, expected.rgb[:, :, 0]), latent_coverage(expected.mask))
    seen = seen.expand(count, -1, -1, -1, -1)
    certain, sketched = _whole_cells(known.mask), _whole_cells(expected.mask)
    scheduler = make_scheduler()
    scheduler.set_timesteps(steps, device=generator.device)
    sigmas = scheduler.sigmas.to(generator.device)
    text = text.expand(count, -1, -1)
    latents = clean = draw_noise(count, 1, height, width, generator) * sigmas[0]
    for i in range(evaluations(steps)):
        on_step(i / steps)
        now, then = sigmas[i], sigmas[i + 1]
        rounds = _ROUNDS if _HARMONISED[0] < float(now) < _HARMONISED[1] else 1
        for round_ in range(rounds):
            sigma = now.expand(count)
            clean = denoise_guided(model.denoiser, latents, sigma, None, seen, text, guidance)
            clean = torch.where(sketched if float(now) > _SKETCHED else certain, target, clean)
            latents = clean + (latents - clean) * then / now
            if round_ + 1 < rounds:
                again = draw_noise(count, 1, height, width, generator)
                latents = latents + again * (now.square() - then.square()).sqrt()
    imagined = decode_raw(model.tokenizer, to_raw_domain(model.tokenizer, clean))[:, :, 0].clamp(-1, 1)
    mask = _eroded(known.mask[:, :, 0], _SEAM_PX // 2)
    share = F.avg_pool2d(F.pad(mask, [_SEAM_PX // 2] * 4, mode="replicate"), _SEAM_PX, stride=1)
    share = torch.where(mask > 0, share, 0.0)
    return torch.lerp(imagined, known.rgb[:, :, 0].clamp(-1, 1), share)


def _whole_cells(mask: torch.Tensor) -> torch.Tensor:
    """Latent cells that a mask ``(1, 1, 1, H, W)`` covers wholly, less those at its edge, ``(1, 1, 1, h, w)``, bool."""
    whole = (latent_coverage(mask)[:, :1] > 0.99).float()
    return _eroded(whole[:, :, 0], _SEAM_CELLS)[:, :, None] > 0


def _eroded(mask: torch.Tensor, reach: int) -> torch.Tensor:
    """A mask ``(B, 1, H, W)`` less what lies within ``reach`` of its holes; beyond the border nothing is missing."""
    return 1 - F.max_pool2d(1 - mask, 2 * reach + 1, stride=1, padding=reach)


def filled(rgb: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Colours ``(B, 3, H, W)``, outside the mask ``(B, 1, H, W)`` from ever coarser means of those inside it."""
    if max(rgb.shape[-2:]) < 2 or bool(mask.all()):
        return rgb
    weight = F.avg_pool2d(mask, 2, ceil_mode=True)
    coarse = F.avg_pool2d(rgb * mask, 2, ceil_mode=True) / weight.clamp(min=1e-6)
    around = F.interpolate(filled(coarse, (weight > 0).float()), rgb.shape[-2:], mode="bilinear", align_corners=False)
    return torch.where(mask > 0, rgb, around)


def settle_depth(
    estimate: torch.Tensor,
    known: torch.Tensor,
    reach: torch.Tensor,
    intrinsics: torch.Tensor,
    up: torch.Tensor,
    camera_height: float,
) -> tuple[torch.Tensor, Ground]:
    """Estimated depth that continues the known depth, keeps clear and lies flat on the floor, and the floor in it.

    The logarithm of known over estimated depth is spread from where it is known with a Gaussian, to its median far
    from there; what would stand in the clearing is moved to its border, and the floor's pixels are put on its plane.

    Args:
        estimate: Along z [scene units], shape ``(H, W)``.
        known: The same from the 3D cache and the sketch, 0 where unknown, shape ``(H, W)``.
        reach: Least depth of what is not known, shape ``(H, W)``.
        intrinsics: Shape ``(3, 3)``.
        up: The floor's normal in the camera's frame, shape ``(3,)``.
        camera_height: [scene units].
    """
    mask = (known > 0).float()
    ratio = torch.where(known > 0, (known.clamp(min=1e-3) / estimate).log(), 0.0).clamp(-_MAX_BEND, _MAX_BEND)
    depth = torch.maximum(estimate, reach)
    if mask.any():
        middle = ratio[known > 0].median()
        breadth = _BEND_REACH * estimate.shape[1]
        weight, total = (_blurred(x, breadth) for x in (mask, (ratio - middle) * mask))
        bend = middle + total / (weight + 0.02)
        depth = torch.where(known > 0, known, torch.maximum(estimate * bend.exp(), reach))
    ground = ground_seen(depth, intrinsics, up, camera_height)
    on_plane = -camera_height / (pixel_rays(intrinsics, *depth.shape) @ up)
    flat = ground.pixels.to(depth.device) & (on_plane > 0)
    return torch.where(flat, on_plane, depth), ground


def _blurred(image: torch.Tensor, deviation: float) -> torch.Tensor:
    """Gaussian blur of ``(H, W)``."""
    reach = math.ceil(3 * deviation)
    kernel = torch.exp(-torch.arange(-reach, reach + 1, device=image.device).square() / (2 * deviation**2))
    kernel = kernel / kernel.sum()
    rows = F.conv2d(F.pad(image[None, None], (0, 0, reach, reach)), kernel[None, None, :, None])
    return F.conv2d(F.pad(rows, (reach, reach, 0, 0)), kernel[None, None, None, :])[0, 0]
