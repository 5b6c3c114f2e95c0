"""Dilation and connected pieces against scipy's, which goes voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from omni_gen3d.mesh.morphology import connected, dilated, reached

BOX = np.ones((3, 3, 3))


def speckles(shape: tuple[int, int, int], share: float) -> np.ndarray:
    return np.random.default_rng(0).random(shape) < share


@pytest.mark.parametrize(
    ("shape", "share"), [((19, 17, 23), 0.3), ((19, 17, 23), 0.7), ((1, 5, 9), 0.5), ((9, 1, 1), 0.5)]
)
def test_pieces_are_scipys(shape: tuple[int, int, int], share: float) -> None:
    """Same pieces in the same order, same sizes; a piece that lies on the border is told from one that does not."""
    mask = speckles(shape, share)
    expected = np.zeros(shape, np.int32)
    count = int(np.asarray(ndimage.label(mask, output=expected)).item())
    pieces = connected(mask)
    found = np.zeros(shape, np.int32)
    for number in range(len(pieces.sizes)):
        pieces.paint(np.arange(len(pieces.sizes)) == number, found, number + 1)
    assert len(pieces.sizes) == count
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(pieces.sizes, np.bincount(expected.ravel(), minlength=count + 1)[1:])
    outer = np.ones(shape, np.bool_)
    outer[1:-1, 1:-1, 1:-1] = False
    on_border = np.zeros(count, np.bool_)
    on_border[np.unique(expected[outer & mask]) - 1] = True
    np.testing.assert_array_equal(pieces.bordering(), on_border)


def test_a_mask_without_voxels_has_no_piece() -> None:
    """Neither do its pieces, chosen or not, paint anything."""
    pieces = connected(np.zeros((4, 5, 6), np.bool_))
    painted = np.zeros((4, 5, 6), np.bool_)
    pieces.paint(np.zeros(0, np.bool_), painted, True)
    assert len(pieces.sizes) == len(pieces.bordering()) == 0 and not painted.any()


@pytest.mark.parametrize("reach", [1, 2, 5])
@pytest.mark.parametrize("shape", [(19, 17, 23), (3, 2, 30)])
def test_dilation_is_scipys(shape: tuple[int, int, int], reach: int) -> None:
    """Also where the box is larger than the grid."""
    mask = speckles(shape, 0.01)
    np.testing.assert_array_equal(dilated(mask, reach), ndimage.binary_dilation(mask, BOX, reach))
    eroded = ndimage.binary_erosion(~mask, BOX, reach, border_value=1)
    np.testing.assert_array_equal(~dilated(mask, reach), eroded)


def test_what_is_reached_stays_in_the_mask() -> None:
    """A wall with a gap is gone around, not through."""
    mask = speckles((19, 17, 23), 0.5)
    start = mask & speckles(mask.shape, 0.01)
    kept = start.copy()
    np.testing.assert_array_equal(reached(start, mask, 3), ndimage.binary_dilation(start, BOX, 3, mask=mask))
    np.testing.assert_array_equal(start, kept)
