"""A goal for each robot in Isaac Lab: a command drawn from the traversable floor, and what it is worth to come near.

Isaac Lab multiplies every reward by its weight and the length of a step; what a term returns is a rate, so that a
weight counts metres, goals reached, and metres that a wall took.
"""

from __future__ import annotations

from typing import Any

import torch
from isaaclab.managers import CommandTerm, CommandTermCfg
from isaaclab.utils import configclass

from omni_gen3d.envs.courses import Ways, course_or_refuse, lay_course
from omni_gen3d.envs.occupancy import occupancy_map
from omni_gen3d.envs.registry import Registry
from omni_gen3d.usd import Manifest
from omni_gen3d.usd.target import MANIFEST_NAME

# Friction with the floor takes some of what is commanded; what takes more than this share is in the way.
_LAG = 0.5


def robot_pose(env: Any, robot: str) -> torch.Tensor:
    """``(x, y, yaw)`` of a robot in its env [m, rad], ``(N, 3)``."""
    place = torch.as_tensor(env.scene[robot].data.root_pos_w.torch) - env.scene.env_origins
    x, y, z, w = torch.as_tensor(env.scene[robot].data.root_quat_w.torch).unbind(-1)
    yaw = torch.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return torch.stack([place[:, 0], place[:, 1], yaw], -1)


def speed_ahead(env: Any, robot: str) -> torch.Tensor:
    """Speed along the heading [m/s]; what a wall takes away. ``(N,)``."""
    yaw = robot_pose(env, robot)[:, 2]
    velocity = torch.as_tensor(env.scene[robot].data.root_lin_vel_w.torch)
    return velocity[:, 0] * torch.cos(yaw) + velocity[:, 1] * torch.sin(yaw)


class GoalCommand(CommandTerm):
    """Command term: metres to the goal, cosine and sine of its bearing, ``(N, 3)``.

    A goal is drawn at every reset among those of the environment's course that are as far to drive as asked for; where
    the robot starts apart from them all, the farthest.

    Attributes:
        way: Length of the way that was left at the end of the last step [m], ``(N,)``.
    """

    cfg: GoalCommandCfg

    def __init__(self, cfg: GoalCommandCfg, env: Any) -> None:
        """Lay a course in every environment.

        Raises:
            InputError: The library lacks an environment, or one has no room for such goals.
        """
        super().__init__(cfg, env)
        registry, courses = Registry(cfg.home), []
        for id_ in cfg.ids:
            entry = registry.get(id_)
            manifest = Manifest.read(entry.folder / MANIFEST_NAME)
            plan = occupancy_map(manifest, robot_height=cfg.robot_height, robot_radius=cfg.robot_radius)
            course = lay_course(plan, goal_distance=cfg.goal_distance)
            courses.append(course_or_refuse(course, entry.title, cfg.goal_distance))
        self._ways = Ways(courses, torch.device(self.device))
        self._goals = [torch.as_tensor(course.goals, dtype=torch.float32, device=self.device) for course in courses]
        self._world = torch.arange(self.num_envs, device=self.device) % len(courses)
        self._goal = torch.zeros(self.num_envs, dtype=torch.long, device=self.device)
        self._target = torch.zeros(self.num_envs, 2, device=self.device)
        self.way = torch.zeros(self.num_envs, device=self.device)

    @property
    def command(self) -> torch.Tensor:
        pose = robot_pose(self._env, self.cfg.robot)
        offset = self._target - pose[:, :2]
        bearing = torch.atan2(offset[:, 1], offset[:, 0]) - pose[:, 2]
        return torch.stack([offset.norm(dim=-1), torch.cos(bearing), torch.sin(bearing)], -1)

    def gained(self) -> torch.Tensor:
        """Metres of way that the step gained, ``(N,)``."""
        return self.way - self._way_left()

    def _way_left(self) -> torch.Tensor:
        return self._ways.length(self._world, self._goal, robot_pose(self._env, self.cfg.robot)[:, :2])

    def _resample_command(self, env_ids: Any) -> None:
        low, high = self.cfg.goal_distance
        places = robot_pose(self._env, self.cfg.robot)[:, :2]
        for i in torch.arange(self.num_envs)[env_ids if isinstance(env_ids, slice) else env_ids.cpu().long()].tolist():
            goals = self._goals[int(self._world[i])]
            numbers = torch.arange(len(goals), device=self.device)
            ways = self._ways.length(self._world[i].expand_as(numbers), numbers, places[i].expand(len(goals), 2))
            eligible = ((ways >= low) & (ways <= high)).nonzero()[:, 0]
            among = eligible if len(eligible) else ways.argmax()[None]
            self._goal[i] = among[int(torch.randint(len(among), ()))]
            self._target[i] = goals[self._goal[i]]
        self.way = self._way_left()

    def _update_command(self) -> None:
        self.way = self._way_left()

    def _update_metrics(self) -> None:
        pass


@configclass
class GoalCommandCfg(CommandTermCfg):
    """Of ``GoalCommand``.

    Attributes:
        home: Folder of the library.
        ids: Environments, in the order in which they are dealt out to envs.
        robot: Name of the asset.
        robot_radius, robot_height: Of the robot that must fit [m].
        goal_distance: Shortest and longest way at the start [m].
    """

    class_type: type = GoalCommand
    resampling_time_range: tuple[float, float] = (1.0e9, 1.0e9)
    home: str = ""
    ids: list[str] = []  # noqa: RUF012 -- configclass gives every instance its own
    robot: str = "robot"
    robot_radius: float = 0.25
    robot_height: float = 0.4
    goal_distance: tuple[float, float] = (0.6, 4.0)


def goal_seen(env: Any, goal: str) -> torch.Tensor:
    """Observation: the command of a ``GoalCommand``, ``(N, 3)``."""
    return env.command_manager.get_command(goal)


def progress(env: Any, goal: str) -> torch.Tensor:
    """Reward: way gained towards the goal, around obstacles [m/s]."""
    return env.command_manager.get_term(goal).gained() / env.step_dt


def success(env: Any, goal: str, within: float) -> torch.Tensor:
    """Reward: a goal reached [1/s]."""
    return reached(env, goal, within).float() / env.step_dt


def blocked(env: Any, robot: str, drive: str) -> torch.Tensor:
    """Reward, of a negative weight: speed that was commanded forwards and that something solid took away [m/s]."""
    wanted = env.action_manager.get_term(drive).processed_actions[:, 0]
    lost = (wanted - speed_ahead(env, robot)).clamp(min=0)
    return torch.where(lost > _LAG * wanted, lost, 0.0)


def reached(env: Any, goal: str, within: float) -> torch.Tensor:
    """Termination: the robot's axis is within so many metres of its goal, ``(N,)``, bool."""
    return env.command_manager.get_command(goal)[:, 0] < within
