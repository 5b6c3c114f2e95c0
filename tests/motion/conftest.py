"""A room with a wagon that drives through it, as a noisy decoder would draw it at each time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from omni_gen3d.geometry import intrinsics_from_fov, look_at, matrix_to_quat, rgb_to_sh_dc
from omni_gen3d.motion.scoring import TrueMover
from omni_gen3d.types import Cameras, Gaussians, GaussianSequence, TriMesh

SIZE = np.array([0.7, 0.5, 0.45])
NUM_TIMES = 9
_CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float32)
_QUADS = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])


def solid_box(size: np.ndarray) -> TriMesh:
    """A box around the origin."""
    faces = _QUADS[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3).astype(np.int32)
    return TriMesh(((_CORNERS - 0.5) * size).astype(np.float32), faces)


def discs(corner, edge_u, edge_v, spacing: float, rng: np.random.Generator) -> Gaussians:
    """Opaque discs on a jittered grid over a rectangle, in colours that differ from place to place."""
    u, v = np.array(edge_u, float), np.array(edge_v, float)
    n_u, n_v = (max(2, round(np.linalg.norm(edge) / spacing)) for edge in (u, v))
    grid = np.stack(np.meshgrid(np.arange(n_u), np.arange(n_v), indexing="ij"), -1).reshape(-1, 2) + 0.5
    grid += rng.uniform(-0.2, 0.2, grid.shape)
    frame = np.stack([u / np.linalg.norm(u), v / np.linalg.norm(v), np.cross(u, v) / np.linalg.norm(np.cross(u, v))], 1)
    means = np.array(corner) + grid / (n_u, n_v) @ np.stack([u, v])
    rgb = 0.5 + 0.35 * np.sin(means @ np.array([[9.0, 4, 7], [5, 11, 3], [6, 2, 13]]))
    count = len(means)
    return Gaussians(
        means=torch.tensor(means, dtype=torch.float32),
        quats=matrix_to_quat(torch.tensor(frame)).float().expand(count, 4).contiguous(),
        scales=torch.tensor([0.6 * spacing, 0.6 * spacing, 0.003]).expand(count, 3).contiguous(),
        opacities=torch.full((count,), 0.95),
        sh=rgb_to_sh_dc(torch.tensor(rgb, dtype=torch.float32))[:, None],
    )


def room(rng: np.random.Generator) -> Gaussians:
    return Gaussians.joined(
        [
            discs((-1, -2.5, 0), (7, 0, 0), (0, 5, 0), 0.06, rng),
            discs((6, -2.5, 0), (0, 5, 0), (0, 0, 2.5), 0.08, rng),
            discs((-1, 2.5, 0), (7, 0, 0), (0, 0, 2.5), 0.08, rng),
            discs((-1, -2.5, 0), (7, 0, 0), (0, 0, 2.5), 0.08, rng),
        ]
    )


def wagon(rng: np.random.Generator) -> Gaussians:
    """Discs on the five visible sides of the box around the origin."""
    x, y, z = SIZE / 2
    a, b, c = SIZE
    return Gaussians.joined(
        [
            discs((-x, -y, z), (a, 0, 0), (0, b, 0), 0.04, rng),
            discs((-x, -y, -z), (0, b, 0), (0, 0, c), 0.04, rng),
            discs((x, -y, -z), (0, b, 0), (0, 0, c), 0.04, rng),
            discs((-x, -y, -z), (a, 0, 0), (0, 0, c), 0.04, rng),
            discs((-x, y, -z), (a, 0, 0), (0, 0, c), 0.04, rng),
        ]
    )


def drive(turn: float = 0.0) -> np.ndarray:
    """From right to left three metres before the camera, turning by ``turn`` [rad] on the way."""
    to_world = np.tile(np.eye(4), (NUM_TIMES, 1, 1))
    for i, share in enumerate(np.linspace(0, 1, NUM_TIMES)):
        angle = turn * share
        to_world[i, :2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        to_world[i, :3, 3] = [3.0 + 0.3 * share, -1.1 + 2.2 * share, SIZE[2] / 2]
    return to_world


def cameras() -> Cameras:
    """The one that filmed, 1.2 m above the floor, and a few around it."""
    eyes = torch.tensor([[0.0, 0, 1.2], [0.2, 0.3, 1.2], [0.2, -0.3, 1.3], [0.5, 0, 1.3], [0.0, 0.0, 1.5]])
    targets = torch.tensor([[3.0, 0.0, 0.4]]).expand(len(eyes), 3)
    intrinsics = intrinsics_from_fov(math.radians(67), 160, 88).expand(len(eyes), 3, 3).contiguous()
    return Cameras(look_at(eyes, targets), intrinsics, 160, 88)


@dataclass(frozen=True)
class MovingWorld:
    sequence: GaussianSequence
    cameras: Cameras
    truth: TrueMover
    num_static: int


@pytest.fixture(scope="session")
def moving_world() -> Callable[..., MovingWorld]:
    return _moving_world


def _moving_world(
    kind: str = "fading", turn: float = 0.0, jitter: float = 0.01, color_noise: float = 0.02
) -> MovingWorld:
    """Slots of the room, and of the wagon: ``following`` ones go with it, ``fading`` ones are there for one time each.

    Every time is drawn with noise of its own, as by a decoder. The slots of the room behind the wagon fade while it
    hides them.
    """
    rng = np.random.default_rng(0)
    noise = torch.Generator().manual_seed(0)
    static, body, to_world = room(rng), wagon(rng), drive(turn)
    from omni_gen3d.geometry import transform_gaussians

    placed = [transform_gaussians(body, torch.from_numpy(m[:3, :3]), torch.from_numpy(m[:3, 3])) for m in to_world]
    frames = []
    for time in range(NUM_TIMES):
        under = ((static.means[:, :2] - placed[time].means[:, :2].mean(0)).abs() < 0.25).all(1) & (
            static.means[:, 2] < 0.05
        )
        faded = torch.where(under & (torch.rand(len(static), generator=noise) < 0.5), 0.02, static.opacities)
        shown = Gaussians(static.means, static.quats, static.scales, faded, static.sh)
        if kind == "following":
            sets = [shown, placed[time]]
        else:
            sets = [shown]
            for other in range(NUM_TIMES):
                thing = placed[other]
                opacities = thing.opacities if other == time else torch.full_like(thing.opacities, 0.01)
                sets.append(Gaussians(thing.means, thing.quats, thing.scales, opacities, thing.sh))
        drawn = Gaussians.joined(sets)
        means = drawn.means + jitter * torch.randn(drawn.means.shape, generator=noise)
        sh = drawn.sh + color_noise * torch.randn(drawn.sh.shape, generator=noise)
        frames.append(Gaussians(means, drawn.quats, drawn.scales, drawn.opacities, sh))
    truth = TrueMover(solid_box(SIZE), to_world)
    return MovingWorld(GaussianSequence(tuple(frames), 8.0), cameras(), truth, len(static))


@pytest.fixture(scope="session")
def moving_pixels() -> Callable[[np.ndarray], np.ndarray]:
    """Where a film moves: a pixel that strays far from its median, ``(T, H, W, 3)`` -> ``(T, H, W)``."""
    return lambda film: np.abs(film.astype(float) - np.median(film, 0)).max(-1) > 25
