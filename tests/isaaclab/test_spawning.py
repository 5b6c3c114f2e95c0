"""Isaac Lab without Isaac Sim spawns environments that we wrote, different ones in one scene; bodies rest on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from omni_gen3d.geometry import intrinsics_from_fov, look_at
from omni_gen3d.types import (
    Cameras,
    CollisionProxy,
    FreeSpace,
    Gaussians,
    GeneratedScene,
    Provenance,
    ProxyPart,
    SpawnPose,
    TriMesh,
)
from omni_gen3d.usd import write_environment

NUM_ENVS = 4
BOX_SIZE = 0.4
FLOOR_HEIGHTS = (0.0, 0.25)


def floor(height: float) -> ProxyPart:
    """A square of 4 m x 4 m."""
    corners = np.array([(-2, -2, height), (2, -2, height), (2, 2, height), (-2, 2, height)], np.float32)
    return ProxyPart("floor", "floor", TriMesh(corners, np.array([[0, 1, 2], [0, 2, 3]], np.int32)))


def scene(height: float) -> GeneratedScene:
    """One floor and a splat above it."""
    eye, target = torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([[0.0, 0.0, 0.3]])
    return GeneratedScene(
        gaussians=Gaussians(
            means=torch.tensor([[0.0, 0.0, 1.0]]),
            quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
            scales=torch.full((1, 3), 0.1),
            opacities=torch.tensor([0.9]),
            sh=torch.ones(1, 1, 3),
        ),
        cameras=Cameras(look_at(eye, target), intrinsics_from_fov(1.0, 64, 48)[None], width=64, height=48),
        proxy=CollisionProxy(
            parts=(floor(height),),
            free_space=FreeSpace(np.ones((4, 4, 4), bool), np.array([-2.0, -2.0, height]), voxel_size=1.0),
            spawn_poses=(SpawnPose((0.0, 0.0, height), 0.0),),
            scores={"faces": 2, "floor_height_m": height},
        ),
        preview=np.zeros((4, 4, 3), np.uint8),
        provenance=Provenance("static", f"a floor at {height} m", None, 0, "mini", None),
    )


@pytest.fixture
def environments(tmp_path: Path) -> list[str]:
    """Two environments whose floors differ in height."""
    return [str(write_environment(scene(height), tmp_path / f"at_{height}")) for height in FLOOR_HEIGHTS]


def test_four_envs_hold_two_different_environments(environments: list[str]) -> None:
    """Isaac Lab spreads two environments over four envs, and every box comes to rest on its own one's floor."""
    import isaaclab.sim as sim_utils
    from isaaclab.assets import AssetBaseCfg, RigidObjectCfg
    from isaaclab.scene import InteractiveScene, InteractiveSceneCfg
    from isaaclab_newton.physics import MJWarpSolverCfg, NewtonCfg, NewtonCollisionPipelineCfg

    scene_cfg = InteractiveSceneCfg(num_envs=NUM_ENVS, env_spacing=6.0, replicate_physics=True)
    scene_cfg.environment = AssetBaseCfg(
        prim_path="{ENV_REGEX_NS}/Environment",
        spawn=sim_utils.MultiUsdFileCfg(usd_path=environments),
    )
    scene_cfg.box = RigidObjectCfg(
        prim_path="{ENV_REGEX_NS}/Box",
        spawn=sim_utils.CuboidCfg(
            size=(BOX_SIZE, BOX_SIZE, BOX_SIZE),
            rigid_props=[sim_utils.UsdPhysicsRigidBodyCfg()],
            mass_props=[sim_utils.MassCfg(mass=1.0)],
            collision_props=[sim_utils.UsdPhysicsCollisionCfg()],
        ),
        init_state=RigidObjectCfg.InitialStateCfg(pos=(0.0, 0.0, max(FLOOR_HEIGHTS) + BOX_SIZE)),
    )
    physics = NewtonCfg(
        solver_cfg=MJWarpSolverCfg(use_mujoco_contacts=False),
        collision_cfg=NewtonCollisionPipelineCfg(),
        use_cuda_graph=False,
    )
    simulation = sim_utils.SimulationContext(sim_utils.SimulationCfg(dt=1 / 120, device="cpu", physics=physics))
    try:
        lab = InteractiveScene(scene_cfg)
        shown = [p for p in simulation.stage.Traverse() if p.GetTypeName() == "ParticleField3DGaussianSplat"]
        assert len(shown) == len(environments)  # the stage holds each once; the physics model holds every env
        simulation.reset()
        for _ in range(120):
            lab.write_data_to_sim()
            simulation.step(render=False)
            lab.update(1 / 120)
        height = torch.as_tensor(lab["box"].data.root_pos_w.torch[:, 2])
    finally:
        sim_utils.SimulationContext.clear_instance()
    expected = torch.tensor(FLOOR_HEIGHTS).repeat_interleave(NUM_ENVS // len(FLOOR_HEIGHTS)) + BOX_SIZE / 2
    torch.testing.assert_close(height.sort().values, expected, atol=0.01, rtol=0)
