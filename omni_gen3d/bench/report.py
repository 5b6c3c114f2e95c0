"""What a benchmark found: a table for people, one JSON object for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Literal

import typer

from omni_gen3d.console import shown

Value = str | float | int | bool | None


@dataclass(frozen=True)
class Check:
    """A figure and the bound it is held to.

    Attributes:
        name: Of the figure, with its unit.
        value: What was measured; None where it could not be.
        bound: ``>=`` or ``<=``.
        target: The bound.
    """

    name: str
    value: float | None
    bound: Literal[">=", "<="]
    target: float

    @property
    def ok(self) -> bool:
        if self.value is None:
            return False
        return self.value >= self.target if self.bound == ">=" else self.value <= self.target

    def to_dict(self) -> dict[str, Value]:
        return {"name": self.name, "value": self.value, "target": f"{self.bound} {self.target:g}", "ok": self.ok}


@dataclass(frozen=True)
class Report:
    """Rows of one table and the checks made on them.

    Attributes:
        device: What it ran on, in words.
        rows: One mapping from column to value for each row; a column may be missing in some.
        checks: One for every figure with a target.
    """

    device: str
    rows: Sequence[Mapping[str, Value]]
    checks: Sequence[Check]

    def to_json(self) -> str:
        """One object with the keys ``device``, ``rows`` and ``checks``."""
        values = asdict(self) | {"checks": [check.to_dict() for check in self.checks]}
        return json.dumps(values, indent=2)

    def show(self) -> None:
        """Print the table and the checks on standard output."""
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        _print_table(self.device, columns, [[row.get(column) for column in columns] for row in self.rows])
        checks = [check.to_dict() for check in self.checks]
        _print_table("checks", ["name", "value", "target", "ok"], [list(check.values()) for check in checks])


@dataclass
class Findings:
    """Rows and figures of a long run, each told the moment it is known, so that an interruption loses none.

    Attributes:
        tell: Takes one line of progress.
        rows: So far.
        figures: Value of each figure by its name, so far.
    """

    tell: Callable[[str], None]
    rows: list[dict[str, Value]] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def add(self, row: dict[str, Value]) -> None:
        self.rows.append(row)
        self.tell(json.dumps(row))

    def figure(self, name: str, value: float | None) -> None:
        """A figure that a check wants; None is what a CPU knows of memory."""
        if value is not None:
            self.figures[name] = value
            self.tell(json.dumps({"figure": name, "value": value}))

    @contextmanager
    def part(self, what: str) -> Iterator[None]:
        """Go on behind the block if a library fails in it: the failure becomes a row, its figures stay unmeasured."""
        try:
            yield
        except RuntimeError as error:
            self.add({"what": what, "failed": " ".join(str(error).split())[:300]})

    def checks(self, targets: Mapping[str, tuple[Literal[">=", "<="], float]]) -> list[Check]:
        """One for each target, in their order; figures without one are not checked."""
        return [Check(name, self.figures.get(name), *target) for name, target in targets.items()]


def cpu_name() -> str:
    """The processor and how many of its cores this process may use."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    except OSError:
        pass
    return f"{model}, {len(os.sched_getaffinity(0))} cores"


def publish(report: Report, as_json: bool) -> None:
    """Print a report the way the caller asked for."""
    if as_json:
        typer.echo(report.to_json())
    else:
        report.show()


def _print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Value]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_shown(value) for value in row))
    Console().print(table)


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return shown(value)
