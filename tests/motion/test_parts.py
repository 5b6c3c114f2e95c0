"""Moving things become rigid parts with colliders, where the evidence allows."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.motion.registration import Model, fit_motion
from omni_gen3d.motion.scene import assemble_scene, dynamic_scene, gaussians_at
from omni_gen3d.motion.scoring import TrueMover, score_parts
from omni_gen3d.motion.split import Split, split_sequence
from omni_gen3d.types import MovingPart

EYE = np.array([0.0, 0.0, 1.2])


@pytest.mark.parametrize("kind", ["fading", "following"])
@pytest.mark.parametrize("turn", [0.0, 0.8])
def test_the_wagon_is_one_rigid_part(moving_world, kind: str, turn: float):
    """One part with one collider that overlaps the true box by more than 0.8 and lies within 3 cm of it, all along;
    its own turn is found to 5 degrees."""
    world = moving_world(kind, turn)
    scene = dynamic_scene(world.sequence, world.cameras)
    assert len(scene.parts) == 1 and scene.residual is None
    (part,) = scene.parts
    assert part.present.all() and len(part.hulls) == 1
    scores = score_parts(scene.parts, [world.truth], EYE)
    assert scores.iou > 0.8 and scores.position_error_m is not None and scores.position_error_m < 0.03
    assert (scores.found, scores.strays) == (1, 0)
    ours, true = (m[-1, :3, :3] @ m[0, :3, :3].T for m in (part.to_world, world.truth.to_world))
    off = math.degrees(math.acos(min(1.0, (np.trace(ours @ true.T) - 1) / 2)))
    assert off < 5


def test_a_thing_that_comes_and_goes(moving_world):
    """A wagon that is there only at times 2 to 6 is absent before and after."""
    world = moving_world("fading")
    split = split_sequence(world.sequence, world.cameras)
    empty = split.static[slice(0, 0)]
    moving = tuple(frame if 2 <= time <= 6 else empty for time, frame in enumerate(split.moving))
    scene = assemble_scene([Split(split.static, moving)], 8.0)
    (part,) = scene.parts
    assert part.present.tolist() == [2 <= time <= 6 for time in range(9)]
    np.testing.assert_array_equal(part.to_world[0], part.to_world[2])
    assert len(gaussians_at(scene, 0)) == len(scene.static) < len(gaussians_at(scene, 4))


def test_what_changes_its_shape_is_not_rigid(moving_world):
    """A cloud that is drawn anew at random each time becomes the rest, a set each time."""
    world = moving_world("fading")
    split = split_sequence(world.sequence, world.cameras)
    generator = torch.Generator().manual_seed(0)
    moving = []
    for time, frame in enumerate(split.moving):
        means = frame.means.mean(0) + (0.1 + 0.02 * time) * torch.randn(len(frame), 3, generator=generator)
        moving.append(dataclasses.replace(frame, means=means))
    scene = assemble_scene([Split(split.static, tuple(moving))], 8.0)
    assert not scene.parts and scene.residual is not None
    assert min(map(len, scene.residual)) > 300


def test_windows_join_without_a_jump(moving_world):
    """Two windows that share time 4, each with a room of its own: one room, one wagon all the way through."""
    world = moving_world("fading")
    split = split_sequence(world.sequence, world.cameras)
    other = dataclasses.replace(split.static, means=split.static.means + 0.02)
    scene = assemble_scene([Split(split.static, split.moving[:5]), Split(other, split.moving[4:])], 8.0)
    assert scene.num_frames == 9 and len(scene.parts) == 1
    assert torch.equal(scene.static.means, split.static.means)
    assert score_parts(scene.parts, [world.truth], EYE).iou > 0.8


def test_scores_of_known_boxes(moving_world):
    """A collider that is the box scores 1 and 0; shifted by 10 cm along its 70 cm, 6 sevenths over 8 and 10 cm; a
    mover without a part halves the overlap."""
    truth = moving_world("following").truth
    gaussians = moving_world("following").sequence.frames[0][slice(0, 4)]
    present = np.ones(len(truth.to_world), np.bool_)
    part = MovingPart("part", gaussians, truth.to_world, present, (truth.mesh,))
    exact = score_parts([part], [truth], EYE)
    assert exact.iou > 0.99 and exact.position_error_m == pytest.approx(0, abs=1e-6)
    shifted = truth.to_world.copy()
    shifted[:, 0, 3] += 0.1
    off = score_parts([dataclasses.replace(part, to_world=shifted)], [truth], EYE)
    assert off.iou == pytest.approx(0.75, abs=0.04) and off.position_error_m == pytest.approx(0.1, abs=1e-4)
    far = truth.to_world.copy()
    far[:, 0, 3] += 50
    both = score_parts([part], [truth, TrueMover(truth.mesh, far)], EYE)
    assert both.iou == pytest.approx(exact.iou / 2) and (both.found, both.movers) == (1, 2)
    assert score_parts([dataclasses.replace(part, to_world=far)], [truth], EYE).strays == 1


def test_registration_of_a_part_of_a_shape():
    """Half of a coloured box, turned and shifted, is moved back onto the whole to a millimetre."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.5, 0.5, (600, 3)) * (0.8, 0.6, 0.4)
    colors = rng.uniform(0, 1, (600, 3))
    motion = np.eye(4)
    motion[:3, :3] = fit_motion(points, points @ np.array([[0.98, -0.2, 0], [0.2, 0.98, 0], [0, 0, 1]]).T, "turn")[
        :3, :3
    ]
    motion[:3, 3] = (0.05, -0.04, 0.02)
    seen = points[points[:, 0] > 0]
    moved = seen @ motion[:3, :3].T + motion[:3, 3]
    fit = Model(points, colors).register(moved, colors[points[:, 0] > 0], [np.eye(4)], "turn", 0.05)
    np.testing.assert_allclose(moved @ fit.matrix[:3, :3].T + fit.matrix[:3, 3], seen, atol=1e-3)
    assert fit.inliers == 1.0


def test_parts_are_checked_at_the_door(moving_world):
    """A matrix that scales, and a number of times that differs, are named."""
    world = moving_world("following")
    gaussians = world.sequence.frames[0][slice(0, 4)]
    with pytest.raises(InputError, match="no rigid motion"):
        MovingPart("part", gaussians, 2 * world.truth.to_world, np.ones(9, np.bool_), ())
    part = MovingPart("part", gaussians, world.truth.to_world, np.ones(9, np.bool_), ())
    scene = dynamic_scene(world.sequence, world.cameras)
    with pytest.raises(InputError, match="part has 9 times; the scene has 7"):
        dataclasses.replace(scene, parts=(part,), num_frames=7)
