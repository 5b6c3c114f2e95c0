"""Loss terms."""

from __future__ import annotations

import math

import torch

from omni_gen3d.training.losses import TokenizerFeatures, chroma_difference, gradient_difference, psnr
from omni_gen3d.training.tokenizer import make_tokenizer
from omni_gen3d.video.tokenizer import accelerate_tokenizer


def test_psnr_of_a_known_error():
    """An error of 0.1 everywhere is 20 dB, of nothing 100 dB; a mask leaves the rest out."""
    a, b = torch.full((1, 3, 4, 4), 0.5), torch.full((1, 3, 4, 4), 0.6)
    assert math.isclose(psnr(a, b), 20.0, abs_tol=1e-4)
    assert math.isclose(psnr(a, a), 100.0, abs_tol=1e-4)
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask[..., 0] = True
    half = torch.where(mask, a, b)
    assert math.isclose(psnr(half, a, mask), 100.0, abs_tol=1e-4)


def test_gradients_ignore_brightness_and_chroma_ignores_grey():
    """A constant offset has no gradient difference; a grey one no chroma difference, a red one has."""
    a = torch.rand(2, 3, 5, 16, 16)
    assert float(gradient_difference(a + 0.2, a)) < 1e-5
    assert float(gradient_difference(a.flip(-1), a)) > 0.1
    assert float(chroma_difference(a + 0.2, a)) < 1e-6
    red = a.clone()
    red[:, 0] += 0.3
    assert math.isclose(float(chroma_difference(red, a)), (0.2 + 0.1 + 0.1) / 3, abs_tol=1e-5)


def test_perceptual_distance_grows_and_has_gradients():
    """The tokenizer's features tell equal pictures from blurred ones, and pass gradients to the first picture."""
    torch.manual_seed(0)
    distance = TokenizerFeatures(accelerate_tokenizer(make_tokenizer()).requires_grad_(False))
    sharp = torch.rand(2, 3, 32, 32) * 2 - 1
    blurred = torch.nn.functional.avg_pool2d(sharp, 3, stride=1, padding=1).requires_grad_(True)
    assert float(distance(sharp, sharp)) < 1e-6
    value = distance(blurred, sharp)
    value.backward()
    assert float(value) > 0.01
    assert blurred.grad is not None and float(blurred.grad.abs().sum()) > 0
