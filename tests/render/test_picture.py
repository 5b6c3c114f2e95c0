"""Pictures of rendered views say what they should to a person."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.render.picture import alpha_to_image, color_to_image, depth_to_image, ids_to_image, normal_to_image


def lightness(image: np.ndarray) -> np.ndarray:
    """Relative luminance of linearised sRGB (ITU-R BT.709 weights)."""
    return (image / 255.0) ** 2.2 @ np.array([0.2126, 0.7152, 0.0722])


def test_colors_and_coverage_become_bytes() -> None:
    """0, a half and 1 become 0, 128 and 255, and values outside are clipped."""
    values = torch.tensor([[-0.2, 0.0, 0.5, 1.0, 1.7]])
    assert alpha_to_image(values).tolist() == [[0, 0, 128, 255, 255]]
    image = color_to_image(values[..., None].expand(1, 5, 3))
    assert image.shape == (1, 5, 3) and image.dtype == np.uint8
    assert image[0, :, 1].tolist() == [0, 0, 128, 255, 255]


def test_nearer_is_brighter() -> None:
    """Lightness falls strictly with depth over the whole range."""
    depth = 1 / torch.linspace(1.0, 0.05, 64)[None]
    image = depth_to_image(depth, torch.ones_like(depth))
    assert (np.diff(lightness(image[0])) < 0).all()


def test_what_is_not_covered_is_black() -> None:
    """Pixels less than half covered are black, the farthest covered ones are not."""
    depth = torch.tensor([[1.0, 2.0, 9.0, 0.0]])
    alpha = torch.tensor([[1.0, 0.6, 0.4, 0.0]])
    image = depth_to_image(depth, alpha)
    assert image[0, 2:].max() == 0
    assert image[0, 1].max() > 40
    assert depth_to_image(depth, torch.zeros_like(depth)).max() == 0


def test_a_given_range_fixes_the_colours() -> None:
    """With a range, the same depth has the same colour in different pictures, and a flat wall is no error."""
    flat, slope = torch.full((1, 3), 4.0), torch.tensor([[2.0, 4.0, 8.0]])
    ones = torch.ones(1, 3)
    first, second = depth_to_image(flat, ones, (1.0, 10.0)), depth_to_image(slope, ones, (1.0, 10.0))
    assert first[0, 1].tolist() == second[0, 1].tolist()
    assert len(np.unique(depth_to_image(flat, ones).reshape(-1, 3), axis=0)) == 1
    with pytest.raises(InputError, match="nearest < farthest"):
        depth_to_image(flat, ones, (3.0, 3.0))
    with pytest.raises(InputError, match="must be equal"):
        depth_to_image(flat, ones[:, :2])


def test_normals_and_ids_have_colours_of_their_own() -> None:
    """An axis is a channel, a different id a different colour, and nothing is black."""
    normals = np.array([[[1.0, 0.0, -1.0], [0.0, 0.0, 0.0]]])
    assert normal_to_image(normals).tolist() == [[[255, 128, 0], [0, 0, 0]]]
    ids = np.arange(-1, 63).reshape(8, 8)
    colors = ids_to_image(ids).reshape(-1, 3)
    assert colors[0].tolist() == [0, 0, 0] and len(np.unique(colors, axis=0)) == 64
