"""What a network says of the bodies that move in a film: for every cell of its pictures, where the body seen there has
its middle, and how far it reaches.

A body is told by its support function (how far it reaches from its middle along a direction), which says where it ends
on the sides that no picture shows, too, and which turns with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Pixels that share an answer, in each direction.
CELL = 4
_AZIMUTHS, _TILTED_AZIMUTHS = 24, 12


def _directions() -> np.ndarray:
    level = np.arange(_AZIMUTHS) * 2 * np.pi / _AZIMUTHS
    tilted = np.arange(_TILTED_AZIMUTHS) * 2 * np.pi / _TILTED_AZIMUTHS
    rings = [
        np.stack([np.cos(angles) * np.cos(tilt), np.sin(angles) * np.cos(tilt), np.full_like(angles, np.sin(tilt))], 1)
        for angles, tilt in ((level, 0.0), (tilted, np.pi / 4), (tilted, -np.pi / 4))
    ]
    return np.concatenate([*rings, [[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]])


# Unit vectors, x ahead of the camera along the floor, y to its left, z up: 24 level ones in equal steps from x to y,
# 12 that rise and 12 that fall by 45 degrees, up, down; shape (50, 3).
DIRECTIONS = _directions()
# Of each direction the number of that which it is in a mirror, where left is right.
MIRRORED = np.linalg.norm((DIRECTIONS * [1, -1, 1])[:, None] - DIRECTIONS, axis=-1).argmin(1)


@dataclass(frozen=True)
class Sightings:
    """What is seen of moving bodies at T times, in ``h x w`` cells of ``CELL`` pixels.

    Attributes:
        moves: Probability that a cell shows something that moves, shape ``(T, h, w)``.
        centers: Middle of the body seen there, in the world [m], shape ``(T, h, w, 3)``.
        supports: How far it reaches from there along each direction [m], shape ``(T, h, w, 50)``.
        directions: ``DIRECTIONS`` as the camera of each time stands, in the world, shape ``(T, 50, 3)``.
        doubts: How wrong the answer is believed to be, as a share of the distance, shape ``(T, h, w)``.
        depth: Along z of what the pictures show, which they were told by [m], shape ``(T, H, W)``.
    """

    moves: np.ndarray
    centers: np.ndarray
    supports: np.ndarray
    directions: np.ndarray
    doubts: np.ndarray
    depth: np.ndarray
