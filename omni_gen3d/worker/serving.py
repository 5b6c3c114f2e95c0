"""The worker's loop: requests in turn on the main thread, while another one listens for cancellation and the end."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

import omni_gen3d
from omni_gen3d.errors import CancelledError, OmniGen3DError
from omni_gen3d.worker.protocol import GRACE_S, Failure, from_line, to_line
from omni_gen3d.worker.tasks import TASKS

# Progress that nobody could see the difference of is not told.
_REPORT_EVERY_S = 0.05


class Job:
    """One request at work: tells how far it is and whether it shall stop."""

    def __init__(self, request: int, write: Callable[[dict[str, Any]], None]) -> None:
        self._request = request
        self._write = write
        self._stopped = threading.Event()
        self._told: tuple[str, float] = ("", 0.0)

    def progress(self, stage: str, done: float) -> None:
        """Tell the host that a share of a stage is done."""
        now = time.monotonic()
        if stage != self._told[0] or done >= 1 or now - self._told[1] > _REPORT_EVERY_S:
            self._told = stage, now
            self._write({"id": self._request, "stage": stage, "done": round(done, 4)})

    def cancelled(self) -> bool:
        """Whether the host asked to stop, or is gone."""
        return self._stopped.is_set()

    def stop(self) -> None:
        self._stopped.set()


def serve() -> None:
    """Answer what comes on standard input and end the process with it, without tearing torch and OpenUSD down.

    Standard output belongs to the protocol: whatever else a library prints goes to standard error.
    """
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    # The host's drawing goes first.
    if hasattr(os, "nice"):
        os.nice(10)
    _Server(sys.stdin.buffer, replies).run()
    os._exit(0)


class _Server:
    def __init__(self, requests: BinaryIO, replies: BinaryIO) -> None:
        self._requests = requests
        self._replies = replies
        self._writing = threading.Lock()
        self._jobs: dict[int, Job] = {}
        self._waiting: queue.SimpleQueue[tuple[int, str, dict[str, Any]] | None] = queue.SimpleQueue()

    def run(self) -> None:
        self._write({"ready": {"version": omni_gen3d.__version__, "pid": os.getpid()}})
        threading.Thread(target=self._listen, daemon=True).start()
        while (request := self._waiting.get()) is not None:
            number, task, values = request
            self._write({"id": number, **self._answer(self._jobs[number], task, values)})
            del self._jobs[number]

    def _listen(self) -> None:
        for line in self._requests:
            message = from_line(line)
            if isinstance(number := message.get("id"), int) and number not in self._jobs:
                self._jobs[number] = Job(number, self._write)
                self._waiting.put((number, str(message.get("task")), dict(message.get("values") or {})))
            elif (job := self._jobs.get(message.get("cancel", -1))) is not None:
                job.stop()
        for job in list(self._jobs.values()):
            job.stop()
        self._waiting.put(None)
        time.sleep(GRACE_S)
        os._exit(1)

    def _answer(self, job: Job, task: str, values: dict[str, Any]) -> dict[str, Any]:
        try:
            if job.cancelled():
                raise CancelledError("cancelled before it began.")
            if task not in TASKS:
                raise LookupError(f"there is no task '{task}'; there are {', '.join(TASKS)}")
            return {"result": TASKS[task](values, job)}
        except CancelledError as error:
            failure = Failure("cancelled", str(error))
        except OmniGen3DError as error:
            failure = Failure("input", str(error), traceback.format_exc())
        except ImportError as error:
            install = f'"{sys.executable}" -m pip install "{_project_root()}"'
            message = f"the package '{error.name}' is missing where scenes are generated; run: {install}"
            failure = Failure("input", message, traceback.format_exc())
        except Exception as error:
            failure = Failure("defect", f"{type(error).__name__}: {error}", traceback.format_exc())
        return {"failure": vars(failure)}

    def _write(self, values: dict[str, Any]) -> None:
        with self._writing:
            try:
                self._replies.write(to_line(values))
            except OSError:  # the host is gone; _listen sees to the rest
                pass


def _project_root() -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(omni_gen3d.__file__)))
