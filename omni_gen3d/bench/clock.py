"""A clock for benchmarks: median seconds and peak memory of repeated runs, until a deadline."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from omni_gen3d.bench.report import Value

REPEATS = 5

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Timing:
    """Seconds of repeated runs and the most memory one of them took, None on a CPU."""

    seconds: tuple[float, ...]
    peak_gb: float | None
    reserved_gb: float | None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def row(self) -> dict[str, Value]:
        return {
            "seconds": self.median,
            "spread": max(self.seconds) - min(self.seconds),
            "runs": len(self.seconds),
            "peak_gb": self.peak_gb,
            "reserved_gb": self.reserved_gb,
        }


class Clock:
    """Measures until a deadline; every measurement runs at least once after one run to warm up."""

    def __init__(self, device: torch.device, minutes: float, tell: Tell) -> None:
        self.device = device
        self.deadline = time.monotonic() + 60 * minutes
        self.tell = tell

    def left(self) -> bool:
        return time.monotonic() < self.deadline

    def synchronize(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def measure(
        self,
        what: str,
        run: Callable[[], object],
        *,
        repeats: int = REPEATS,
        warm_up: Callable[[], object] | None = None,
    ) -> Timing:
        """Time a run after another one, or after ``warm_up``, and note the most memory it takes."""
        self.tell(f"{what} ...")
        (run if warm_up is None else warm_up)()
        on_cuda = self.device.type == "cuda"
        if on_cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        seconds = []
        while len(seconds) < (repeats or REPEATS) and (not seconds or self.left()):
            start = self.synchronize()
            run()
            seconds.append(self.synchronize() - start)
        peak = torch.cuda.max_memory_allocated(self.device) / 1e9 if on_cuda else None
        reserved = torch.cuda.max_memory_reserved(self.device) / 1e9 if on_cuda else None
        memory = "" if peak is None else f", peak {peak:.3g} GB of {reserved:.3g} GB reserved"
        self.tell(f"{what}: {statistics.median(seconds):.4g} s{memory}")
        return Timing(tuple(seconds), peak, reserved)
