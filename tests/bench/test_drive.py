"""A robot in Newton is drawn where Newton says that it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from omni_gen3d.bench.commands import bench_app
from omni_gen3d.types import GeneratedScene
from omni_gen3d.usd.environment import write_environment


def test_a_robot_drives_through_an_environment(toy_scene: GeneratedScene, tmp_path: Path) -> None:
    """Three pictures side by side, and below them the same a little later, in which the robot has moved."""
    folder = write_environment(toy_scene, tmp_path / "toy").parent
    picture = tmp_path / "robot.png"
    result = CliRunner().invoke(bench_app, ["drive", str(folder), "--picture", str(picture), "--seconds", "0.05,0.4"])
    assert result.exit_code == 0, result.output
    pixels = np.asarray(Image.open(picture))
    assert pixels.shape == (2 * 264, 3 * 480, 3)
    assert (pixels[:264] != pixels[264:]).any()


def test_pictures_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    """Another ending than that of a PNG or JPEG, and moments that are no numbers."""
    for arguments in (["--picture", "robot.bmp"], ["--picture", "robot.png", "--seconds", "soon"]):
        result = CliRunner().invoke(bench_app, ["drive", str(tmp_path), *arguments])
        assert result.exit_code == 2
