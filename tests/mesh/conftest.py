"""A small room made of flat Gaussians, and the cameras of six short moves through it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from omni_gen3d.geometry import intrinsics_from_fov, look_at, matrix_to_quat
from omni_gen3d.mesh.proxy import build_proxy
from omni_gen3d.types import Cameras, CollisionProxy, Gaussians, TriMesh

# Rectangles: a corner and two edges [m]; the normal is their cross product.
FLOOR = ((-1.0, -2.2, 0.0), (6.0, 0.0, 0.0), (0.0, 4.4, 0.0))
SHELL = (
    ((-1.0, -2.2, 2.6), (0.0, 4.4, 0.0), (6.0, 0.0, 0.0)),
    ((5.0, -2.2, 0.0), (0.0, 0.0, 2.6), (0.0, 4.4, 0.0)),
    ((-1.0, -2.2, 0.0), (0.0, 0.0, 2.6), (6.0, 0.0, 0.0)),
    ((-1.0, 2.2, 0.0), (6.0, 0.0, 0.0), (0.0, 0.0, 2.6)),
)
BOX_TOP = 0.5
BOX = ((2.5, 0.4, 0.0), (3.1, 1.0, BOX_TOP))
COLUMN = ((2.44, -0.86, 0.0), (2.56, -0.74, 1.6))


def box_sides(low: tuple[float, ...], high: tuple[float, ...]) -> list:
    """Top and four sides of a box that stands on the floor."""
    (x, y, z), (a, b, c) = low, np.subtract(high, low).tolist()
    return [
        ((x, y, z + c), (a, 0, 0), (0, b, 0)),
        ((x, y, z), (0, 0, c), (0, b, 0)),
        ((x + a, y, z), (0, b, 0), (0, 0, c)),
        ((x, y, z), (a, 0, 0), (0, 0, c)),
        ((x, y + b, z), (0, 0, c), (a, 0, 0)),
    ]


def discs(rectangles: list, spacing: float, noise: float = 0.0) -> Gaussians:
    """Opaque discs on a jittered grid over the rectangles, off the surface by ``noise`` [m]."""
    rng = np.random.default_rng(1)
    means, quats = [], []
    for corner, edge_u, edge_v in rectangles:
        u, v = np.array(edge_u, float), np.array(edge_v, float)
        n_u, n_v = (max(1, round(np.linalg.norm(edge) / spacing)) for edge in (u, v))
        grid = np.stack(np.meshgrid(np.arange(n_u), np.arange(n_v), indexing="ij"), -1).reshape(-1, 2) + 0.5
        axes = np.stack([u / np.linalg.norm(u), v / np.linalg.norm(v)])
        normal = np.cross(*axes)
        points = np.array(corner) + grid / (n_u, n_v) @ np.stack([u, v])
        means.append(points + rng.normal(0, noise, (len(points), 1)) * normal)
        frame = torch.tensor(np.stack([*axes, normal], 1))
        quats.append(matrix_to_quat(frame).expand(len(points), 4))
    count = sum(map(len, means))
    return Gaussians(
        means=torch.tensor(np.concatenate(means), dtype=torch.float32),
        quats=torch.cat(quats).float(),
        scales=torch.tensor([0.5 * spacing, 0.5 * spacing, 0.002]).expand(count, 3).contiguous(),
        opacities=torch.full((count,), 0.95),
        sh=torch.zeros(count, 1, 3),
    )


def six_moves(frames: int, width: int, height: int, eye: tuple[float, float, float] = (0.0, 0.0, 1.4)) -> Cameras:
    """Left, right, up, back, forth and a circle from one camera that looks along +X and a little down."""
    steps = torch.linspace(0, 1, frames)[:, None]
    angle = 2 * math.pi * steps
    moves = [torch.tensor(move) * steps for move in ((0, 0.7, 0), (0, -0.7, 0), (0, 0, 0.5), (-0.6, 0, 0), (0.9, 0, 0))]
    circle = torch.cat([torch.zeros_like(angle), 0.3 * (angle.cos() - 1), 0.2 * angle.sin()], 1)
    eyes = torch.tensor(eye) + torch.cat([*moves, circle])
    target = torch.tensor([eye[0] + 3.0, eye[1], eye[2] - 0.8])
    intrinsics = intrinsics_from_fov(math.radians(70), width, height).expand(len(eyes), 3, 3)
    return Cameras(look_at(eyes, target.expand_as(eyes)), intrinsics, width, height)


@pytest.fixture(scope="session")
def scene_of_discs() -> Callable[..., Gaussians]:
    return discs


@pytest.fixture(scope="session")
def room() -> Gaussians:
    """Floor, walls, ceiling, a box and a 12 cm column, with 3 mm of noise.

    The room is 6 m x 4.4 m x 2.6 m from (-1, -2.2, 0); the box fills (2.5, 0.4, 0) to (3.1, 1, 0.5), the column
    (2.44, -0.86, 0) to (2.56, -0.74, 1.6).
    """
    return discs([FLOOR, *SHELL, *box_sides(*BOX), *box_sides(*COLUMN)], spacing=0.06, noise=0.003)


@pytest.fixture(scope="session")
def bare_wall() -> Gaussians:
    """Nothing but a wall that fills the view, 3 m ahead."""
    return discs([((3.0, -4.0, -2.0), (0.0, 0.0, 6.0), (0.0, 8.0, 0.0))], spacing=0.1)


@pytest.fixture(scope="session")
def table_over_floor() -> Gaussians:
    """A table top that fills half of the view, 0.6 m above the floor."""
    table = ((1.0, -0.7, 0.6), (1.5, 0.0, 0.0), (0.0, 1.4, 0.0))
    return discs([FLOOR, table, *SHELL], spacing=0.08)


@pytest.fixture(scope="session")
def cameras() -> Cameras:
    """36 small cameras that start 1.4 m above the floor."""
    return six_moves(frames=6, width=160, height=88)


@pytest.fixture(scope="session")
def proxy(room: Gaussians, cameras: Cameras) -> CollisionProxy:
    return build_proxy(room, cameras)


@pytest.fixture(scope="session")
def first_hit() -> Callable[..., tuple[float, np.ndarray]]:
    """Slow ray casting by Moeller and Trumbore: (mesh, origin, direction) to distance and unit normal of the face."""
    return _first_hit


def _first_hit(mesh: TriMesh, origin: Sequence[float], direction: Sequence[float]) -> tuple[float, np.ndarray]:
    a, b, c = (mesh.vertices[mesh.faces[:, corner]].astype(float) for corner in range(3))
    normal = np.cross(b - a, c - a)
    across = np.cross(direction, c - a)
    determinant = ((b - a) * across).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        u = ((origin - a) * across).sum(1) / determinant
        around = np.cross(origin - a, b - a)
        v = around @ np.asarray(direction, float) / determinant
        t = ((c - a) * around).sum(1) / determinant
        t = np.where((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0), t, np.inf)
    nearest = int(t.argmin())
    return float(t[nearest]), normal[nearest] / max(float(np.linalg.norm(normal[nearest])), 1e-12)
