"""Boxes dropped and balls rolled in an environment, in real engines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from pxr import Gf, Usd, UsdGeom, UsdPhysics

from omni_gen3d.envs.player import NewtonPlayer, PhysxPlayer
from omni_gen3d.kit.placing import add_environment
from omni_gen3d.types import GeneratedScene, SpawnPose
from omni_gen3d.usd import write_environment
from omni_gen3d.usd.bodies import BodyTrack, read_tracks

Point = tuple[float, float, float]
Drop = Callable[..., np.ndarray]
Roll = Callable[[Path, Sequence[SpawnPose]], np.ndarray]
Engine = Callable[[Path, list[str], float], np.ndarray]
PlayingEngine = Callable[[Path, list[str], float, Sequence[BodyTrack]], np.ndarray]
Change = Callable[[Usd.Stage, str], None]
PushBox = Callable[[Path, tuple[float, float], float, Change], tuple[np.ndarray, list[str]]]

CLEARANCE_M = 0.3
PUSHED_EDGE_M = 0.2
BALL_RADIUS_M = 0.1
BALL_SPEED_M_S = 2.0
STEPS_PER_SECOND = 240
# Every body moves in a copy of its own, so that none of them can meet another, however near the points are.
COPY_SPACING_M = 100.0


@pytest.fixture
def toy_environment(toy_scene: GeneratedScene, tmp_path: Path) -> Path:
    """The root layer of a room with its floor at z = 0 and a table top at z = 0.5 over 0.5 <= x, y <= 1.5."""
    return write_environment(toy_scene, tmp_path / "toy")


@pytest.fixture
def toy_environment_in_pieces(toy_scene_in_pieces: GeneratedScene, tmp_path: Path) -> Path:
    """The same room, the variant ``convex`` selected: its table is two hulls."""
    return write_environment(toy_scene_in_pieces, tmp_path / "pieces", collision="convex")


@pytest.fixture(params=["physx", "newton"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Steps a stage: PhysX, and Newton's XPBD."""
    return {"physx": step_physx, "newton": step_newton}[request.param]


@pytest.fixture
def drop(tmp_path: Path, engine: Engine) -> Drop:
    """``drop(usd_path, points, edge=0.3)``: heights [m] at which the undersides of the boxes rest."""
    return dropper(tmp_path / "drop.usda", engine)


@pytest.fixture
def drop_on_a_host(tmp_path: Path) -> Callable[[Path, tuple[float, float]], float]:
    """``drop(usd_path, (x, y))``: height [m] in PhysX, on a stage in centimetres, Y up."""

    def drop(usd_path: Path, point: tuple[float, float]) -> float:
        path, edge = tmp_path / "host.usda", 0.3
        stage = Usd.Stage.CreateNew(str(path))
        UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
        UsdGeom.SetStageMetersPerUnit(stage, 0.01)
        add_environment(stage, usd_path)
        box = UsdGeom.Cube.Define(stage, "/Box")
        box.CreateSizeAttr(100 * edge)
        make_body(box, 100 * Gf.Vec3d(point[0], 1.0, -point[1]))
        stage.GetRootLayer().Save()
        return 0.01 * step_physx(path, ["/Box"], 1.5)[0, 1] - edge / 2

    return drop


@pytest.fixture
def roll(tmp_path: Path, engine: Engine) -> Roll:
    """``roll(usd_path, poses)``: where balls are that rolled off at 2 m/s for 3 s, shape ``(N, 3)`` [m]."""
    return roller(tmp_path / "roll.usda", engine)


@pytest.fixture(params=["physx", "newton"])
def playing_engine(request: pytest.FixtureRequest) -> PlayingEngine:
    """An engine whose kinematic bodies a player moves."""
    return {"physx": step_physx, "newton": step_newton}[request.param]


def dropper(path: Path, engine: Engine) -> Drop:
    """Drops boxes: the underside of each starts 0.3 m above its point."""

    def drop(usd_path: Path, points: Sequence[Point], edge: float = 0.3) -> np.ndarray:
        stage = compose(path, usd_path, len(points))
        for i, point in enumerate(points):
            box = UsdGeom.Cube.Define(stage, body_path(i))
            box.CreateSizeAttr(edge)
            make_body(box, Gf.Vec3d(*point) + Gf.Vec3d(0, 0, CLEARANCE_M + edge / 2))
        stage.GetRootLayer().Save()
        return engine(path, [body_path(i) for i in range(len(points))], 1.5)[:, 2] - edge / 2

    return drop


def roller(path: Path, engine: Engine) -> Roll:
    """Rolls balls: each starts on the floor at a spawn pose, along its heading."""

    def roll(usd_path: Path, poses: Sequence[SpawnPose]) -> np.ndarray:
        stage = compose(path, usd_path, len(poses))
        for i, pose in enumerate(poses):
            ball = UsdGeom.Sphere.Define(stage, body_path(i))
            ball.CreateRadiusAttr(BALL_RADIUS_M)
            body = make_body(ball, Gf.Vec3d(*pose.position) + Gf.Vec3d(0, 0, BALL_RADIUS_M + 0.01))
            heading = Gf.Vec3f(math.cos(pose.yaw), math.sin(pose.yaw), 0)
            body.CreateVelocityAttr(BALL_SPEED_M_S * heading)
            spin = math.degrees(BALL_SPEED_M_S / BALL_RADIUS_M)
            body.CreateAngularVelocityAttr(spin * Gf.Cross(Gf.Vec3f(0, 0, 1), heading))
        stage.GetRootLayer().Save()
        return engine(path, [body_path(i) for i in range(len(poses))], 3.0)

    return roll


