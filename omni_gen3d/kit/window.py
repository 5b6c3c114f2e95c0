"""The window in omni.ui: draws what the model says and hands it what the user does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import omni.ui as ui

from omni_gen3d.errors import InputError
from omni_gen3d.kit import host
from omni_gen3d.kit.gallery import Gallery
from omni_gen3d.kit.model import COLLIDERS, DEVICES, EXTENTS, Model
from omni_gen3d.worker.protocol import Failure

TITLE = "Generate Environment"
_LABEL_WIDTH = 110
_MAX_MESSAGE = 500
STYLE = {
    "Button.Label::generate": {"font_size": 18},
    "Button::generate": {"background_color": 0xFF2F7D32, "padding": 8},
    "Button::generate:hovered": {"background_color": 0xFF3A983E},
    "Button::generate:disabled": {"background_color": 0xFF3A3A3A},
    "Label::error": {"color": 0xFF7C7CFF},
    "Label::hint": {"color": 0xFF9A9A9A},
    "Label::heading": {"font_size": 17},
    "Rectangle::card": {"background_color": 0xFF2B2B2B, "border_radius": 4},
    "Rectangle::card:hovered": {"background_color": 0xFF3A3A3A},
    "Rectangle::card:selected": {"background_color": 0xFF4A3B23, "border_color": 0xFFC89A4A, "border_width": 1},
    "Rectangle::error": {"background_color": 0xFF24243C, "border_radius": 4},
    "ProgressBar": {"color": 0xFF2F7D32, "background_color": 0xFF202020, "secondary_color": 0x00000000},
    "Field": {"border_radius": 3},
}


class GenerateWindow:
    """Opens at once. ``update`` once a frame, ``destroy`` in the end."""

    def __init__(
        self,
        model: Model,
        save_interpreter: Callable[[str], None],
        *,
        width: int = 520,
        height: int = 860,
    ) -> None:
        """
        Args:
            model: What is shown.
            save_interpreter: Keeps the path of the Python that generates.
            width: Of the window.
            height: Likewise.
        """
        self.model = model
        self._save_interpreter = save_interpreter
        self._revision = -1
        self._shown_failure: Failure | None = None
        self._dialog: Any = None
        self.window = ui.Window(TITLE, width=width, height=height)
        self.window.frame.set_style(STYLE)
        with self.window.frame, ui.VStack(spacing=6, style={"margin": 2}):
            self._build_form()
            self._build_progress()
            self._error_frame = ui.Frame(height=0, visible=False)
            self.gallery = Gallery(model)
        self._drop = host.accept_files(TITLE, model.take_file)
        self.update()

    def update(self) -> None:
        """Bring what is shown up to date."""
        if self._revision == self.model.revision:
            return
        self._revision = self.model.revision
        model = self.model
        is_idle = model.state == "idle"
        self.generate_button.enabled = is_idle
        self.generate_button.visible = is_idle
        self.cancel_button.visible = not is_idle
        self.cancel_button.enabled = model.state == "running"
        self.progress_bar.model.as_float = model.fraction
        self.progress_row.visible = not is_idle
        self.status.text = model.message if is_idle else model.progress_text
        if self.input_field.model.as_string != model.form.input:
            self.input_field.model.as_string = model.form.input
        if self.seed_field.model.as_int != model.form.seed:
            self.seed_field.model.as_int = model.form.seed
        if self._presets != model.presets:
            self._fill_presets()
        if self._shown_failure != model.failure:
            self._show_failure()
        self.gallery.update()

    def destroy(self) -> None:
        """Close the window and forget every widget and dialog."""
        for thing in (self._dialog, self._drop):
            if thing is not None:
                thing.destroy()
        self._dialog = self._drop = None
        self.gallery.destroy()
        self.window.visible = False
        self.window.destroy()

    # ----------------------------------------------------------------------------------------------------------- form

    def _build_form(self) -> None:
        form = self.model.form
        self.prompt_field = ui.StringField(
            multiline=True, height=56, tooltip="What the environment is, in a sentence; may be empty with a picture."
        )
        self.prompt_field.model.as_string = form.prompt
        with ui.HStack(height=24, spacing=4):
            ui.Label("Picture or video", width=_LABEL_WIDTH)
            self.input_field = ui.StringField(tooltip="A file to start from: type its path, choose or drop one.")
            self.input_field.model.as_string = form.input
            self.input_field.set_accept_drop_fn(lambda url: url.lower().endswith(host.INPUT_SUFFIXES))
            self.input_field.set_drop_fn(lambda event: self._set_input(event.mime_data))
            self.input_field.model.add_value_changed_fn(self._take_input)
            self.browse_button = ui.Button("Browse", width=60, clicked_fn=self._browse)
            self.clear_button = ui.Button("Clear", width=50, clicked_fn=lambda: self._set_input(""))
        with ui.HStack(height=24, spacing=4):
            ui.Label("Preset", width=_LABEL_WIDTH)
            self._preset_frame = ui.Frame()
            ui.Label("Device", width=60)
            with ui.Frame():
                self.device_box = ui.ComboBox(DEVICES.index(form.device), *DEVICES)
        self._fill_presets()
        with ui.HStack(height=24, spacing=4):
            ui.Label("Seed", width=_LABEL_WIDTH)
            self.seed_field = ui.IntField(tooltip="The same seed gives the same environment.")
            self.seed_field.model.as_int = form.seed
            self.seed_field.model.add_value_changed_fn(self._take_seed)
            self.dice_button = ui.Button("Dice", width=50, clicked_fn=self.model.roll_seed)
        with ui.HStack(height=24, spacing=4):
            ui.Label("Extent", width=_LABEL_WIDTH)
            self.extent_box = ui.ComboBox(EXTENTS.index(form.extent), *EXTENTS)
            ui.Label("Collider", width=60)
            self.collider_box = ui.ComboBox(COLLIDERS.index(form.collision), *COLLIDERS)
        with ui.HStack(height=24, spacing=4):
            ui.Label("Robot radius [m]", width=_LABEL_WIDTH)
            self.radius_field = ui.FloatField(width=70, tooltip="Spawn poses are sought where such a robot fits.")
            self.radius_field.model.as_float = form.robot_radius
            self.labels_box = _check_box(form.labels)
            ui.Label("Semantic labels", width=105)
            self.add_box = _check_box(form.add_to_stage)
            ui.Label("Add to stage")

    def _fill_presets(self) -> None:
        self._presets = self.model.presets
        chosen = self.model.form.preset if self.model.form.preset in self._presets else self._presets[0]
        with self._preset_frame:
            self.preset_box = ui.ComboBox(self._presets.index(chosen), *self._presets)

    def _read_form(self) -> None:
        form = self.model.form
        form.prompt = self.prompt_field.model.as_string
        form.input = self.input_field.model.as_string
        form.preset = self._presets[_choice(self.preset_box)]
        form.seed = self.seed_field.model.as_int
        form.device = DEVICES[_choice(self.device_box)]
        form.extent = EXTENTS[_choice(self.extent_box)]
        form.collision = COLLIDERS[_choice(self.collider_box)]
        form.labels = self.labels_box.model.as_bool
        form.robot_radius = self.radius_field.model.as_float
        form.add_to_stage = self.add_box.model.as_bool

    def _take_input(self, field: ui.AbstractValueModel) -> None:
        self.model.form.input = field.as_string

    def _take_seed(self, field: ui.AbstractValueModel) -> None:
        self.model.form.seed = field.as_int

    def _set_input(self, path: str) -> None:
        self.model.take_file(path)

    def _browse(self) -> None:
        try:
            if self._dialog is not None:
                self._dialog.destroy()
            self._dialog = host.pick_picture(self._set_input)
        except InputError as error:
            self.model.report(Failure("input", str(error)))

    def _generate(self) -> None:
        self._read_form()
        self.model.generate()

    # ----------------------------------------------------------------------------------------------- progress, trouble

    def _build_progress(self) -> None:
        with ui.ZStack(height=38):
            self.generate_button = ui.Button("Generate Environment", name="generate", clicked_fn=self._generate)
            self.cancel_button = ui.Button("Cancel", clicked_fn=self.model.cancel, visible=False)
        self.progress_row = ui.HStack(height=20, visible=False)
        with self.progress_row:
            self.progress_bar = ui.ProgressBar()
        self.status = ui.Label("", name="hint", height=18, word_wrap=True)

    def _show_failure(self) -> None:
        failure = self._shown_failure = self.model.failure
        self._error_frame.visible = failure is not None
        if failure is None:
            return
        with self._error_frame, ui.ZStack(height=0):
            ui.Rectangle(name="error")
            with ui.VStack(spacing=4, style={"margin": 4}, height=0):
                self.error_label = ui.Label(_in_short(failure.message), name="error", word_wrap=True, height=0)
                if self.model.needs_interpreter:
                    self._build_interpreter_field()
                with ui.HStack(height=24, spacing=4):
                    self.copy_button = ui.Button("Copy details", clicked_fn=self._copy_details, width=100)
                    self.dismiss_button = ui.Button("Dismiss", clicked_fn=lambda: self.model.report(None), width=80)
                    ui.Spacer()
                self._details_frame = ui.Frame(height=0)

    def _build_interpreter_field(self) -> None:
        with ui.HStack(height=24, spacing=4):
            self.interpreter_field = ui.StringField(tooltip="Path of the Python of an omni_gen3d installation.")
            self.use_button = ui.Button("Use", width=50, clicked_fn=self._use_interpreter)

    def _use_interpreter(self) -> None:
        self._save_interpreter(self.interpreter_field.model.as_string.strip())
        self.model.report(None)
        self.model.refresh()

    def _copy_details(self) -> None:
        failure = self._shown_failure
        if failure is None:
            return
        text = f"{failure.message}\n\n{failure.details}".strip()
        if host.copy_text(text):
            self.status.text = "The details are on the clipboard."
            return
        # Without a clipboard they can at least be selected.
        with self._details_frame:
            self.details_field = ui.StringField(multiline=True, read_only=True, height=90)
            self.details_field.model.as_string = text


def _check_box(value: bool) -> ui.CheckBox:
    """A check box in the middle of its row."""
    with ui.VStack(width=20, style={"margin": 0}):
        ui.Spacer()
        box = ui.CheckBox(height=16)
        ui.Spacer()
    box.model.as_bool = value
    return box


def _choice(box: ui.ComboBox) -> int:
    return box.model.get_item_value_model().as_int


def _in_short(text: str) -> str:
    """A message as a sentence that leaves room for the rest of the window; the details hold all of it."""
    text = text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE].rstrip()} ..."
    return text[:1].upper() + text[1:]
