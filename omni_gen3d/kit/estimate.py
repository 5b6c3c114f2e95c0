"""How far a generation is in all, and how long it will still take."""

from __future__ import annotations

from collections.abc import Mapping

# Seconds on two CPU cores; only their relation counts, until a generation on this machine has been timed.
USUAL_S = {
    "load libraries": 5.0,
    "load model": 1.0,
    "picture": 5.0,
    "depth": 0.5,
    "trajectories": 9.0,
    "splats": 2.0,
    "levelling": 0.1,
    "collision proxy": 7.0,
    "preview": 0.5,
    "write": 0.5,
}
# Of a whole room: between depth and trajectories it is explored, and eight stations are drawn instead of one.
USUAL_ROOM_S = {
    **{name: USUAL_S[name] for name in ("load libraries", "load model", "picture", "depth")},
    "exploring": 20.0,
    "trajectories": 45.0,
    "levelling": 0.5,
    "collision proxy": 15.0,
    "preview": 1.0,
    "write": 1.0,
}
# A stage that the table does not know.
_UNKNOWN_S = 1.0
# From then on the speed that was seen is more telling than the table.
_TELLING_S = 2.0


class Estimate:
    """Share done and time left of a run of stages whose order and lengths are known about."""

    def __init__(self, seconds: Mapping[str, float], now: float) -> None:
        """
        Args:
            seconds: Length of each stage in the order in which they come.
            now: When it began [s].
        """
        self._stages = list(seconds.items())
        self._at = -1
        self._began = now
        self.fraction = 0.0
        self.seconds_left: float | None = None

    def advance(self, stage: str, done: float, now: float) -> None:
        """Take into account that ``done`` of ``stage`` is done; the share never falls."""
        names = [name for name, _ in self._stages]
        if stage not in names:
            self._at += 1
            self._stages.insert(self._at, (stage, _UNKNOWN_S))
        else:
            self._at = names.index(stage)
        before = sum(seconds for _, seconds in self._stages[: self._at])
        total = sum(seconds for _, seconds in self._stages)
        worked = before + min(max(done, 0.0), 1.0) * self._stages[self._at][1]
        self.fraction = max(self.fraction, worked / total)
        pace = (now - self._began) / worked if worked > _TELLING_S else 1.0
        self.seconds_left = max(0.0, (total - worked) * pace)


def in_words(seconds: float | None) -> str:
    """A time left as one reads it: steps of five seconds, then minutes."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"about {max(5, 5 * round(seconds / 5))} s left"
    return f"about {round(seconds / 60)} min left"
