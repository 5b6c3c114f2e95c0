"""What is done to the host's stage, with undo: as plain objects everywhere, as Kit's commands where Kit has them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from omni_gen3d.envs.entry import Entry
from omni_gen3d.errors import InputError
from omni_gen3d.kit import host
from omni_gen3d.kit.model import Form, Model
from omni_gen3d.kit.placing import (
    Snapshot,
    add_environment,
    environments_on,
    next_path,
    physics_scene_path,
    replace_environment,
    selected_variants,
    show_variation,
)
from omni_gen3d.request import Collision

if TYPE_CHECKING:
    from omni_gen3d.kit.process import Call


class AddEnvironment:
    """Add an environment to the host's stage, see ``placing.add_environment``; ``do`` returns the path of its prim."""

    def __init__(
        self,
        usd: str,
        path: str | None = None,
        title: str = "",
        position: tuple[float, float, float] | None = None,
        collision: Collision | None = None,
        labels: bool = True,
        stage: Any = None,
    ) -> None:
        self._stage = stage
        self._usd, self._path, self._title = usd, path, title
        self._position, self._labels = position, labels
        self._collision: Collision | None = collision
        self._before: Snapshot | None = None

    def do(self) -> str:
        stage = self._stage or host.current_stage()
        path = self._path or next_path(stage, self._title or Path(self._usd).parent.name)
        before = Snapshot(stage, path, physics_scene_path(stage))
        add_environment(
            stage,
            self._usd,
            path,
            title=self._title,
            position=self._position,
            collision=self._collision,
            labels=self._labels,
        )
        self._before = before
        return path

    def undo(self) -> None:
        if self._before is not None:
            self._before.restore()


class ReplaceEnvironment:
    """Put another environment in the place of one, see ``placing.replace_environment``."""

    def __init__(
        self,
        path: str,
        usd: str,
        title: str = "",
        collision: Collision | None = None,
        labels: bool = True,
        stage: Any = None,
    ) -> None:
        self._stage = stage
        self._path, self._usd, self._title = path, usd, title
        self._collision: Collision | None = collision
        self._labels = labels
        self._before: Snapshot | None = None

    def do(self) -> None:
        stage = self._stage or host.current_stage()
        before = Snapshot(stage, self._path)
        replace_environment(
            stage, self._path, self._usd, title=self._title, collision=self._collision, labels=self._labels
        )
        self._before = before

    def undo(self) -> None:
        if self._before is not None:
            self._before.restore()


class _OfModel:
    """A command that needs the workers of the extension."""

    model: ClassVar[Model | None] = None

    def _model(self) -> Model:
        if self.model is None:
            raise InputError("the extension omni_gen3d is not enabled.")
        return self.model


class RandomizeEnvironment(_OfModel):
    """Show sample ``index`` of the series of ``seed`` of the environment at ``path``.

    ``do`` returns at once; a worker draws the sample, and the stage changes a moment later.
    """

    def __init__(self, path: str, seed: int = 0, index: int = 0, ranges: str = "", stage: Any = None) -> None:
        self._stage = stage
        self._path, self._seed, self._index, self._ranges = path, seed, index, ranges
        self._before: Snapshot | None = None
        self._shown: Any = None
        self._is_undone = False

    def do(self) -> Call | None:
        stage = self._stage or host.current_stage()
        placed = next((found for found in environments_on(stage) if found.path == self._path), None)
        if placed is None:
            raise InputError(f"there is no environment at '{self._path}'; add one first.")
        self._is_undone = False
        layer = Path(variations_folder()) / f"{Path(placed.usd).parent.name}-{self._seed}-{self._index}.usdc"

        def show(call: Call) -> None:
            if call.result is not None and not self._is_undone:
                self._before = Snapshot(stage, self._path)
                self._shown = show_variation(stage, self._path, layer)

        values = {
            "folder": str(Path(placed.usd).parent),
            "layer": str(layer),
            "seed": self._seed,
            "index": self._index,
            "ranges": self._ranges,
            "appearance": selected_variants(stage, self._path).get("appearance"),
        }
        return self._model().vary(values, show)

    def undo(self) -> None:
        self._is_undone = True
        if self._before is not None:
            self._before.restore()
            self._before = None


