"""Trajectories over several devices, and the store that lets a run go on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from omni_gen3d.video.backend import Shot, VideoBackend
from omni_gen3d.video.latent_store import LatentStore, request_digest
from omni_gen3d.video.spread import imagine_all


class Worker:
    """A backend that returns the shot's seed and notes which shots it had."""

    def __init__(self, wait: threading.Barrier | None = None, fails_at: str | None = None) -> None:
        self.had: list[str] = []
        self.wait, self.fails_at = wait, fails_at

    def imagine(self, shot: Shot, on_step: Callable[[float], None]) -> torch.Tensor:
        on_step(0.0)
        if self.wait is not None:
            self.wait.wait(20)
        if shot.name == self.fails_at:
            raise RuntimeError("out of memory")
        self.had.append(shot.name)
        return torch.full((16, 2, 2, 2), float(shot.seed))


def shots(count: int) -> list[Shot]:
    nothing = torch.zeros(1, 1, 1)
    return [Shot(f"shot {i}", nothing, nothing[0], torch.eye(3), nothing, "", i) for i in range(count)]


def on_cpu(*workers: Worker) -> list[tuple[torch.device, VideoBackend]]:
    return [(torch.device("cpu"), worker) for worker in workers]


def seeds(latents: list[torch.Tensor]) -> list[float]:
    return [float(value.flatten()[0]) for value in latents]


def test_every_worker_takes_what_is_next(tmp_path: Path) -> None:
    """Three workers meet in the middle of their first shots; the results come in order, the progress only grows."""
    barrier = threading.Barrier(3)
    workers = [Worker(barrier) for _ in range(3)]
    told: list[float] = []
    made = imagine_all(on_cpu(*workers), shots(6), LatentStore(tmp_path, "d"), told.append)
    assert seeds(made) == [0, 1, 2, 3, 4, 5]
    assert sorted(name for worker in workers for name in worker.had) == [shot.name for shot in shots(6)]
    assert all(len(worker.had) == 2 for worker in workers)
    assert told == sorted(told) and told[-1] == 1


def test_what_is_stored_is_not_made_again(tmp_path: Path) -> None:
    """Not even a worker is needed when everything is there."""
    store = LatentStore(tmp_path, "d")
    store.save("shot 1", torch.full((16, 2, 2, 2), 7.0))
    worker = Worker()
    assert seeds(imagine_all(on_cpu(worker), shots(3), store, lambda share: None)) == [0, 7, 2]
    assert worker.had == ["shot 0", "shot 2"]
    assert seeds(imagine_all([], shots(3), store, lambda share: None)) == [0, 7, 2]


def test_a_failure_stops_the_others_and_keeps_what_is_done(tmp_path: Path) -> None:
    """The error is the first worker's own; finished trajectories stay for the next run."""
    barrier = threading.Barrier(2)
    store = LatentStore(tmp_path, "d")
    workers = [Worker(barrier, fails_at="shot 2"), Worker(barrier, fails_at="shot 2")]
    with pytest.raises(RuntimeError, match="out of memory"):
        imagine_all(on_cpu(*workers), shots(4), store, lambda share: None)
    assert store.load("shot 0") is not None and store.load("shot 1") is not None
    assert store.load("shot 2") is None


def test_what_reports_may_stop(tmp_path: Path) -> None:
    """An error from the report ends the run as a failure does."""

    def report(share: float) -> None:
        if share >= 0.5:
            raise KeyboardInterrupt

    store = LatentStore(tmp_path, "d")
    with pytest.raises(KeyboardInterrupt):
        imagine_all(on_cpu(Worker()), shots(4), store, report)
    assert store.load("shot 1") is not None and store.load("shot 3") is None


def test_a_damaged_file_counts_as_absent(tmp_path: Path) -> None:
    """Whatever a crash or a disk left behind; nothing temporary stays after saving, nothing at all after discarding."""
    store = LatentStore(tmp_path, "d")
    store.save("left", torch.ones(2))
    file = store.folder / "left.safetensors"
    assert [path.name for path in store.folder.iterdir()] == [file.name]
    file.write_bytes(file.read_bytes()[:20])
    assert store.load("left") is None
    store.discard()
    assert list(tmp_path.iterdir()) == []
    store.discard()


def test_the_digest_hears_everything() -> None:
    """Another value, key, shape or number gives another digest; the order of the keys does not."""
    base = request_digest({"steps": 35, "prompt": ""}, {"depth": torch.ones(2, 2)})
    assert base == request_digest({"prompt": "", "steps": 35}, {"depth": torch.ones(2, 2)})
    others = [
        request_digest({"steps": 20, "prompt": ""}, {"depth": torch.ones(2, 2)}),
        request_digest({"steps": 35, "prompt": "x"}, {"depth": torch.ones(2, 2)}),
        request_digest({"steps": 35, "prompt": ""}, {"depth": torch.ones(4)}),
        request_digest({"steps": 35, "prompt": ""}, {"depth": torch.ones(2, 2) * 2}),
        request_digest({"steps": 35, "prompt": ""}, {"other": torch.ones(2, 2)}),
    ]
    assert len({base, *others}) == 6
