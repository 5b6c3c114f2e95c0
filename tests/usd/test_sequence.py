"""Scenes that move: read back exactly at every frame, from time samples or from value clips."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from pxr import Usd, UsdVol

from omni_gen3d.errors import InputError
from omni_gen3d.types import Gaussians, GaussianSequence
from omni_gen3d.usd import Manifest, read_environment, sequence, validate, write_environment
from omni_gen3d.usd.splats import read_splats
from omni_gen3d.usd.target import MAX_CLIPS

if TYPE_CHECKING:
    from tests.conftest import ToyScene

SPLATS = "/World/Environment/Splats"


def assert_same(read: Gaussians, written: Gaussians) -> None:
    for name in ("means", "quats", "scales", "opacities", "sh"):
        assert torch.equal(getattr(read, name), getattr(written, name)), name


def written(scene: ToyScene, frames: GaussianSequence, folder: Path, *, half: bool = False) -> Path:
    provenance = dataclasses.replace(scene.provenance, kind="dynamic")
    moving = dataclasses.replace(scene, gaussians=frames, provenance=provenance)
    return write_environment(moving, folder, half=half).parent


def test_a_constant_count_is_sampled(toy_scene: ToyScene, moving_gaussians: GaussianSequence, tmp_path: Path):
    """Every frame comes back bit by bit; only what moves has samples; without a time the first frame is there."""
    folder = written(toy_scene, moving_gaussians, tmp_path / "env")
    assert validate(folder) == []
    for i, frame in enumerate(moving_gaussians.frames):
        assert_same(read_environment(folder, time=i).gaussians, frame)
    assert_same(read_environment(folder).gaussians, moving_gaussians.frames[0])
    stage = Usd.Stage.Open(str(folder / "environment.usda"))
    prim = stage.GetPrimAtPath(SPLATS)
    sampled = [attribute.GetName() for attribute in prim.GetAttributes() if attribute.GetNumTimeSamples()]
    assert sorted(sampled) == ["orientations", "positions"]
    assert prim.GetAttribute("positions").GetTimeSamples() == [0, 1, 2, 3]


def test_between_two_samples(toy_scene: ToyScene, moving_gaussians: GaussianSequence, tmp_path: Path):
    """Halfway between two frames every centre is halfway."""
    folder = written(toy_scene, moving_gaussians, tmp_path / "env")
    one, two = moving_gaussians.frames[1:3]
    torch.testing.assert_close(read_environment(folder, time=1.5).gaussians.means, (one.means + two.means) / 2)


def test_other_things_may_change_too(toy_scene: ToyScene, tmp_path: Path):
    """Opacities that fade are sampled; positions that stay are not."""
    still = toy_scene.gaussians
    faded = dataclasses.replace(still, opacities=still.opacities / 2)
    folder = written(toy_scene, GaussianSequence((still, faded), 2.0), tmp_path / "env")
    stage = Usd.Stage.Open(str(folder / "environment.usda"))
    prim = stage.GetPrimAtPath(SPLATS)
    assert prim.GetAttribute("opacities").GetNumTimeSamples() == 2
    assert prim.GetAttribute("positions").GetNumTimeSamples() == 0
    assert_same(read_environment(folder, time=1).gaussians, faded)


@pytest.mark.parametrize("half", [False, True])
def test_a_changing_count_becomes_clips(
    toy_scene: ToyScene, growing_gaussians: GaussianSequence, tmp_path: Path, half: bool
):
    """One layer a frame; every frame is read back with its own count, also between two frames, and by default the
    first."""
    folder = written(toy_scene, growing_gaussians, tmp_path / "env", half=half)
    assert validate(folder) == []
    clips = [f"splats.{i:04d}.usdc" for i in range(4)]
    assert sorted(file.name for file in folder.glob("splats.0*")) == clips
    manifest = Manifest.read(folder / "environment.yaml")
    assert set(clips) <= set(manifest.files) and manifest.num_gaussians == 25 and manifest.kind == "dynamic"
    for time, count in ((None, 10), (0, 10), (1, 15), (2, 20), (3, 25), (1.5, 15)):
        assert len(read_environment(folder, time=time).gaussians) == count
    for i, frame in enumerate(growing_gaussians.frames):
        read = read_environment(folder, time=i).gaussians
        if half:
            assert torch.equal(read.sh, frame.sh.half().float())
        else:
            assert_same(read, frame)


@pytest.mark.parametrize("kind", ["moving_gaussians", "growing_gaussians"])
def test_it_composes_in_a_stage_of_another_pace(
    toy_scene: ToyScene, tmp_path: Path, request: pytest.FixtureRequest, kind: str
):
    """Ten frames a second, under a prim of a stage of twenty time codes a second: frame 2 shows at time code 4."""
    frames: GaussianSequence = request.getfixturevalue(kind)
    folder = written(toy_scene, frames, tmp_path / "env")
    stage = Usd.Stage.CreateInMemory()
    stage.SetTimeCodesPerSecond(20)
    for i in range(2):
        copy = stage.DefinePrim(f"/Lab/env_{i}", "Xform")
        copy.GetReferences().AddReference(str(folder / "environment.usda"))
    assert not stage.GetCompositionErrors()
    for i in range(2):
        prim = stage.GetPrimAtPath(f"/Lab/env_{i}/Environment/Splats")
        assert_same(read_splats(prim, 4), frames.frames[2])


@pytest.mark.parametrize("kind", ["moving_gaussians", "growing_gaussians"])
def test_the_stage_says_when(toy_scene: ToyScene, tmp_path: Path, request: pytest.FixtureRequest, kind: str):
    """Begin, end and pace are authored, and one extent and one box of bounds hold every Gaussian at every time."""
    frames: GaussianSequence = request.getfixturevalue(kind)
    folder = written(toy_scene, frames, tmp_path / "env")
    stage = Usd.Stage.Open(str(folder / "environment.usda"))
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode(), stage.GetTimeCodesPerSecond()) == (0, 3, 10)
    extent = np.array(UsdVol.ParticleField3DGaussianSplat(stage.GetPrimAtPath(SPLATS)).GetExtentAttr().Get(2))
    bounds = np.array(Manifest.read(folder / "environment.yaml").bounds_m)
    for frame in frames.frames:
        radius = 3 * frame.scales.max(dim=1, keepdim=True).values
        for low, high in (extent, bounds):
            assert (frame.means - radius >= torch.from_numpy(low) - 1e-5).all()
            assert (frame.means + radius <= torch.from_numpy(high) + 1e-5).all()


@pytest.mark.parametrize("kind", ["moving_gaussians", "growing_gaussians"])
def test_same_sequence_same_bytes(toy_scene: ToyScene, tmp_path: Path, request: pytest.FixtureRequest, kind: str):
    """Two folders of one sequence are equal byte by byte."""
    frames: GaussianSequence = request.getfixturevalue(kind)
    one, two = (written(toy_scene, frames, tmp_path / name) for name in ("one", "two"))
    for file in one.iterdir():
        assert file.read_bytes() == (two / file.name).read_bytes(), file.name


def test_the_first_frame_is_stored_once(toy_scene: ToyScene, tmp_path: Path):
    """The first frame, also there without a time, does not grow the file: two frames take twice the bytes of one."""
    generator = torch.Generator().manual_seed(0)
    means = [torch.rand(3000, 3, generator=generator) for _ in range(2)]
    still = toy_scene.gaussians[torch.zeros(3000, dtype=torch.long)]
    frames = GaussianSequence(tuple(dataclasses.replace(still, means=value) for value in means), 1.0)
    moving = (written(toy_scene, frames, tmp_path / "moving") / "splats.usdc").stat().st_size
    alone = dataclasses.replace(toy_scene, gaussians=frames.frames[0])
    standing = (write_environment(alone, tmp_path / "standing").parent / "splats.usdc").stat().st_size
    assert 36_000 <= moving - standing < 40_000


def test_a_broken_frame_is_refused(toy_scene: ToyScene, moving_gaussians: GaussianSequence, tmp_path: Path):
    """A NaN in one frame is named, and nothing is written."""
    last = moving_gaussians.frames[-1]
    broken = dataclasses.replace(last, means=last.means * float("nan"))
    frames = dataclasses.replace(moving_gaussians, frames=(*moving_gaussians.frames[:-1], broken))
    with pytest.raises(InputError, match="means holds NaN"):
        written(toy_scene, frames, tmp_path / "env")
    assert not list(tmp_path.iterdir())


def test_the_number_of_clips_is_bounded(
    toy_scene: ToyScene, growing_gaussians: GaussianSequence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """More frames than names are refused before anything is written."""
    assert MAX_CLIPS == 10_000
    monkeypatch.setattr(sequence, "MAX_CLIPS", 3)
    with pytest.raises(InputError, match="4 frames whose count"):
        written(toy_scene, growing_gaussians, tmp_path / "env")
    assert not list(tmp_path.iterdir())


def test_a_shorter_sequence_replaces_a_longer_one(
    toy_scene: ToyScene, growing_gaussians: GaussianSequence, tmp_path: Path
):
    """Clips of the earlier environment do not stay behind."""
    written(toy_scene, growing_gaussians, tmp_path / "env")
    shorter = dataclasses.replace(growing_gaussians, frames=growing_gaussians.frames[:2])
    folder = written(toy_scene, shorter, tmp_path / "env")
    assert sorted(file.name for file in folder.glob("splats.0*")) == ["splats.0000.usdc", "splats.0001.usdc"]
    assert validate(folder) == []
