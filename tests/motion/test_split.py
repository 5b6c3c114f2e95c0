"""What stands still is told from what moves, however noisy each time is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from omni_gen3d.motion.scene import gaussians_at
from omni_gen3d.motion.scoring import static_flicker
from omni_gen3d.motion.split import split_sequence
from omni_gen3d.motion.tracks import find_tracks
from omni_gen3d.render import render
from omni_gen3d.render.picture import color_to_image
from omni_gen3d.types import GaussianSequence


@pytest.mark.parametrize("kind", ["fading", "following"])
def test_the_room_is_static_and_the_wagon_is_not(moving_world, kind: str):
    """Every slot of the room stands still, also where the decoder lets it fade behind the wagon; of the wagon's at
    most its lowest few centimetres, which no camera sees past, are left standing."""
    world = moving_world(kind)
    split = split_sequence(world.sequence, world.cameras)
    room = world.sequence.frames[0].means[: world.num_static]
    assert world.num_static <= len(split.static) < world.num_static + 150
    torch.testing.assert_close(split.static.means[: world.num_static], room, atol=0.06, rtol=0)
    # Behind the wagon it fades at some times; the fused room is opaque again.
    assert float(split.static.opacities.min()) > 0.9
    middles = np.stack([moving.means.mean(0).numpy() for moving in split.moving])
    np.testing.assert_allclose(middles[:, :2], world.truth.to_world[:, :2, 3], atol=0.06)


def test_what_stands_still_does_not_flicker(moving_world, moving_pixels):
    """Of the decoder's flicker of several grey levels less than half of one is left."""
    world = moving_world("fading")
    split = split_sequence(world.sequence, world.cameras)
    drawn = [color_to_image(render(frame, world.cameras[[0]]).color[0]) for frame in world.sequence.frames]
    raw = np.stack(drawn)
    joined = [type(split.static).joined([split.static, moving]) for moving in split.moving]
    fused = np.stack([color_to_image(render(frame, world.cameras[[0]]).color[0]) for frame in joined])
    moving = moving_pixels(raw)
    assert static_flicker(raw, moving) > 2
    assert static_flicker(fused, moving) < 0.5


def test_a_still_scene_has_no_moving_part(moving_world):
    """Noise alone moves nothing: of the room without a wagon every slot is static."""
    world = moving_world("following")
    count = world.num_static
    frames = tuple(frame[slice(0, count)] for frame in world.sequence.frames)
    split = split_sequence(GaussianSequence(frames, 8.0), world.cameras)
    assert len(split.static) == count and not any(map(len, split.moving))
    assert find_tracks(split.moving) == []
    assert torch.equal(gaussians_at(split.static, 3).means, split.static.means)


def test_a_film_that_stays_moves_nothing(moving_world):
    """Where the film shows the wagon all is as without it; where the film stays the same nothing moves, whatever the
    depth says."""
    world = moving_world("fading")
    drawn = [render(frame, world.cameras[[0]]).color[0] for frame in world.sequence.frames]
    film = 2 * torch.stack(drawn).permute(3, 0, 1, 2) - 1
    split = split_sequence(world.sequence, world.cameras, film)
    assert min(map(len, split.moving)) > 700
    still = film[:, :1].expand_as(film)
    # What is there for one time only still belongs to nothing that stands still.
    count = [len(moving) for moving in split_sequence(world.sequence, world.cameras, still).moving]
    following = moving_world("following")
    assert len(split_sequence(following.sequence, following.cameras, still).moving[4]) < 0.2 * min(count)
