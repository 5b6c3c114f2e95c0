"""What perfect networks would reach, and how distances between seeds are measured."""

from __future__ import annotations

import pytest
import torch

from omni_gen3d.training import ceilings
from omni_gen3d.training.ceilings import add_ceilings, seed_distances
from omni_gen3d.training.clips import render_clips, sample_pictures
from omni_gen3d.training.scenes import FirstFrames, Scenes
from omni_gen3d.training.scoring import Tally
from omni_gen3d.training.worlds import world_generator

HEIGHT, WIDTH, FRAMES = 16, 32, 9


@pytest.mark.parametrize("error", [0.0, 0.1])
def test_true_frames_reach_the_ceiling(monkeypatch: pytest.MonkeyPatch, error: float) -> None:
    """A diffusion network that draws the true frames, but for an error, falls short by that error alone; it is given
    the true depth, whatever was estimated, along cameras in units of its median."""
    generator = world_generator(3, "heldout", "cpu")
    views, truth = sample_pictures(2, HEIGHT, WIDTH, generator)
    median = truth.depth[:, 0].flatten(1).median(1).values
    nothing = torch.zeros(2)
    first = FirstFrames(
        picture=truth.rgb[:, :, 0] * 2 - 1, latents=nothing, depth=torch.full((2, HEIGHT, WIDTH), 9.0),
        metres_per_unit=nothing, intrinsics=truth.intrinsics, text=nothing, prompts=["", ""],
    )  # fmt: skip

    def perfect(_model: object, known: FirstFrames, cameras: torch.Tensor, _generator: object) -> Scenes:
        torch.testing.assert_close(known.depth * known.metres_per_unit[:, None, None], truth.depth[:, 0])
        metric = cameras[:, 0].clone()
        metric[..., :3, 3] *= median[:, None, None]
        frames = render_clips(views, metric, HEIGHT, WIDTH).rgb
        wrong = torch.where(frames > 0.5, frames - error, frames + error)
        return Scenes(nothing, nothing, nothing, wrong[:, None], cameras, truth.intrinsics, median, ["", ""])

    monkeypatch.setattr(ceilings, "imagine_along", perfect)
    monkeypatch.setattr(ceilings, "encode_raw", lambda tokenizer, video: video)
    monkeypatch.setattr(ceilings, "decode_raw", lambda tokenizer, latents: latents)
    tally = Tally()
    add_ceilings(tally, type("Model", (), {"tokenizer": None})(), first, views, truth, FRAMES, generator)  # pyright: ignore[reportArgumentType]
    means = tally.means()
    assert means["tokenizer_psnr_db"] > 90 and means["tokenizer_seen_psnr_db"] > 90
    for name in ("rgb_seen_psnr_db", "rgb_hole_psnr_db"):
        assert means[name] > 90 if error == 0 else means[name] == pytest.approx(20.0, abs=0.01)


def test_distances_between_seeds_are_in_units_of_prompts() -> None:
    """Features at (0, 0) and (3, 4) that move by a half of their distance with the seed, and not with the run."""
    prompts = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    found = seed_distances(lambda seed: prompts + torch.tensor([0.0, 2.5]) * (seed - 1), lambda pictures: pictures)
    assert found == {"diversity_distance": pytest.approx(0.5), "same_seed_distance": 0.0}
