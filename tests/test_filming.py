"""From a film to an environment that moves, with the shipped model."""

from __future__ import annotations

import json
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
from omni_gen3d.usd.stage import open_stage

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
    the film by its digest; splats of all but the rest are stored once, and at most one Gaussian in four moves."""
    made = omni_gen3d.generate_from_video(film, out=tmp_path / "env", times=TIMES, fov_deg=67.4, steps=1, device="cpu")
    assert validate(made.environment) == []
    manifest = Manifest.read(made.environment / "environment.yaml")
    assert manifest.kind == "dynamic" and manifest.floor_height_m == 0 and manifest.spawn_poses
    assert manifest.input_sha256 is not None and manifest.title == f"From a video ({manifest.input_sha256[:12]})"
    assert manifest.num_gaussians == made.num_gaussians
    with Image.open(made.environment / "preview.webp") as preview:
        assert getattr(preview, "n_frames", 1) == TIMES and preview.size == (320, 176)
    stage = open_stage(made.environment / "environment.usda")
    splats = [prim for prim in stage.Traverse() if prim.GetTypeName() == "ParticleField3DGaussianSplat"]
    once = [prim for prim in splats if prim.GetName() == "Splats"]
    assert once and not any(attribute.GetNumTimeSamples() for prim in once for attribute in prim.GetAttributes())
    standing = read_environment(made.environment, motion="none").gaussians
    for time in range(TIMES):
        count = len(read_environment(made.environment, time=time).gaussians)
        assert len(standing) <= count <= 1.25 * len(standing)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory, filmed_room: Any) -> tuple[Path, Path]:
    """A folder of pictures by a camera that walks through a textured room, and its poses."""
    folder = tmp_path_factory.mktemp("walk")
    room = filmed_room(4, 0.06)
    (folder / "pictures").mkdir()
    for i, frame in enumerate(room.frames):
        Image.fromarray(frame).save(folder / "pictures" / f"{i}.png")
    poses = folder / "poses.json"
    poses.write_text(json.dumps({"camera_to_world": room.camera_to_first.tolist(), "frames_per_second": 8}))
    return folder / "pictures", poses


def test_a_camera_whose_poses_are_given(walk: tuple[Path, Path], tmp_path: Path) -> None:
    """The room is one room: an environment without an error, most of which stands still, and whose note says where the
    poses came from."""
    pictures, poses = walk
    made = omni_gen3d.generate_from_video(
        pictures, poses=poses, out=tmp_path / "env", fov_deg=67, steps=1, device="cpu", collision="none"
    )
    assert not [finding for finding in validate(made.environment) if finding.severity == "error"]
    assert any("poses are those that were given" in note for note in made.notes)
    standing = read_environment(made.environment, motion="none").gaussians
    # One step of denoising and a depth that wavers from frame to frame leave a third too many.
    assert len(read_environment(made.environment, time=3).gaussians) <= 1.5 * len(standing)


def test_wrong_poses_are_refused(walk: tuple[Path, Path], tmp_path: Path) -> None:
    """Poses of a camera that rests do not explain a film of one that walks; nothing is written."""
    still = tmp_path / "still.txt"
    still.write_text("0 0 0 0 0 0 0 1\n9 0 0 0 0 0 0 1\n")
    with pytest.raises(InputError, match="do not explain how"):
        omni_gen3d.generate_from_video(walk[0], poses=still, out=tmp_path / "env", fov_deg=67, device="cpu")
    assert not (tmp_path / "env").exists()
