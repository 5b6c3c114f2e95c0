"""Boxes dropped on an environment in real engines: what a test asks for, and what each engine needs for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from pxr import Gf, Usd, UsdGeom, UsdPhysics

from omni_gen3d.types import GeneratedScene
from omni_gen3d.usd import write_environment

Point = tuple[float, float, float]
Drop = Callable[..., np.ndarray]

CLEARANCE_M = 0.3
DURATION_S = 1.5
STEPS_PER_SECOND = 240
# Every box falls in a copy of its own, so that none of them can meet another, however near the points are.
COPY_SPACING_M = 100.0


@pytest.fixture
def toy_environment(toy_scene: GeneratedScene, tmp_path: Path) -> Path:
    """The root layer of a room with its floor at z = 0 and a table top at z = 0.5 over 0.5 <= x, y <= 1.5."""
    return write_environment(toy_scene, tmp_path / "toy")


@pytest.fixture
def toy_environment_in_pieces(toy_scene_in_pieces: GeneratedScene, tmp_path: Path) -> Path:
    """The same room, the variant ``convex`` selected: its table is two hulls."""
    return write_environment(toy_scene_in_pieces, tmp_path / "pieces", collision="convex")


@pytest.fixture
def drop_in_physx(tmp_path: Path) -> Drop:
    """``drop(usd_path, points, edge=0.3)``: heights [m] at which the undersides of the boxes rest, in PhysX."""

    def drop(usd_path: Path, points: Sequence[Point], edge: float = 0.3) -> np.ndarray:
        boxes = compose_drop(tmp_path / "drop_physx.usda", usd_path, points, edge)
        return step_physx(tmp_path / "drop_physx.usda", boxes) - edge / 2

    return drop


@pytest.fixture
def drop_in_newton(tmp_path: Path) -> Drop:
    """``drop(usd_path, points, edge=0.3)``: heights [m] at which the undersides of the boxes rest, in Newton (XPBD)."""

    def drop(usd_path: Path, points: Sequence[Point], edge: float = 0.3) -> np.ndarray:
        boxes = compose_drop(tmp_path / "drop_newton.usda", usd_path, points, edge)
        return step_newton(tmp_path / "drop_newton.usda", boxes) - edge / 2

    return drop


def compose_drop(path: Path, usd_path: Path, points: Sequence[Point], edge: float) -> list[str]:
    """Write a stage with a physics scene, one copy of the environment for each point and a box above the point.

    The underside of a box starts 0.3 m above its point. Returns the paths of the boxes.
    """
    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, "/Lab").GetPrim())
    scene = UsdPhysics.Scene.Define(stage, "/Lab/PhysicsScene")
    scene.CreateGravityDirectionAttr(Gf.Vec3f(0, 0, -1))
    scene.CreateGravityMagnitudeAttr(9.81)
    boxes = []
    for i, point in enumerate(points):
        lane = UsdGeom.Xform.Define(stage, f"/Lab/env_{i}")
        lane.AddTranslateOp().Set(Gf.Vec3d(COPY_SPACING_M * i, 0, 0))
        UsdGeom.Xform.Define(stage, f"/Lab/env_{i}/Scene").GetPrim().GetReferences().AddReference(str(usd_path))
        box = UsdGeom.Cube.Define(stage, f"/Lab/env_{i}/Box")
        box.CreateSizeAttr(edge)
        box.AddTranslateOp().Set(Gf.Vec3d(*point) + Gf.Vec3d(0, 0, CLEARANCE_M + edge / 2))
        UsdPhysics.RigidBodyAPI.Apply(box.GetPrim())
        UsdPhysics.CollisionAPI.Apply(box.GetPrim())
        boxes.append(str(box.GetPath()))
    stage.GetRootLayer().Save()
    return boxes


def step_physx(path: Path, boxes: list[str]) -> np.ndarray:
    """Step the stage in PhysX on the CPU; final heights of the boxes' centres [m], shape ``(len(boxes),)``."""
    import ovphysx
    import ovstage
    from ovphysx.samples.python_samples.schema_support import physx_schema_paths
    from ovphysx.types import SimObjectType

    ovphysx.PhysX.set_cpu_mode(True)
    schemas = [*map(str, physx_schema_paths()), str(ovphysx.newton_schema_root())]
    ovstage.population.register_usd_schemas(schemas)
    stage = ovstage.Stage(path.stem)
    ovstage.population.open_usd(stage, str(path), ordinal=1, domains=ovstage.PopulationDomain.ALL)
    stage.advance_write_floor(ordinal=1).wait()
    physx = ovphysx.PhysX()
    physx.wait_task(physx.attach_ovstage(stage, read_ordinal=1))
    for _ in range(int(DURATION_S * STEPS_PER_SECOND)):
        physx.step_sync(1 / STEPS_PER_SECOND)
    heights = [_physx_height(physx, SimObjectType.RIGID_BODY, box) for box in boxes]
    physx.wait_task(physx.detach_ovstage())
    physx.destroy()
    stage.destroy()
    return np.array(heights)


def _physx_height(physx, object_type, box: str) -> float:
    with physx.read_sync(object_type, ["position"], pattern=box) as result:
        (position,) = [tensor.numpy().copy() for group in result.groups for tensor in group.tensors]
    return float(position.reshape(3)[2])


def step_newton(path: Path, boxes: list[str]) -> np.ndarray:
    """Step the stage in Newton's XPBD on the CPU; final heights of the boxes' centres [m], shape ``(len(boxes),)``."""
    import newton

    builder = newton.ModelBuilder()
    builder.add_usd(str(path))
    model = builder.finalize(device="cpu")
    solver = newton.solvers.SolverXPBD(model)
    pipeline = newton.CollisionPipeline(model)
    contacts = pipeline.contacts()
    state, state_next, control = model.state(), model.state(), model.control()
    for _ in range(int(DURATION_S * STEPS_PER_SECOND)):
        state.clear_forces()
        pipeline.collide(state, contacts)
        solver.step(state, state_next, control, contacts, 1 / STEPS_PER_SECOND)
        state, state_next = state_next, state
    assert state.body_q is not None
    heights = state.body_q.numpy()[:, 2]
    return np.array([heights[model.body_label.index(box)] for box in boxes])
