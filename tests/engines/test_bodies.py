"""Bodies rest on a written environment where the surface is, in every engine."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from pxr import Usd

from omni_gen3d.envs.applying import apply_to_stage
from omni_gen3d.envs.clutter import Pool
from omni_gen3d.envs.sample import Appearance, CameraChange, Placement, Sample, Thing
from omni_gen3d.usd import Manifest

BALL_RADIUS_M = 0.1


def test_boxes_rest_on_the_surface(toy_environment, drop):
    """Boxes dropped on floor and table rest within 1 cm of the surface, and one beside the room falls."""
    points = [(0.0, 0.0, 0.0), (-1.0, -1.0, 0.0), (1.0, 1.0, 0.5), (9.0, 0.0, 0.0)]
    heights = drop(toy_environment, points)
    np.testing.assert_allclose(heights[:3], [0.0, 0.0, 0.5], atol=0.01)
    assert heights[3] < -5


def test_boxes_rest_where_the_extension_puts_an_environment(toy_environment, drop_on_a_host):
    """On a stage in centimetres with Y up and no physics scene of its own, a box rests on the table."""
    assert drop_on_a_host(toy_environment, (1.0, 1.0)) == pytest.approx(0.5, abs=0.01)


def test_boxes_rest_on_convex_pieces(toy_environment_in_pieces, drop):
    """A box over the seam of two hulls and one on the floor rest within 1 cm of the surface."""
    heights = drop(toy_environment_in_pieces, [(1.0, 1.0, 0.5), (0.0, 0.0, 0.0)])
    np.testing.assert_allclose(heights, [0.5, 0.0], atol=0.01)


def test_boxes_rest_on_clutter(toy_environment, drop, tmp_path):
    """A box dropped on a thing that a sample put on the floor rests on it; beside it another rests on the floor."""
    (tmp_path / "pool").mkdir()
    trimesh.creation.box((0.6, 0.6, 0.25)).export(tmp_path / "pool" / "crate.ply")
    pool = Pool.read(tmp_path / "pool")
    crate = Thing("crate.ply", pool.meshes[0].sha256, (-1.0, 0.0, 0.127), 0.4, 1.0, (1.0, 0.0, 0.0))
    sample = Sample(
        environment="toy",
        digest="0",
        seed=0,
        index=0,
        appearance=Appearance(),
        contact=None,
        placement=Placement(),
        spawn=None,
        camera=CameraChange(),
        clutter=(crate,),
    )
    stage = Usd.Stage.Open(str(toy_environment))
    apply_to_stage(stage, sample, pool=pool)
    cluttered = tmp_path / "cluttered.usda"
    stage.Flatten().Export(str(cluttered))
    heights = drop(cluttered, [(-1.0, 0.0, 0.252), (0.0, 0.0, 0.0)])
    np.testing.assert_allclose(heights, [0.252, 0.0], atol=0.01)


@pytest.mark.parametrize("made", ["from_text", "from_picture", "by_converting"])
def test_boxes_rest_at_every_spawn_pose(made, request, drop):
    """A box dropped at any spawn pose of a real environment rests within 1 cm of its floor."""
    environment = request.getfixturevalue(f"environment_{made}")
    poses = Manifest.read(environment.environment / "environment.yaml").spawn_poses
    # 32 but for small floors, as the photograph's between its camera and a motorcycle.
    assert len(poses) >= 12
    heights = drop(environment.usd, [pose.position for pose in poses])
    np.testing.assert_allclose(heights, 0.0, atol=0.01)


@pytest.mark.parametrize("made", ["from_text", "by_converting"])
def test_balls_stay_in_the_room(made, request, roll):
    """No ball that rolls off from a spawn pose leaves the room through floor or walls."""
    environment = request.getfixturevalue(f"environment_{made}")
    manifest = Manifest.read(environment.environment / "environment.yaml")
    places = roll(environment.usd, manifest.spawn_poses[::4])
    space = manifest.free_space
    assert space is not None
    high = space.origin + np.array(space.free.shape) * space.voxel_size
    assert (places > space.origin).all() and (places < high).all()
    # Up to a hand higher: a ball may still be climbing the foot of a wall.
    assert (places[:, 2] > BALL_RADIUS_M - 0.02).all() and (places[:, 2] < BALL_RADIUS_M + 0.1).all()
