"""A vectorised Gymnasium environment: a wheeled robot must reach goals in generated worlds, from what its camera sees.

Physics is Newton's (see ``robots``), pictures are the render delegate's (see ``eyes``), worlds, starts and looks are
drawn records (see ``episodes``). A robot that is done is put into another world within the same step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from omni_gen3d.envs.clutter import Pool
from omni_gen3d.envs.courses import Ways, blocked_cells, course_or_refuse, lay_course, places_along
from omni_gen3d.envs.entry import Entry, Pose
from omni_gen3d.envs.episodes import Episode, EpisodeSource
from omni_gen3d.envs.eyes import Eyes, RobotCamera, sent
from omni_gen3d.envs.newton import join_parts
from omni_gen3d.envs.occupancy import occupancy_map
from omni_gen3d.envs.randomize import pool_of
from omni_gen3d.envs.ranges import Randomization
from omni_gen3d.envs.robots import RobotBody, Robots
from omni_gen3d.envs.sample import Sample
from omni_gen3d.errors import InputError
from omni_gen3d.request import check_seed, pick_device

# So many episodes are drawn while the device simulates; when more robots end at once, the next step has few that do.
_AHEAD = 64
# How finely a clearance is measured: a cell of the map, or two [m].
_STRIDE_M = 0.1


@dataclass(frozen=True, kw_only=True)
class NavTask:
    """What the robot has to do, with what, and what that is worth.

    Attributes:
        body: The robot.
        camera: What it sees through; None for a robot that drives blindly.
        depth: Whether it sees depth, too.
        goal_distance: Shortest and longest way to a goal at the start [m], before the scene is scaled.
        margin: So much farther than the robot reaches, starts, goals and ways keep away from what is not free [m].
        detours: Probability that something stands in the straight line from a start to its goal, in environments
            where anything does.
        reached: How near the robot's axis must come to a goal [m].
        steps: After so many an episode is cut off.
        collision: A touch of the collider ``ends`` an episode, or ``costs`` at every step.
        success_reward, collision_cost, step_cost: Added to the metres of way that a step gained.
    """

    body: RobotBody = field(default_factory=RobotBody)
    camera: RobotCamera | None = field(default_factory=RobotCamera)
    depth: bool = False
    goal_distance: tuple[float, float] = (0.6, 4.0)
    margin: float = 0.05
    detours: float = 0.0
    reached: float = 0.2
    steps: int = 64
    collision: Literal["ends", "costs"] = "ends"
    success_reward: float = 2.0
    collision_cost: float = 1.0
    step_cost: float = 0.01

    def __post_init__(self) -> None:
        low, high = self.goal_distance
        if not self.reached < low < high:
            raise InputError(
                f"goal_distance is {self.goal_distance}; both must exceed {self.reached} m, the nearer first."
            )
        if not (0 <= self.margin < math.inf and 0 <= self.detours <= 1):
            raise InputError(
                f"margin is {self.margin} m and detours {self.detours}; at least 0, and a probability from 0 to 1."
            )
        if self.depth and self.camera is None:
            raise InputError("depth is wanted without a camera; give the robot one, or leave depth out.")
        if self.steps < 1 or self.collision not in ("ends", "costs"):
            raise InputError(
                f"steps is {self.steps} and collision {self.collision!r}; at least 1 step, and 'ends' or 'costs'."
            )


class Gen3DNavEnv(VectorEnv):
    """N robots, each in a world of its own out of W environments.

    Observations are ``rgb`` uint8 ``(N, S, S, 3)`` and ``depth`` [m] ``(N, S, S, 1)`` where the task has them, and
    ``state`` ``(N, 5)``: metres to the goal, cosine and sine of its bearing, forward speed [m/s], turn rate [rad/s].
    Actions are shares of the largest speed and turn rate, in [-1, 1], ``(N, 2)``.

    Autoreset is in the same step: ``infos["final_obs"]`` holds the observations before it, ``infos["final_info"]``
    ``success``, ``collision``, ``steps`` and ``way`` (left to the goal [m]), each valid where ``_final_obs`` is true.

    Attributes:
        task: What there is to do.
        device: Where physics and pictures are computed.
        tensors: Whether torch tensors on that device are handed out.
        age: Steps that each robot has taken in its episode, ``(N,)``, int64.
        episodes: The record of what each robot does now; ``reset(options={"episodes": records})`` replays them.
    """

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}

    def __init__(
        self,
        environments: Sequence[Entry],
        num_envs: int,
        *,
        task: NavTask | None = None,
        randomization: Randomization | None = None,
        pool: Pool | None = None,
        device: str = "auto",
        tensors: bool = False,
    ) -> None:
        """Load the environments.

        Args:
            environments: As ``Registry.sample`` returned them.
            num_envs: N.
            task: What to do.
            randomization: What varies beside the environment, start and goal; nothing where None.
            pool: Of the clutter, where ``randomization`` wants any without naming one.
            device: ``auto``, ``cpu`` or ``cuda``, for physics and pictures.
            tensors: Hand out torch tensors on the device instead of numpy arrays.

        Raises:
            InputError: An environment cannot be read or has no room for the task, Newton is not installed, or a number
                is out of range.
        """
        from omni_gen3d.usd import read_environment

        if num_envs < 1 or not environments:
            raise InputError(f"{num_envs} robots in {len(environments)} environments were asked for; at least 1 each.")
        self.task = task = NavTask() if task is None else task
        self.num_envs = num_envs
        self.device = pick_device(device)
        self.tensors = tensors
        colliders, courses = [], []
        for entry in environments:
            environment = read_environment(entry.folder)
            if not environment.parts:
                raise InputError(f"'{entry.title}' has no collider; generate or convert it with one.")
            body, collider = task.body, join_parts(environment.parts)
            plan = occupancy_map(environment.manifest, robot_height=body.height, robot_radius=body.radius + task.margin)
            blocked = None
            if task.detours:
                blocked = blocked_cells(plan, collider, robot_radius=body.radius, heights=(body.clearance, body.height))
            course = lay_course(plan, goal_distance=task.goal_distance, blocked=blocked)
            courses.append(course_or_refuse(course, entry.title, task.goal_distance))
            colliders.append(collider)
        ranges = Randomization() if randomization is None else randomization
        self._pool, clutter = pool_of(ranges, pool), ranges.clutter
        self._slots = 0 if clutter is None else round(clutter.count.high)
        self._source = EpisodeSource(
            environments, courses, ranges, detours=task.detours, pool=self._pool, robot_radius=task.body.radius
        )
        self._index_of = {entry.id: i for i, entry in enumerate(environments)}
        self._goals = [course.goals for course in courses]
        self._ways = Ways(courses, self.device)
        obstacles = () if self._pool is None else [entry.mesh for entry in self._pool.meshes]
        self._robots = Robots(
            colliders, num_envs, body=task.body, obstacles=obstacles, slots=self._slots, device=self.device.type
        )
        folders = [entry.folder for entry in environments]
        self._eyes = None
        if task.camera is not None:
            self._eyes = Eyes(
                folders,
                num_envs,
                task.camera,
                depth=task.depth,
                device=self.device,
                step=task.body.step,
                furnished=clutter is not None or ranges.light is not None,
                pool=self._pool,
            )
        self.episodes: list[Episode] = []
        self._world = torch.zeros(num_envs, dtype=torch.long, device=self.device)
        self._goal = torch.zeros(num_envs, dtype=torch.long, device=self.device)
        self._target = torch.zeros(num_envs, 2, device=self.device)
        self._placed = torch.zeros(num_envs, 2, device=self.device)
        self._way = torch.zeros(num_envs, device=self.device)
        self.age = torch.zeros(num_envs, dtype=torch.long, device=self.device)
        # How many episodes the last step took: the next will take about as many.
        self._wanted = 0
        # Where the host reads who is done while pictures are still being drawn.
        self._done = torch.zeros(num_envs, dtype=torch.bool, pin_memory=self.device.type == "cuda")
        spaces: dict[str, gymnasium.Space] = {"state": gymnasium.spaces.Box(-np.inf, np.inf, (5,), np.float32)}
        if task.camera is not None:
            size = task.camera.size
            spaces["rgb"] = gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8)
            if task.depth:
                spaces["depth"] = gymnasium.spaces.Box(0, np.inf, (size, size, 1), np.float32)
        self.single_observation_space = gymnasium.spaces.Dict(spaces)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.single_action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Put every robot into a new episode.

        Args:
            seed: Of the series of episodes that begins; without one the series goes on.
            options: ``{"episodes": records}``, one for each robot, to replay them.

        Raises:
            InputError: The seed is out of range, or the records are too few or of environments that are not here.
        """
        if seed is not None:
            check_seed(seed)
            self._source.restart(seed)
        unknown = set(options or ()) - {"episodes"}
        if unknown:
            raise InputError(f"options holds {sorted(unknown)}; allowed is 'episodes'.")
        given = (options or {}).get("episodes")
        episodes = self._source.take(self.num_envs) if given is None else list(given)
        if len(episodes) != self.num_envs:
            raise InputError(f"{len(episodes)} episodes were given for {self.num_envs} robots.")
        self.episodes = episodes
        everybody = torch.arange(self.num_envs)
        self._begin(everybody, episodes)
        return self._handed_out(self._observe(everybody)), {}

    def step(self, actions: Any) -> tuple[dict[str, Any], Any, Any, Any, dict[str, Any]]:
        """Drive for one step.

        Args:
            actions: Shares of the largest speed and turn rate, ``(N, 2)``.
        """
        task = self.task
        self._robots.step(torch.as_tensor(actions, dtype=torch.float32, device=self.device))
        self.age += 1
        way = self._way_left()
        gained = self._way - way
        self._way = way
        success = self._offset_to_goal().norm(dim=-1) < task.reached
        collision = self._robots.touching & ~success
        terminated = success | collision if task.collision == "ends" else success
        truncated = (self.age >= task.steps) & ~terminated
        reward = gained + task.success_reward * success - task.collision_cost * collision - task.step_cost
        done = terminated | truncated
        self._done.copy_(done, non_blocking=True)
        copied = torch.cuda.current_stream().record_event() if self.device.type == "cuda" else None
        # The host has nothing else to do while the device simulates.
        self._source.prepare(self._wanted)
        observation = self._observe()
        if copied is not None:
            copied.synchronize()
        infos: dict[str, Any] = {}
        robots = self._done.nonzero()[:, 0]
        self._wanted = min(len(robots), _AHEAD)
        if len(robots):
            infos = {
                "final_obs": self._handed_out(observation),
                "_final_obs": self._out(done),
                "final_info": {
                    "success": self._out(success),
                    "collision": self._out(collision),
                    "steps": self._out(self.age.clone()),
                    "way": self._out(way),
                },
                "_final_info": self._out(done),
            }
            episodes = self._source.take(len(robots))
            for robot, episode in zip(robots.tolist(), episodes, strict=True):
                self.episodes[robot] = episode
            self._begin(robots, episodes)
            where = sent(robots, self.device)
            observation = {name: values.clone() for name, values in observation.items()}
            for name, values in self._observe(robots).items():
                observation[name][where] = values
        return (
            self._handed_out(observation),
            self._out(reward),
            self._out(terminated),
            self._out(truncated),
            infos,
        )

    def close_extras(self, **kwargs: Any) -> None:
        """Let go of the stage."""
        if self._eyes is not None:
            self._eyes.close()

    @property
    def pose(self) -> torch.Tensor:
        """``(x, y, yaw)`` of the robots in their placed worlds [m, rad], ``(N, 3)``; rewritten by every step."""
        return self._robots.pose

    def splat_bytes(self) -> int:
        """Memory of the environments' splats [bytes]."""
        return 0 if self._eyes is None else self._eyes.splat_bytes()

    def way_from(self, places: torch.Tensor) -> torch.Tensor:
        """Length of the way from places to each robot's goal [m], ``(N, K)``; what a map knows and no robot is told.

        Args:
            places: In the placed worlds [m], ``(N, K, 2)``.
        """
        unplaced = self._unplaced(places)
        return self._placed[:, :1] * self._ways.length(self._world[:, None], self._goal[:, None], unplaced)

    def clearance(self, bearings: torch.Tensor, reach: float) -> torch.Tensor:
        """How far each robot could drive straight on [m], ``(N, K)``; what a map knows and no robot is told.

        Args:
            bearings: From straight ahead to the left [rad], ``(K,)``.
            reach: At most so far [m].
        """
        along = torch.arange(1, round(reach / _STRIDE_M) + 1, device=self.device) * _STRIDE_M
        places = places_along(self.pose, bearings, along)
        free = self._ways.is_free(self._world[:, None], self._unplaced(places.flatten(1, 2))).view(places.shape[:-1])
        return free.cumprod(-1).sum(-1) * _STRIDE_M

    def _unplaced(self, places: torch.Tensor) -> torch.Tensor:
        """Places of each robot's placed world in its environment's frame [m], both ``(N, K, 2)``."""
        scale, yaw = self._placed[:, None].unbind(-1)
        x, y = (places / scale[..., None]).unbind(-1)
        cos, sin = torch.cos(yaw), torch.sin(yaw)
        return torch.stack([cos * x + sin * y, cos * y - sin * x], -1)

    # ------------------------------------------------------------------------------------------------ episodes

    def _begin(self, robots: torch.Tensor, episodes: Sequence[Episode]) -> None:
        """Put robots into episodes."""
        from omni_gen3d.usd.collision import DYNAMIC_FRICTION

        samples = [episode.sample for episode in episodes]
        worlds = [self._index_in(sample.environment) for sample in samples]
        obstacles = self._obstacles(samples)
        if self._eyes is not None:
            self._eyes.adjust(robots, worlds, samples)
        rows = []
        for episode, world in zip(episodes, worlds, strict=True):
            placement, start, contact = episode.sample.placement, episode.start, episode.sample.contact
            x, y = self._goals[world][episode.goal]
            cos, sin = placement.scale * math.cos(placement.yaw), placement.scale * math.sin(placement.yaw)
            friction = DYNAMIC_FRICTION if contact is None else contact.dynamic_friction
            begins = (start.position[0], start.position[1], start.yaw)
            target = (cos * x - sin * y, sin * x + cos * y)
            rows.append((*begins, placement.scale, placement.yaw, friction, *target))
        # One transfer for all numbers of a row.
        table = sent(torch.tensor(rows, dtype=torch.float32), self.device)
        numbers = torch.stack([robots, torch.tensor(worlds), torch.tensor([episode.goal for episode in episodes])])
        where, world, goal = sent(numbers, self.device)
        self._world[where], self._goal[where] = world, goal
        self._target[where] = table[:, 6:]
        self._placed[where] = table[:, 3:5]
        self.age[where] = 0
        self._robots.place(where, world, table[:, :3], scales=table[:, 3], yaws=table[:, 4], frictions=table[:, 5])
        if self._slots:
            self._robots.furnish(where, *obstacles, frictions=table[:, 5])
        self._way[where] = self._way_left()[where]

    def _obstacles(self, samples: Sequence[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
        """Clutter as ``Robots.furnish`` wants it, in the placed worlds."""
        meshes = torch.full((len(samples), self._slots), -1)
        places = torch.zeros(len(samples), self._slots, 5)
        for row, sample in enumerate(samples):
            if len(sample.clutter) > self._slots:
                raise InputError(f"an episode has {len(sample.clutter)} things, the ranges allow {self._slots}.")
            placement = sample.placement
            for slot, thing in enumerate(sample.clutter):
                assert self._pool is not None
                stands = placement.move(Pose(thing.position, thing.yaw))
                meshes[row, slot] = self._pool.number(thing)
                places[row, slot] = torch.tensor([*stands.position, stands.yaw, placement.scale * thing.scale])
        return meshes, places

    def _index_in(self, id_: str) -> int:
        if id_ not in self._index_of:
            raise InputError(f"the environment '{id_}' is not among the {len(self._index_of)} that were given.")
        return self._index_of[id_]

    # --------------------------------------------------------------------------------------------- observations

    def _observe(self, robots: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        pick = slice(None) if robots is None else sent(robots, self.device)
        offset = self._offset_to_goal()[pick]
        pose = self._robots.pose[pick]
        distance = offset.norm(dim=-1)
        bearing = torch.atan2(offset[:, 1], offset[:, 0]) - pose[:, 2]
        state = torch.stack([distance, torch.cos(bearing), torch.sin(bearing)], -1)
        seen = {}
        if self._eyes is not None:
            seen = self._eyes.look(pose) if robots is None else self._eyes.look_again(pose, robots)
        return {**seen, "state": torch.cat([state, self._robots.speed[pick]], -1)}

    def _offset_to_goal(self) -> torch.Tensor:
        return self._target - self._robots.pose[:, :2]

    def _way_left(self) -> torch.Tensor:
        """Length of the way to each goal in the placed world [m]."""
        return self.way_from(self._robots.pose[:, None, :2])[:, 0]

    def _out(self, values: torch.Tensor) -> Any:
        return values if self.tensors else values.cpu().numpy()

    def _handed_out(self, observation: dict[str, torch.Tensor]) -> dict[str, Any]:
        return {name: self._out(values) for name, values in observation.items()}
