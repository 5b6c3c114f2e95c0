"""What Kit starts when the extension is enabled: a menu entry, a window, commands; what it stops leaves nothing."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import carb
import carb.eventdispatcher
import carb.settings
import omni.ext
import omni.kit.app

from omni_gen3d.errors import InputError
from omni_gen3d.kit.host import notify
from omni_gen3d.kit.interpreter import find_interpreter
from omni_gen3d.kit.menu import MenuEntries

if TYPE_CHECKING:
    from omni_gen3d.kit.commands import Commands
    from omni_gen3d.kit.delegate import DelegatePanel
    from omni_gen3d.kit.model import Model
    from omni_gen3d.kit.window import GenerateWindow

_SETTINGS = "/exts/omni_gen3d"
# Kit writes what is below into the user's configuration.
_KEPT = f"/persistent{_SETTINGS}"
INTERPRETER, WEIGHTS, RANGES, OPEN = "python_executable", "weights", "randomization", "open_at_startup"


class OmniGen3DExtension(omni.ext.IExt):
    """Loads next to nothing until a window is opened or, where Kit has commands, they are to be registered.

    Attributes:
        model: What the windows show; None before it is first needed.
        window: The window for generating, None before it was first opened.
        panel: The window of the render delegate, likewise.
        commands: What is done to the stage; None before it is first needed.
    """

    instance: OmniGen3DExtension | None = None

    def on_startup(self, ext_id: str) -> None:
        OmniGen3DExtension.instance = self
        self.model: Model | None = None
        self.window: GenerateWindow | None = None
        self.panel: DelegatePanel | None = None
        self.commands: Commands | None = None
        self._updates: Any = None
        self._menu = MenuEntries({"Generate Environment": self.show_window, "Gen3D Splats": self.show_panel})
        if has_commands():
            self._wake()
        if carb.settings.get_settings().get(f"{_SETTINGS}/{OPEN}"):
            self.show_window()
        carb.log_info(f"[{ext_id}] started")

    def on_shutdown(self) -> None:
        self._menu.close()
        if self._updates is not None:
            self._updates.reset()
        for opened in (self.window, self.panel):
            if opened is not None:
                opened.destroy()
        if self.model is not None:
            self.model.close()
        if self.commands is not None:
            self.commands.close()
        self.model = self.window = self.panel = self.commands = self._updates = None
        OmniGen3DExtension.instance = None

    def show_window(self) -> GenerateWindow:
        """Open the window for generating, or bring it back; reads the library."""
        from omni_gen3d.kit.window import GenerateWindow

        model = self._wake()
        if self.window is None:
            self.window = GenerateWindow(model, keep_interpreter)
        self.window.window.visible = True
        model.refresh()
        return self.window

    def show_panel(self) -> DelegatePanel:
        """Open the panel of the render delegate, or bring it back."""
        from omni_gen3d.kit.delegate import DelegatePanel

        model = self._wake()
        if self.panel is None:
            self.panel = DelegatePanel(model)
        self.panel.window.visible = True
        return self.panel

    def _wake(self) -> Model:
        """Load the model and the commands, and follow the frames from now on."""
        if self.model is not None:
            return self.model
        from omni_gen3d.kit.commands import Commands
        from omni_gen3d.kit.model import Model

        settings = carb.settings.get_settings()
        self.model = Model(chosen_interpreter, notify)
        self.model.weights = settings.get(f"{_SETTINGS}/{WEIGHTS}") or None
        self.commands = Commands(self.model, settings.get(f"{_SETTINGS}/{RANGES}") or "")
        self.model.stage_commands = self.commands
        self._updates = carb.eventdispatcher.get_eventdispatcher().observe_event(
            event_name=omni.kit.app.GLOBAL_EVENT_UPDATE, on_event=self._on_update, observer_name="omni_gen3d.update"
        )
        return self.model

    def _on_update(self, _event: Any) -> None:
        if self.model is not None:
            self.model.update()
        for opened in (self.window, self.panel):
            if opened is not None:
                opened.update()


def has_commands() -> bool:
    """Whether the application has omni.kit.commands, under which scripts find those of this extension."""
    return "omni.kit.commands" in sys.modules or importlib.util.find_spec("omni.kit.commands") is not None


def chosen_interpreter() -> Path:
    """The Python that generates, by the settings.

    Raises:
        NoInterpreterError: There is none; says what to run.
    """
    settings = carb.settings.get_settings()
    return find_interpreter(settings.get(f"{_SETTINGS}/{INTERPRETER}") or settings.get(f"{_KEPT}/{INTERPRETER}"))


def keep_interpreter(path: str) -> None:
    """Have this Python generate from now on, in later sessions too."""
    for settings in (_SETTINGS, _KEPT):
        carb.settings.get_settings().set(f"{settings}/{INTERPRETER}", path)


def get_extension() -> OmniGen3DExtension:
    """The extension at work, for scripts.

    Raises:
        InputError: It is not enabled.
    """
    if OmniGen3DExtension.instance is None:
        raise InputError("the extension omni_gen3d is not enabled.")
    return OmniGen3DExtension.instance
