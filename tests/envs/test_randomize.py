"""What is drawn from which ranges, and the record of it."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from omni_gen3d.envs.entry import Description, Filter, Pose
from omni_gen3d.envs.randomize import draw
from omni_gen3d.envs.ranges import (
    AppearanceRanges,
    CameraRanges,
    ContactRanges,
    LightRanges,
    MotionRanges,
    PlacementRanges,
    Randomization,
    Range,
    load_randomization,
)
from omni_gen3d.envs.sample import Appearance, CameraChange, Motion, Placement, Sample
from omni_gen3d.errors import InputError

CONFIG = """
environments: {tags: [warehouse], split: train, min_area_m2: 10, min_scores: {faces: 5}}
appearance: {exposure: [-1, 1], warmth: [-0.5, 0.5], tint: 0.1, hue: [-0.3, 0.3], contrast: [0.8, 1.25]}
contact: {static_friction: [0.5, 1.0], dynamic_share: [0.6, 1.0], restitution: [0, 0.3]}
placement: {scale: [0.9, 1.1], yaw: [-3.14159, 3.14159]}
camera:
  focal_scale: [0.9, 1.1]
  principal_shift: [-0.02, 0.02]
  position: [-0.01, 0.01]
  rotation: [-0.02, 0.02]
  noise: [0, 0.05]
  latency: [0.0, 0.1]
