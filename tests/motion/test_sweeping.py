"""Where moving parts pass nothing stands."""

from __future__ import annotations

import numpy as np
import torch

from omni_gen3d.geometry import transform_gaussians
from omni_gen3d.motion.scene import assemble_scene, dynamic_scene
from omni_gen3d.motion.split import Split, split_sequence
from omni_gen3d.motion.sweeping import clear_way
from omni_gen3d.types import Gaussians, MovingPart


def test_a_copy_at_the_end_of_the_way_goes(moving_world):
    """A copy of the wagon, a little smaller, that stands where its way ends is dropped; floor and walls stay."""
    world = moving_world("fading")
    split = split_sequence(world.sequence, world.cameras)
    (part,) = assemble_scene([split], 8.0).parts
    both = Gaussians.joined([split.static, copy_at_the_end(part)])
    scene = assemble_scene([Split(both, split.moving)], 8.0)
    assert len(scene.parts) == 1
    np.testing.assert_array_equal(scene.static.means, split.static.means)


def copy_at_the_end(part: MovingPart) -> Gaussians:
    """Where the part's way ends; smaller, so that it lies well inside of it, and off the floor, which is kept there."""
    end = torch.from_numpy(part.to_world[-1]).float()
    return transform_gaussians(part.gaussians, end[:3, :3], 0.3 * end[:3, :3] @ part_middle(part) + end[:3, 3], 0.7)


def part_middle(part: MovingPart) -> torch.Tensor:
    """The middle of the collider in the part's frame, towards which the copy is shrunk."""
    corners = np.concatenate([hull.vertices for hull in part.hulls])
    return torch.from_numpy((corners.min(0) + corners.max(0)) / 2).float()


def test_what_is_beside_the_way_stays(moving_world):
    """A clear way changes nothing, and neither do Gaussians on the floor below it."""
    world = moving_world("fading")
    scene = dynamic_scene(world.sequence, world.cameras)
    corners = np.concatenate([hull.vertices for hull in scene.parts[0].hulls])
    through = corners.mean(0) + scene.parts[0].to_world[4, :3, 3]
    below = scene.static.means[:, :2] - torch.from_numpy(through[:2]).float()
    assert (below.norm(dim=1) < 0.2).any()
    assert clear_way(scene.static, scene.parts) is scene.static


def test_what_the_film_shows_without_the_part_stays(moving_world):
    """Gaussians deep in the way of a part stay if the film shows them while it is elsewhere, else not."""
    world = moving_world("fading")
    split = split_sequence(world.sequence, world.cameras)
    (part,) = assemble_scene([split], 8.0).parts
    copy = copy_at_the_end(part)
    witnessed = np.zeros((len(part.to_world), len(copy)), np.bool_)
    assert len(clear_way(copy, [part], witnessed)) == 0
    witnessed[-1] = True
    assert len(clear_way(copy, [part], witnessed)) == 0
    witnessed[:3] = True
    assert clear_way(copy, [part], witnessed) is copy


def test_what_a_part_would_graze_goes_but_the_floor(moving_world):
    """A copy of the collider's corners three centimetres outside of it is dropped, unless it lies on the floor."""
    world = moving_world("fading")
    scene = dynamic_scene(world.sequence, world.cameras)
    (part,) = scene.parts
    middle = part_middle(part).numpy()
    side = part.hulls[0].vertices[part.hulls[0].vertices[:, 2] > middle[2]].max(0)
    beside = np.array([[side[0] + 0.03, middle[1], middle[2]], [side[0] + 0.08, middle[1], middle[2]]])
    beside = beside + part.to_world[0, :3, 3]
    low = np.array([[*part.to_world[0, :2, 3], 0.0]])
    stray = scene.static[torch.arange(3)]
    stray = Gaussians(
        torch.from_numpy(np.concatenate([beside, low])).float(), stray.quats, stray.scales, stray.opacities, stray.sh
    )
    np.testing.assert_array_equal(clear_way(stray, [part]).means, stray.means[1:])
