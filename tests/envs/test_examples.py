"""The scripts of docs/examples run as a reader would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from omni_gen3d.envs.entry import Entry
from omni_gen3d.envs.registry import Registry

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
