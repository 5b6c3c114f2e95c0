"""Environments in Isaac Lab 3.0, without Isaac Sim: configurations, an observation of splats, and a task.

Importing this registers ``Gen3D-Nav-v0``. Isaac Lab spreads different files over its envs at spawn time and cannot swap
them later; what is drawn anew at a reset is the look, the lens and the start.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import isaaclab.sim as sim_utils
import torch
from isaaclab.assets import AssetBaseCfg, RigidObjectCfg
from isaaclab.envs import ManagerBasedRLEnv, ManagerBasedRLEnvCfg
from isaaclab.managers import (
    ActionTerm,
    ActionTermCfg,
    EventTermCfg,
    ManagerTermBase,
    ObservationGroupCfg,
    ObservationTermCfg,
    RewardTermCfg,
    TerminationTermCfg,
)
from isaaclab.scene import InteractiveSceneCfg
from isaaclab.terrains import TerrainImporterCfg
from isaaclab.utils import configclass
from isaaclab_newton.physics import MJWarpSolverCfg, NewtonCfg, NewtonCollisionPipelineCfg

from omni_gen3d.envs.eyes import Eyes, RobotCamera
from omni_gen3d.envs.isaaclab_goals import (
    GoalCommand,
    GoalCommandCfg,
    blocked,
    goal_seen,
    progress,
    reached,
    robot_pose,
    success,
)
from omni_gen3d.envs.newton import join_parts
from omni_gen3d.envs.plain import from_plain, to_plain
from omni_gen3d.envs.randomize import draw
from omni_gen3d.envs.ranges import Randomization
from omni_gen3d.envs.registry import Registry
from omni_gen3d.types import ProxyPart
from omni_gen3d.usd import read_environment
from omni_gen3d.usd.collision import author_collision
from omni_gen3d.usd.stage import new_stage, save_stage

RADIUS_M, HEIGHT_M = 0.25, 0.4
# How near the robot's axis must come to a goal.
REACHED_M = 0.2
# Twice what friction of 0.6 takes away from a body that slides on the floor.
GRIP_M_S2 = 12.0


@configclass
class EnvironmentAssetCfg(AssetBaseCfg):
    """One environment for all envs, or several that are dealt out to them in turn.

    Isaac Lab wants the same number of shapes in every env. So of several environments small layers are written to the
    folder ``layers``, which refer to their splats and hold their colliders as one mesh each.

    Attributes:
        folders: Of environments.
        layers: Where those layers go.
    """

    prim_path: str = "{ENV_REGEX_NS}/Environment"
    folders: list[str] = []  # noqa: RUF012 -- configclass gives every instance its own
    layers: str = "."

    def __post_init__(self) -> None:
        # Isaac Lab copies configurations that it has written to, and runs this for every copy.
        if self.spawn is not None:
            return
        if len(self.folders) == 1:
            self.spawn = sim_utils.UsdFileCfg(usd_path=str(Path(self.folders[0]) / "environment.usda"))
        elif self.folders:
            paths = [str(_with_one_shape(Path(folder), Path(self.layers))) for folder in self.folders]
            self.spawn = sim_utils.MultiUsdFileCfg(usd_path=paths, random_choice=False)


def _with_one_shape(folder: Path, place: Path) -> Path:
    environment = read_environment(folder)
    stage = new_stage("World")
    root = stage.GetDefaultPrim()
    root.GetReferences().AddReference(str((folder / "environment.usda").resolve()))
    stage.GetPrimAtPath("/World/Environment").GetVariantSets().SetSelection("collision", "none")
    stage.DefinePrim("/World/Collider", "Xform")
    author_collision(stage, "/World/Collider", (ProxyPart("Proxy", "object", join_parts(environment.parts)),))
    path = place / f"{folder.resolve().name}.usda"
    save_stage(stage, path)
    return path


def terrain_cfg(folder: Path | str, prim_path: str = "/World/ground") -> TerrainImporterCfg:
    """One environment as the ground that all envs share."""
    return TerrainImporterCfg(prim_path=prim_path, terrain_type="usd", usd_path=str(Path(folder) / "environment.usda"))


class SplatPicture(ManagerTermBase):
    """Observation term: what the robots' cameras see, by the render delegate, float32 RGB in [0, 1], ``(N, S, S, 3)``.

    Parameters of the term, plain values all, as Isaac Lab takes objects apart: ``home`` of the library, ``ids`` in the
    order in which ``EnvironmentAssetCfg`` has them, ``robot``, ``ranges`` (``to_plain`` of a ``Randomization``),
    ``seed``. At a reset each env gets the next sample of the series.
    """

    def __init__(self, cfg: ObservationTermCfg, env: Any) -> None:
        super().__init__(cfg, env)
        given = cfg.params
        registry = Registry(given["home"])
        self._entries = [registry.get(id_) for id_ in given["ids"]]
        self._ranges, self._seed = from_plain(Randomization, given["ranges"], "ranges"), given["seed"]
        device = torch.device(env.device)
        self._eyes = Eyes(
            [entry.folder for entry in self._entries],
            env.num_envs,
            RobotCamera(),
            depth=False,
            device=device,
            step=env.step_dt,
        )
        self._next = 0
        self.samples: list[Any] = [None] * env.num_envs

    def reset(self, env_ids: Any = None) -> None:
        indices = range(self.num_envs) if env_ids is None or isinstance(env_ids, slice) else [int(i) for i in env_ids]
        chosen = list(indices)
        worlds = [i % len(self._entries) for i in chosen]
        for i, world in zip(chosen, worlds, strict=True):
            self.samples[i] = draw(self._ranges, [self._entries[world]], seed=self._seed, index=self._next)
            self._next += 1
        self._eyes.adjust(torch.tensor(chosen), worlds, [self.samples[i] for i in chosen])

    def __call__(self, env: Any, home: str, ids: Any, robot: str, ranges: Any, seed: int) -> torch.Tensor:
        if self.samples[0] is None:
            self.reset()
        return self._eyes.look(robot_pose(env, robot))["rgb"].float() / 255


class PlanarVelocity(ActionTerm):
    """Action term: forward speed [m/s] and turn rate [rad/s] of a rigid body, which keeps falling as gravity has it."""

    cfg: PlanarVelocityCfg

    def __init__(self, cfg: PlanarVelocityCfg, env: Any) -> None:
        super().__init__(cfg, env)
        self._actions = torch.zeros(self.num_envs, 2, device=self.device)

    @property
    def action_dim(self) -> int:
        return 2

    @property
    def raw_actions(self) -> torch.Tensor:
        return self._actions

    @property
    def processed_actions(self) -> torch.Tensor:
        return self._actions

    def process_actions(self, actions: torch.Tensor) -> None:
        self._actions = actions

    def apply_actions(self) -> None:
        yaw = robot_pose(self._env, self.cfg.asset_name)[:, 2]
        speed, turn = self._actions.unbind(-1)
        now = torch.as_tensor(self._asset.data.root_lin_vel_w.torch)
        wanted = speed[:, None] * torch.stack([torch.cos(yaw), torch.sin(yaw)], -1)
        # Within limits, so that a wall can stop what is pushed.
        change = wanted - now[:, :2]
        grip = GRIP_M_S2 * self._env.physics_dt
        change = change * (grip / change.norm(dim=-1, keepdim=True).clamp(min=grip))
        still = torch.zeros_like(yaw)[:, None]
        velocity = torch.cat([now[:, :2] + change, now[:, 2:], still, still, turn[:, None]], -1)
        self._asset.write_root_velocity_to_sim_index(root_velocity=velocity)


@configclass
class PlanarVelocityCfg(ActionTermCfg):
    """Of ``PlanarVelocity``."""

    class_type: type = PlanarVelocity


def place_at_spawn_poses(env: Any, env_ids: torch.Tensor, spawns: Sequence[Any], robot: str) -> None:
    """Reset event: robots at rest at one of the spawn poses ``(x, y, z, yaw)`` of their environment, drawn by torch."""
    indices = torch.arange(env.num_envs) if isinstance(env_ids, slice) else torch.as_tensor(env_ids).cpu().long()
    poses = []
    for i in indices.tolist():
        choices = spawns[i % len(spawns)]
        x, y, z, yaw = choices[int(torch.randint(len(choices), ()))]
        half = torch.tensor(yaw / 2)
        poses.append([x, y, z + HEIGHT_M / 2 + 0.02, 0.0, 0.0, float(half.sin()), float(half.cos())])
    placed = torch.tensor(poses, device=env.device)
    placed[:, :3] += env.scene.env_origins[indices.to(env.device)]
    which = indices.to(env.device, torch.int32)
    env.scene[robot].write_root_pose_to_sim_index(root_pose=placed, env_ids=which)
    env.scene[robot].write_root_velocity_to_sim_index(
        root_velocity=torch.zeros(len(poses), 6, device=env.device), env_ids=which
    )


def out_of_time(env: Any) -> torch.Tensor:
    """Termination: the episode is as long as it may be."""
    return env.episode_length_buf >= env.max_episode_length


class _Terms(SimpleNamespace):
    """Named terms of one manager."""


def nav_env_cfg(
    registry: Registry | None = None,
    ids: Sequence[str] | None = None,
    num_envs: int = 4,
    *,
    ranges: Randomization | None = None,
    seed: int = 0,
    goal_distance: tuple[float, float] = (0.6, 4.0),
    layers: Path | str | None = None,
) -> ManagerBasedRLEnvCfg:
    """The task ``Gen3D-Nav-v0``: robots that see splats and must reach goals in environments of the library.

    Observations are the groups ``policy``, the picture ``(N, 64, 64, 3)``, and ``goal``, ``(N, 3)``. The reward of a
    step is the metres of way gained, 2 for the goal and -1 for a metre that a wall took; the goal and the time end an
    episode.

    Args:
        registry: Library; the user's where None.
        ids: Of environments that are dealt out in turn; all of the library where None.
        num_envs: Robots.
        ranges: Looks, lenses, noise and latency; placement, contact, light and clutter are not applied here, leave them
            out.
        seed: Of the samples, starts and goals.
        goal_distance: Shortest and longest way to a goal [m].
        layers: Folder for the layers of ``EnvironmentAssetCfg``; a new temporary one, which stays, where None.
    """
    library = Registry() if registry is None else registry
    known = library.entries() if ids is None else [library.get(id_) for id_ in ids]
    spawns = [[[*pose.position, pose.yaw] for pose in entry.spawn_poses] for entry in known]
    scene = InteractiveSceneCfg(num_envs=num_envs, env_spacing=30.0, replicate_physics=True)
    place = tempfile.mkdtemp(prefix="omni_gen3d_isaaclab_") if layers is None else layers
    scene.environment = EnvironmentAssetCfg(folders=[str(entry.folder) for entry in known], layers=str(place))
    scene.robot = RigidObjectCfg(
        prim_path="{ENV_REGEX_NS}/Robot",
        spawn=sim_utils.CylinderCfg(
            radius=RADIUS_M,
            height=HEIGHT_M,
            rigid_props=[sim_utils.UsdPhysicsRigidBodyCfg()],
            mass_props=[sim_utils.MassCfg(mass=15.0)],
            collision_props=[sim_utils.UsdPhysicsCollisionCfg()],
        ),
        init_state=RigidObjectCfg.InitialStateCfg(pos=(0.0, 0.0, HEIGHT_M)),
    )
    picture = ObservationTermCfg(
        func=SplatPicture,
        params={
            "home": str(library.home.directory),
            "ids": [entry.id for entry in known],
            "robot": "robot",
            "ranges": to_plain(Randomization() if ranges is None else ranges),
            "seed": seed,
        },
    )
    physics = NewtonCfg(
        solver_cfg=MJWarpSolverCfg(use_mujoco_contacts=False),
        collision_cfg=NewtonCollisionPipelineCfg(),
        use_cuda_graph=False,
    )
    cfg = ManagerBasedRLEnvCfg()
    cfg.sim = sim_utils.SimulationCfg(dt=1 / 120, device="cpu", physics=physics)
    cfg.decimation, cfg.episode_length_s, cfg.scene, cfg.seed = 4, 20.0, scene, seed
    policy = ObservationGroupCfg()
    policy.rgb = picture
    start = EventTermCfg(func=place_at_spawn_poses, mode="reset", params={"spawns": spawns, "robot": "robot"})
    toward = ObservationGroupCfg()
    toward.goal = ObservationTermCfg(func=goal_seen, params={"goal": "goal"})
    cfg.commands = _Terms(
        goal=GoalCommandCfg(
            home=str(library.home.directory),
            ids=[entry.id for entry in known],
            robot_radius=RADIUS_M,
            robot_height=HEIGHT_M,
            goal_distance=goal_distance,
        )
    )
    cfg.observations = _Terms(policy=policy, goal=toward)
    cfg.actions = _Terms(drive=PlanarVelocityCfg(asset_name="robot"))
    cfg.events = _Terms(start=start)
    at_goal = {"goal": "goal", "within": REACHED_M}
    cfg.rewards = _Terms(
        progress=RewardTermCfg(func=progress, weight=1.0, params={"goal": "goal"}),
        success=RewardTermCfg(func=success, weight=2.0, params=at_goal),
        collision=RewardTermCfg(func=blocked, weight=-1.0, params={"robot": "robot", "drive": "drive"}),
    )
    cfg.terminations = _Terms(
        success=TerminationTermCfg(func=reached, params=at_goal),
        time=TerminationTermCfg(func=out_of_time, time_out=True),
    )
    return cfg


gymnasium.register(
    id="Gen3D-Nav-v0",
    entry_point="isaaclab.envs:ManagerBasedRLEnv",
    disable_env_checker=True,
    kwargs={"env_cfg_entry_point": f"{__name__}:nav_env_cfg"},
)
__all__ = [
    "EnvironmentAssetCfg",
    "GoalCommand",
    "GoalCommandCfg",
    "ManagerBasedRLEnv",
    "PlanarVelocity",
    "PlanarVelocityCfg",
    "SplatPicture",
    "nav_env_cfg",
    "place_at_spawn_poses",
    "robot_pose",
    "terrain_cfg",
]
