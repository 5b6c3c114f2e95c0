"""Episodes of a navigation task: a sample of the world, a start and a goal, each a record that can be replayed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from omni_gen3d.envs.courses import Course
from omni_gen3d.envs.entry import Entry, Pose
from omni_gen3d.envs.randomize import draw_among, draw_clutter, eligible
from omni_gen3d.envs.ranges import Randomization
from omni_gen3d.envs.sample import Sample, Thing
from omni_gen3d.errors import InputError

if TYPE_CHECKING:
    from omni_gen3d.envs.clutter import Pool


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One task.

    Attributes:
        sample: The world, and in ``spawn`` where the robot starts, in the placed scene.
        goal: Number of the goal on the environment's course.
    """

    sample: Sample
    goal: int

    @property
    def start(self) -> Pose:
        """Where the robot starts, in the placed scene."""
        if self.sample.spawn is None:
            raise InputError("the episode's sample has no spawn pose; an episode starts somewhere.")
        return self.sample.spawn


class EpisodeSource:
    """Draws episodes over environments: the same ranges, environments and seed give the same series."""

    def __init__(
        self,
        entries: Sequence[Entry],
        courses: Sequence[Course],
        ranges: Randomization,
        *,
        detours: float = 0.0,
        pool: Pool | None = None,
        robot_radius: float = 0.25,
    ) -> None:
        """Nothing is drawn yet.

        Args:
            entries: Environments.
            courses: Of each of them.
            ranges: What varies.
            detours: Probability of one of its ``Course.detours``, where a course has any.
            pool: Of the clutter, see ``randomize.pool_of``.
            robot_radius: Clutter leaves such a robot a way to its goal [m].

        Raises:
            InputError: ``ranges`` want none of the environments.
        """
        # Where the robot starts is drawn here, from the map instead of the 32 spawn poses; clutter stays clear of it.
        self._ranges, self._clutter = replace(ranges, spawn=False, clutter=None), replace(ranges, spawn=False)
        self._detours, self._pool, self._robot_radius = detours, pool, robot_radius
        self._wanted = eligible(ranges, entries)
        self._courses = {entry.id: course for entry, course in zip(entries, courses, strict=True)}
        self._entries = {entry.id: entry for entry in entries}
        self._seed, self._next = 0, 0
        self._ahead: deque[Episode] = deque()

    def restart(self, seed: int) -> None:
        """Begin the series of another seed."""
        self._seed, self._next = seed, 0
        self._ahead.clear()

    def take(self, count: int) -> list[Episode]:
        """The next ``count`` episodes."""
        self.prepare(count)
        return [self._ahead.popleft() for _ in range(count)]

    def prepare(self, count: int) -> None:
        """Draw as many as will be taken next, while there is time."""
        while len(self._ahead) < count:
            self._ahead.append(self._draw(self._next))
            self._next += 1

    def _draw(self, index: int) -> Episode:
        sample = draw_among(self._ranges, self._wanted, seed=self._seed, index=index)
        course = self._courses[sample.environment]
        # A stream of its own beside those of the sample.
        rng = np.random.default_rng((self._seed, index, 1))
        wanted = course.starts
        if self._detours and any(map(len, course.detours)) and rng.random() < self._detours:
            wanted = course.detours
        goals = [goal for goal, starts in enumerate(wanted) if len(starts)]
        goal = goals[int(rng.integers(len(goals)))]
        x, y = wanted[goal][int(rng.integers(len(wanted[goal])))]
        pose = Pose((float(x), float(y), 0.0), float(rng.uniform(-math.pi, math.pi)))
        clutter = ()
        if self._pool is not None:
            ends = [(float(x), float(y)), (float(course.goals[goal][0]), float(course.goals[goal][1]))]
            clutter = self._strew(sample, course, ends)
        return Episode(sample=replace(sample, spawn=sample.placement.move(pose), clutter=clutter), goal=goal)

    def _strew(self, sample: Sample, course: Course, ends: Sequence[tuple[float, float]]) -> tuple[Thing, ...]:
        """Clutter clear of start and goal; what would close the last way between them is left out."""
        assert self._pool is not None
        entry, radius = self._entries[sample.environment], self._robot_radius / sample.placement.scale
        kept: list[Thing] = []
        discs: list[tuple[float, float, float]] = []
        for thing in draw_clutter(self._clutter, entry, ends, seed=sample.seed, index=sample.index, pool=self._pool):
            x, y, reach = self._pool.outline(thing)
            disc = (x, y, reach + radius)
            if course.connects(ends[0], ends[1], [*discs, disc]):
                kept.append(thing)
                discs.append(disc)
        return tuple(kept)
