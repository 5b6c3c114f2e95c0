"""Sampling against a plain rewriting of the release's loop, guidance and step caches."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from omni_gen3d.video.gen3c.network import CACHE_CHANNELS, Gen3cTransformer, cache_condition, network_input
from omni_gen3d.video.gen3c.placement import cache_steps
from omni_gen3d.video.gen3c.sampling import Conditions, make_scheduler, sample

SHAPE = (1, 16, 2, 4, 6)


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def conditions() -> Conditions:
    sources = [(random(*SHAPE, seed=1), random(*SHAPE, seed=2))]
    return Conditions(
        random(*SHAPE, seed=3), cache_condition(sources), random(1, 5, 32, seed=4), random(1, 5, 32, seed=5)
    )


def release_loop(
    network: Any, c: Conditions, noise: torch.Tensor, first_noise: torch.Tensor, steps: int, guidance: float
) -> torch.Tensor:
    """The release's order of things in float64: the first frame enters as a raw output, not as a clean prediction."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    sigmas = [*((80 ** (1 / 7) + ramp * (0.0002 ** (1 / 7) - 80 ** (1 / 7))) ** 7).tolist(), 0.0]
    x = noise.double() * (80**2 + 1) ** 0.5
    for sigma, following in pairwise(sigmas):
        data = 0.5
        c_skip, c_out = data**2 / (sigma**2 + data**2), sigma * data / (sigma**2 + data**2) ** 0.5
        c_in = 1 / (sigma**2 + data**2) ** 0.5
        indicator = torch.zeros(1, 1, 2, 1, 1, dtype=torch.float64)
        if 0.001 < sigma:
            indicator[:, :, 0] = 1
        augmented = (c.first + first_noise * 0.001).double() / (0.001**2 + data**2) ** 0.5 / c_in
        x = indicator * augmented + (1 - indicator) * x
        time = torch.tensor([0.25 * torch.log(torch.tensor(sigma, dtype=torch.float64))], dtype=torch.float32)
        outputs = []
        for cache, text in ((c.cache, c.text), (torch.zeros_like(c.cache), c.negative_text)):
            first_mask = torch.zeros(1, 1, *SHAPE[2:])
            first_mask[:, :, 0] = 1
            hidden = torch.cat([(x * c_in).float(), first_mask, cache, torch.zeros_like(first_mask)], dim=1)
            outputs.append(network(hidden, time, text, fps=24, return_dict=False)[0].double())
        output = outputs[0] + guidance * (outputs[0] - outputs[1])
        output = indicator * ((c.first - c_skip * x) / c_out) + (1 - indicator) * output
        clean = c_skip * x + c_out * output
        x = x + (x - clean) / sigma * (following - sigma)
    return x


@pytest.mark.parametrize("guidance", [0.0, 1.0])
@torch.no_grad()
def test_samples_as_the_release_does(network: Gen3cTransformer, conditions: Conditions, guidance: float) -> None:
    """Step by step the same numbers, within the rounding of float32 at a noise of 80."""
    noise, first_noise = random(*SHAPE, seed=6), random(*SHAPE, seed=7)
    made = sample(network, conditions, noise, first_noise, steps=7, guidance=guidance, dtype=torch.float32)
    wanted = release_loop(network, conditions, noise, first_noise, 7, guidance)
    torch.testing.assert_close(made.double(), wanted, atol=2e-4, rtol=2e-4)
    assert float((made[:, :, 0] - conditions.first[:, :, 0]).abs().max()) < 0.01


@torch.no_grad()
def test_guidance_moves_away_from_what_has_no_cache(network: Gen3cTransformer, conditions: Conditions) -> None:
    """Another cache or prompt gives other latents; with a guidance of 0 the negative prompt has no say."""
    noise = random(*SHAPE, seed=6)

    def run(guidance: float, **changed: torch.Tensor) -> torch.Tensor:
        c = Conditions(**{**vars(conditions), **changed})
        return sample(network, c, noise, noise, steps=2, guidance=guidance, dtype=torch.float32)

    other = {"negative_text": -conditions.negative_text}
    assert torch.equal(run(0.0), run(0.0, **other))
    assert not torch.equal(run(1.0), run(1.0, **other))
    assert not torch.equal(run(1.0), run(0.0))
    assert not torch.equal(run(0.0), run(0.0, cache=-conditions.cache))


def test_noise_levels() -> None:
    """Karras' levels from 80 to 0.0002, then 0."""
    scheduler = make_scheduler()
    scheduler.set_timesteps(35)
    assert len(scheduler.sigmas) == 36
    assert scheduler.sigmas[0] == pytest.approx(80) and scheduler.sigmas[-2] == pytest.approx(2e-4)
    assert scheduler.sigmas[-1] == 0


def test_channels_lie_where_the_checkpoint_expects_them() -> None:
    """Latents, first-frame mask, two sources of picture and mask, zeros for the missing one and for the padding."""
    shown, mask = torch.full(SHAPE, 2.0), torch.full(SHAPE, 3.0)
    condition = cache_condition([(shown, mask)])
    assert condition.shape[1] == CACHE_CHANNELS == 64
    joined = network_input(torch.full(SHAPE, 1.0), condition)[0, :, :, 0, 0]
    assert joined.shape == (82, 2)
    assert joined[:, 1].tolist() == [1.0] * 16 + [0.0] + [2.0] * 16 + [3.0] * 16 + [0.0] * 33
    assert joined[16].tolist() == [1.0, 0.0]


@torch.no_grad()
def test_step_cache_skips_and_forgets(network: Gen3cTransformer, conditions: Conditions) -> None:
    """A threshold of 0 changes nothing; a huge one computes the other blocks in the first step of each pass alone."""
    noise = random(*SHAPE, seed=6)

    def run() -> torch.Tensor:
        return sample(network, conditions, noise, noise, steps=4, dtype=torch.float32)

    plain = run()
    cache_steps(network, 0.0)
    assert torch.equal(run(), plain)
    network.disable_cache()
    cache_steps(network, 1e9)
    seen: list[int] = []
    network.get_submodule("transformer_blocks.1.ff").register_forward_hook(lambda *_: seen.append(1))
    first = run()
    assert len(seen) == 2
    network._reset_stateful_cache()
    assert torch.equal(run(), first)
    assert len(seen) == 4


def test_stopping_between_steps(network: Gen3cTransformer, conditions: Conditions) -> None:
    """``on_step`` hears every step, and what it raises ends the sampling."""
    heard: list[int] = []

    def stop(step: int) -> None:
        heard.append(step)
        if step == 1:
            raise KeyboardInterrupt

    noise = random(*SHAPE, seed=6)
    with pytest.raises(KeyboardInterrupt):
        sample(network, conditions, noise, noise, steps=3, dtype=torch.float32, on_step=stop)
    assert heard == [0, 1]