class GenerateEnvironment(_OfModel):
    """Generate an environment into the library and add it to the stage; the arguments are those of the window's form.

    ``do`` returns at once. Undoing cancels what is not finished, and takes what is finished off the stage; the library
    keeps it.
    """

    def __init__(self, stage: Any = None, **form: Any) -> None:
        self._stage = stage
        self._form = Form(**form)
        self._call: Call | None = None
        self._added: AddEnvironment | None = None

    def do(self) -> Call | None:
        model = self._model()
        model.form = self._form

        def add(entry: Entry) -> None:
            if self._form.add_to_stage:
                self._added = AddEnvironment(
                    str(entry.usd),
                    title=entry.title,
                    collision=self._form.collision,
                    labels=self._form.labels,
                    stage=self._stage,
                )
                self._added.do()

        self._call = model.generate(add)
        return self._call

    def undo(self) -> None:
        if self._added is not None:
            self._added.undo()
        elif self._call is not None:
            self._call.cancel()


COMMANDS = (AddEnvironment, ReplaceEnvironment, RandomizeEnvironment, GenerateEnvironment)
_folder: tempfile.TemporaryDirectory[str] | None = None


def variations_folder() -> str:
    """Where workers write the layers of samples, as long as the extension is enabled."""
    global _folder
    if _folder is None:
        _folder = tempfile.TemporaryDirectory(prefix="omni_gen3d-")
    return _folder.name


class Commands:
    """The commands, known to Kit where it has omni.kit.commands, and bound to a model; ``close`` takes them back."""

    def __init__(self, model: Model, ranges: str = "") -> None:
        """
        Args:
            model: Whose workers they use.
            ranges: YAML file with what "Randomize" varies; other light and friction where empty.
        """
        self._ranges = ranges
        self._error: Exception | None = None
        self._classes = {command.__name__: self._bind(command, model) for command in COMMANDS}
        self._are_known_to_kit = False
        try:
            import omni.kit.commands
        except ImportError:
            return
        for name, command in self._classes.items():
            self._classes[name] = type(name, (command, omni.kit.commands.Command), {})
            omni.kit.commands.register(self._classes[name])
        self._are_known_to_kit = True

    def close(self) -> None:
        global _folder
        if self._are_known_to_kit:
            import omni.kit.commands

            for command in self._classes.values():
                omni.kit.commands.unregister(command)
        if _folder is not None:
            _folder.cleanup()
            _folder = None

    def command(self, name: str) -> type:
        """The class of a command, to do and undo it by hand."""
        return self._classes[name]

    def execute(self, name: str, **arguments: Any) -> Any:
        """Do a command, so that it can be undone where Kit offers that.

        Raises:
            InputError: It cannot be done.
        """
        if not self._are_known_to_kit:
            return self.command(name)(**arguments).do()
        import omni.kit.commands

        # Kit logs what a command raises and goes on.
        self._error = None
        succeeded, result = omni.kit.commands.execute(name, **arguments)
        if self._error is not None:
            raise self._error
        if not succeeded:
            raise InputError(f"the command {name} failed; the console says why.")
        return result

    def add(self, entry: Entry, collision: Collision | None, labels: bool) -> str:
        return self.execute("AddEnvironment", usd=str(entry.usd), title=entry.title, collision=collision, labels=labels)

    def replace(self, path: str, entry: Entry, collision: Collision | None, labels: bool) -> None:
        self.execute(
            "ReplaceEnvironment", path=path, usd=str(entry.usd), title=entry.title, collision=collision, labels=labels
        )

    def randomize(self, path: str, seed: int, index: int) -> None:
        self.execute("RandomizeEnvironment", path=path, seed=seed, index=index, ranges=self._ranges)

    def target(self) -> str:
        """The environment that the selection is in or at, else the one that was added last.

        Raises:
            InputError: There is none on the stage.
        """
        paths = [placed.path for placed in environments_on(host.current_stage())]
        if not paths:
            raise InputError("there is no environment on the stage; add one first.")
        selected = host.selected_paths()
        return next((path for path in paths if any(f"{one}/".startswith(f"{path}/") for one in selected)), paths[-1])

    def _bind(self, command: type, model: Model) -> type:
        def do(instance: Any) -> Any:
            try:
                return command.do(instance)
            except Exception as error:
                self._error = error
                raise

        return type(command.__name__, (command,), {"do": do, "model": model})
