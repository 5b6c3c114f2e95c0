"""The scripts of docs/examples run as a reader would run them."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pxr import Gf, Sdf, Usd, UsdGeom

from omni_gen3d.envs.entry import Entry
from omni_gen3d.envs.registry import Registry
from omni_gen3d.envs.sample import Sample

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def run(script: str, *arguments: str, home: Path | None = None) -> str:
    environment = {**os.environ, **({} if home is None else {"OMNI_GEN3D_HOME": str(home)})}
    command = [sys.executable, "-P", str(EXAMPLES / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def test_boxes_rest_in_newton(rooms: list[Entry]) -> None:
    """Each box is said to rest on its floor."""
    said = run("newton_boxes.py", *(str(entry.folder) for entry in rooms[:2])).splitlines()
    heights = [float(line.split("rests ")[1].split(" mm")[0]) for line in said if "rests" in line]
    assert len(heights) == 2 and all(abs(height) < 10 for height in heights)


def test_robots_reach_goals(rooms: list[Entry], registry: Registry) -> None:
    """Robots that steer by bearing reach goals in almost empty rooms."""
    goals = int(run("gym_nav.py", home=registry.home.directory).splitlines()[-1].split()[0])
    assert goals >= 4


def test_samples_are_shown_without_replicator(rooms: list[Entry], registry: Registry) -> None:
    """The script says that Replicator is missing and shows four samples on a stage of its own."""
    first, *samples = run("replicator_worlds.py", home=registry.home.directory).splitlines()
    assert "no Replicator" in first and len(samples) == 4
    assert len({line.split(":")[0] for line in samples}) > 1


def test_samples_become_layers_over_a_stage(rooms: list[Entry], tmp_path: Path) -> None:
    """Each layer is composed over the untouched environment and turns it as the script says; the record replays."""
    said = run("usd_stage.py", str(rooms[0].folder), str(tmp_path / "varied")).splitlines()
    assert len(said) == 3
    for index, line in enumerate(said):
        layers = rooms[0].usd, tmp_path / "varied" / f"sample_{index}.usda"
        stage = Usd.Stage.Open(*(Sdf.Layer.FindOrOpen(str(layer)) for layer in layers))
        turned = UsdGeom.XformCache().GetLocalToWorldTransform(stage.GetPrimAtPath("/World/Environment"))
        along = turned.TransformDir(Gf.Vec3d(1, 0, 0))
        assert math.atan2(along[1], along[0]) == pytest.approx(float(line.split("yaw ")[1].split(",")[0]), abs=0.006)
        sample = Sample.from_json((tmp_path / "varied" / f"sample_{index}.json").read_text())
        assert sample.environment == rooms[0].id and f"{sample.placement.yaw:+.2f}" in line


def test_one_delegate_draws_every_sample(rooms: list[Entry], tmp_path: Path) -> None:
    """Four pictures differ, and the splats were read once."""
    said = run("delegate_pictures.py", str(rooms[0].folder), str(tmp_path))
    assert "read 1 time" in said
    assert len({(tmp_path / f"sample_{index}.png").read_bytes() for index in range(4)}) == 4


def test_maps_for_a_navigation_stack(rooms: list[Entry], tmp_path: Path) -> None:
    """A robot's centre has less room than the plan shows; both maps are there."""
    areas = []
    for line in run("ros_map.py", str(rooms[0].folder), str(tmp_path)).splitlines():
        path, area = line.split(": ")
        assert Path(path).is_file() and Path(path).with_suffix(".pgm").is_file()
        areas.append(float(area.split()[0]))
    assert 4 < areas[1] < areas[0] < 16.1
