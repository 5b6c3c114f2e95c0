"""Episodes of a navigation task: a sample of the world, a start and a goal, each a record that can be replayed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from omni_gen3d.envs.courses import Course
from omni_gen3d.envs.entry import Entry, Pose
from omni_gen3d.envs.randomize import Randomization, draw_among, eligible
from omni_gen3d.envs.sample import Sample
from omni_gen3d.errors import InputError


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

    def __init__(self, entries: Sequence[Entry], courses: Sequence[Course], ranges: Randomization) -> None:
        """``courses`` are those of ``entries``, in their order.

        Raises:
            InputError: ``ranges`` wants none of them.
        """
        # Where the robot starts is drawn here, from the map instead of the 32 spawn poses.
        self._ranges = replace(ranges, spawn=False)
        self._wanted = eligible(ranges, entries)
        self._courses = {entry.id: course for entry, course in zip(entries, courses, strict=True)}
        self._seed, self._next = 0, 0

    def restart(self, seed: int) -> None:
        """Begin the series of another seed."""
        self._seed, self._next = seed, 0

    def take(self, count: int) -> list[Episode]:
        """The next ``count`` episodes."""
        first = self._next
        self._next += count
        return [self._draw(index) for index in range(first, self._next)]

    def _draw(self, index: int) -> Episode:
        sample = draw_among(self._ranges, self._wanted, seed=self._seed, index=index)
        course = self._courses[sample.environment]
        # A stream of its own beside those of the sample.
        rng = np.random.default_rng((self._seed, index, 1))
        goal = int(rng.integers(len(course.goals)))
        starts = course.starts[goal]
        x, y = starts[int(rng.integers(len(starts)))]
        pose = Pose((float(x), float(y), 0.0), float(rng.uniform(-math.pi, math.pi)))
        return Episode(sample=replace(sample, spawn=sample.placement.move(pose)), goal=goal)
