"""Synthetic rooms whose true surface is known, and the flawed splats that stand for them.

A room is an upright prism that holds solids: boxes, turned boxes, slanted prisms and cylinders. Its Gaussians are flat
discs on a jittered grid over every face that is not hidden inside a solid, with noise on position and direction, a
few of them long; discs are missing in round holes; floaters hang in the air.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from omni_gen3d.geometry import intrinsics_from_fov, look_at, matrix_to_quat
from omni_gen3d.mesh.bvh import FaceTree
from omni_gen3d.mesh.scoring import joined
from omni_gen3d.types import Cameras, FreeSpace, Gaussians, ProxyPart, TriMesh

_NOISE_M = 0.005
_TILT_DEG = 5.0
_NUM_FLOATERS = 500
_FLOATER_SIZES_M = (0.005, 0.03)
# Standard deviation of a disc over the spacing of the grid; a share of the discs is longer by a factor.
_OVERLAP = 0.65
_LONG_SHARE, _LONG_FACTOR = 0.05, 3.0
_THICKNESS_M = 0.002
_NUM_HOLES = 10
_HOLES_M = (0.06, 0.15)
_SMALL_HOLE_M = 0.035
_FOV_DEG = 80.0
_CYLINDER_SIDES = 24
_FREE_VOXEL_M = 0.05


@dataclass(frozen=True)
class Solid:
    """A convex piece between two polygons of the same number of corners.

    Attributes:
        bottom: Corners, counter-clockwise seen from above [m], shape ``(K, 3)``.
        top: Corners above them [m], shape ``(K, 3)``.
    """

    bottom: np.ndarray
    top: np.ndarray

    def mesh(self) -> TriMesh:
        """Closed, its faces looking outwards."""
        count = len(self.bottom)
        low, high = np.arange(count), np.arange(count, 2 * count)
        next_low, next_high = np.roll(low, -1), np.roll(high, -1)
        fan = np.stack([np.zeros(count - 2, int), np.arange(1, count - 1), np.arange(2, count)], 1)
        sides = [np.stack([low, next_low, next_high], 1), np.stack([low, next_high, high], 1)]
        faces = np.concatenate([fan[:, ::-1], fan + count, *sides])
        return TriMesh(np.concatenate([self.bottom, self.top]).astype(np.float32), faces.astype(np.int32))

    def contains(self, points: np.ndarray, skin: float = 0.0) -> np.ndarray:
        """Which points lie deeper than ``skin`` below every face [m], ``(M, 3)`` -> ``(M,)``, bool."""
        mesh = self.mesh()
        a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(np.float64) for k in range(3))
        normals = np.cross(b - a, c - a)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        inside = ((points > mesh.vertices.min(0)) & (points < mesh.vertices.max(0))).all(1)
        inside[inside] = ((points[inside] @ normals.T - (normals * a).sum(1)) < -skin).all(1)
        return inside


@dataclass(frozen=True)
class Room:
    """A closed room, what stands in it, and where people would stand to film it.

    Attributes:
        name: For tables.
        outline: Corners of the floor, counter-clockwise seen from above [m], shape ``(K, 2)``.
        floor: Triangles over the corners of the outline, counter-clockwise, shape ``(K - 2, 3)``.
        height: Of the ceiling [m].
        solids: What stands or hangs in it.
        stands: Where cameras are [m], shape ``(P, 2)``.
    """

    name: str
    outline: np.ndarray
    floor: np.ndarray
    height: float
    solids: tuple[Solid, ...]
    stands: np.ndarray

    def truth(self) -> TriMesh:
        """The true surface: the shell looking inwards and every solid as a closed piece of its own."""
        pieces = [self._shell(), *(solid.mesh() for solid in self.solids)]
        return joined(tuple(ProxyPart(f"piece_{index}", "object", piece) for index, piece in enumerate(pieces)))

    def is_free(self, points: np.ndarray) -> np.ndarray:
        """Which points ``(M, 3)`` lie in the open air, shape ``(M,)``, bool."""
        free = _in_polygon(self.outline, points[:, :2]) & (points[:, 2] > 0) & (points[:, 2] < self.height)
        for solid in self.solids:
            free &= ~solid.contains(points)
        return free

    def free_space(self) -> FreeSpace:
        """The open air on a grid of 5 cm."""
        low = np.append(self.outline.min(0), 0.0) - _FREE_VOXEL_M
        high = np.append(self.outline.max(0), self.height) + _FREE_VOXEL_M
        shape = np.ceil((high - low) / _FREE_VOXEL_M).astype(int)
        centres = low + (np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) + 0.5) * _FREE_VOXEL_M
        return FreeSpace(self.is_free(centres.reshape(-1, 3)).reshape(shape), low, _FREE_VOXEL_M)

    def cameras(self, views: int, width: int, height: int) -> Cameras:
        """Views from the stands in turn, at three heights, looking down, ahead and up, headings spread around."""
        index = np.arange(views)
        stand, turn = index % len(self.stands), index // len(self.stands)
        per_stand = -(-views // len(self.stands))
        heading = 2 * np.pi * (turn / per_stand + stand / (len(self.stands) * per_stand))
        # Away from the middle of the picture the first views of all stands see what lies across the room.
        middle = self.outline.mean(0) - self.stands[stand]
        heading += np.arctan2(middle[:, 1], middle[:, 0])
        eye = np.column_stack([self.stands[stand], np.array([1.4, 0.4, 2.1])[(stand + turn // 3) % 3]])
        pitch = np.deg2rad(np.array([-25.0, 0.0, 25.0])[(stand + turn) % 3])
        ahead = np.stack([np.cos(pitch) * np.cos(heading), np.cos(pitch) * np.sin(heading), np.sin(pitch)], 1)
        poses = look_at(torch.from_numpy(eye), torch.from_numpy(eye + ahead)).float()
        lens = intrinsics_from_fov(math.radians(_FOV_DEG), width, height)
        return Cameras(poses, lens.expand(views, 3, 3).contiguous(), width, height)

    def gaussians(self, count: int, seed: int) -> Gaussians:
        """About ``count`` discs on the surface, and floaters in proportion to 500 beside 100,000.

        The local z axis of a disc points out of the surface.
        """
        rng = np.random.default_rng(seed)
        truth = self.truth()
        corners = truth.vertices[truth.faces].astype(np.float64)
        areas = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        spacing = math.sqrt(areas.sum() / count)
        points, normals = self._exposed(corners, spacing, rng)
        keep = np.ones(len(points), np.bool_)
        shell = np.flatnonzero(self._on_shell(points))
        solid = np.setdiff1d(np.arange(len(points)), shell)
        for candidates, radii in (
            (shell, rng.uniform(*_HOLES_M, _NUM_HOLES)),
            (solid, np.full(_NUM_HOLES // 2 if len(solid) else 0, _SMALL_HOLE_M)),
        ):
            for centre, radius in zip(points[rng.choice(candidates, len(radii))], radii, strict=True):
                keep &= np.linalg.norm(points - centre, axis=1) > radius
        points, normals = points[keep], normals[keep]

        frames = _frames(_unit(normals + rng.normal(0, math.tan(math.radians(_TILT_DEG)) / 2, normals.shape)), rng)
        points = points + rng.normal(0, _NOISE_M, points.shape)
        scales = spacing * _OVERLAP * np.exp(rng.normal(0, 0.15, (len(points), 3)))
        scales[rng.random(len(points)) < _LONG_SHARE, 0] *= _LONG_FACTOR
        scales[:, 2] = _THICKNESS_M
        air = self._air(round(_NUM_FLOATERS * count / 100_000), rng)
        quats = np.concatenate([matrix_to_quat(torch.from_numpy(frames)).numpy(), np.eye(4)[np.zeros(len(air), int)]])
        opacities = np.concatenate([rng.uniform(0.85, 1.0, len(points)), rng.uniform(0.3, 0.95, len(air))])
        total = len(opacities)
        return Gaussians(
            means=torch.from_numpy(np.concatenate([points, air])).float(),
            quats=torch.from_numpy(quats).float(),
            scales=torch.from_numpy(np.concatenate([scales, rng.uniform(*_FLOATER_SIZES_M, (len(air), 3))])).float(),
            opacities=torch.from_numpy(opacities).float(),
            sh=torch.from_numpy(rng.normal(0, 0.3, (total, 1, 3))).float(),
        )

    def _air(self, count: int, rng: np.random.Generator) -> np.ndarray:
        low, high = np.append(self.outline.min(0), 0.0), np.append(self.outline.max(0), self.height)
        points = rng.uniform(low, high, (20 * count + 20, 3))
        return points[self.is_free(points)][:count]

    def _shell(self) -> TriMesh:
        count = len(self.outline)
        vertices = np.concatenate([np.insert(self.outline, 2, z, axis=1) for z in (0.0, self.height)])
        low, after = np.arange(count), np.roll(np.arange(count), -1)
        sides = [np.stack([low, low + count, after], 1), np.stack([after, low + count, after + count], 1)]
        faces = np.concatenate([self.floor, self.floor[:, ::-1] + count, *sides])
        return TriMesh(vertices.astype(np.float32), faces.astype(np.int32))

    def _on_shell(self, points: np.ndarray) -> np.ndarray:
        return FaceTree.of(self._shell()).distance(points) < 1e-6

    def _exposed(self, corners: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Jittered grid points over the triangles where the air begins just before them, and the normals there."""
        points, normals = [], []
        for a, b, c in corners:
            normal = np.cross(b - a, c - a)
            area = np.linalg.norm(normal) / 2
            u = (b - a) / np.linalg.norm(b - a)
            v = np.cross(normal / (2 * area), u)
            flat = np.stack([b - a, c - a]) @ np.stack([u, v], 1)
            low, high = np.minimum(flat.min(0), 0), np.maximum(flat.max(0), 0)
            cells = np.stack(np.meshgrid(*(np.arange(n) for n in np.ceil((high - low) / spacing)), indexing="ij"), -1)
            cells = cells.reshape(-1, 2)
            grid = low + (cells + rng.uniform(0.15, 0.85, cells.shape)) * spacing
            weights = grid @ np.linalg.inv(flat)
            inner = (weights >= 0).all(1) & (weights.sum(1) <= 1)
            points.append(a + grid[inner] @ np.stack([u, v]))
            normals.append(np.broadcast_to(normal / (2 * area), (int(inner.sum()), 3)))
        surface, facing = np.concatenate(points), np.concatenate(normals)
        exposed = self.is_free(surface + 1e-4 * facing)
        return surface[exposed], facing[exposed]


