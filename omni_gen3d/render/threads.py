"""Who may enter the compiled kernels when: one picture on all cores, or many pictures on one core each.

A small picture is a dozen short parallel loops, and each waits for its slowest thread; a batch of pictures that knows
nothing of each other has nothing to wait for. The same goes for torch's short loops beside a GPU.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numba
import torch

T = TypeVar("T")

_lock = threading.Lock()
_worker = threading.local()


@contextmanager
def kernels() -> Iterator[None]:
    """Hold what it takes to call parallel kernels.

    numba's fallback threading layer aborts the process when two threads enter a parallel kernel at once, so that only
    the workers of ``side_by_side``, which it starts on a layer that allows it, go in together.
    """
    if getattr(_worker, "free", False):
        yield
        return
    with _lock:
        yield


def side_by_side(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """Results of all tasks, in their order; each runs on one core where the threading layer of numba allows it."""
    cores = numba.get_num_threads()
    if len(tasks) < 2 or cores < 2 or not _layer_allows_it():
        return [task() for task in tasks]
    with ThreadPoolExecutor(min(cores, len(tasks)), initializer=_start_worker) as pool:
        return list(pool.map(lambda task: task(), tasks))


@contextmanager
def torch_on(cores: int) -> Iterator[None]:
    """Have torch's loops on the CPU take at most so many cores in this thread, and put their number back.

    numba shares torch's pool of threads and takes all of it for both when it starts, so it starts first.
    """
    with kernels():
        _start_layer(1)
    before = torch.get_num_threads()
    torch.set_num_threads(min(cores, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _start_worker() -> None:
    numba.set_num_threads(1)
    _worker.free = True


def _layer_allows_it() -> bool:
    with _lock:
        _start_layer(1)
    return numba.threading_layer() in ("omp", "tbb")


@numba.njit(parallel=True, cache=True)
def _start_layer(count):
    """The layer is chosen when the first parallel loop runs."""
    total = 0
    for i in numba.prange(count):
        total += i
    return total
