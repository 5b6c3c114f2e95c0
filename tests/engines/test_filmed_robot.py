"""A mobile robot that a film shows pushes a box on the generated floor, in PhysX and in Newton."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pxr import Usd

from omni_gen3d import generate_from_video
from omni_gen3d.envs.applying import apply_to_stage
from omni_gen3d.envs.randomize import MotionRanges, Randomization, draw
from omni_gen3d.envs.registry import Entry, Registry
from omni_gen3d.geometry import intrinsics_from_fov
from omni_gen3d.training.movers import MOVER_NAMES
from omni_gen3d.training.moving import render_times, sample_moving_views
from omni_gen3d.training.worlds import world_generator
from omni_gen3d.usd.moving import read_moving
from omni_gen3d.video.clip import load_clip

# A robot drives away over a wooden floor for two seconds, 17 frames: world 4 of 48 that no model was trained on, drawn
# by training.moving; the last test holds it to that.
FILM, FOV_DEG, SECONDS = Path(__file__).parent / "robot.mp4", 58.85, 2.0
EDGE_M = 0.2


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """What the shipped model makes of five times of the film, in a library."""
    folder = tmp_path_factory.mktemp("filmed")
    made = generate_from_video(FILM, fov_deg=FOV_DEG, times=5, frames_per_second=2, out=folder / "env", device="cpu")
    return Registry(folder / "library").add(made.environment)


def test_the_robot_pushes_the_box(filmed: Entry, push_box) -> None:
    """The box in its way is pushed ahead, most of the way, and stays on the floor; when randomization removes what
    moves, it stays where it was."""
    usd = filmed.usd
    place, heading = in_its_way(usd)

    def pushed(ranges: MotionRanges) -> tuple[np.ndarray, list[str]]:
        sample = draw(Randomization(motion=ranges), [filmed], seed=0)
        return push_box(usd, place, SECONDS + 0.5, lambda stage, root: apply_to_stage(stage, sample, root))

    end, moving = pushed(MotionRanges())
    assert moving and (end[:2] - place) @ heading > 0.4, (place, end, heading)
    assert abs(end[2] - EDGE_M / 2) < 0.02
    end, moving = pushed(MotionRanges(remove=1.0))
    assert moving == []
    # Newton lets a box on a floor of triangles creep by a centimetre a second.
    np.testing.assert_allclose(end, (*place, EDGE_M / 2), atol=0.05)


def in_its_way(usd: Path) -> tuple[tuple[float, float], np.ndarray]:
    """Before the front of the part that drives farthest: a place on the floor for a box, and its heading ``(2,)``."""
    stage = Usd.Stage.Open(str(usd))
    found = []
    for part in read_moving(stage.GetPrimAtPath("/World/Environment/Moving")):
        if not part.hulls or not part.present.all():
            continue
        corners = np.concatenate([hull.vertices for hull in part.hulls])
        first, last = (corners @ pose[:3, :3].T + pose[:3, 3] for pose in part.to_world[[0, -1]])
        if first[:, 2].min() > EDGE_M:
            continue
        heading = (last.mean(0) - first.mean(0))[:2]
        heading /= np.linalg.norm(heading)
        aside = np.array([-heading[1], heading[0]])
        # The box may stand across: half its diagonal, and a little air.
        ahead = (first[:, :2] @ heading).max() + 0.75 * EDGE_M
        x, y = ahead * heading + (last[:, :2] @ aside).mean() * aside
        found.append((float((last[:, :2] @ heading).max() - ahead), (float(x), float(y)), heading))
    assert found, "no part of the film has a collider near the floor at all times"
    _, place, heading = max(found, key=lambda candidate: candidate[0])
    return place, heading


def test_the_film_shows_a_held_out_world() -> None:
    """Its first frame is what the renderer draws of that world."""
    views = sample_moving_views(48, 320, 176, 17, world_generator(7, "heldout", "cpu"))[4:5]
    assert MOVER_NAMES[int(views.mover[0])] == "mobile robot"
    drawn = render_times(views, torch.eye(4).expand(1, 1, 4, 4), torch.zeros(1, 1, dtype=torch.long), 176, 320).clips
    frame = load_clip(FILM, 320, 176).frames[0] / 255
    assert np.abs(frame - drawn.rgb[0, :, 0].permute(1, 2, 0).numpy()).mean() < 0.01
    np.testing.assert_allclose(drawn.intrinsics[0], intrinsics_from_fov(math.radians(FOV_DEG), 320, 176), rtol=1e-3)
