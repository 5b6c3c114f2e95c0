"""A series shows sample after sample on a stage; what of Replicator's graph can be held without Replicator."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pxr import Usd, UsdGeom

from omni_gen3d.envs import replicator
from omni_gen3d.envs.applying import apply_to_stage
from omni_gen3d.envs.entry import Entry
from omni_gen3d.envs.ranges import AppearanceRanges, ContactRanges, PlacementRanges, Randomization, Range
from omni_gen3d.envs.replicator import NODE_TYPE, Series, register
from omni_gen3d.envs.sample import Sample
from omni_gen3d.errors import InputError
from omni_gen3d.usd.collision import MATERIAL_NAME
from omni_gen3d.usd.splats import read_splats
from omni_gen3d.usd.stage import new_stage

RANGES = Randomization(
    appearance=AppearanceRanges(exposure=Range(-1, 1)),
    contact=ContactRanges(static_friction=Range(0.2, 0.9)),
    placement=PlacementRanges(yaw=Range(-1, 1)),
)
PATH = "/World/Environment"


def shown(stage: Usd.Stage, root: str) -> list[np.ndarray]:
    """What a renderer and an engine read: splats, where they are, and friction."""
    splats = stage.GetPrimAtPath(f"{root}/Environment/Splats")
    gaussians = read_splats(splats)
    place = UsdGeom.XformCache().GetLocalToWorldTransform(splats)
    material = stage.GetPrimAtPath(f"{root}/Environment/Collision/{MATERIAL_NAME}")
    friction = material.GetAttribute("physics:staticFriction").Get()
    return [gaussians.means.numpy(), gaussians.sh.numpy(), np.array(place), np.array(friction)]


def test_every_sample_is_shown_as_on_a_stage_of_its_own(rooms: list[Entry]) -> None:
    """Whatever was shown before, the stage composes to the environment with the sample applied; records replay."""
    series, stage = Series(rooms, RANGES, seed=1), new_stage("World")
    seen = []
    for _ in range(6):
        sample = series.advance(stage)
        entry = next(entry for entry in rooms if entry.id == sample.environment)
        alone = Usd.Stage.Open(str(entry.usd))
        apply_to_stage(alone, sample)
        seen.append(shown(stage, PATH))
        for mine, expected in zip(seen[-1], shown(alone, "/World"), strict=True):
            np.testing.assert_array_equal(mine, expected)
    assert len({sample.environment for sample in series.samples}) > 1
    series.show(stage, Sample.from_json(series.samples[2].to_json()))
    for mine, expected in zip(shown(stage, PATH), seen[2], strict=True):
        np.testing.assert_array_equal(mine, expected)
    assert stage.GetRootLayer().GetPrimAtPath(PATH) is None


def test_what_cannot_be_shown_is_named(rooms: list[Entry]) -> None:
    """A stage in centimetres, a sample of another library, and an application without Replicator."""
    stage = new_stage("World")
    UsdGeom.SetStageMetersPerUnit(stage, 0.01)
    with pytest.raises(InputError, match=r"units of 0\.01 m"):
        Series(rooms, RANGES).advance(stage)
    one = Series(rooms[:1], RANGES).advance(new_stage("World"))
    with pytest.raises(InputError, match="not among the 2 environments"):
        Series(rooms[1:], RANGES).show(new_stage("World"), one)
    with pytest.raises(InputError, match=r"no Replicator.*enable the extension omni\.replicator\.core"):
        register(rooms, RANGES)
    with pytest.raises(InputError, match="'my env'"):
        register(rooms, RANGES, name="my env")


class Graph:
    """A stand-in for the four calls of Replicator and OmniGraph that are made, with the signatures of their sources."""

    def __init__(self, stage: Usd.Stage) -> None:
        self.stage, self.node_types, self.attributes, self.randomizers = stage, {}, {}, SimpleNamespace()

    def modules(self) -> dict[str, ModuleType]:
        context = SimpleNamespace(get_stage=lambda: self.stage)
        parts: dict[str, dict[str, Any]] = {
            "omni": {},
            "omni.usd": {"get_context": lambda: context},
            "omni.graph": {},
            "omni.graph.core": {
                "register_node_type": lambda name, version: self.node_types.update({name.get_node_type(): name}),
                "ExecutionAttributeState": SimpleNamespace(ENABLED=1),
            },
            "omni.replicator": {},
            "omni.replicator.core": {"randomizer": SimpleNamespace(register=self.register)},
            "omni.replicator.core.utils": {"create_node": self.create_node},
        }
        made = {name: ModuleType(name) for name in parts}
        for name, values in parts.items():
            vars(made[name]).update(values)
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(made[parent], child, made[name])
        return made

    def register(self, fn: Callable[[], Any], override: bool = True, fn_name: str | None = None) -> None:
        setattr(self.randomizers, fn_name or fn.__name__, fn)

    def create_node(self, node_type_id: str, graph=None, node_name=None, input_prims=None, **kwargs: Any) -> Any:
        declared: dict[str, str] = {}
        self.node_types[node_type_id].initialize_type(
            SimpleNamespace(
                add_input=lambda name, kind, required: declared.update({name: kind}),
                add_output=lambda name, kind, required: declared.update({name: kind}),
            )
        )
        assert {f"inputs:{name}" for name in kwargs} <= declared.keys()
        self.attributes = {name: kwargs.get(name.removeprefix("inputs:")) for name in declared}
        return SimpleNamespace(
            get_attribute=lambda name: SimpleNamespace(
                get=lambda: self.attributes[name], set=lambda value: self.attributes.update({name: value})
            )
        )


def test_a_trigger_advances_the_series(rooms: list[Entry], monkeypatch: pytest.MonkeyPatch) -> None:
    """The randomizer makes a node of our type; each time it computes, the stage shows the next sample."""
    graph = Graph(new_stage("World"))
    for name, module in graph.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(replicator, "_series", {})
    series = register(rooms, RANGES, seed=4)
    node = graph.randomizers.gen3d_environment()
    for done in (1, 2):
        assert graph.node_types[NODE_TYPE].compute(None, node) and len(series.samples) == done
        assert graph.attributes["outputs:execOut"] == 1
    alone, expected = new_stage("World"), Series(rooms, RANGES, seed=4)
    assert [expected.advance(alone) for _ in range(2)] == series.samples
    other = register(rooms[:1], RANGES)
    graph.node_types[NODE_TYPE].compute(None, node)
    assert len(other.samples) == 1 and len(series.samples) == 2