motion: {start: [0, 1], speed: [0.5, 2], freeze: 0.25, remove: 0.5}
light: {sky: [0, 500], sun: [500, 2000], azimuth: [-3, 3], elevation: [0.2, 1.5], warmth: [-0.5, 0.5]}
"""


def environment(number: int, **changes) -> Description:
    """An entry of no library."""
    entry = Description(
        id=f"toy-{number:012x}",
        digest=f"{number:064x}",
        title="toy",
        kind="static",
        prompt=None,
        seed=None,
        model="file",
        num_gaussians=1,
        bounds_m=((-2.0, -2.0, 0.0), (2.0, 2.0, 2.0)),
        bytes=1,
        tags=("warehouse",),
        spawn_poses=(Pose((1.0, 0.0, 0.0), 3.0), Pose((0.0, 0.5, 0.0), -1.0)),
        scores={"faces": 48},
    )
    return replace(entry, **changes)


@pytest.fixture
def ranges(tmp_path: Path) -> Randomization:
    path = tmp_path / "ranges.yaml"
    path.write_text(CONFIG)
    return load_randomization(path)


@pytest.fixture
def environments() -> list[Description]:
    return [environment(i) for i in range(20)]


def test_a_config_says_what_varies(ranges: Randomization) -> None:
    """The YAML above is the dataclasses below; an empty file changes nothing."""
    assert ranges == Randomization(
        environments=Filter(tags=("warehouse",), split="train", min_area_m2=10.0, min_scores={"faces": 5.0}),
        appearance=AppearanceRanges(
            exposure=Range(-1, 1),
            warmth=Range(-0.5, 0.5),
            tint=Range(0.1, 0.1),
            hue=Range(-0.3, 0.3),
            contrast=Range(0.8, 1.25),
        ),
        contact=ContactRanges(
            static_friction=Range(0.5, 1.0), dynamic_share=Range(0.6, 1.0), restitution=Range(0.0, 0.3)
        ),
        placement=PlacementRanges(scale=Range(0.9, 1.1), yaw=Range(-3.14159, 3.14159)),
        camera=CameraRanges(
            focal_scale=Range(0.9, 1.1),
            principal_shift=Range(-0.02, 0.02),
            position=Range(-0.01, 0.01),
            rotation=Range(-0.02, 0.02),
            noise=Range(0.0, 0.05),
            latency=Range(0.0, 0.1),
        ),
        motion=MotionRanges(start=Range(0.0, 1.0), speed=Range(0.5, 2.0), freeze=0.25, remove=0.5),
        light=LightRanges(
            sky=Range(0, 500),
            sun=Range(500, 2000),
            azimuth=Range(-3, 3),
            elevation=Range(0.2, 1.5),
            warmth=Range(-0.5, 0.5),
        ),
    )


def test_nothing_stated_changes_nothing(tmp_path: Path, environments: list[Description]) -> None:
    """Only the environment and the spawn pose are drawn from an empty file."""
    (tmp_path / "empty.yaml").write_text("")
    sample = draw(load_randomization(tmp_path / "empty.yaml"), environments, seed=1)
    neutral = (Appearance(), None, Placement(), CameraChange(), Motion())
    assert (sample.appearance, sample.contact, sample.placement, sample.camera, sample.motion) == neutral
    assert sample.spawn in environments[0].spawn_poses
    assert draw(Randomization(spawn=False), environments, seed=1).spawn is None
    assert draw(Randomization(), [environment(1, spawn_poses=())], seed=1).spawn is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colour: 1", "'colour'"),
        ("appearance: {exposur: [0, 1]}", "'exposur'"),
        ("appearance: {exposure: [1, 0]}", "lower one first"),
        ("appearance: {exposure: [0, 1, 2]}", r"appearance\.exposure"),
        ("appearance: {exposure: '1'}", r"\[low, high\]"),
        ("appearance: {exposure: [0, .inf]}", r"appearance\.exposure"),
        ("appearance: {exposure: [0, 99]}", "between -16 and 16"),
        ("appearance: {contrast: -1}", "contrast"),
        ("contact: {restitution: [0, 2]}", "between 0 and 1"),
        ("placement: {scale: 0}", "scale"),
        ("camera: {noise: -1}", "noise"),
        ("motion: {speed: -1}", "speed"),
        ("motion: {remove: 1.5}", "probability"),
        ("light: {sun: -1}", "sun"),
        ("clutter: {scale: 1}", "'count'"),
        ("clutter: {count: [0, 100]}", "between 0 and 64"),
        ("clutter: {count: 3, clearance: -1}", "clearance"),
        ("environments: {split: test}", "split"),
        ("environments: {tags: warehouse}", "list"),
        ("spawn: 1", "true or false"),
        ("share: 1.2", "probability"),
        ("[1, 2]", "expected the keys"),
        ("a: [", "not valid YAML"),
        ("!!python/object/apply:os.getcwd []", "not valid YAML"),
        ("x" * 2**21, "larger"),
    ],
)
def test_faults_of_a_config(tmp_path: Path, text: str, words: str) -> None:
    """Each is one error that names it."""
    path = tmp_path / "ranges.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        load_randomization(path)


def test_a_config_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_randomization(tmp_path / "none.yaml")


def test_the_same_seed_draws_the_same(ranges: Randomization, environments: list[Description]) -> None:
    """Whatever the order of the environments and whichever samples were drawn before; others differ in everything."""
    samples = [draw(ranges, environments, seed=7, index=i) for i in range(10)]
    assert samples == [draw(ranges, environments[::-1], seed=7, index=i) for i in range(9, -1, -1)][::-1]
    assert draw(ranges, environments, seed=8) != samples[0]
    for part in ("appearance", "contact", "placement", "camera", "light"):
        for entry in fields(getattr(samples[0], part)):
            if entry.name != "tint":  # fixed
                assert len({getattr(getattr(sample, part), entry.name) for sample in samples}) == 10, entry.name
    assert len({sample.environment for sample in samples}) > 3 and len({sample.spawn for sample in samples}) > 3


def test_a_range_more_leaves_the_others_alone(ranges: Randomization, environments: list[Description]) -> None:
    """What is fixed still takes its number from the stream, and every part has a stream of its own."""
    fixed = replace(ranges, appearance=replace(ranges.appearance, exposure=Range(0, 0)), contact=None)
    one, other = draw(ranges, environments, seed=3), draw(fixed, environments, seed=3)
    assert replace(one.appearance, exposure=0.0) == other.appearance and other.contact is None
    assert (one.environment, one.placement, one.spawn, one.camera) == (
        other.environment,
        other.placement,
        other.spawn,
        other.camera,
    )


def test_a_share_of_the_samples_varies(ranges: Randomization, environments: list[Description]) -> None:
    """Those are what they would be if all did; the others are of the same environments and poses as they were."""
    part, still = replace(ranges, share=0.3), Randomization(environments=ranges.environments)
    varied = 0
    for index in range(200):
        one, full = (draw(each, environments, seed=5, index=index) for each in (part, ranges))
        varied += one == full
        assert one in (full, draw(still, environments, seed=5, index=index))
    assert 40 < varied < 80


def test_draws_fill_their_ranges(ranges: Randomization, environments: list[Description]) -> None:
    """All of a range comes up, nothing outside it; the held-out environments never."""
    samples = [draw(ranges, environments, seed=0, index=i) for i in range(400)]
    exposures = np.array([sample.appearance.exposure for sample in samples])
    assert -1 <= exposures.min() < -0.95 and 0.95 < exposures.max() <= 1 and abs(exposures.mean()) < 0.1
    contacts = [sample.contact for sample in samples if sample.contact]
    shares = [contact.dynamic_friction / contact.static_friction for contact in contacts]
    assert len(contacts) == 400 and 0.6 <= min(shares) and max(shares) <= 1 + 1e-12
    allowed = {entry.id for entry in environments if entry.split == "train"}
    assert {sample.environment for sample in samples} == allowed != {entry.id for entry in environments}


def test_no_environment_is_wanted(ranges: Randomization) -> None:
    with pytest.raises(InputError, match="none of 1"):
        draw(ranges, [environment(1, tags=())], seed=0)
    with pytest.raises(InputError, match="at least 0"):
        draw(ranges, [environment(1)], seed=-1)


def test_spawn_poses_move_with_the_scene() -> None:
    """A pose is turned about the origin and scaled; its heading turns along and stays within half a turn."""
    moved = Placement(scale=2.0, yaw=math.pi / 2).move(Pose((1.0, 0.5, 0.25), 3.0))
    assert moved.position == pytest.approx((-1.0, 2.0, 0.5))
    assert moved.yaw == pytest.approx(3.0 + math.pi / 2 - 2 * math.pi)


def test_a_record_comes_back_as_it_was(ranges: Randomization, environments: list[Description]) -> None:
    """Through JSON, bit for bit; so does one without contact and spawn pose."""
    for index in range(20):
        sample = draw(ranges, environments, seed=1, index=index)
        assert Sample.from_json(sample.to_json()) == sample
        assert Sample.from_json(sample.to_json()).to_json() == sample.to_json()
    bare = replace(sample, contact=None, spawn=None)
    assert Sample.from_dict(bare.to_dict()) == bare


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 2}, "version 2"),
        ({"seed": 1.5}, "integer"),
        ({"seed": True}, "integer"),
        ({"extra": 1}, "'extra'"),
        ({"appearance": {"exposure": "1"}}, "finite number"),
        ({"appearance": {"exposure": math.nan}}, "finite number"),
        ({"spawn": {"position": [1, 2], "yaw": 0}}, "list of 3"),
        ({"environment": 5}, "text"),
    ],
)
def test_records_of_others(ranges: Randomization, environments: list[Description], change: dict, words: str) -> None:
    """What is no sample is refused by name."""
    values = draw(ranges, environments, seed=1).to_dict() | change
    with pytest.raises(InputError, match=words):
        Sample.from_json(json.dumps(values))


def test_what_is_no_record() -> None:
    for text in ("", "[]", "{}", "[" * 100_000):
        with pytest.raises(InputError):
            Sample.from_json(text)


def test_motion_is_retimed_frozen_and_removed(ranges: Randomization, environments: list[Description]) -> None:
    """About a quarter of the samples stand still, the others run at half to twice the pace, and about half of the parts
    are gone; a record without motion, as earlier releases wrote them, plays everything."""
    samples = [draw(ranges, environments, seed=5, index=i) for i in range(400)]
    still = [sample for sample in samples if sample.motion.speed == 0]
    assert 70 < len(still) < 130
    assert all(0.5 <= s.motion.speed <= 2 and 0 <= s.motion.start <= 1 for s in samples if s not in still)
    assert 0.45 < np.mean([0 in sample.motion.removed for sample in samples]) < 0.55
    old = {key: value for key, value in samples[0].to_dict().items() if key != "motion"}
    assert Sample.from_dict(old).motion == Motion()
    assert Sample.from_json(samples[1].to_json()) == samples[1]
