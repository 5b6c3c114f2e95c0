"""What surfaces look like up close: planks, tiles, bricks, fabric, as factors on an albedo.

Every pattern fades out before its period falls below the pixel's footprint, so pictures carry no aliasing.
"""

from __future__ import annotations

import torch

from omni_gen3d.training.looks import MATERIALS

Channels = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def smoothstep(x: torch.Tensor) -> torch.Tensor:
    """Cubic ramp from 0 at x <= 0 to 1 at x >= 1."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def cell_hash(i: torch.Tensor, j: torch.Tensor, seed: torch.Tensor) -> torch.Tensor:
    """A fixed pseudo-random number in [0, 1) for each integer cell and seed."""
    wave = torch.sin(i * 12.9898 + j * 78.233 + seed * 3.17) * 43758.5453
    return wave - torch.floor(wave)


def value_noise(u: torch.Tensor, v: torch.Tensor, seed: torch.Tensor) -> torch.Tensor:
    """Smooth noise in [-0.5, 0.5] with features of size 1."""
    i, j = torch.floor(u), torch.floor(v)
    a, b = smoothstep(u - i), smoothstep(v - j)
    low = cell_hash(i, j, seed) * (1 - a) + cell_hash(i + 1, j, seed) * a
    high = cell_hash(i, j + 1, seed) * (1 - a) + cell_hash(i + 1, j + 1, seed) * a
    return low * (1 - b) + high * b - 0.5


def resolved(period: torch.Tensor | float, footprint: torch.Tensor) -> torch.Tensor:
    """1 where a pattern of this period [m] is well resolved, falling to 0 where it would alias."""
    return smoothstep(1.6 - 4 * footprint / period)


def line(distance: torch.Tensor, half_width: float, footprint: torch.Tensor) -> torch.Tensor:
    """Coverage of a pixel by a line of the given half width [m] at ``distance`` [m]."""
    soft = half_width + footprint
    strength = (2 * half_width / (footprint + 2 * half_width)).clamp(max=1)
    return (1 - smoothstep(distance / soft)) * strength


def pattern(
    material: torch.Tensor, u: torch.Tensor, v: torch.Tensor, seed: torch.Tensor, footprint: torch.Tensor
) -> Channels:
    """Factors on red, green and blue of the albedo.

    Args:
        material: Index into ``MATERIALS``.
        u, v: Surface coordinates [m]; v is height on upright surfaces.
        seed: Any number, one per primitive.
        footprint: Size of a pixel on the surface [m].

    Returns:
        Three factors around 1, of the common shape of the arguments.
    """
    stain = value_noise(u * 1.6, v * 1.6, seed)
    brightness = 1 + _select(
        material,
        plain=0.03 * stain,
        wood=_planks(u, v, seed, footprint) + 0.04 * stain,
        tile=_tiles(u, v, seed, footprint) + 0.03 * stain,
        concrete=0.12 * stain + 0.08 * value_noise(u * 5, v * 5, seed + 5) * resolved(0.2, footprint),
        metal=0.05 * stain + 0.06 * torch.cos(v * 9 + seed) * resolved(0.7, footprint),
        cardboard=0.05 * stain + 0.28 * line(u.abs(), 0.035, footprint),
        fabric=0.04 * stain + 0.10 * value_noise(u * 14, v * 14, seed + 3) * resolved(0.07, footprint),
        brick=_bricks(u, v, seed, footprint) + 0.05 * stain,
        corrugated=0.22 * torch.cos(u * 31.4) * resolved(0.2, footprint) + 0.04 * stain,
    )
    red, green, blue = _book_spines(u, v, seed, footprint)
    shelf = material == MATERIALS.index("books")
    return (
        torch.where(shelf, red, brightness),
        torch.where(shelf, green, brightness),
        torch.where(shelf, blue, brightness),
    )


def _select(material: torch.Tensor, **patterns: torch.Tensor) -> torch.Tensor:
    value = torch.zeros_like(next(iter(patterns.values())))
    for name, tensor in patterns.items():
        value = torch.where(material == MATERIALS.index(name), tensor, value)
    return value


def _planks(u: torch.Tensor, v: torch.Tensor, seed: torch.Tensor, footprint: torch.Tensor) -> torch.Tensor:
    width, length = 0.16, 1.4
    row = torch.floor(v / width)
    across = v / width - row
    along = u / length + cell_hash(row, seed, seed)
    board = torch.floor(along)
    along = along - board
    seam = torch.minimum(torch.minimum(across, 1 - across) * width, torch.minimum(along, 1 - along) * length)
    tone = 0.26 * (cell_hash(row, board, seed) - 0.5) * resolved(width, footprint)
    grain = 0.12 * value_noise(u * 1.5, v * 24, seed + 7) * resolved(0.05, footprint)
    return tone + grain - 0.35 * line(seam, 0.003, footprint)


def _tiles(u: torch.Tensor, v: torch.Tensor, seed: torch.Tensor, footprint: torch.Tensor) -> torch.Tensor:
    side = 0.45
    i, j = torch.floor(u / side), torch.floor(v / side)
    a, b = u / side - i, v / side - j
    joint = torch.minimum(torch.minimum(a, 1 - a), torch.minimum(b, 1 - b)) * side
    return 0.08 * (cell_hash(i, j, seed) - 0.5) * resolved(side, footprint) - 0.42 * line(joint, 0.006, footprint)


def _bricks(u: torch.Tensor, v: torch.Tensor, seed: torch.Tensor, footprint: torch.Tensor) -> torch.Tensor:
    height, length = 0.12, 0.36
    course = torch.floor(v / height)
    across = v / height - course
    along = u / length + 0.5 * (course - 2 * torch.floor(course / 2))
    brick = torch.floor(along)
    along = along - brick
    joint = torch.minimum(torch.minimum(across, 1 - across) * height, torch.minimum(along, 1 - along) * length)
    tone = 0.30 * (cell_hash(brick, course, seed) - 0.5) * resolved(height, footprint)
    return tone + 0.75 * line(joint, 0.007, footprint) * resolved(height, footprint)


def _book_spines(u: torch.Tensor, v: torch.Tensor, seed: torch.Tensor, footprint: torch.Tensor) -> Channels:
    """Books side by side in rows: two boards, each with a gap of varying height above the books."""
    width, row_height = 0.075, 0.40
    row, book = torch.floor(v / row_height), torch.floor(u / width)
    fade = resolved(width, footprint)
    top = 0.72 + 0.2 * cell_hash(row, book, seed + 2)
    gap = smoothstep((v / row_height - row - top) * row_height / (0.01 + footprint))
    seam = line(torch.minimum(u / width - book, 1 - (u / width - book)) * width, 0.004, footprint)
    shade = (1 - 0.35 * seam * fade) * (1 - 0.75 * gap)
    hue = cell_hash(row, book, seed) * 6.283
    value = 0.95 + 0.5 * (cell_hash(book, row, seed + 1) - 0.5) * fade
    red, green, blue = ((value + 0.5 * fade * torch.cos(hue - k * 2.094)) * shade for k in range(3))
    return red, green, blue
