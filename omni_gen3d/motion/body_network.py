"""The network that sees bodies: for every cell of a film's pictures, what moves there, where it is and how far it
reaches; see ``sightings``."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from omni_gen3d.geometry import pixel_rays
from omni_gen3d.layers import ResidualBlock, TransformerBlock, as_trained, ascend, descend
from omni_gen3d.motion.film import Film
from omni_gen3d.motion.sightings import CELL, DIRECTIONS, MIRRORED, Sightings

# The other pictures that it sees were taken so many times before and after.
_NEIGHBOUR_STEPS = 4
_INPUTS = 3 * 3 + 1 + 3 + 1
_HEAD_DIM = 32
# The channel of what is seen that tells how far to the left a ray goes.
_LEFTWARD = 11


class Answer(NamedTuple):
    """What the network says of each cell, float32; distances are shares of the depth that was estimated there.

    Attributes:
        moves: Logit, shape ``(B, h, w)``.
        offset: From the ray of the cell to that of the body's middle, in x / z and y / z, and from the depth to that
            of the middle, as a logarithm, shape ``(B, 3, h, w)``.
        supports: Shape ``(B, 50, h, w)``.
        doubt: How wrong the rest is believed to be, shape ``(B, h, w)``.
    """

    moves: torch.Tensor
    offset: torch.Tensor
    supports: torch.Tensor
    doubt: torch.Tensor


class BodyNetwork(ModelMixin, ConfigMixin):
    """A U-Net from the picture at a time, those around it, and what is known of depth, rays and height of its pixels to
    cells of four by four pixels, with self-attention at 1/16 of the resolution."""

    @register_to_config
    def __init__(self, channels: tuple[int, ...] = (40, 80, 112, 128), num_attention_layers: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4 * _INPUTS, channels[0], 3, padding=1)
        self.encode = nn.ModuleList([ResidualBlock(c) for c in channels])
        self.down = nn.ModuleList([nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(channels)])
        self.attention = nn.ModuleList([TransformerBlock(channels[-1], _HEAD_DIM) for _ in range(num_attention_layers)])
        cells = channels[1:]
        self.up = nn.ModuleList([nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(cells)])
        self.decode = nn.ModuleList([ResidualBlock(c) for c in cells[:-1]])
        self.refine = ResidualBlock(cells[0])
        self.head = nn.Conv2d(cells[0], 5 + len(DIRECTIONS), 3, padding=1)

    def forward(self, seen: torch.Tensor) -> Answer:
        """Answer for ``seen_by`` the network, shape ``(B, 14, H, W)``, sides divisible by 16."""
        x = self.stem(F.pixel_unshuffle(seen, 2))
        tokens, size, skips = descend(x, self.encode, self.down, self.attention)
        x = ascend(tokens, size, self.up, self.decode, skips[1:])
        maps = self.head(F.silu(self.refine(x))).float()
        moves, offset, doubt, supports = maps.split([1, 3, 1, len(DIRECTIONS)], 1)
        return Answer(moves[:, 0], 0.1 * offset, 0.1 * supports, 0.1 * F.softplus(doubt[:, 0]))


def seen_by(
    pictures: torch.Tensor, log_depth: torch.Tensor, rays: torch.Tensor, camera_height: torch.Tensor
) -> torch.Tensor:
    """What the network sees, shape ``(B, 14, H, W)``.

    Args:
        pictures: Of the time, before and after, in [-1, 1], shape ``(B, 3, 3, H, W)``, the second axis the three.
        log_depth: Natural logarithm of the depth along z [m], shape ``(B, H, W)``.
        rays: Of the pixels for a depth of one, x ahead along the floor, y left, z up, shape ``(B, 3, H, W)``.
        camera_height: Over the floor [m], shape ``(B,)``.
    """
    height = camera_height[:, None, None] + rays[:, 2] * log_depth.exp()
    return torch.cat([pictures.flatten(1, 2), log_depth[:, None] - 1, rays, height.clamp(-1, 4)[:, None]], 1)


def at_cells(maps: torch.Tensor) -> torch.Tensor:
    """Maps ``(..., H, W)`` at the pixels that stand for the cells, ``(..., H / 4, W / 4)``."""
    return maps[..., CELL // 2 :: CELL, CELL // 2 :: CELL]


def heading_frames(camera_to_world: torch.Tensor) -> torch.Tensor:
    """Unit vectors ahead along the floor, to the left and up in the world, in rows ``(B, 3, 3)``, of upright cameras
    ``(B, 4, 4)``."""
    x, y = F.normalize(camera_to_world[:, :2, 2], dim=-1).unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return torch.stack([x, y, zero, -y, x, zero, zero, zero, one], -1).unflatten(-1, (3, 3))


def mirrored_view(seen: torch.Tensor) -> torch.Tensor:
    """What the network would see in a mirror."""
    sign = torch.ones(seen.shape[1], device=seen.device)
    sign[_LEFTWARD] = -1
    return seen.flip(-1) * sign[:, None, None]


def mirrored_answer(answer: Answer) -> Answer:
    """What it would say then, and the other way round."""
    turn = answer.offset.new_tensor([-1.0, 1.0, 1.0])
    swapped = torch.tensor(MIRRORED, device=answer.moves.device)
    return answer._replace(
        moves=answer.moves.flip(-1),
        offset=answer.offset.flip(-1) * turn[:, None, None],
        supports=answer.supports.flip(-1)[:, swapped],
        doubt=answer.doubt.flip(-1),
    )


def _both_ways(network: BodyNetwork, seen: torch.Tensor) -> Answer:
    """The mean of the answers about pictures and about their mirror images."""
    one, other = network(seen), mirrored_answer(network(mirrored_view(seen)))
    return Answer(*((a + b) / 2 for a, b in zip(one, other, strict=True)))


@torch.no_grad()
def see_bodies(network: BodyNetwork, film: Film, depth: np.ndarray) -> Sightings:
    """What a network sees in a film.

    Args:
        network: On any device.
        film: In a world with the floor at z = 0, sides divisible by 16; larger pictures are seen at a half, a third ...
            of their size.
        depth: Of what each picture shows, along z [m], positive, shape ``(T, H, W)``.
    """
    device = next(network.parameters()).device
    times = len(film)
    to_world = torch.linalg.inv(film.cameras.world_to_camera.double())
    frames = heading_frames(to_world)
    pictures, shrunk = as_trained(torch.from_numpy(film.pictures).permute(0, 3, 1, 2))
    log_depth = F.avg_pool2d(torch.from_numpy(depth).float().log()[:, None], shrunk)[:, 0]
    lens = film.cameras.intrinsics.double()
    own = pixel_rays(torch.cat([lens[:, :2] / shrunk, lens[:, 2:]], 1), *log_depth.shape[1:])
    rays = torch.einsum("tij,thwj->tihw", frames @ to_world[:, :3, :3], own)
    order = torch.arange(times)
    around = torch.stack([order, order - _NEIGHBOUR_STEPS, order + _NEIGHBOUR_STEPS], 1).clamp(0, times - 1)
    seen = seen_by(pictures[around], log_depth, rays.float(), to_world[:, 2, 3].float())
    answers = [_both_ways(network, part.to(device)) for part in seen.split(8)]
    answer = Answer(*(torch.cat(parts).cpu().double() for parts in zip(*answers, strict=True)))

    z = at_cells(log_depth).double().exp()
    away = z * answer.offset[:, 2].exp()
    tangents = at_cells(own.permute(0, 3, 1, 2))[:, :2] + answer.offset[:, :2]
    local = torch.cat([tangents * away[:, None], away[:, None]], 1)
    centers = torch.einsum("tij,tjhw->thwi", to_world[:, :3, :3], local) + to_world[:, None, None, :3, 3]
    return Sightings(
        moves=answer.moves.sigmoid().numpy(),
        centers=centers.numpy(),
        supports=(answer.supports * z[:, None]).permute(0, 2, 3, 1).float().numpy(),
        directions=DIRECTIONS @ frames.numpy(),
        doubts=answer.doubt.numpy(),
        depth=depth,
    )
