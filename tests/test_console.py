"""Failures become one line and an exit code; signals become a flag; stages become lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import omni_gen3d
from omni_gen3d.console import one_line, reported, stage_progress
from omni_gen3d.errors import CancelledError, InputError


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (InputError("the value is 3,\nnot 2."), 2, "error: the value is 3, not 2.\n"),
        (CancelledError("stopped."), 130, "error: stopped.\n"),
        (KeyboardInterrupt(), 130, "error: interrupted.\n"),
        (
            ZeroDivisionError("by zero"),
            1,
            "error: ZeroDivisionError: by zero (This is a defect; set OMNI_GEN3D_DEBUG=1",
        ),
    ],
)
def test_failures_become_one_line_and_a_code(
    error: BaseException,
    code: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each kind of failure has its code; the traceback appears only when asked for."""

    @reported
    def fail() -> None:
        raise error

    monkeypatch.delenv("OMNI_GEN3D_DEBUG", raising=False)
    with pytest.raises(typer.Exit) as caught:
        fail()
    shown = capsys.readouterr()
    assert caught.value.exit_code == code
    assert shown.out == "" and shown.err.startswith(words) and shown.err.count("\n") == 1
    monkeypatch.setenv("OMNI_GEN3D_DEBUG", "1")
    with pytest.raises(typer.Exit):
        fail()
    assert "Traceback" in (shown := capsys.readouterr()).err and shown.err.splitlines()[-1].startswith("error: ")


def test_one_line_holds_no_control_characters() -> None:
    """Line breaks, escape sequences and bells are gone; letters of any script stay."""
    assert one_line("a\r\n b\x1b[2J\x07 仓库 é") == "a b [2J  仓库 é"


def test_each_stage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Away from a terminal a stage is announced once, however often it reports, and never on standard output."""
    with stage_progress() as progress:
        for stage in ("depth", "video"):
            for fraction in (0.0, 0.5, 1.0):
                progress(stage, fraction)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert [line.partition("] ")[2] for line in shown.err.splitlines()] == ["depth", "video"]


WAITING = """
import time
from omni_gen3d.console import reported, stop_on_signals
from omni_gen3d.errors import CancelledError

@reported
def wait(patient):
    with stop_on_signals() as cancelled:
        print("ready", flush=True)
        for _ in range(600):
            time.sleep(0.05)
            if cancelled() and not patient:
                raise CancelledError("stopped; nothing was written.")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("patient", "words"), [(False, "error: stopped"), (True, "error: interrupted")])
def test_first_signal_asks_and_the_second_interrupts(number: signal.Signals, patient: bool, words: str) -> None:
    """Work that looks stops by itself after one signal; work that does not look is interrupted by the next one."""
    code = f"{WAITING}\nimport typer\ntry: wait({patient})\nexcept typer.Exit as stop: raise SystemExit(stop.exit_code)"
    variables = {**os.environ, "PYTHONPATH": str(Path(omni_gen3d.__file__).parents[1])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code], env=variables, **pipes)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.stderr.readline().startswith("stopping after this step")
    if patient:
        process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130 and errors.startswith(words) and errors.count("\n") == 1
