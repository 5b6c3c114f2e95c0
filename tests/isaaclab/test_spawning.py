"""Isaac Lab without Isaac Sim spawns a stage laid out as ours once for each env, and bodies rest on its collider."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pxr import Gf, Usd, UsdGeom, UsdPhysics, Vt

NUM_ENVS = 2
BOX_SIZE = 0.4
FLOOR_HEIGHT = 0.25


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A square floor mesh that collides and one splat above it, under a default prim without absolute targets."""
    path = tmp_path / "environment.usda"
    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    root = UsdGeom.Xform.Define(stage, "/World")
    stage.SetDefaultPrim(root.GetPrim())

    floor = UsdGeom.Mesh.Define(stage, "/World/Environment/Collision/floor")
    corners = [(-2, -2, FLOOR_HEIGHT), (2, -2, FLOOR_HEIGHT), (2, 2, FLOOR_HEIGHT), (-2, 2, FLOOR_HEIGHT)]
    floor.CreatePointsAttr([Gf.Vec3f(*corner) for corner in corners])
    floor.CreateFaceVertexCountsAttr([3, 3])
    floor.CreateFaceVertexIndicesAttr([0, 1, 2, 0, 2, 3])
    floor.CreatePurposeAttr(UsdGeom.Tokens.guide)
    UsdPhysics.CollisionAPI.Apply(floor.GetPrim())
    UsdPhysics.MeshCollisionAPI.Apply(floor.GetPrim()).CreateApproximationAttr(UsdPhysics.Tokens.none)

    splats = stage.DefinePrim("/World/Environment/Splats", "ParticleField3DGaussianSplat")
    splats.GetAttribute("positions").Set(Vt.Vec3fArray([Gf.Vec3f(0, 0, 1)]))
    splats.GetAttribute("orientations").Set(Vt.QuatfArray([Gf.Quatf(1, 0, 0, 0)]))
    splats.GetAttribute("scales").Set(Vt.Vec3fArray([Gf.Vec3f(0.1)]))
    splats.GetAttribute("opacities").Set(Vt.FloatArray([0.9]))
    splats.GetAttribute("radiance:sphericalHarmonicsDegree").Set(0)
    splats.GetAttribute("radiance:sphericalHarmonicsCoefficients").Set(Vt.Vec3fArray([Gf.Vec3f(1.0)]))
    stage.Save()
    return path


def test_a_dropped_box_rests_on_the_floor_of_every_env(environment: Path) -> None:
    """The stage is referenced under each env without being changed, and every env's box comes to rest on the mesh."""
    import isaaclab.sim as sim_utils
    from isaaclab.assets import AssetBaseCfg, RigidObjectCfg
    from isaaclab.scene import InteractiveScene, InteractiveSceneCfg
    from isaaclab_newton.physics import MJWarpSolverCfg, NewtonCfg, NewtonCollisionPipelineCfg

    scene_cfg = InteractiveSceneCfg(num_envs=NUM_ENVS, env_spacing=6.0, replicate_physics=True)
    scene_cfg.environment = AssetBaseCfg(
        prim_path="{ENV_REGEX_NS}/Environment", spawn=sim_utils.UsdFileCfg(usd_path=str(environment))
    )
    scene_cfg.box = RigidObjectCfg(
        prim_path="{ENV_REGEX_NS}/Box",
        spawn=sim_utils.CuboidCfg(
            size=(BOX_SIZE, BOX_SIZE, BOX_SIZE),
            rigid_props=[sim_utils.UsdPhysicsRigidBodyCfg()],
            mass_props=[sim_utils.MassCfg(mass=1.0)],
            collision_props=[sim_utils.UsdPhysicsCollisionCfg()],
        ),
        init_state=RigidObjectCfg.InitialStateCfg(pos=(0.0, 0.0, FLOOR_HEIGHT + BOX_SIZE)),
    )
    physics = NewtonCfg(
        solver_cfg=MJWarpSolverCfg(use_mujoco_contacts=False),
        collision_cfg=NewtonCollisionPipelineCfg(),
        use_cuda_graph=False,
    )
    simulation = sim_utils.SimulationContext(sim_utils.SimulationCfg(dt=1 / 120, device="cpu", physics=physics))
    try:
        scene = InteractiveScene(scene_cfg)
        splats = simulation.stage.GetPrimAtPath("/World/envs/env_0/Environment/Environment/Splats")
        assert splats.GetTypeName() == "ParticleField3DGaussianSplat"
        simulation.reset()
        for _ in range(120):
            scene.write_data_to_sim()
            simulation.step(render=False)
            scene.update(1 / 120)
        height = torch.as_tensor(scene["box"].data.root_pos_w.torch[:, 2])
    finally:
        sim_utils.SimulationContext.clear_instance()
    torch.testing.assert_close(height, torch.full((NUM_ENVS,), FLOOR_HEIGHT + BOX_SIZE / 2), atol=0.01, rtol=0)
