"""The EDM sampler with a network that knows the answer."""

from __future__ import annotations

import pytest
import torch

from omni_gen3d.video.diffusion import INPUT_CHANNELS, denoise, sample
from omni_gen3d.video.tokenizer import SIGMA_DATA

TEXT = torch.ones(2, 4, 8)


class Oracle:
    """Returns the output for which the prediction is ``clean``, whatever the noise (Karras et al., equation 7)."""

    def __init__(self, clean: torch.Tensor) -> None:
        self.clean = clean
        self.calls: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __call__(self, hidden, timestep, text, return_dict):
        self.calls.append((hidden, text))
        sigma = (4 * timestep).exp().reshape(-1, 1, 1, 1, 1)
        variance = sigma**2 + SIGMA_DATA**2
        noisy = hidden[:, :16] * variance.sqrt()
        return ((self.clean - SIGMA_DATA**2 / variance * noisy) * variance.sqrt() / (sigma * SIGMA_DATA),)


@pytest.mark.parametrize("steps", [1, 4, 9])
def test_sampler_finds_what_the_network_knows(steps):
    """With an oracle every number of steps ends at the clean latents; the last noise level needs no evaluation."""
    clean = torch.randn(2, 16, 1, 4, 6) * SIGMA_DATA
    oracle = Oracle(clean)
    made = sample(oracle, torch.randn(2, 16, 1, 4, 6), TEXT, steps=steps)
    torch.testing.assert_close(made, clean, atol=1e-3, rtol=1e-3)
    assert len(oracle.calls) == max(1, steps - 1)
    assert oracle.calls[0][0].shape[1] == INPUT_CHANNELS


def test_first_frame_is_kept_exactly():
    """A given first latent frame enters clean with its mask set and leaves unchanged."""
    clean = torch.randn(2, 16, 3, 4, 6)
    first, condition = torch.randn(2, 16, 1, 4, 6), torch.randn(2, 24, 3, 4, 6)
    oracle = Oracle(clean)
    made = sample(oracle, torch.randn(2, 16, 3, 4, 6), TEXT, first=first, condition=condition, steps=3)
    assert torch.equal(made[:, :, :1], first)
    torch.testing.assert_close(made[:, :, 1:], clean[:, :, 1:], atol=1e-3, rtol=1e-3)
    hidden = oracle.calls[0][0]
    torch.testing.assert_close(hidden[:, :16, 0], first[:, :, 0] / SIGMA_DATA)
    assert hidden[:, 16].unique().tolist() == [0.0, 1.0]
    assert torch.equal(hidden[:, 17:], condition)


def test_guidance_asks_with_and_without_the_text():
    """Guidance evaluates both in one pass and extrapolates from the one to the other."""
    clean = torch.cat([torch.full((2, 16, 1, 4, 6), 0.2), torch.zeros(2, 16, 1, 4, 6)])
    oracle = Oracle(clean)
    made = sample(oracle, torch.randn(2, 16, 1, 4, 6), TEXT, steps=4, guidance=3.0)
    torch.testing.assert_close(made, 3.0 * clean[:2], atol=1e-3, rtol=1e-3)
    assert [text.abs().amax((1, 2)).tolist() for _, text in oracle.calls] == 3 * [[1.0, 1.0, 0.0, 0.0]]


def test_a_silent_network_leaves_the_skip_connection():
    """With output zero the prediction is c_skip times the noisy latents (Karras et al., table 1)."""
    noisy, sigma = torch.randn(2, 16, 1, 4, 6), torch.tensor([0.5, 2.0])

    def silent(hidden, timestep, text, return_dict):
        return (torch.zeros_like(hidden[:, :16]),)

    clean = denoise(silent, noisy, sigma, None, None, TEXT)
    skip = 0.25 / (sigma**2 + 0.25)
    torch.testing.assert_close(clean, noisy * skip.reshape(-1, 1, 1, 1, 1))


def test_stopping_between_steps():
    """What ``on_step`` raises ends the sampling before the next evaluation."""
    oracle = Oracle(torch.zeros(2, 16, 1, 4, 6))

    def stop(step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(oracle, torch.randn(2, 16, 1, 4, 6), TEXT, steps=5, on_step=stop)
    assert len(oracle.calls) == 2
