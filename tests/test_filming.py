"""From a film to an environment that moves, with the shipped model."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

import omni_gen3d
from omni_gen3d.errors import InputError
from omni_gen3d.usd import Manifest, read_environment, validate

TIMES = 3


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, garage_picture: Path) -> Path:
    """A photograph of a garage before which a striped board moves from left to right, 17 frames, eight a second."""
    with Image.open(garage_picture) as picture:
        garage = np.asarray(picture.convert("RGB").resize((320, 214)))[20:196]
    board = np.zeros((70, 50, 3), np.uint8)
    board[:, ::10] = board[:, 1::10] = (230, 120, 20)
    path = tmp_path_factory.mktemp("film") / "garage.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=8, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 320, 176, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 8)
        for i in range(17):
            frame = garage.copy()
            frame[95:165, 20 + 13 * i : 70 + 13 * i] = board
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts = i
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def test_a_film_becomes_a_scene_that_moves(film: Path, tmp_path: Path) -> None:
    """The environment is valid and dynamic, has every time, a floor, spawn poses and an animated preview, and knows
    the film by its digest; at most one Gaussian in four moves."""
    made = omni_gen3d.generate_from_video(film, out=tmp_path / "env", times=TIMES, fov_deg=67.4, steps=1, device="cpu")
    assert validate(made.environment) == []
    manifest = Manifest.read(made.environment / "environment.yaml")
    assert manifest.kind == "dynamic" and manifest.floor_height_m == 0 and manifest.spawn_poses
    assert manifest.input_sha256 is not None and manifest.title == f"From a video ({manifest.input_sha256[:12]})"
    assert manifest.num_gaussians == made.num_gaussians
    with Image.open(made.environment / "preview.webp") as preview:
        assert getattr(preview, "n_frames", 1) == TIMES and preview.size == (320, 176)
    standing = read_environment(made.environment, motion="none").gaussians
    for time in range(TIMES):
        count = len(read_environment(made.environment, time=time).gaussians)
        assert len(standing) <= count <= 1.25 * len(standing)


def test_a_camera_that_moves_is_refused(film: Path, tmp_path: Path) -> None:
    """A pan over a picture is refused before any network runs, and nothing is written."""
    with av.open(str(film), mode="r") as container:
        first = next(container.decode(video=0)).to_ndarray(format="rgb24")
    folder = tmp_path / "pan"
    folder.mkdir()
    for i in range(6):
        Image.fromarray(first[20:120, 4 * i : 4 * i + 200]).save(folder / f"{i}.png")
    with pytest.raises(InputError, match=r"camera of .*pan moves: \d+% of the background"):
        omni_gen3d.generate_from_video(folder, out=tmp_path / "env")
    assert not (tmp_path / "env").exists()
