"""Gaussians in groups that lie together, each at several levels of detail.

A camera takes of each group the coarsest level whose Gaussians stand for no more than a share of a pixel, so that what
it draws follows the pixels of the picture and not the number of Gaussians. The levels are built once for a set. All
levels of a group stand for the same Gaussians, so that neighbours may differ in level without a gap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch

from omni_gen3d.geometry import matrix_to_quat, quat_to_matrix
from omni_gen3d.types import Gaussians

GROUP_SIZE = 64
LEVELS = 6
# The smallest half that has all its digits; no splat is drawn thinner [m].
SMALLEST_HALF = 2.0**-14
SUPPORT_SIGMA = math.sqrt(2 * math.log(255))  # farther out no Gaussian is drawn
# Cells of the first merged level over the typical middle axis of a Gaussian.
_FIRST_CELL = 3.0
_FIELDS = ("means", "quats", "scales", "opacities", "sh")
# A level is kept where it has at most this share of the Gaussians of the level before.
_WORTH_KEEPING = 0.75


@dataclass(frozen=True)
class GroupedSplats:
    """A set of Gaussians, sorted into G groups, with the merged ones behind the originals.

    Attributes:
        gaussians: All levels; the first ``len(order)`` are the originals.
        order: Which of the given Gaussians each original is, shape ``(N,)``, int64.
        centres: Middle of each group, shape ``(G, 3)``.
        radii: No centre of the group is farther from there, shape ``(G,)``.
        reaches: No Gaussian of the group is seen farther from its own centre, shape ``(G,)``.
        first: Index of the first Gaussian of each level of each group, shape ``(G, LEVELS)``, int32.
        count: How many there are, shape ``(G, LEVELS)``, int32.
        size: How far apart what one Gaussian of the level stands for may lie, shape ``(LEVELS,)``, float32.
    """

    gaussians: Gaussians
    order: torch.Tensor
    centres: torch.Tensor
    radii: torch.Tensor
    reaches: torch.Tensor
    first: torch.Tensor
    count: torch.Tensor
    size: torch.Tensor


@torch.no_grad()
def group_splats(gaussians: Gaussians, *, merge: bool = True) -> GroupedSplats:
    """Sort a set along a space-filling curve, cut it into groups and build the levels.

    Args:
        gaussians: The set, on any device.
        merge: Whether to build levels; without, every level is the first.
    """
    order = _morton_order(gaussians.means)
    sorted_ones = gaussians[order]
    device, count = gaussians.means.device, len(gaussians)
    groups = -(-count // GROUP_SIZE)
    owner = torch.arange(count, device=device) // GROUP_SIZE
    first = torch.arange(groups, device=device)[:, None].mul(GROUP_SIZE).repeat(1, LEVELS)
    counts = torch.full((groups, LEVELS), GROUP_SIZE, device=device)
    counts[-1] = count - (groups - 1) * GROUP_SIZE
    size = torch.full((LEVELS,), math.inf)
    size[0] = 0
    parts, owners, total = [sorted_ones], [owner], count
    if merge and count > 1:
        cell = _FIRST_CELL * float(gaussians.scales.median(dim=1).values.median())
        for level in range(1, LEVELS):
            size[level] = cell * 2 ** (level - 1)
            merged, owner_of_merged = _merge(sorted_ones, owner, float(size[level]))
            number = torch.bincount(owner_of_merged, minlength=groups)
            kept = number <= _WORTH_KEEPING * counts[:, level - 1]
            chosen = kept[owner_of_merged]
            merged, owner_of_merged = merged[chosen], owner_of_merged[chosen]
            number = torch.where(kept, number, 0)
            begin = total + number.cumsum(0) - number
            first[:, level:] = torch.where(kept, begin, first[:, level - 1])[:, None]
            counts[:, level:] = torch.where(kept, number, counts[:, level - 1])[:, None]
            parts.append(merged)
            owners.append(owner_of_merged)
            total += len(merged)
    joined = parts[0] if len(parts) == 1 else Gaussians.joined(parts)
    centres, radii, reaches = _bounds(joined, torch.cat(owners), groups)
    return GroupedSplats(joined, order, centres, radii, reaches, first.int(), counts.int(), size)


def _morton_order(means: torch.Tensor) -> torch.Tensor:
    """Order along the Morton curve over a cube of 1024 cells a side."""
    low = means.min(0).values
    side = (means.max(0).values - low).max().clamp_min(1e-12)
    cells = ((means - low) / side * 1023).long()
    code = torch.zeros(len(means), dtype=torch.int64, device=means.device)
    for axis in range(3):
        bits = cells[:, axis]
        for shift, mask in ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249)):
            bits = (bits | (bits << shift)) & mask
        code |= bits << axis
    return code.argsort(stable=True)


def _merge(gaussians: Gaussians, owner: torch.Tensor, cell: float) -> tuple[Gaussians, torch.Tensor]:
    """One Gaussian for all of a group in a cell of a grid, with their mass, mean, covariance and mean colour.

    The mass of a Gaussian is the light it keeps back, the integral of ``-ln(1 - alpha)`` over a plane, seen from all
    around. A merged one that would have to be more than opaque is made wider instead.
    """
    means = gaussians.means
    corner = means.min(0).values
    cells = ((means - corner) / cell).long().clamp_max((1 << 13) - 1)
    key = ((owner << 39) | (cells[:, 0] << 26) | (cells[:, 1] << 13) | cells[:, 2]).contiguous()
    keys, cluster, members = key.unique(return_inverse=True, return_counts=True)
    count = len(keys)
    # Sorted by cluster, and summed one after the other: atomic additions would differ from run to run.
    together = cluster.argsort(stable=True)

    def sums(values: torch.Tensor) -> torch.Tensor:
        flat = values[together].flatten(1) if values.ndim > 1 else values[together]
        return torch.segment_reduce(flat, "sum", lengths=members, unsafe=True).reshape(count, *values.shape[1:])

    rotation, scales = quat_to_matrix(gaussians.quats), gaussians.scales
    mass = _extinction(gaussians.opacities) * _area(scales)
    total = sums(mass)
    share = mass / total[cluster].clamp_min(1e-30)
    # Around the middle of the cell: far from the origin single precision is too coarse for squares.
    middle = corner + (torch.stack([keys >> 26 & 0x1FFF, keys >> 13 & 0x1FFF, keys & 0x1FFF], 1) + 0.5) * cell
    away = means - middle[cluster]
    mean = sums(share[:, None] * away)
    away = away - mean[cluster]
    axes = rotation * scales[:, None]
    covariance = axes @ axes.mT + away[:, :, None] * away[:, None]
    values, vectors = _principal_axes(sums(share[:, None, None] * covariance))
    widths = values.clamp_min(1e-14).sqrt()
    thickness = total / _area(widths)
    most = _extinction(torch.tensor(0.999, device=means.device))
    widths = widths * (thickness / most).clamp_min(1).sqrt()[:, None]
    opacities = _opacity(thickness.clamp_max(most))
    alone = members == 1
    merged = Gaussians(
        means=middle + mean,
        quats=matrix_to_quat(vectors),
        scales=widths,
        opacities=opacities,
        sh=sums(share[:, None, None] * gaussians.sh),
    )
    # What is alone in its cell stays as it is, to the bit.
    lone = together[members.cumsum(0) - members]
    for name in _FIELDS:
        getattr(merged, name)[alone] = getattr(gaussians, name)[lone[alone]].to(getattr(merged, name).dtype)
    return merged, keys >> 39


def _principal_axes(matrices: torch.Tensor, sweeps: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues and a turn to the eigenvectors, its columns, of symmetric matrices ``(M, 3, 3)``: Jacobi's method.

    cuSOLVER refuses batches of a hundred thousand.
    """
    a = matrices.double()
    turn = torch.eye(3, dtype=a.dtype, device=a.device).expand_as(a).clone()
    for p, q in sweeps * ((0, 1), (0, 2), (1, 2)):
        off = a[:, p, q]
        angle = 0.5 * torch.atan2(2 * off, a[:, q, q] - a[:, p, p])
        c, s = angle.cos()[:, None], angle.sin()[:, None]
        rows_p, rows_q = a[:, p].clone(), a[:, q].clone()
        a[:, p], a[:, q] = c * rows_p - s * rows_q, s * rows_p + c * rows_q
        columns_p, columns_q = a[:, :, p].clone(), a[:, :, q].clone()
        a[:, :, p], a[:, :, q] = c * columns_p - s * columns_q, s * columns_p + c * columns_q
        columns_p, columns_q = turn[:, :, p].clone(), turn[:, :, q].clone()
        turn[:, :, p], turn[:, :, q] = c * columns_p - s * columns_q, s * columns_p + c * columns_q
    return a.diagonal(dim1=1, dim2=2).to(matrices.dtype), turn.to(matrices.dtype)