def rooms(seed: int = 0) -> tuple[Room, Room, Room]:
    """A furnished room, a warehouse and an L-shaped workshop; ``seed`` moves what stands in them by centimetres."""
    rng = np.random.default_rng(seed)
    return _furnished(rng), _warehouse(rng), _workshop(rng)


def _furnished(rng: np.random.Generator) -> Room:
    """6 x 6 x 3 m: three boxes, a table, a cupboard against the wall."""
    dx, dy = rng.uniform(-0.05, 0.05, 2)
    solids = (
        _box((1.0 + dx, 1.2 + dy, 0), (0.6, 0.8, 0.5)),
        _box((4.0, 1.8 + dx, 0), (0.9, 0.5, 1.1), turn=25.0),
        _box((4.4 + dy, 4.6, 0), (0.4, 0.4, 0.35), turn=-40.0),
        _box((1.75, 5.775, 0), (1.4, 0.45, 1.9)),
        *_table((3.0 + dx, 3.4 + dy), (1.4, 0.8), 0.75),
    )
    return Room("furnished", *_rectangle(6.0, 6.0), 3.0, solids, _ring(6.0, 6.0, 0.45))


def _warehouse(rng: np.random.Generator) -> Room:
    """8 x 6 x 3.5 m: four 12 cm columns, two racks, three 16 cm pallets, one of them loaded."""
    dx, dy = rng.uniform(-0.05, 0.05, 2)
    columns = [_box((x + dx, y + dy, 0), (0.12, 0.12, 3.5)) for x in (2.6, 5.4) for y in (2.1, 3.9)]
    pallets = [
        _box((x, y, 0), (1.2, 0.8, 0.16), turn) for x, y, turn in ((4.0, 1.9, 0), (4.0, 4.9, 15), (6.6, 3.0, 90))
    ]
    load = _box((4.0, 1.9, 0.16), (0.9, 0.6, 0.7))
    racks = [part for y in (0.25, 5.75) for part in _rack((1.5, y), (1.8, 0.5), (0.4, 1.15, 1.9))]
    return Room("warehouse", *_rectangle(8.0, 6.0), 3.5, (*columns, *pallets, load, *racks), _ring(8.0, 6.0, 0.8))


