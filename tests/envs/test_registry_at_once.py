"""Several processes work on one library, and some are killed: every entry is whole or not there."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from omni_gen3d.envs.index import Transaction
from omni_gen3d.envs.intake import inspect_entry
from omni_gen3d.envs.registry import Registry
from omni_gen3d.errors import InputError

WriteToy = Callable[..., Path]
_STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "sqlite3.connect"}


def in_a_child(work: Callable[[], object]) -> int:
    """Run ``work`` in a process of its own; return the pid."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(code)
    return pid


def assert_whole(registry: Registry) -> None:
    """Index and folders agree, every digest is right, and nothing is left over."""
    entries = registry.entries()
    assert [inspect_entry(entry.folder).id for entry in entries] == [entry.id for entry in entries]
    assert {folder.name for folder in registry.home.environments.iterdir()} == {entry.id for entry in entries}
    assert not list((registry.home.directory / "staging").iterdir())


def test_four_processes_at_once(registry: Registry, write_toy: WriteToy) -> None:
    """Adding, removing, listing and drawing the same few environments tears nothing, from the first moment on."""
    sources = [write_toy(seed=i) for i in range(6)]
    seconds = 4.0

    def work(seed: int) -> None:
        rng, own = random.Random(seed), Registry(registry.home.directory)
        kept = own.add(sources[seed])
        end = time.monotonic() + seconds
        rounds = 0
        while time.monotonic() < end:
            own.add(rng.choice(sources[4:]), tags=[f"p{seed}"])
            assert kept in own.entries(), "an entry that nobody removed is lost"
            for entry in own.sample(2, np.random.default_rng(rounds), replacement=True):
                assert entry.id.startswith("a-toy-room-")
            try:
                own.remove(rng.choice([entry.id for entry in own.entries() if entry.tags] or ["none"]))
            except InputError as error:
                assert "not in the library" in str(error)
            rounds += 1
        assert rounds >= 5

    pids = [in_a_child(lambda seed=seed: work(seed)) for seed in range(4)]
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * 4
    assert_whole(registry)
    assert len([entry for entry in registry.entries() if not entry.tags]) == 4


def killed_at_every_step(work: Callable[[], object], check: Callable[[int], None]) -> int:
    """Run ``work`` again and again, killed one step later each time, until it gets through; return the steps."""
    for step in range(1, 500):

        def work_and_die(step: int = step) -> None:
            left = step

            def count(event: str, _arguments: object) -> None:
                nonlocal left
                if event in _STEPS or event == "test.step":
                    left -= 1
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)

            # Files announce what is done to them; the steps inside a transaction do not.
            for name in ("put", "drop", "mark_for_removal", "unmark"):
                method = getattr(Transaction, name)

                def announced(self, *arguments, method=method):
                    sys.audit("test.step")
                    result = method(self, *arguments)
                    sys.audit("test.step")
                    return result

                setattr(Transaction, name, announced)
            sys.addaudithook(count)
            work()

        code = os.waitstatus_to_exitcode(os.waitpid(in_a_child(work_and_die), 0)[1])
        if code == 0:
            return step
        assert code == -signal.SIGKILL
        check(step)
    raise AssertionError("it never got through")


def test_killed_while_adding(registry: Registry, write_toy: WriteToy) -> None:
    """Wherever the kill falls, the entry is there and whole or not there; repair leaves no trace of it."""
    other, source = registry.add(write_toy(seed=1)), write_toy(seed=2)
    outcomes = set()

    def check(step: int) -> None:
        entries = registry.entries()
        assert other in entries
        outcomes.add(len(entries))
        for entry in entries:
            inspect_entry(entry.folder)
        if step % 2:  # either way on: by whoever comes next, or by repair
            registry.add(source)
        assert not registry.repair().broken
        assert_whole(registry)
        for entry in registry.entries():
            if entry != other:
                registry.remove(entry.id)

    assert killed_at_every_step(lambda: registry.add(source), check) > 20
    assert outcomes == {1, 2}


def test_killed_while_removing(registry: Registry, write_toy: WriteToy) -> None:
    """The entry is there and whole, or gone; what is gone stays gone through a repair."""
    source = write_toy(seed=2)
    victim = registry.add(source)
    outcomes = set()

    def check(step: int) -> None:
        entries = registry.entries()
        outcomes.add(len(entries))
        if step % 2 and not entries:
            assert registry.add(source) == victim
            entries = [victim]
        assert not registry.repair().broken
        assert registry.entries() == entries
        assert_whole(registry)
        registry.add(source)

    assert killed_at_every_step(lambda: registry.remove(victim.id), check) > 10
    assert outcomes == {0, 1}


def test_repair_leaves_the_living_alone(registry: Registry, write_toy: WriteToy, tmp_path: Path) -> None:
    """What another process is about to add is no leftover; what is a day old is one, whoever wrote it."""
    with registry.home.staging() as folder:
        assert registry.repair().leftovers == 0 and folder.is_dir()
        elsewhere = folder.with_name("other.host.1.abc")
        elsewhere.mkdir()
        assert registry.repair().leftovers == 0
        os.utime(elsewhere, (0, 0))
        assert registry.repair().leftovers == 1 and not elsewhere.exists()


@pytest.mark.parametrize("step", ["entry.json", "environment.yaml"])
def test_a_full_disk(registry: Registry, write_toy: WriteToy, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """What the file system refuses is one error, and nothing stays."""
    source = write_toy()
    written = Path.write_bytes if step == "environment.yaml" else Path.write_text

    def refuse(self: Path, *arguments, **options):
        if self.name.endswith(step):
            raise OSError(28, "No space left on device")
        return written(self, *arguments, **options)

    monkeypatch.setattr(Path, written.__name__, refuse)
    with pytest.raises(InputError, match="No space left"):
        registry.add(source)
    monkeypatch.undo()
    assert registry.entries() == []
    assert_whole(registry)
