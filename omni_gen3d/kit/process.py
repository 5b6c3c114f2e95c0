"""A worker process as Kit sees it: asked without waiting, polled once a frame, ended for certain."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from omni_gen3d.kit.interpreter import ROOT
from omni_gen3d.worker.protocol import GRACE_S, Failure, from_line, to_line

_KEPT_LINES = 60
# What Kit sets for its own Python and its own libraries would break another one.
_OF_THE_HOST = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONEXECUTABLE", "LD_LIBRARY_PATH", "LD_PRELOAD")


class Call:
    """A request on its way.

    Attributes:
        stage: What the worker is at, empty before it has begun.
        done: Share of the stage, 0 to 1.
        result: There when the request ended well.
        failure: There when it did not.
        is_cancelled: It was asked to stop.
    """

    def __init__(self, worker: WorkerProcess, number: int, then: Callable[[Call], None] | None) -> None:
        self.stage = ""
        self.done = 0.0
        self.result: dict[str, Any] | None = None
        self.failure: Failure | None = None
        self.is_cancelled = False
        self._worker = worker
        self._number = number
        self._then = then

    @property
    def ended(self) -> bool:
        return self.result is not None or self.failure is not None

    def cancel(self) -> None:
        """Ask the worker to stop and kill it if it has not after ``GRACE_S``; either way the call ends as cancelled."""
        self.is_cancelled = True
        self._worker._cancel(self._number)

    def _take(self, message: dict[str, Any]) -> None:
        self.stage, self.done = message.get("stage", self.stage), float(message.get("done", self.done))
        if "result" in message:
            self.result = dict(message["result"])
        elif "failure" in message:
            self.failure = Failure(**message["failure"])
        if self.ended and self._then is not None:
            then, self._then = self._then, None
            then(self)


class WorkerProcess:
    """Starts at once and takes requests at once; nothing here waits but ``close``. To be used from one thread."""

    def __init__(self, interpreter: Path) -> None:
        """Start a worker from the sources of this very extension, with the libraries of ``interpreter``.

        Raises:
            OSError: The interpreter cannot be run.
        """
        environment = {name: value for name, value in os.environ.items() if name not in _OF_THE_HOST}
        self._process = subprocess.Popen(
            [str(interpreter), "-P", "-u", "-m", "omni_gen3d.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment, "PYTHONPATH": str(ROOT)},
            # Its own group, so that whatever it starts ends with it.
            start_new_session=True,
        )
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._errors: deque[str] = deque(maxlen=_KEPT_LINES)
        self._calls: dict[int, Call] = {}
        self._deadlines: dict[int, float] = {}
        self._count = 0
        self._threads = [
            threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._keep_errors, args=(self._process.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, task: str, values: dict[str, Any] | None = None, then: Callable[[Call], None] | None = None) -> Call:
        """Send a request; ``then`` is called by ``poll`` when it has ended."""
        self._count += 1
        call = self._calls[self._count] = Call(self, self._count, then)
        self._send({"id": self._count, "task": task, "values": values or {}})
        return call

    def poll(self) -> None:
        """Take over what the worker has said since; call it once a frame."""
        while self._calls:
            try:
                message = self._messages.get_nowait()
            except queue.Empty:
                break
            if message is None:
                self._lose_calls()
                break
            call = self._calls.get(message.get("id", -1))
            if call is not None:
                if "result" in message or "failure" in message:
                    self._forget(call)
                call._take(message)
        now = time.monotonic()
        if any(deadline < now for deadline in self._deadlines.values()):
            self._kill()
            self._threads[0].join(GRACE_S)
            self._lose_calls()

    def close(self) -> None:
        """End the worker, with ``GRACE_S`` to remove what it has half written; its calls end as cancelled."""
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except OSError:
                pass
        try:
            self._process.wait(GRACE_S if self._calls else GRACE_S / 2)
        except subprocess.TimeoutExpired:
            pass
        self._kill()
        for thread in self._threads:
            thread.join(1.0)
        for call in list(self._calls.values()):
            self._forget(call)
            call._take({"failure": vars(Failure("cancelled", "the worker was closed."))})

    def _cancel(self, number: int) -> None:
        if number in self._calls:
            self._deadlines.setdefault(number, time.monotonic() + GRACE_S)
            self._send({"cancel": number})

    def _send(self, message: dict[str, Any]) -> None:
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(to_line(message))
            self._process.stdin.flush()
        except (OSError, ValueError):  # it has ended; poll says so
            pass

    def _listen(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._messages.put(from_line(line))
        self._messages.put(None)

    def _keep_errors(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._errors.append(line.decode("utf-8", "replace").rstrip())

    def _kill(self) -> None:
        try:
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        except (ProcessLookupError, PermissionError):  # nobody is left in its group
            pass
        self._process.wait()

    def _lose_calls(self) -> None:
        """End all calls of a worker that has gone."""
        self._process.wait()
        self._threads[1].join(GRACE_S)
        for number, call in list(self._calls.items()):
            if number in self._deadlines:
                failure = Failure("cancelled", "cancelled; nothing was written.")
            else:
                failure = Failure("lost", _way_to_end(self._process.returncode), "\n".join(self._errors))
            self._forget(call)
            call._take({"failure": vars(failure)})

    def _forget(self, call: Call) -> None:
        self._calls.pop(call._number, None)
        self._deadlines.pop(call._number, None)


def _way_to_end(code: int) -> str:
    if code >= 0:
        return f"the process that generates ended by itself with code {code}. Nothing was added to the library."
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return f"the process that generates was ended by {name}{hint}. Nothing was added to the library."
