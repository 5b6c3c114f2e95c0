"""What a check has to say about a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One sentence about one place.

    Attributes:
        severity: ``error`` makes an environment invalid; a ``warning`` says what some engine will not like.
        where: A file name or a prim path.
        message: What is wrong, what is expected.
    """

    severity: Literal["error", "warning"]
    where: str
    message: str

    def __str__(self) -> str:
        return " ".join(f"{self.severity}: {self.where}: {self.message}".split())


def error(where: object, message: str) -> Finding:
    return Finding("error", str(where), message)


def warning(where: object, message: str) -> Finding:
    return Finding("warning", str(where), message)
