"""Films of environments: the camera travels, time passes, and the file is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from omni_gen3d.errors import CancelledError, InputError
from omni_gen3d.render.film import film_environment, travel, write_film
from omni_gen3d.render.view import pick_camera, resize_cameras
from omni_gen3d.usd import write_environment


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path), mode="r") as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.fixture
def view(wagon_scene):
    return resize_cameras(pick_camera(wagon_scene.cameras, 0), 64, 48)


def test_the_camera_travels_evenly(toy_scene) -> None:
    """Both ends are as given, the middle is halfway, and every camera stays rigid."""
    start, end = pick_camera(toy_scene.cameras, 0), pick_camera(toy_scene.cameras, 6)
    cameras = travel(start, end, 5)
    for i, camera in ((0, start), (4, end)):
        torch.testing.assert_close(cameras.world_to_camera[[i]], camera.world_to_camera, atol=1e-5, rtol=0)
        torch.testing.assert_close(cameras.intrinsics[[i]], camera.intrinsics)
    torch.testing.assert_close(cameras.positions[2], (start.positions[0] + end.positions[0]) / 2, atol=1e-5, rtol=0)
    turns = cameras.world_to_camera[:, :3, :3]
    torch.testing.assert_close(turns @ turns.mT, torch.eye(3).expand(5, 3, 3), atol=1e-5, rtol=0)


def test_time_passes_and_stands(wagon_scene, view, tmp_path: Path) -> None:
    """The scene of 0.3 s at ten pictures a second changes; at one time of it, seen by a still camera, it does not."""
    folder = write_environment(wagon_scene, tmp_path / "env").parent
    film_environment(folder, (view, view), tmp_path / "play.mp4", frames_per_second=10)
    played = frames_of(tmp_path / "play.mp4")
    assert played.shape == (3, 48, 64, 3) and np.abs(np.diff(played.astype(int), axis=0)).max() > 40
    film_environment(folder, (view, view), tmp_path / "still.mp4", time=1, seconds=0.5, frames_per_second=10)
    still = frames_of(tmp_path / "still.mp4")
    assert len(still) == 5 and np.abs(np.diff(still.astype(int), axis=0)).max() < 12


def test_nothing_is_left_when_it_fails(wagon_scene, view, tmp_path: Path) -> None:
    """Cancelled, or of an odd size, no file appears; out of range is named."""
    folder = write_environment(wagon_scene, tmp_path / "env").parent
    with pytest.raises(CancelledError):
        film_environment(folder, (view, view), tmp_path / "a.mp4", cancelled=lambda: True)
    with pytest.raises(InputError, match="9x8 cannot be written"):
        write_film(iter([np.zeros((8, 9, 3), np.uint8)]), tmp_path / "a.mp4", 10)
    with pytest.raises(InputError, match="1e\\+06 s"):
        film_environment(folder, (view, view), tmp_path / "a.mp4", seconds=1e6)
    assert [path.name for path in tmp_path.iterdir()] == ["env"]
