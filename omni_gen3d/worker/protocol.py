"""The lines between a host and its worker, one JSON object each.

::

    host    {"id": 3, "task": "generate", "values": {"prompt": "a corridor", ...}}
            {"cancel": 3}
    worker  {"ready": {"version": "0.1.0", "pid": 4711}}                       once, before anything else
            {"id": 3, "stage": "depth", "done": 0.25}                          any number
            {"id": 3, "result": {...}}                                         one of these two ends a request
            {"id": 3, "failure": {"kind": "input", "message": "...", "details": "..."}}

The worker takes requests in turn. It ends when its standard input does, so it cannot outlive its host; a task at work
then has ``GRACE_S`` to remove what it has half written.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

# How long a task may take to stop by itself before it is killed.
GRACE_S = 0.6
# A file that is taken for a video; any other is opened as a picture.
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")


@dataclass(frozen=True)
class Failure:
    """Why a request has no result.

    Attributes:
        kind: ``input`` where the caller can do something about it, ``cancelled`` where the caller asked for it,
            ``defect`` where neither holds, ``lost`` where the worker could not be started or ended by itself.
        message: A sentence for a user.
        details: What whoever looks into it needs; may be empty.
    """

    kind: Literal["input", "cancelled", "defect", "lost"]
    message: str
    details: str = ""


def to_line(values: dict[str, Any]) -> bytes:
    """One line, its end included."""
    return json.dumps(values).encode("ascii") + b"\n"


def from_line(line: bytes) -> dict[str, Any]:
    """The object of a line; empty where the line is none."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
