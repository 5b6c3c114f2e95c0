"""The floor plan as ROS reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from omni_gen3d.bench.rooms import rooms
from omni_gen3d.cli import app
from omni_gen3d.envs.occupancy import FREE, OCCUPIED, UNKNOWN, occupancy_map
from omni_gen3d.envs.registry import Registry
from omni_gen3d.errors import InputError
from omni_gen3d.types import FreeSpace
from omni_gen3d.usd import Manifest

WriteToy = Callable[..., Path]


@pytest.fixture
def room(write_toy: WriteToy) -> Manifest:
    """10 x 8 columns of 0.1 m, 10 high, from one voxel below the floor; see ``PLAN``."""
    free = np.zeros((10, 8, 10), bool)
    free[1:8, 1:6, 1:] = True
    free[3:5, 2:4, 1:4] = False  # a table of 0.3 m, empty above
    free[6, 4, 7] = False  # a lamp at 0.6 m
    space = FreeSpace(free, np.array([-0.3, 1.0, -0.1]), voxel_size=0.1)
    return replace(Manifest.read(write_toy() / "environment.yaml"), free_space=space, floor_height_m=0.0)


# Rows along X, letters along Y.
PLAN = """
#######?
#.....#?
#.....#?
#.##..#?
#.##..#?
#.....#?
#.....#?
#.....#?
#######?
????????
""".split()


def as_plan(cells: np.ndarray) -> list[str]:
    letters = {FREE: ".", OCCUPIED: "#", UNKNOWN: "?"}
    return ["".join(letters[int(cell)] for cell in row) for row in cells]


def read_as_map_server(path: Path) -> tuple[np.ndarray, dict]:
    """Cells as ROS publishes them: -1 unknown, 0 free, 100 occupied, rows along +Y from the origin."""
    stated = yaml.safe_load(path.read_text())
    picture = np.asarray(Image.open(path.parent / stated["image"])).astype(float)
    darkness = picture / 255 if stated["negate"] else (255 - picture) / 255
    cells = np.full(picture.shape, -1)
    cells[darkness > stated["occupied_thresh"]] = 100
    cells[darkness < stated["free_thresh"]] = 0
    return cells[::-1], stated


def test_what_is_free_occupied_and_unknown(room: Manifest) -> None:
    """Free from the floor to the robot's height; a table blocks, a lamp above the robot does not."""
    drawn = occupancy_map(room, robot_height=0.5)
    assert as_plan(drawn.cells) == PLAN
    assert drawn.origin == (-0.3, 1.0) and drawn.resolution == 0.1
    taller = occupancy_map(room, robot_height=0.7)
    assert (taller.cells != drawn.cells).sum() == 1 and taller.cells[6, 4] == OCCUPIED
    assert not (occupancy_map(room, robot_height=1.5).cells == FREE).any()


def test_ros_reads_what_was_meant(room: Manifest, tmp_path: Path) -> None:
    """An independent reading of the two files gives the cells back, at the right place in the world."""
    drawn = occupancy_map(room, robot_height=0.5)
    cells, stated = read_as_map_server(drawn.write(tmp_path / "new" / "folder"))
    assert (cells.T == np.select([drawn.cells == FREE, drawn.cells == OCCUPIED], [0, 100], -1)).all()
    x, y = -0.3 + 3.5 * 0.1, 1.0 + 2.5 * 0.1  # on the table
    left, low, yaw = stated["origin"]
    column, row = int((x - left) / stated["resolution"]), int((y - low) / stated["resolution"])
    assert cells[row, column] == 100 and cells[row, column - 1] == 0 and yaw == 0
    assert {file.name for file in (tmp_path / "new" / "folder").iterdir()} == {"map.pgm", "map.yaml"}


