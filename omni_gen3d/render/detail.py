"""Gaussians in groups that lie together, each at several levels of detail.

A camera takes of each group the coarsest level whose Gaussians stand for no more than a share of a pixel, so that what
it draws follows the pixels of the picture and not the number of Gaussians. The levels are built once for a set. All
levels of a group stand for the same Gaussians, so that neighbours may differ in level without a gap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
        clusters, kept_ones = _first_clusters(sorted_ones, owner, groups, cell), []
        for level in range(1, LEVELS):
            size[level] = cell * 2 ** (level - 1)
            clusters = _join(clusters if level == 1 else replace(clusters, cells=_coarser(clusters.cells)))
            owner_of_cluster = clusters.cells >> _OWNER
            number = torch.bincount(owner_of_cluster, minlength=groups)
            kept = number <= _WORTH_KEEPING * counts[:, level - 1]
            chosen = kept[owner_of_cluster]
            number = torch.where(kept, number, 0)
            begin = total + number.cumsum(0) - number
            first[:, level:] = torch.where(kept, begin, first[:, level - 1])[:, None]
            counts[:, level:] = torch.where(kept, number, counts[:, level - 1])[:, None]
            kept_ones.append(clusters.take(chosen))
            owners.append(owner_of_cluster[chosen])
            total += len(owners[-1])
        parts.append(_merged(sorted_ones, kept_ones))
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


# A cell: the group, then 13 bits for each of three steps from the corner of the group.
_OWNER, _BITS = 39, 13
_LAST = (1 << _BITS) - 1


@dataclass(frozen=True)
class _Clusters:
    """M clusters of Gaussians of one group in one cell of a grid.

    Attributes:
        cells: Where each is, ``_OWNER`` says how, int64, shape ``(M,)``.
        members: How many Gaussians it has, shape ``(M,)``.
        lead: Index of one of them, shape ``(M,)``.
        mass: The light they keep back: the integral of ``-ln(1 - alpha)`` over a plane, seen from all around, ``(M,)``.
        means: Shape ``(M, 3)``.
        covariances: Shape ``(M, 3, 3)``.
        sh: Mean harmonics, shape ``(M, K, 3)``.
    """

    cells: torch.Tensor
    members: torch.Tensor
    lead: torch.Tensor
    mass: torch.Tensor
    means: torch.Tensor
    covariances: torch.Tensor
    sh: torch.Tensor

    def take(self, which: torch.Tensor) -> _Clusters:
        return _Clusters(*(value[which] for value in vars(self).values()))


def _first_clusters(gaussians: Gaussians, owner: torch.Tensor, groups: int, cell: float) -> _Clusters:
    """Each Gaussian by itself, in the cell where it lies."""
    means = gaussians.means
    index = owner[:, None].expand(-1, 3)
    corners = means.new_full((groups, 3), math.inf).scatter_reduce_(0, index, means, "amin")
    x, y, z = ((means - corners[owner]) / cell).long().clamp_max(_LAST).unbind(1)
    axes = quat_to_matrix(gaussians.quats) * gaussians.scales[:, None]
    return _Clusters(
        cells=owner << _OWNER | x << 2 * _BITS | y << _BITS | z,
        members=torch.ones_like(owner),
        lead=torch.arange(len(owner), device=owner.device),
        mass=_extinction(gaussians.opacities) * _area(gaussians.scales),
        means=means,
        covariances=axes @ axes.mT,
        sh=gaussians.sh,
    )


def _coarser(cells: torch.Tensor) -> torch.Tensor:
    """The same cells in a grid of twice the step."""
    half = _LAST >> 1
    return (cells >> _OWNER << _OWNER) | (cells >> 1 & (half << 2 * _BITS | half << _BITS | half))


def _join(clusters: _Clusters) -> _Clusters:
    """One cluster for all in one cell, with their mass, mean, covariance and mean colour."""
    # Sorted, and summed one after the other: atomic additions would differ from run to run.
    cells, order = clusters.cells.sort(stable=True)
    cells, where, lengths = cells.unique_consecutive(return_inverse=True, return_counts=True)
    parts = clusters.take(order)

    def sums(values: torch.Tensor) -> torch.Tensor:
        return torch.segment_reduce(values, "sum", lengths=lengths, unsafe=True)

    leads = lengths.cumsum(0) - lengths
    # Around one of them: far from the origin single precision is too coarse for squares.
    origin = parts.means[leads]
    away = parts.means - origin[where]
    squares = (parts.covariances + away[:, :, None] * away[:, None]).flatten(1)
    mass = sums(parts.mass)
    share = parts.mass / mass[where].clamp_min(1e-30)
    moments = sums(share[:, None] * torch.cat([away, squares, parts.sh.flatten(1)], 1))
    mean, square, sh = moments.split([3, 9, moments.shape[1] - 12], 1)
    return _Clusters(
        cells=cells,
        members=sums(parts.members.double()).long(),
        lead=parts.lead[leads],
        mass=mass,
        means=origin + mean,
        covariances=square.reshape(-1, 3, 3) - mean[:, :, None] * mean[:, None],
        sh=sh.reshape(-1, *parts.sh.shape[1:]),
    )


def _merged(gaussians: Gaussians, levels: Sequence[_Clusters]) -> Gaussians:
    """One Gaussian for each cluster; one that would have to be more than opaque is made wider instead."""
    fields = zip(*(vars(level).values() for level in levels), strict=True)
    clusters = _Clusters(*map(torch.cat, fields))
    values, vectors = _principal_axes(clusters.covariances)
    widths = values.clamp_min(1e-14).sqrt()
    thickness = clusters.mass / _area(widths)
    most = _extinction(torch.tensor(0.999, device=widths.device))
    widths = widths * (thickness / most).clamp_min(1).sqrt()[:, None]
    merged = Gaussians(
        means=clusters.means,
        quats=matrix_to_quat(vectors),
        scales=widths,
        opacities=_opacity(thickness.clamp_max(most)),
        sh=clusters.sh,
    )
    # What is alone in its cell stays as it is, to the bit.
    alone = clusters.members == 1
    for name in _FIELDS:
        getattr(merged, name)[alone] = getattr(gaussians, name)[clusters.lead[alone]].to(getattr(merged, name).dtype)
    return merged


def _principal_axes(matrices: torch.Tensor, sweeps: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues and a turn to the eigenvectors, its columns, of symmetric matrices ``(M, 3, 3)``: Jacobi's method.

    cuSOLVER refuses batches of a hundred thousand.
    """
    a = {(i, j): matrices[:, i, j].double() for i in range(3) for j in range(i, 3)}
    turn = [[torch.full_like(a[0, 0], float(i == j)) for j in range(3)] for i in range(3)]
    for p, q, other in sweeps * ((0, 1, 2), (0, 2, 1), (1, 2, 0)):
        angle = 0.5 * torch.atan2(2 * a[p, q], a[q, q] - a[p, p])
        c, s = angle.cos(), angle.sin()
        grown = c * c * a[p, p] - 2 * c * s * a[p, q] + s * s * a[q, q]
        a[p, p], a[q, q] = grown, a[p, p] + a[q, q] - grown
        a[p, q] = torch.zeros_like(c)
        beside_p, beside_q = (min(p, other), max(p, other)), (min(q, other), max(q, other))
        a[beside_p], a[beside_q] = c * a[beside_p] - s * a[beside_q], s * a[beside_p] + c * a[beside_q]
        for row in turn:
            row[p], row[q] = c * row[p] - s * row[q], s * row[p] + c * row[q]
    values = torch.stack([a[i, i] for i in range(3)], 1)
    vectors = torch.stack([torch.stack(row, 1) for row in turn], 1)
    return values.to(matrices.dtype), vectors.to(matrices.dtype)


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
