"""The network that sees bodies: what it is shown, what its answers mean in the world, and mirrors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from omni_gen3d.motion.body_network import (
    Answer,
    BodyNetwork,
    at_cells,
    heading_frames,
    mirrored_answer,
    mirrored_view,
    see_bodies,
    seen_by,
)
from omni_gen3d.motion.film import Film
from omni_gen3d.motion.sightings import CELL, DIRECTIONS
from omni_gen3d.types import Cameras

HEIGHT, WIDTH, TIMES = 32, 48, 3
FOCAL = 40.0


def _camera(yaw: float, pitch: float, position: tuple[float, float, float]) -> np.ndarray:
    """Camera to world: x right, y down, z ahead, looking down by ``pitch``."""
    ahead = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), -np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, np.cross(ahead, right), ahead], 1)
    matrix[:3, 3] = position
    return matrix


@pytest.fixture
def film() -> Film:
    """Noise, by a camera that stands obliquely in the world and looks down."""
    matrix = torch.from_numpy(np.linalg.inv(_camera(0.7, 0.2, (1.0, -2.0, 1.3)))).float()
    lens = torch.tensor([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1.0]])
    cameras = Cameras(matrix.expand(TIMES, 4, 4), lens.expand(TIMES, 3, 3), WIDTH, HEIGHT)
    pictures = np.random.default_rng(0).uniform(-1, 1, (TIMES, HEIGHT, WIDTH, 3)).astype(np.float32)
    return Film(pictures, cameras)


class _Oracle(torch.nn.Module):
    """Says the same of every picture, and of its mirror image what a network without fault would."""

    def __init__(self, point: np.ndarray, film: Film, depth: float, supports: np.ndarray) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        world_to_camera = film.cameras.world_to_camera[0].double().numpy()
        local = world_to_camera[:3, :3] @ point + world_to_camera[:3, 3]
        rows, columns = np.indices((HEIGHT // CELL, WIDTH // CELL)) * CELL + CELL // 2 + 0.5
        own = np.stack([(columns - WIDTH / 2) / FOCAL, (rows - HEIGHT / 2) / FOCAL])
        offset = np.concatenate(
            [(local[:2] / local[2])[:, None, None] - own, np.full((1, *own.shape[1:]), np.log(local[2] / depth))]
        )
        maps = torch.from_numpy(np.concatenate([offset, np.broadcast_to(supports[:, None, None] / depth, (50, 8, 12))]))
        self.straight = Answer(torch.ones(1, 8, 12), maps[None, :3], maps[None, 3:], torch.zeros(1, 8, 12))
        self.calls = 0

    def forward(self, seen: torch.Tensor) -> Answer:
        answer = self.straight if self.calls % 2 == 0 else mirrored_answer(self.straight)
        self.calls += 1
        return Answer(*(part.expand(len(seen), *part.shape[1:]) for part in answer))


def test_answers_are_placed_in_the_world(film: Film) -> None:
    """Every cell says where one point of the world is and how far something reaches from there, whatever its ray is."""
    point = np.array([3.0, 0.5, 0.4])
    supports = 0.3 + 0.1 * DIRECTIONS[:, 0]
    oracle = _Oracle(point, film, 2.5, supports)
    told = see_bodies(oracle, film, np.full((TIMES, HEIGHT, WIDTH), 2.5, np.float32))  # pyright: ignore[reportArgumentType]
    assert told.centers.shape == (TIMES, HEIGHT // CELL, WIDTH // CELL, 3)
    np.testing.assert_allclose(told.centers, np.broadcast_to(point, told.centers.shape), atol=1e-4)
    np.testing.assert_allclose(told.supports[1, 3, 4], supports, atol=1e-6)
    # The first direction is the way the camera looks, along the floor.
    np.testing.assert_allclose(told.directions[0, 0], [np.cos(0.7), np.sin(0.7), 0], atol=1e-6)


def test_larger_pictures_have_as_many_cells(film: Film) -> None:
    """A picture of twice the network's width is seen at half of its size: cells are twice as many pixels wide."""
    network = BodyNetwork(channels=(8, 8, 8, 32), num_attention_layers=1).eval()
    size = 640, 352
    cameras = Cameras(film.cameras.world_to_camera, film.cameras.intrinsics, *size)
    large = Film(np.zeros((TIMES, size[1], size[0], 3), np.float32), cameras)
    told = see_bodies(network, large, np.ones((TIMES, size[1], size[0]), np.float32))
    assert told.moves.shape == (TIMES, 44, 80)


def test_a_mirror_undoes_itself() -> None:
    """What is seen and what is said come back from two mirrors, and left and right change places in one."""
    generator = torch.Generator().manual_seed(0)
    seen = torch.randn(2, 14, HEIGHT, WIDTH, generator=generator)
    assert torch.equal(mirrored_view(mirrored_view(seen)), seen)
    answer = Answer(*(torch.randn(2, *shape, 8, 12, generator=generator) for shape in ((), (3,), (50,), ())))
    again = mirrored_answer(mirrored_answer(answer))
    assert all(torch.equal(a, b) for a, b in zip(again, answer, strict=True))
    left, right = (int(np.argmax(DIRECTIONS @ [0, side, 0])) for side in (1, -1))
    assert torch.equal(mirrored_answer(answer).supports[:, left], answer.supports[:, right].flip(-1))


def test_height_is_that_over_the_floor(film: Film) -> None:
    """A ray that falls by the camera's height reaches the floor."""
    rays = torch.zeros(1, 3, 16, 16)
    rays[:, 0], rays[:, 2] = 1.0, -0.5
    seen = seen_by(torch.zeros(1, 3, 3, 16, 16), torch.full((1, 16, 16), 2.0).log(), rays, torch.tensor([1.0]))
    assert seen.shape == (1, 14, 16, 16)
    assert torch.allclose(seen[:, 13], torch.zeros(16, 16), atol=1e-6)


def test_heading_is_level() -> None:
    """Whatever the pitch, the frame stands upright and looks where the camera does."""
    frame = heading_frames(torch.from_numpy(_camera(-2.0, 0.6, (0, 0, 1)))[None])[0].numpy()
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(frame[0], [np.cos(-2.0), np.sin(-2.0), 0], atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(frame), 1)


def test_cells_are_seen_in_their_middle() -> None:
    """The pixel that stands for a cell is the third of its four."""
    rows = torch.arange(16.0)[:, None].expand(16, 16)
    assert at_cells(rows)[:, 0].tolist() == [2, 6, 10, 14]