def test_a_radius_keeps_the_centre_away(room: Manifest) -> None:
    """No free cell is nearer to an obstacle than the radius, by a slow search."""
    raw, kept = occupancy_map(room), occupancy_map(room, robot_radius=0.1)
    blocked = np.argwhere(raw.cells != FREE)
    for cell in np.argwhere(raw.cells == FREE):
        gap = 0.1 * (np.linalg.norm(blocked - cell, axis=1).min() - 0.5)
        assert (kept.cells[tuple(cell)] == FREE) == (gap >= 0.1)
    assert ((kept.cells == UNKNOWN) == (raw.cells == UNKNOWN)).all()


@pytest.mark.parametrize("step", [0.05, 0.07, 0.2, 0.25, 10.0])
def test_other_resolutions_are_on_the_safe_side(room: Manifest, step: float) -> None:
    """A cell is free where every column that it touches is, occupied where one is, by a slow search."""
    fine, drawn = occupancy_map(room), occupancy_map(room, resolution=step)
    assert drawn.resolution == step
    for i, j in np.ndindex(drawn.cells.shape):
        x0, x1 = int(i * step / 0.1 + 1e-6), int(np.ceil((i + 1) * step / 0.1 - 1e-6))
        y0, y1 = int(j * step / 0.1 + 1e-6), int(np.ceil((j + 1) * step / 0.1 - 1e-6))
        under = fine.cells[x0:x1, y0:y1]
        expected = OCCUPIED if (under == OCCUPIED).any() else FREE if (under == FREE).all() else UNKNOWN
        assert under.size and drawn.cells[i, j] == expected
    assert drawn.cells.shape == (int(np.ceil(1.0 / step - 1e-6)), int(np.ceil(0.8 / step - 1e-6)))


def test_a_furnished_room(room: Manifest) -> None:
    """Where the map says free, nothing stands in a room of known shape; nearly all free floor is there."""
    furnished = rooms()[0]
    manifest = replace(room, free_space=furnished.free_space(), floor_height_m=0.0)
    drawn = occupancy_map(manifest, robot_height=0.6)
    i, j = np.indices(drawn.cells.shape)
    ground = np.stack([i + 0.5, j + 0.5], -1).reshape(-1, 2) * drawn.resolution + drawn.origin
    heights = np.arange(0.025, 0.6, 0.05)
    columns = np.concatenate([np.pad(ground, ((0, 0), (0, 1)), constant_values=height) for height in heights])
    is_free = furnished.is_free(columns).reshape(len(heights), *drawn.cells.shape).all(0)
    drawn_free = drawn.cells == FREE
    assert (drawn_free & ~is_free).sum() == 0 and drawn_free.sum() > 0.9 * is_free.sum() > 500


@pytest.mark.parametrize(
    "wrong",
    [{"robot_height": 0.0}, {"robot_radius": -1.0}, {"resolution": 0.0}, {"resolution": float("nan")}],
)
def test_arguments_out_of_range(room: Manifest, wrong: dict[str, float]) -> None:
    """They are refused by name."""
    with pytest.raises(InputError, match=next(iter(wrong)).replace("_", " ")):
        occupancy_map(room, **wrong)


def test_environments_without_a_map(room: Manifest) -> None:
    """No proxy, no floor, or too many cells: one error each."""
    with pytest.raises(InputError, match="collision proxy"):
        occupancy_map(replace(room, free_space=None))
    with pytest.raises(InputError, match="no floor"):
        occupancy_map(replace(room, floor_height_m=None))
    space = FreeSpace(np.ones((1000, 1000, 1), bool), np.zeros(3), 1.0)
    with pytest.raises(InputError, match="cells"):
        occupancy_map(replace(room, free_space=space), robot_height=1.0, resolution=0.01)


def test_the_verb(write_toy: WriteToy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints the path of the map of an entry."""
    monkeypatch.setenv("OMNI_GEN3D_HOME", str(tmp_path / "home"))
    entry = Registry().add(write_toy())
    arguments = ["envs", "map", entry.id, "--out", str(tmp_path / "map"), "--robot-radius", "0.1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0 and result.stdout.strip() == str(tmp_path / "map" / "map.yaml")
    assert json.dumps(read_as_map_server(tmp_path / "map" / "map.yaml")[1]["origin"]) == "[-2.0, -2.0, 0.0]"
