"""How figures are pooled, where the seventh trajectory goes, and what a perfect scene would score."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from omni_gen3d.training.clips import Clips, Views, render_clips, sample_pictures
from omni_gen3d.training.losses import psnr
from omni_gen3d.training.scenes import FirstFrames, Scenes
from omni_gen3d.training.scoring import Tally, add_depth, add_truth, seventh_trajectory
from omni_gen3d.training.worlds import world_generator
from omni_gen3d.video.trajectories import centre_facing, trajectory_positions

HEIGHT, WIDTH, FRAMES = 16, 32, 9


def test_decibels_are_pooled_as_errors() -> None:
    """Two batches give the PSNR of all their pixels together; other figures give their weighted mean."""
    a, b = torch.rand(2, 6, 4, 4)
    target = torch.zeros(6, 4, 4)
    tally = Tally()
    tally.add({"x_psnr_db": psnr(a[:4], target[:4]), "y": 1.0}, 4)
    tally.add({"x_psnr_db": psnr(b[:2], target[:2]), "y": 4.0}, 2)
    tally.add({"x_psnr_db": 99.0, "z": 1.0}, 0)
    means = tally.means()
    assert means["x_psnr_db"] == pytest.approx(psnr(torch.cat([a[:4], b[:2]]), target), abs=1e-4)
    assert means["y"] == pytest.approx(2.0) and "z" not in means


def test_the_seventh_trajectory_is_none_of_the_six() -> None:
    """It starts at the first camera, ends right, up and ahead, faces the centre, and leaves every one of the six."""
    arc = seventh_trajectory(17, "cpu")
    torch.testing.assert_close(arc[0], torch.eye(4))
    x, y, z = arc[-1, :3, 3].tolist()
    assert x > 0.2 and y < -0.1 and z > 0.1
    to_centre = torch.tensor([0.0, 0.0, 1.0]) - arc[:, :3, 3]
    assert torch.allclose(torch.linalg.cross(arc[:, :3, 2], to_centre), torch.zeros(17, 3), atol=1e-6)
    six = trajectory_positions(torch.tensor([0.3, 0.3, 0.2, 0.4, 0.4, 0.6]), 17)
    assert (six - arc[-1, :3, 3]).norm(dim=-1).amin() > 0.1


@pytest.fixture(scope="module")
def perfect() -> tuple[Views, Clips, FirstFrames, Scenes, torch.Tensor]:
    """A scene whose estimated depth is the true one and whose renders are the true frames, two trajectories."""
    views, truth = sample_pictures(1, HEIGHT, WIDTH, world_generator(3, "heldout", "cpu"))
    depth = truth.depth[:, 0]
    median = depth.flatten(1).median(1).values
    positions = trajectory_positions(torch.full((1, 6), 0.1), FRAMES)[:, :2]
    cameras = centre_facing(positions)
    metric = cameras.clone()
    metric[..., :3, 3] *= median[:, None, None, None]
    drawn = torch.stack([render_clips(views, metric[:, v], HEIGHT, WIDTH).rgb[0] for v in range(2)])[None]
    nothing = torch.zeros(1)
    first = FirstFrames(
        picture=truth.rgb[:, :, 0] * 2 - 1, latents=nothing, depth=depth / median[:, None, None],
        metres_per_unit=median, intrinsics=truth.intrinsics, text=nothing, prompts=[""],
    )  # fmt: skip
    scenes = Scenes(nothing, nothing, nothing, drawn.transpose(1, 2), cameras, truth.intrinsics, median, [""])
    return views, truth, first, scenes, drawn.permute(0, 1, 3, 4, 5, 2)


def test_true_frames_score_perfectly(perfect: tuple[Views, Clips, FirstFrames, Scenes, torch.Tensor]) -> None:
    """Renders that are the true frames reach the cap of PSNR, and the ends of the trajectories come back."""
    views, truth, first, scenes, drawn = perfect
    tally = Tally()
    ends = add_truth(tally, drawn, first, scenes, views, truth)
    means = tally.means()
    assert means["image_frames_share"] > 0.5
    for name in ("image_psnr_db", "image_psnr_aligned_db", "hole_psnr_db", "hole_psnr_aligned_db"):
        assert means[name] > 90
    assert 5 < means["repeated_psnr_db"] < 40
    assert means["repeated_psnr_db"] == pytest.approx(means["repeated_psnr_aligned_db"])
    torch.testing.assert_close(ends, drawn[:, :, -1].permute(0, 1, 4, 2, 3))


def test_a_wrong_scale_harms_all_but_the_aligned(
    perfect: tuple[Views, Clips, FirstFrames, Scenes, torch.Tensor],
) -> None:
    """Metres that are 30 % too long move the true camera too far; the aligned figures forgive it."""
    views, truth, first, scenes, drawn = perfect
    tally = Tally()
    add_truth(tally, drawn, first, replace(scenes, metres_per_unit=1.3 * scenes.metres_per_unit), views, truth)
    means = tally.means()
    assert means["image_psnr_db"] < 40 and means["image_psnr_aligned_db"] > 90


def test_depth_errors_are_relative_metres(perfect: tuple[Views, Clips, FirstFrames, Scenes, torch.Tensor]) -> None:
    """The network's error is that of its scale; a wall of splats is as wrong as the world is unlike it."""
    _, truth, first, _, _ = perfect
    wrong = replace(first, metres_per_unit=1.2 * first.metres_per_unit)
    count = 4000
    generator = torch.Generator().manual_seed(0)
    span = 3 * (2 * torch.rand(count, 2, generator=generator) - 1)
    wall = {
        "means": torch.cat([span, torch.ones(count, 1)], 1)[None],
        "quats": torch.tensor([1.0, 0, 0, 0]).expand(1, count, 4),
        "scales": torch.full((1, count, 3), 0.1),
        "opacities": torch.full((1, count), 0.9),
        "rgb": torch.zeros(1, count, 3),
    }
    tally = Tally()
    add_depth(tally, wall, wrong, truth)
    means = tally.means()
    assert means["network_depth_absrel"] == pytest.approx(0.2, abs=1e-4)
    at_wall = float(((1.2 * first.metres_per_unit - truth.depth).abs() / truth.depth).mean())
    assert math.isclose(means["depth_absrel"], at_wall, rel_tol=0.15)