def body_path(index: int) -> str:
    return f"/Lab/env_{index}/Body"


def compose(path: Path, usd_path: Path, copies: int) -> Usd.Stage:
    """A stage with a physics scene and ``copies`` of the environment in a row along x, 100 m apart."""
    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, "/Lab").GetPrim())
    scene = UsdPhysics.Scene.Define(stage, "/Lab/PhysicsScene")
    scene.CreateGravityDirectionAttr(Gf.Vec3f(0, 0, -1))
    scene.CreateGravityMagnitudeAttr(9.81)
    for i in range(copies):
        lane = UsdGeom.Xform.Define(stage, f"/Lab/env_{i}")
        lane.AddTranslateOp().Set(Gf.Vec3d(COPY_SPACING_M * i, 0, 0))
        UsdGeom.Xform.Define(stage, f"/Lab/env_{i}/Scene").GetPrim().GetReferences().AddReference(str(usd_path))
    return stage


def make_body(shape: UsdGeom.Gprim, position: Gf.Vec3d) -> UsdPhysics.RigidBodyAPI:
    """Let a shape fall and collide."""
    shape.AddTranslateOp().Set(position)
    UsdPhysics.CollisionAPI.Apply(shape.GetPrim())
    return UsdPhysics.RigidBodyAPI.Apply(shape.GetPrim())


@pytest.fixture
def push_box(playing_engine: PlayingEngine, tmp_path: Path) -> PushBox:
    """``push_box(usd_path, place, seconds, change)``: where a box of 20 cm that stood on the floor at ``place`` ends,
    ``(3,)`` [m], and the names of the bodies that moved by themselves.

    ``change(stage, root)`` writes to the session layer before anything is stepped.
    """
    made = count()

    def run(usd_path: Path, place: tuple[float, float], seconds: float, change: Change) -> tuple[np.ndarray, list[str]]:
        path = tmp_path / f"push_{next(made)}.usda"
        stage = compose(path, usd_path, 1)
        box = UsdGeom.Cube.Define(stage, body_path(0))
        box.CreateSizeAttr(PUSHED_EDGE_M)
        make_body(box, Gf.Vec3d(*place, PUSHED_EDGE_M / 2 + 0.005))
        change(stage, "/Lab/env_0/Scene")
        # Engines open files: what the session layer says becomes one.
        session = path.with_suffix(".session.usda")
        stage.GetSessionLayer().Export(str(session))
        stage.GetRootLayer().subLayerPaths.append(session.name)
        stage.GetRootLayer().Save()
        tracks = read_tracks(stage)
        (end,) = playing_engine(path, [body_path(0)], seconds, tracks)
        return end, [track.path.rpartition("/")[2] for track in tracks]

    return run


def step_physx(path: Path, bodies: list[str], duration: float, tracks: Sequence[BodyTrack] = ()) -> np.ndarray:
    """Step the stage in PhysX on the CPU; final positions of the bodies in their copies [m], shape ``(N, 3)``."""
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
    player = PhysxPlayer(physx, tracks)
    for step in range(int(duration * STEPS_PER_SECOND)):
        player.move(step / STEPS_PER_SECOND, 1 / STEPS_PER_SECOND)
        physx.step_sync(1 / STEPS_PER_SECOND)
    positions = [_physx_position(physx, SimObjectType.RIGID_BODY, body) for body in bodies]
    physx.wait_task(physx.detach_ovstage())
    physx.destroy()
    stage.destroy()
    return in_own_copies(positions)


def _physx_position(physx, object_type, body: str) -> np.ndarray:
    with physx.read_sync(object_type, ["position"], pattern=body) as result:
        (position,) = [tensor.numpy().copy() for group in result.groups for tensor in group.tensors]
    return position.reshape(3)


def step_newton(path: Path, bodies: list[str], duration: float, tracks: Sequence[BodyTrack] = ()) -> np.ndarray:
    """Step the stage in Newton's XPBD on the CPU; final positions of the bodies in their copies [m], ``(N, 3)``."""
    import newton

    builder = newton.ModelBuilder()
    builder.add_usd(str(path))
    model = builder.finalize(device="cpu")
    solver = newton.solvers.SolverXPBD(model)
    pipeline = newton.CollisionPipeline(model)
    contacts = pipeline.contacts()
    state, state_next, control = model.state(), model.state(), model.control()
    player = NewtonPlayer(model, tracks)
    for step in range(int(duration * STEPS_PER_SECOND)):
        state.clear_forces()
        player.move(state, step / STEPS_PER_SECOND, 1 / STEPS_PER_SECOND)
        pipeline.collide(state, contacts)
        solver.step(state, state_next, control, contacts, 1 / STEPS_PER_SECOND)
        state, state_next = state_next, state
    assert state.body_q is not None
    positions = state.body_q.numpy()[:, :3]
    return in_own_copies([positions[model.body_label.index(body)] for body in bodies])


def in_own_copies(positions: Sequence[np.ndarray]) -> np.ndarray:
    """World positions, each relative to the origin of its copy of the environment, shape ``(N, 3)``."""
    offsets = np.arange(len(positions))[:, None] * np.array([COPY_SPACING_M, 0.0, 0.0])
    return np.array(positions, np.float64) - offsets
