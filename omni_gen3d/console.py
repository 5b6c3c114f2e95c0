"""What a command shows on standard error, how it stops when asked to, and how its failures become exit codes."""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import FrameType
from typing import ParamSpec, TypeVar

import typer

from omni_gen3d.errors import CancelledError, OmniGen3DError

DEBUG_VARIABLE = "OMNI_GEN3D_DEBUG"

P = ParamSpec("P")
R = TypeVar("R")
Progress = Callable[[str, float], None]


def one_line(text: object) -> str:
    """Text of unknown origin on one line, without the control characters that could steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in " ".join(str(text).split()))


def shown(value: object) -> str:
    """A value as a table shows it: four digits of a float, ``-`` for None, anything else on one line."""
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else one_line(value)


def tell(text: object) -> None:
    """One line on standard error."""
    typer.echo(one_line(text), err=True)


def reported(verb: Callable[P, R]) -> Callable[P, R]:
    """Wrap the body of a verb: every failure is one ``error:`` line on standard error and an exit code.

    Errors raised on purpose carry their code, an interruption gives 130, anything else 1. Tracebacks are printed only
    while the environment variable OMNI_GEN3D_DEBUG is 1.
    """

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verb(*args, **kwargs)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except OmniGen3DError as error:
            failure, message, code = error, one_line(error), error.exit_code
        except KeyboardInterrupt as error:
            failure, message, code = error, "interrupted.", CancelledError.exit_code
        except Exception as error:
            hint = f"This is a defect; set {DEBUG_VARIABLE}=1 to see where it happened."
            failure, message, code = error, f"{type(error).__name__}: {one_line(error)} ({hint})", 1
        if os.environ.get(DEBUG_VARIABLE) == "1":
            traceback.print_exception(failure)
        tell(f"error: {message}")
        raise typer.Exit(code)

    return run


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether SIGINT (Ctrl-C) or SIGTERM came; the second one interrupts at once.

    Call in the main thread.
    """
    asked = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        with suppress(OSError):  # unbuffered: the interrupted code may be inside a print of its own
            os.write(2, b"stopping after this step; press Ctrl-C again to stop at once\n")

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def told_log() -> Iterator[None]:
    """Show what the library logs inside the block, such as a memory plan, on standard error."""
    logger = logging.getLogger("omni_gen3d")
    handler, level = logging.Handler(logging.INFO), logger.level
    handler.emit = lambda record: tell(record.getMessage())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def stage_progress() -> AbstractContextManager[Progress]:
    """A context that yields ``progress(stage, fraction)``: bars on a terminal, otherwise one line for each stage."""
    return _bars() if sys.stderr.isatty() else _lines()


@contextmanager
def _lines() -> Iterator[Progress]:
    start = time.monotonic()
    current: str | None = None

    def progress(stage: str, _fraction: float) -> None:
        nonlocal current
        if stage != current:
            current = stage
            tell(f"[{time.monotonic() - start:.1f} s] {stage}")

    yield progress


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<24}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {}

        def progress(stage: str, fraction: float) -> None:
            if stage not in tasks:
                for task in tasks.values():
                    bars.update(task, completed=1.0)
                tasks[stage] = bars.add_task(stage, total=1.0)
            bars.update(tasks[stage], completed=fraction)

        yield progress
        for task in tasks.values():
            bars.update(task, completed=1.0)
