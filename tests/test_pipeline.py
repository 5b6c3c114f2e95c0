"""The whole line with the shipped model: from a sentence or a photograph to a folder on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from omni_gen3d import generate, read_environment, validate
from omni_gen3d.errors import CancelledError, InputError
from omni_gen3d.render import render
from omni_gen3d.usd import Manifest
from omni_gen3d.video.picture import load_picture

PROMPT = "a small warehouse with pallets and a concrete floor"


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))


def test_environment_from_text_is_valid(environment_from_text):
    """What a sentence becomes passes the validator and says where it came from."""
    assert [f for f in validate(environment_from_text.environment) if f.severity == "error"] == []
    manifest = Manifest.read(environment_from_text.environment / "environment.yaml")
    assert (manifest.prompt, manifest.seed, manifest.model, manifest.kind) == (PROMPT, 1, "mini", "static")
    assert manifest.num_gaussians == environment_from_text.num_gaussians == 40_000
    assert set(manifest.timings_s) >= {"picture", "depth", "trajectories", "splats", "collision proxy"}


def test_environment_has_a_floor_to_stand_on(environment_from_text):
    """The floor lies at z = 0 under the first camera, the splats' floor lies on it, and robots find places."""
    environment = read_environment(environment_from_text.environment)
    assert 0.3 < float(environment.cameras.positions[0, 2]) < 2.5
    assert len(environment.manifest.spawn_poses) >= 3
    x, y, _ = np.array([pose.position for pose in environment.manifest.spawn_poses]).T
    means = environment.gaussians.means.numpy()
    near = np.hypot(means[:, None, 0] - x, means[:, None, 1] - y).min(1) < 0.2
    low = means[near & (means[:, 2] < 0.3), 2]
    assert len(low) > 50
    assert abs(np.median(low)) < 0.02


def test_same_seed_gives_the_same_bytes(environment_from_text, tmp_path):
    """A second run writes identical files; only the timings differ."""
    again = generate(PROMPT, out=tmp_path / "again", seed=1, device="cpu")
    first = environment_from_text.environment
    names = sorted(file.name for file in first.iterdir())
    assert names == sorted(file.name for file in again.environment.iterdir())
    for name in names:
        one, two = ((folder / name).read_bytes() for folder in (first, again.environment))
        if name == "environment.yaml":
            one, two = (Manifest.read(folder / name).to_dict() for folder in (first, again.environment))
            one["timings_s"] = two["timings_s"] = {}
        assert one == two, name


def test_picture_becomes_the_first_view(environment_from_picture, garage_picture):
    """The render from camera 0 is far closer to the photograph than its mean colour and its own mirror image are."""
    environment = read_environment(environment_from_picture.environment)
    wanted = load_picture(garage_picture, 320, 176).rgb.permute(1, 2, 0)
    seen = render(environment.gaussians, environment.cameras[:1]).color[0]
    mean_colour = wanted.mean((0, 1)).expand_as(wanted)
    assert psnr(seen, wanted) > psnr(mean_colour, wanted) + 3
    assert psnr(seen, wanted) > psnr(seen.flip(1), wanted) + 3
    assert environment.manifest.input_sha256 is not None
    assert [f for f in validate(environment_from_picture.environment) if f.severity == "error"] == []


def test_unknown_field_of_view_is_estimated_and_said(garage_picture, tmp_path):
    """A picture without a field of view gets one estimated; stopping between stages leaves nothing behind."""
    stages: list[str] = []

    def stop_at_trajectories() -> bool:
        return "trajectories" in stages

    with pytest.raises(CancelledError):
        generate(
            image=garage_picture,
            out=tmp_path / "garage",
            progress=lambda stage, fraction: stages.append(stage),
            cancelled=stop_at_trajectories,
        )
    assert stages[0] == "load model"
    assert "splats" not in stages
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": "a room", "preset": "gigantic"}, "gigantic"),
        ({"prompt": "a room", "device": "tpu"}, "tpu"),
        ({"prompt": "  "}, "prompt"),
        ({"image": "missing.png"}, "missing.png"),
        ({"prompt": "a room", "collision": "rubber"}, "rubber"),
        ({"prompt": "a room", "robot_radius": 0.0}, "radius"),
    ],
)
def test_bad_requests_are_refused_at_once(arguments, message, tmp_path):
    """Bad arguments raise an InputError that names them before any model is loaded, and nothing is written."""
    began: list[str] = []
    with pytest.raises(InputError, match=message):
        generate(out=tmp_path / "out", progress=lambda stage, fraction: began.append(stage), **arguments)
    assert began == []
    assert list(tmp_path.iterdir()) == []


def test_preview_shows_the_first_view(environment_from_text):
    """preview.png is twice the model's size and close to the render from camera 0."""
    preview = np.asarray(Image.open(Path(environment_from_text.environment) / "preview.png").convert("RGB"))
    assert preview.shape == (352, 640, 3)
    environment = read_environment(environment_from_text.environment)
    seen = render(environment.gaussians, environment.cameras[:1]).color[0]
    small = torch.from_numpy(preview.reshape(176, 2, 320, 2, 3).mean((1, 3)) / 255)
    assert psnr(small.float(), seen) > 25
