"""What the window shows and does, without a widget: a form, a generation at work, the library, the last trouble."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from omni_gen3d.envs.entry import Description, Entry
from omni_gen3d.envs.plain import from_plain
from omni_gen3d.errors import InputError
from omni_gen3d.kit.estimate import USUAL_ROOM_S, USUAL_S, Estimate, in_words
from omni_gen3d.kit.interpreter import NoInterpreterError
from omni_gen3d.kit.process import Call, WorkerProcess
from omni_gen3d.request import COLLISIONS, Collision, Device, Extent, check_collider, check_extent, check_request
from omni_gen3d.worker.protocol import VIDEO_SUFFIXES, Failure

DEVICES = tuple(device.value for device in Device)
EXTENTS = tuple(extent.value for extent in Extent)
COLLIDERS = COLLISIONS
_MAX_DICE = 2**31


class StageCommands(Protocol):
    """What the model has done to the host's stage; each may raise ``InputError``."""

    def add(self, entry: Entry, collision: Collision | None, labels: bool) -> str: ...
    def replace(self, path: str, entry: Entry, collision: Collision | None, labels: bool) -> None: ...
    def randomize(self, path: str, seed: int, index: int) -> None: ...
    def target(self) -> str: ...


@dataclass
class Form:
    """What the user asks for."""

    prompt: str = ""
    input: str = ""
    preset: str = "mini"
    seed: int = 0
    device: str = Device.auto.value
    extent: str = Extent.view.value
    collision: Collision = "mesh"
    labels: bool = True
    robot_radius: float = 0.25
    add_to_stage: bool = True

    @property
    def is_film(self) -> bool:
        """Whether the input is taken for a video."""
        return self.input.strip().lower().endswith(VIDEO_SUFFIXES)

    def request(self) -> dict[str, Any]:
        """The values of the worker's task ``generate``.

        Raises:
            InputError: No model can answer it.
        """
        picture = self.input.strip() or None
        check_request(self.prompt, image=picture, fov_deg=None, seed=self.seed, steps=None)
        check_extent(self.extent, of_film=self.is_film)
        check_collider(self.collision, self.robot_radius)
        if picture is not None and not Path(picture).expanduser().is_file():
            raise InputError(f"the file {picture} does not exist; choose or drop another one, or clear the field.")
        return {
            "prompt": self.prompt.strip(),
            "input": None if picture is None else str(Path(picture).expanduser()),
            "seed": self.seed,
            "preset": self.preset,
            "device": self.device,
            "extent": self.extent,
            "collision": self.collision,
            "robot_radius": self.robot_radius,
        }


