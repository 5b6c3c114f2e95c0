"""Moving worlds: what moves, where it is, and that pictures, depths, masks and transforms agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from omni_gen3d.training.clips import along_trajectories
from omni_gen3d.training.motion import Amounts, link_poses, pose_matrix, rolling_turns
from omni_gen3d.training.movers import BALL_MOVER, LINKS, MOVER_PARTS, MOVERS
from omni_gen3d.training.moving import (
    MovingClips,
    MovingViews,
    caption_moving,
    moving_trajectories,
    render_moving,
    render_times,
    sample_moving_views,
)
from omni_gen3d.training.raycast import BALL, BOXES
from omni_gen3d.training.worlds import distance_to_nearest, world_generator

HEIGHT, WIDTH, FRAMES, COUNT = 18, 32, 5, 24


@pytest.fixture(scope="module")
def moving() -> MovingViews:
    return sample_moving_views(COUNT, WIDTH, HEIGHT, FRAMES, world_generator(1, "train", "cpu"))


@pytest.fixture(scope="module")
def filmed(moving: MovingViews) -> MovingClips:
    return render_moving(moving, torch.eye(4).repeat(COUNT, FRAMES, 1, 1), HEIGHT, WIDTH)


def _points(moving: MovingViews, filmed: MovingClips) -> torch.Tensor:
    """World points of every pixel, shape ``(B, L, H, W, 3)``."""
    v, u = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    offsets = torch.stack([u - WIDTH / 2, v - HEIGHT / 2], -1) / moving.views.focal_px[:, None, None, None]
    rays = torch.cat([offsets, torch.ones_like(offsets[..., :1])], -1)
    camera = moving.views.camera_to_world[:, None, None, None]
    turned = (camera[..., :3, :3] @ rays[:, None, ..., None])[..., 0]
    return camera[..., :3, 3] + turned * filmed.clips.depth[..., None]


def test_the_same_seed_gives_the_same_motion(moving: MovingViews) -> None:
    """Two draws of one seed are equal; another seed differs."""
    again = sample_moving_views(COUNT, WIDTH, HEIGHT, FRAMES, world_generator(1, "train", "cpu"))
    assert torch.equal(moving.pose, again.pose) and torch.equal(moving.mover, again.mover)
    other = sample_moving_views(COUNT, WIDTH, HEIGHT, FRAMES, world_generator(2, "train", "cpu"))
    assert not torch.equal(moving.pose, other.pose)


def test_most_worlds_move_in_several_ways(moving: MovingViews) -> None:
    """At least four types among two dozen worlds, and something to see in most of them."""
    assert len(set(moving.mover.tolist()) - {-1}) >= 4
    assert (moving.mover >= 0).float().mean() > 0.8


def test_what_is_seen_lies_on_the_part_that_is_named(moving: MovingViews, filmed: MovingClips) -> None:
    """A moving pixel's point, taken into its part's frame, lies on the surface of that part's box (or ball)."""
    points = _points(moving, filmed)
    to_part = torch.linalg.inv(moving.part_to_world)
    checked = 0
    for b, t, row, column in filmed.moving.nonzero()[::7].tolist():
        part = int(filmed.primitive[b, t, row, column])
        index = MOVER_PARTS if part == BALL else part - (BOXES - MOVER_PARTS)
        local = to_part[b, t, index] @ torch.cat([points[b, t, row, column], torch.ones(1)])
        if part == BALL:
            off = local[:3].norm() - moving.views.worlds.solids.ball_radius[b]
        else:
            off = (local[:3].abs() - moving.part_half[b, index]).max()
        assert abs(float(off)) < 5e-3
        checked += 1
    assert checked > 50


def test_pixels_without_motion_never_change(filmed: MovingClips) -> None:
    """Where the mask is empty at all times, depth and surface stay."""
    still = ~filmed.moving.any(1)
    assert 0.3 < float(still.float().mean()) < 1
    depth = filmed.clips.depth
    assert float(((depth - depth[:, :1]).abs().amax(1) * still).amax()) < 1e-4
    assert bool(((filmed.clips.surface == filmed.clips.surface[:, :1]).all(1) | ~still).all())


def test_masks_follow_the_transforms(moving: MovingViews, filmed: MovingClips) -> None:
    """A primitive is masked exactly where its transform changes over the clip."""
    spread = (moving.part_to_world - moving.part_to_world[:, :1]).abs().amax((1, 3, 4)) > 1e-3
    for b in range(COUNT):
        for part in filmed.primitive[b].unique().tolist():
            here = filmed.primitive[b] == part
            index = MOVER_PARTS if part == BALL else part - (BOXES - MOVER_PARTS)
            expected = index >= 0 and (part == BALL or part < BOXES) and bool(spread[b, index])
            assert bool((filmed.moving[b][here] == expected).all()), (b, part)


