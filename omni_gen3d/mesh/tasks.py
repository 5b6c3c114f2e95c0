"""Compiled kernels on all cores: ranges of what they work on, in plain threads.

Not numba's own threads, whose fallback aborts the process when another thread runs a parallel kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def in_tasks(kernel: Callable[..., None], count: int, step: int, *arguments: Any) -> None:
    """Call ``kernel(first, last, *arguments)`` for ranges of ``step`` that together are ``0 .. count``.

    Args:
        kernel: Releases the interpreter, and writes for a range nothing that another range reads or writes.
        count: Of what it works on.
        step: Of one range, at least 1.
        *arguments: What it takes besides.
    """
    with ThreadPoolExecutor() as pool:
        tasks = [pool.submit(kernel, i, min(i + step, count), *arguments) for i in range(0, count, step)]
        for task in tasks:
            task.result()