def _area(scales: torch.Tensor) -> torch.Tensor:
    """Proportional to the silhouette of an ellipsoid, seen from all around."""
    a, b, c = scales.unbind(-1)
    return a * b + b * c + c * a


@cache
def _dilogarithm(device: torch.device) -> torch.Tensor:
    """Li2, the integral of ``-ln(1 - x) / x``, at 1025 steps from 0 to 1."""
    steps = torch.linspace(0, 1, 1025, dtype=torch.float64)[:, None]
    terms = torch.arange(1, 4000, dtype=torch.float64)
    return (steps**terms / terms**2).sum(1).float().to(device)


def _extinction(opacities: torch.Tensor) -> torch.Tensor:
    """Integral of ``-ln(1 - opacity * exp(-r^2 / 2))`` over the plane, over 2 pi."""
    at = opacities.float() * 1024
    low = at.long().clamp(0, 1023)
    table = _dilogarithm(opacities.device)
    return torch.lerp(table[low], table[low + 1], at - low)


def _opacity(extinction: torch.Tensor) -> torch.Tensor:
    """The inverse of ``_extinction``."""
    table = _dilogarithm(extinction.device)
    high = torch.searchsorted(table, extinction.contiguous()).clamp(1, 1024)
    low = high - 1
    return ((low + (extinction - table[low]) / (table[high] - table[low])) / 1024).clamp(0, 1)


def _bounds(gaussians: Gaussians, owner: torch.Tensor, groups: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    index = owner[:, None].expand(-1, 3)
    means = gaussians.means
    low = means.new_full((groups, 3), math.inf).scatter_reduce_(0, index, means, "amin")
    high = means.new_full((groups, 3), -math.inf).scatter_reduce_(0, index, means, "amax")
    centres = (low + high) / 2
    away = (means - centres[owner]).norm(dim=1)
    radii = means.new_zeros(groups).scatter_reduce_(0, owner, away, "amax")
    reach = SUPPORT_SIGMA * gaussians.scales.max(dim=1).values
    return centres, radii, means.new_zeros(groups).scatter_reduce_(0, owner, reach, "amax")
