"""From first frames to latents along trajectories, with tiny random networks."""

from __future__ import annotations

import pytest
import torch

from omni_gen3d.geometry import intrinsics_from_focal
from omni_gen3d.video.cache3d import nearest_in_cells, warp
from omni_gen3d.video.imagine import (
    Imagined,
    draw_noise,
    imagine,
    latent_of_picture,
    picture_from_text,
)
from omni_gen3d.video.text import TEXT_CHANNELS
from omni_gen3d.video.tokenizer import decode_raw, encode_raw, to_raw_domain
from omni_gen3d.video.trajectories import six_trajectories

SCENES, VIEWS, FRAMES, LATENT_FRAMES, HEIGHT, WIDTH = 2, 2, 9, 2, 32, 48
ROWS, COLUMNS = HEIGHT // 8, WIDTH // 8


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def scenes(model) -> dict[str, torch.Tensor]:
    """Two scenes with smooth depth, each seen along two trajectories of its own."""
    picture = random(SCENES, 3, HEIGHT, WIDTH).clamp(-1, 1)
    slope = torch.linspace(0.8, 1.2, WIDTH).expand(HEIGHT, WIDTH)
    generator = torch.Generator().manual_seed(1)
    paths = torch.stack([six_trajectories(FRAMES, generator, "cpu")[[0, 3]] for _ in range(SCENES)])
    return {
        "picture": picture,
        "first": latent_of_picture(model, picture),
        "depth": torch.stack([slope, slope.flip(1)]),
        "intrinsics": intrinsics_from_focal(40.0, WIDTH, HEIGHT).float().repeat(SCENES, 1, 1),
        "camera_to_first": paths,
        "text": random(SCENES, 4, TEXT_CHANNELS, seed=2),
        "noise": random(SCENES * VIEWS, 16, LATENT_FRAMES, ROWS, COLUMNS, seed=3),
    }


def assert_same(made: Imagined, wanted: Imagined) -> None:
    for name in ("latents", "cache_depth", "warped_depth"):
        torch.testing.assert_close(getattr(made, name), getattr(wanted, name), atol=1e-4, rtol=1e-4)


def test_noise_has_the_latents_shape():
    """One latent cell for 8x8 pixels; the generator's seed decides every number."""
    one = draw_noise(3, LATENT_FRAMES, HEIGHT, WIDTH, torch.Generator().manual_seed(5))
    assert one.shape == (3, 16, LATENT_FRAMES, ROWS, COLUMNS)
    assert torch.equal(one, draw_noise(3, LATENT_FRAMES, HEIGHT, WIDTH, torch.Generator().manual_seed(5)))
    assert abs(float(one.std()) - 1) < 0.1


def test_pictures_are_decoded_latents(model):
    """Pictures made from text lie in [-1, 1], are the decoded latents, and do not depend on who else is made."""
    text, noise = random(2, 4, TEXT_CHANNELS), random(2, 16, 1, ROWS, COLUMNS, seed=1)
    pictures, latents = picture_from_text(model, text, noise, steps=2, guidance=3.0)
    assert pictures.shape == (2, 3, HEIGHT, WIDTH)
    decoded = decode_raw(model.tokenizer, to_raw_domain(model.tokenizer, latents))[:, :, 0]
    torch.testing.assert_close(pictures, decoded.clamp(-1, 1))
    alone, _ = picture_from_text(model, text[1:], noise[1:], steps=2, guidance=3.0)
    torch.testing.assert_close(alone, pictures[1:], atol=1e-4, rtol=1e-4)
    unguided, _ = picture_from_text(model, text, noise, steps=2, guidance=1.0)
    assert float((unguided - pictures).abs().max()) > 1e-3


def test_latent_of_a_picture_is_a_clip_of_one_frame(model):
    """Back in the raw domain it is what the tokenizer encodes."""
    picture = random(2, 3, HEIGHT, WIDTH).clamp(-1, 1)
    latent = latent_of_picture(model, picture)
    assert latent.shape == (2, 16, 1, ROWS, COLUMNS)
    raw = encode_raw(model.tokenizer, picture.unsqueeze(2)).detach()
    torch.testing.assert_close(to_raw_domain(model.tokenizer, latent), raw, atol=1e-4, rtol=1e-4)