def _workshop(rng: np.random.Generator) -> Room:
    """L-shaped, 6 x 5 x 2.8 m: a drum, a ramp, a slanted desk and a box."""
    dx, dy = rng.uniform(-0.05, 0.05, 2)
    outline = np.array([(0, 0), (6, 0), (6, 2.6), (3, 2.6), (3, 5), (0, 5)], float)
    floor = np.array([(0, 1, 2), (0, 2, 3), (0, 3, 5), (3, 4, 5)])
    ramp_low = _corners((4.8, 0.45), (1.2, 0.9), 0.0)
    ramp_high = np.insert(ramp_low, 2, [0.05, 0.45, 0.45, 0.05], axis=1)
    slanted = _box((1.0, 4.0, 0), (0.8, 0.6, 0.8), turn=10.0)
    solids = (
        _cylinder((1.2 + dx, 2.2 + dy), 0.3, 0.9),
        _cylinder((4.6, 2.1), 0.1, 1.5),
        Solid(np.insert(ramp_low, 2, 0.0, axis=1), ramp_high),
        Solid(slanted.bottom, slanted.top + np.array([0.12, -0.05, 0.0])),
        _box((2.3, 1.0, 0), (0.5, 0.5, 0.6), turn=30.0),
    )
    stands = np.array([(0.6, 0.6), (3.4, 0.6), (5.7, 0.35), (5.4, 2.1), (3.4, 2.1), (2.3, 2.7), (2.5, 4.5), (0.4, 4.6)])
    return Room("workshop", outline, floor, 2.8, solids, stands)


