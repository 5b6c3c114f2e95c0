"""Trajectories spread over the devices present: each worker takes the next one until none is left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue

import torch

from omni_gen3d.video.backend import Shot, VideoBackend, working_on
from omni_gen3d.video.latent_store import LatentStore


class _Stopped(Exception):  # noqa: N818 - no error: another worker's failure ends this one's work
    pass


def imagine_all(
    backends: Sequence[tuple[torch.device, VideoBackend]],
    shots: Sequence[Shot],
    store: LatentStore,
    report: Callable[[float], None],
) -> list[torch.Tensor]:
    """Latents of every shot, in order. What the store holds is not imagined again.

    Args:
        backends: One for each device, with it.
        shots: The trajectories.
        store: Takes every finished one.
        report: Called with the share of all that is done; may raise to stop, as any failure stops all workers.
    """
    made: list[torch.Tensor | None] = [store.load(shot.name) for shot in shots]
    shares = [0.0 if latents is None else 1.0 for latents in made]
    waiting: SimpleQueue[int] = SimpleQueue()
    for index, latents in enumerate(made):
        if latents is None:
            waiting.put(index)
    lock, stop = threading.Lock(), threading.Event()

    def done(index: int, share: float) -> None:
        with lock:
            if stop.is_set():
                raise _Stopped
            shares[index] = share
            report(sum(shares) / len(shares))

    def work(device: torch.device, backend: VideoBackend) -> None:
        try:
            while True:
                index = waiting.get_nowait()
                with working_on(device):
                    latents = backend.imagine(shots[index], lambda share, index=index: done(index, share))
                store.save(shots[index].name, latents)
                made[index] = latents
                done(index, 1.0)
        except (Empty, _Stopped):
            return
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(max(len(backends), 1)) as pool:
        for future in [pool.submit(work, *backend) for backend in backends]:
            future.result()
    return [latents for latents in made if latents is not None]