def test_trajectories_start_at_the_given_frame(model, scenes):
    """Every trajectory's first latent frame is the given one; the same inputs give the same bytes."""
    made = imagine(model, **scenes, steps=2)
    assert made.latents.shape == (SCENES, VIEWS, 16, LATENT_FRAMES, ROWS, COLUMNS)
    first = to_raw_domain(model.tokenizer, scenes["first"])
    torch.testing.assert_close(made.latents[:, :, :, :1], first[:, None].expand(-1, VIEWS, -1, -1, -1, -1))
    again = imagine(model, **scenes, steps=2)
    assert torch.equal(made.latents, again.latents)
    assert torch.equal(made.warped_depth, again.warped_depth)


def test_scenes_of_a_batch_do_not_mix(model, scenes):
    """Each scene of a batch gets the latents and depths that it gets alone."""
    made = imagine(model, **scenes, steps=1)
    for i in range(SCENES):
        own = {name: value[i : i + 1] for name, value in scenes.items()}
        own["noise"] = scenes["noise"].unflatten(0, (SCENES, VIEWS))[i]
        alone = imagine(model, **own, steps=1)
        assert_same(alone, Imagined(made.latents[i : i + 1], made.cache_depth[i : i + 1], made.warped_depth[i : i + 1]))


def test_trajectories_may_come_in_any_order(model, scenes):
    """Each trajectory keeps its noise, its cameras and its warped cache when their order changes."""
    made = imagine(model, **scenes, steps=1)
    noise = scenes["noise"].unflatten(0, (SCENES, VIEWS)).flip(1).flatten(0, 1)
    turned = imagine(model, **{**scenes, "camera_to_first": scenes["camera_to_first"].flip(1), "noise": noise}, steps=1)
    assert_same(turned, Imagined(made.latents.flip(1), made.cache_depth.flip(1), made.warped_depth.flip(1)))


def test_cache_steers_and_is_returned(model, scenes):
    """Depths are those of the warp at frames 0 and 8, and another depth makes other latents."""
    made = imagine(model, **scenes, steps=1)
    assert made.warped_depth.shape == (SCENES, VIEWS, FRAMES, 4 * ROWS, 4 * COLUMNS)
    for view in range(VIEWS):
        seen = warp(scenes["picture"], scenes["depth"], scenes["intrinsics"], scenes["camera_to_first"][:, view])
        at_latents = nearest_in_cells(seen.depth[:, 0, [0, 8]])
        torch.testing.assert_close(made.cache_depth[:, view], at_latents)
    nearer = imagine(model, **{**scenes, "depth": 0.5 * scenes["depth"]}, steps=1)
    assert float((nearer.latents - made.latents)[:, :, :, 1:].abs().max()) > 1e-3


def test_stopping_between_steps(model, scenes):
    """``on_step`` hears every step, and what it raises ends the imagining."""
    heard: list[int] = []

    def stop(step: int) -> None:
        heard.append(step)
        if step == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        imagine(model, **scenes, steps=3, on_step=stop)
    assert heard == [0, 1]


def test_nearest_known_depth_of_each_cell():
    """The smallest positive of four, 0 where there is none, as a loop finds it."""
    depth = torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(0)) * 5 + 0.1
    depth[torch.rand(depth.shape, generator=torch.Generator().manual_seed(1)) < 0.6] = 0
    wanted = torch.zeros(2, 3, 3, 4)
    for b, frame, row, column in torch.cartesian_prod(*map(torch.arange, wanted.shape)).tolist():
        cell = depth[b, frame, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        if bool((cell > 0).any()):
            wanted[b, frame, row, column] = cell[cell > 0].min()
    assert bool((wanted == 0).any())
    torch.testing.assert_close(nearest_in_cells(depth), wanted)