class Model:
    """Call ``update`` once a frame; ``revision`` grows whenever something that is shown has changed."""

    def __init__(self, find_interpreter: Callable[[], Path], tell: Callable[[str], None]) -> None:
        """
        Args:
            find_interpreter: Gives the Python that generates, or raises ``NoInterpreterError``.
            tell: Gets a sentence when a generation has ended, for users who look elsewhere.
        """
        self.form = Form()
        self.revision = 0
        self.gallery_revision = 0
        self.failure: Failure | None = None
        self.needs_interpreter = False
        self.message = ""
        self.presets: tuple[str, ...] = ("mini",)
        self.entries: tuple[Entry, ...] = ()
        self.selected = ""
        self.weights: str | None = None
        self.stage_commands: StageCommands | None = None
        self._find_interpreter = find_interpreter
        self._tell = tell
        self._found: tuple[str, ...] | None = None
        self._librarian: WorkerProcess | None = None
        self._generator: WorkerProcess | None = None
        self._generation: Call | None = None
        self._estimate: Estimate | None = None
        self._seconds: dict[tuple[str, str, bool, str], dict[str, float]] = {}
        self._draws: dict[str, int] = {}
        self._leaving: list[threading.Thread] = []

    # ------------------------------------------------------------------------------------------------- what is shown

    @property
    def state(self) -> Literal["idle", "running", "stopping"]:
        if self._generation is None:
            return "idle"
        return "stopping" if self._generation.is_cancelled else "running"

    @property
    def fraction(self) -> float:
        """Share of the generation that is done."""
        return 0.0 if self._estimate is None else self._estimate.fraction

    @property
    def progress_text(self) -> str:
        """Stage and time left."""
        call = self._generation
        if call is None or self._estimate is None:
            return ""
        if self.state == "stopping":
            return "stopping"
        left = in_words(self._estimate.seconds_left)
        return f"{call.stage or 'starting'}, {left}" if left else call.stage or "starting"

    @property
    def shown(self) -> tuple[Entry, ...]:
        """The entries that the search left, the nearest first; all of them without a search."""
        if self._found is None:
            return self.entries
        by_id = {entry.id: entry for entry in self.entries}
        return tuple(by_id[id_] for id_ in self._found if id_ in by_id)

    @property
    def is_searched(self) -> bool:
        """Whether what is shown is the result of a search."""
        return self._found is not None

    @property
    def entry(self) -> Entry | None:
        """The entry that is selected."""
        return next((entry for entry in self.entries if entry.id == self.selected), None)

    @property
    def pids(self) -> list[int]:
        """Of the workers that are alive."""
        return [worker.pid for worker in (self._librarian, self._generator) if worker is not None and worker.is_alive]

    # --------------------------------------------------------------------------------------------------- what it does

    def update(self) -> None:
        """Take over what the workers have said."""
        for worker in (self._librarian, self._generator):
            if worker is not None:
                worker.poll()
        call, estimate = self._generation, self._estimate
        if call is not None and estimate is not None and call.stage:
            before = self.fraction, self.progress_text
            estimate.advance(call.stage, call.done, time.monotonic())
            if before != (self.fraction, self.progress_text):
                self._touch()

    def close(self) -> None:
        """End the workers."""
        for worker in (self._generator, self._librarian):
            if worker is not None:
                worker.close()
        self._generator = self._librarian = self._generation = None
        for thread in self._leaving:
            thread.join()

    def refresh(self) -> None:
        """Read the library and the presets anew."""
        self._ask("models", {}, self._take_models)
        self._ask("entries", {}, self._take_entries)

    def generate(self, then: Callable[[Entry], None] | None = None) -> Call | None:
        """Begin what the form asks for; None where it cannot be begun, and ``failure`` says why.

        Args:
            then: Gets the new entry; where None the entry goes onto the stage if the form says so.
        """
        if self._generation is not None:
            return None
        form = self.form
        with _Trouble(self) as trouble:
            request = {**form.request(), "weights": self.weights}
            generator = self._start()
        if trouble.happened:
            return None
        self.message = ""
        self._generator = generator
        kind = form.preset, form.device, form.is_film, form.extent
        usual = USUAL_ROOM_S if form.extent == Extent.room else USUAL_S
        self._estimate = Estimate(self._seconds.get(kind, usual), time.monotonic())
        collision, labels, add = form.collision, form.labels, form.add_to_stage

        def finish(call: Call) -> None:
            self._end_generation()
            if call.result is None:
                self._fail(call)
                self._ask("models", {}, self._take_models)  # a writer that was killed left a folder
                return
            result = call.result
            self._seconds[kind] = {"load libraries": USUAL_S["load libraries"], **result["timings_s"]}
            entry = _entry_of(result["entry"])
            self.selected = entry.id
            if self._found is not None:
                self._found = (entry.id, *self._found)
            self.message = " ".join([f"Done: {entry.title}.", *result["warnings"]])
            self._tell(self.message)
            self._ask("entries", {}, self._take_entries)
            with _Trouble(self):
                if then is not None:
                    then(entry)
                elif add and self.stage_commands is not None:
                    self.stage_commands.add(entry, collision, labels)

        self._generation = generator.ask("generate", request, finish)
        self._touch()
        return self._generation

    def cancel(self) -> None:
        """Stop the generation; it ends within a second."""
        if self._generation is not None:
            self._generation.cancel()
            self._touch()

    def roll_seed(self) -> int:
        """Another seed."""
        self.form.seed = random.randrange(_MAX_DICE)
        self._touch()
        return self.form.seed

    def take_file(self, path: str) -> None:
        """A picture or a video was chosen or dropped."""
        self.form.input = path.strip().removeprefix("file://")
        self._touch()

    def search(self, words: str) -> None:
        """Show what comes nearest to words; all where there are none."""
        if not words.strip():
            self._found = None
            self._touch(gallery=True)
            return

        def take(call: Call) -> None:
            self.message = ""
            if call.result is None:
                self._fail(call)
            else:
                self._found = tuple(call.result["ids"])
            self._touch(gallery=True)

        self._say("Searching ...")
        if self._ask("search", {"words": words}, take) is None:
            self._say("")

    def select(self, id_: str) -> None:
        self.selected = id_
        self._touch(gallery=True)

    def add(self) -> str | None:
        """The selected entry onto the stage; the path of its prim."""
        commands, entry = self.stage_commands, self.entry
        if commands is None or entry is None:
            return None
        with _Trouble(self):
            return commands.add(entry, None, self.form.labels)

    def replace(self) -> None:
        """The selected entry in the place of the environment on the stage."""
        commands, entry = self.stage_commands, self.entry
        if commands is not None and entry is not None:
            with _Trouble(self):
                commands.replace(commands.target(), entry, None, self.form.labels)

    def randomize(self) -> None:
        """Another look and another friction for the environment on the stage."""
        commands = self.stage_commands
        if commands is not None:
            with _Trouble(self):
                path = commands.target()
                self._draws[path] = self._draws.get(path, -1) + 1
                commands.randomize(path, self.form.seed, self._draws[path])

    def vary(self, values: dict[str, Any], then: Callable[[Call], None]) -> Call | None:
        """Have a worker write the layer of a sample, see ``worker.tasks.Variation``."""

        def take(call: Call) -> None:
            self.message = ""
            if call.result is None:
                self._fail(call)
            then(call)
            self._touch()

        self._say("Drawing another look ...")
        call = self._ask("vary", values, take)
        if call is None:
            self._say("")
        return call

    def render(self, values: dict[str, Any], then: Callable[[Call], None]) -> Call | None:
        """Have a worker draw a picture, see ``worker.viewing.View``."""
        return self._ask("render", values, then)

    def remove(self) -> None:
        """The selected entry out of the library."""
        if self.entry is None:
            return

        def take(call: Call) -> None:
            if call.result is None:
                self._fail(call)
            self.selected = ""
            self._ask("entries", {}, self._take_entries)

        self._ask("remove", {"id": self.selected}, take)

    def report(self, failure: Failure | None) -> None:
        """Show a trouble, or none."""
        self.failure = failure
        self._touch()

    # --------------------------------------------------------------------------------------------------------- inside

    def _start(self) -> WorkerProcess:
        interpreter = self._find_interpreter()
        try:
            return WorkerProcess(interpreter)
        except OSError as error:
            raise InputError(f"the Python '{interpreter}' cannot be run: {error.strerror}.") from error

    def _ask(self, task: str, values: dict[str, Any], then: Callable[[Call], None]) -> Call | None:
        """Ask the worker that keeps the library; it is started when first needed, and again when it was lost."""
        if self._librarian is None or not self._librarian.is_alive:
            with _Trouble(self) as trouble:
                if self._librarian is not None:
                    self._librarian.close()
                self._librarian = self._start()
            if trouble.happened:
                return None
        assert self._librarian is not None
        return self._librarian.ask(task, values, then)

    def _end_generation(self) -> None:
        generator, self._generator, self._generation, self._estimate = self._generator, None, None, None
        if generator is not None:
            # Waiting for it would cost frames.
            self._leaving = [thread for thread in self._leaving if thread.is_alive()]
            self._leaving.append(threading.Thread(target=generator.close))
            self._leaving[-1].start()

    def _fail(self, call: Call) -> None:
        failure = call.failure
        if failure is None or failure.kind == "cancelled":
            self.message = "Cancelled; nothing was written."
        else:
            self.failure = failure
            self._tell(failure.message)
        self._touch()

    def _take_models(self, call: Call) -> None:
        if call.result is None:
            self._fail(call)
            return
        self.presets = tuple(call.result["presets"])
        self._touch()

    def _take_entries(self, call: Call) -> None:
        if call.result is None:
            self._fail(call)
            return
        self.entries = tuple(_entry_of(values) for values in call.result["entries"])
        self._touch(gallery=True)

    def _say(self, message: str) -> None:
        self.message = message
        self._touch()

    def _touch(self, *, gallery: bool = False) -> None:
        self.revision += 1
        self.gallery_revision += gallery


class _Trouble:
    """Turns what is raised on purpose inside into the failure that the window shows; a success clears the last one."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.happened = False

    def __enter__(self) -> _Trouble:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> bool:
        self.happened = isinstance(error, InputError)
        if self.happened or error is None:
            self._model.needs_interpreter = isinstance(error, NoInterpreterError)
            self._model.report(Failure("input", str(error)) if self.happened else None)
        return self.happened


def _entry_of(values: dict[str, Any]) -> Entry:
    """What the registry's ``Entry.to_dict`` said."""
    own = {name: values[name] for name in Description.__dataclass_fields__}
    return Entry(**vars(from_plain(Description, own, "the entry")), folder=Path(values["folder"]))