def test_movers_touch_nothing_on_their_way(moving: MovingViews) -> None:
    """At every time the middles of all parts are clear of the room and its furniture."""
    empty = moving.views.worlds.solids._replace(
        box_half=moving.views.worlds.solids.box_half.clone().index_fill(1, torch.arange(BOXES - MOVER_PARTS, BOXES), 0),
        ball_radius=torch.zeros(COUNT),
    )
    room = replace(moving.views.worlds, solids=empty)
    away = torch.tensor([0.0, 0.0, -50.0])
    used = (moving.part_half[..., 0] > 0)[:, None, :, None]
    centers = torch.where(used, moving.pose[..., 1:], moving.views.camera_to_world[:, None, None, :3, 3])
    assert float(distance_to_nearest(room, centers.reshape(COUNT, -1, 3)).amin()) > -0.01
    rolls = moving.mover == BALL_MOVER
    height = moving.ball_center[rolls][..., 2] - moving.views.worlds.solids.ball_radius[rolls, None]
    assert float(height.abs().amax()) < 1e-5 and bool((moving.ball_center[~rolls] == away).all())


def test_any_camera_sees_any_time(moving: MovingViews, filmed: MovingClips) -> None:
    """One frame asked for by its index is the frame of the film, byte for byte."""
    times = torch.full((COUNT, 1), 3)
    single = render_times(moving, torch.eye(4).repeat(COUNT, 1, 1, 1), times, HEIGHT, WIDTH)
    assert torch.equal(single.clips.rgb[:, :, 0], filmed.clips.rgb[:, :, 3])
    assert torch.equal(single.moving[:, 0], filmed.moving[:, 3])


def test_cameras_keep_clear_of_the_mover(moving: MovingViews) -> None:
    """Trajectories start at the film's camera and end no further than those of the empty room."""
    forward = torch.full((COUNT,), 4)
    kept = moving_trajectories(moving, forward, world_generator(5, "train", "cpu"))
    free = along_trajectories(moving.views, forward, FRAMES, world_generator(5, "train", "cpu"))
    assert torch.allclose(kept[:, 0], torch.eye(4), atol=1e-6)
    assert bool((kept[:, -1, 2, 3] <= free[:, -1, 2, 3] + 1e-5).all())


def test_captions_name_what_moves(moving: MovingViews, filmed: MovingClips) -> None:
    """The mover's words end the caption exactly where it is seen to move."""
    captions = caption_moving(moving, filmed, np.random.default_rng(0))
    seen = filmed.moving.float().mean((2, 3)).amax(1) > 0.003
    for caption, mover, visible in zip(captions, moving.mover.tolist(), seen.tolist(), strict=True):
        says = any(caption.endswith(words) for kind in MOVERS for words in kind.says)
        assert says == visible
        assert not visible or caption.endswith(MOVERS[mover].says)


def test_links_turn_travel_and_carry() -> None:
    """A straight way, a right-angled arc and an elbow on a shoulder, against hand-made poses."""
    zero = torch.zeros(())
    still = Amounts(torch.ones(()), *[zero] * 8)
    middle, phase = torch.tensor([0.0, 1.0, 2.0, 0.0]), torch.tensor([0.0, 1.0])
    straight = link_poses(still._replace(travel=torch.tensor(2.0)), middle, zero, phase)
    torch.testing.assert_close(straight[:, 0], torch.tensor([[0.0, 0.0, 2.0, 0.0], [0.0, 2.0, 2.0, 0.0]]))
    quarter = torch.tensor(torch.pi / 2)
    arc = link_poses(still._replace(travel=quarter, turn=quarter), torch.zeros(4), zero, phase)[:, 0]
    ahead = pose_matrix(arc[0]).inverse() @ pose_matrix(arc[1])
    torch.testing.assert_close(ahead, pose_matrix(torch.stack([quarter, zero + 1, zero + 1, zero])), atol=1e-6, rtol=0)
    bent = link_poses(
        still._replace(shoulder=quarter, elbow=-quarter), torch.zeros(4), torch.tensor(0.5), torch.ones(1)
    )
    torch.testing.assert_close(bent[0, LINKS.index("elbow")], torch.tensor([0.0, 0.0, 0.5, 0.0]), atol=1e-6, rtol=0)


def test_balls_roll_without_slipping() -> None:
    """After one circumference along x the ball has turned once; halfway its top is at the bottom."""
    radius = torch.tensor([0.2])
    x = torch.linspace(0, 2 * torch.pi * 0.2, 9)
    center = torch.stack([x, torch.zeros(9), torch.full((9,), 0.2)], -1)[None]
    turns = rolling_turns(center, radius)
    torch.testing.assert_close(turns[0, -1], torch.eye(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(turns[0, 4] @ torch.tensor([0.0, 0, 1]), torch.tensor([0.0, 0, -1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(turns[0, 2] @ torch.tensor([0.0, 0, 1]), torch.tensor([1.0, 0, 0]), atol=1e-5, rtol=0)