def _rectangle(width: float, depth: float) -> tuple[np.ndarray, np.ndarray]:
    return np.array([(0, 0), (width, 0), (width, depth), (0, depth)]), np.array([(0, 1, 2), (0, 2, 3)])


def _ring(width: float, depth: float, margin: float) -> np.ndarray:
    """Eight stands along the walls: corners and middles of the sides."""
    x, y = (margin, width / 2, width - margin), (margin, depth / 2, depth - margin)
    return np.array([(x[i], y[j]) for i, j in ((0, 0), (2, 2), (2, 0), (0, 2), (1, 0), (1, 2), (0, 1), (2, 1))])


def _corners(centre: Sequence[float], size: Sequence[float], turn: float) -> np.ndarray:
    """Of a rectangle turned by ``turn`` degrees, counter-clockwise, shape ``(4, 2)``."""
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    flat = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * np.asarray(size[:2]) / 2
    return np.asarray(centre[:2]) + flat @ np.array([(cos, sin), (-sin, cos)])


def _box(centre: Sequence[float], size: Sequence[float], turn: float = 0.0) -> Solid:
    """A box whose bottom face is centred at ``centre``."""
    flat = _corners(centre, size, turn)
    return Solid(np.insert(flat, 2, centre[2], axis=1), np.insert(flat, 2, centre[2] + size[2], axis=1))


def _cylinder(centre: Sequence[float], radius: float, height: float) -> Solid:
    angle = 2 * np.pi * np.arange(_CYLINDER_SIDES) / _CYLINDER_SIDES
    flat = np.asarray(centre) + radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    return Solid(np.insert(flat, 2, 0.0, axis=1), np.insert(flat, 2, height, axis=1))


def _table(centre: Sequence[float], size: Sequence[float], height: float) -> list[Solid]:
    top, leg = 0.05, 0.08
    feet = _corners(centre, (size[0] - leg, size[1] - leg), 0.0)
    legs = [_box((x, y, 0.0), (leg, leg, height - top)) for x, y in feet]
    return [_box((*centre, height - top), (*size, top)), *legs]


def _rack(centre: Sequence[float], size: Sequence[float], heights: Sequence[float]) -> list[Solid]:
    """Two side panels with boards between them."""
    board, side = 0.06, 0.06
    panels = [_box((centre[0] + s * size[0] / 2, centre[1], 0.0), (side, size[1], 2.2)) for s in (-1, 1)]
    return [*panels, *(_box((*centre, z), (size[0] - side, size[1], board)) for z in heights)]


def _in_polygon(outline: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Even-odd rule, ``(M, 2)`` -> ``(M,)``, bool."""
    inside = np.zeros(len(points), np.bool_)
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if y0 != y1:
            crosses = (points[:, 1] >= min(y0, y1)) & (points[:, 1] < max(y0, y1))
            inside ^= crosses & (points[:, 0] < x0 + (points[:, 1] - y0) / (y1 - y0) * (x1 - x0))
    return inside


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _frames(normals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Right-handed rotations whose third column is the normal, turned at random about it, shape ``(M, 3, 3)``."""
    helper = np.where(np.abs(normals[:, 2:]) < 0.9, (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
    u = _unit(np.cross(helper, normals))
    v = np.cross(normals, u)
    angle = rng.uniform(0, np.pi, (len(normals), 1))
    first = np.cos(angle) * u + np.sin(angle) * v
    return np.stack([first, np.cross(normals, first), normals], axis=2)
