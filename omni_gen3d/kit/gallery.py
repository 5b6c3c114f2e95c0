"""The library as cards with previews, and what can be done with the one that is selected."""

from __future__ import annotations

from functools import partial

import omni.ui as ui

from omni_gen3d.envs.entry import Entry
from omni_gen3d.errors import InputError
from omni_gen3d.kit import host
from omni_gen3d.kit.model import Model
from omni_gen3d.worker.protocol import Failure

_CARD = (150, 112)
_PREVIEW_HEIGHT = 82
# Widgets of more would cost frames; the search finds the others.
MAX_CARDS = 60


class Gallery:
    """Builds itself into the container that is open; ``update`` when the model has changed."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._revision = -1
        self.cards: dict[str, ui.Widget] = {}
        self._entries: tuple[Entry, ...] | None = None
        with ui.HStack(height=24, spacing=4):
            ui.Label("Library", name="heading", width=60)
            self.search_field = ui.StringField(tooltip="Find by meaning: 'narrow corridor'. Empty shows all.")
            self._search = self.search_field.model.subscribe_end_edit_fn(lambda m: model.search(m.as_string))
        with ui.ScrollingFrame(horizontal_scrollbar_policy=ui.ScrollBarPolicy.SCROLLBAR_ALWAYS_OFF):
            self._frame = ui.Frame()
        with ui.HStack(height=24, spacing=4):
            self.add_button = ui.Button("Add to stage", clicked_fn=model.add)
            self.replace_button = ui.Button("Replace", clicked_fn=model.replace, tooltip="The one on the stage.")
            self.randomize_button = ui.Button(
                "Randomize", clicked_fn=model.randomize, tooltip="Other light and friction for the one on the stage."
            )
            self.folder_button = ui.Button("Open folder", clicked_fn=self._open_folder)
            self.remove_button = ui.Button("Remove", clicked_fn=model.remove, tooltip="Deletes it from the library.")
        self.update()

    def update(self) -> None:
        """Bring the cards up to date, where the library or the selection has changed."""
        model = self._model
        for button in (self.add_button, self.replace_button, self.folder_button, self.remove_button):
            button.enabled = model.entry is not None
        if self._revision == model.gallery_revision:
            return
        self._revision = model.gallery_revision
        entries = model.shown[:MAX_CARDS]
        for id_, card in self.cards.items():
            card.selected = id_ == model.selected
        if entries == self._entries:
            return
        self._entries, self.cards = entries, {}
        with self._frame:
            if not entries:
                with ui.VStack(height=0):
                    ui.Label("Nothing here yet. What you generate is kept here.", name="hint", height=30)
                return
            with ui.VGrid(column_width=_CARD[0] + 8, row_height=_CARD[1] + 8):
                for entry in entries:
                    self._build_card(entry)

    def destroy(self) -> None:
        self._search = None
        self.cards = {}

    def _build_card(self, entry: Entry) -> None:
        with ui.ZStack(width=_CARD[0], height=_CARD[1]):
            card = ui.Rectangle(name="card", selected=entry.id == self._model.selected)
            with ui.VStack(spacing=2, style={"margin": 3}):
                ui.Image(
                    str(entry.folder / "preview.png"),
                    height=_PREVIEW_HEIGHT,
                    fill_policy=ui.FillPolicy.PRESERVE_ASPECT_FIT,
                )
                ui.Label(entry.title, elided_text=True, height=18)
            button = ui.InvisibleButton(clicked_fn=partial(self._model.select, entry.id))
            button.set_tooltip(_tooltip(entry))
        self.cards[entry.id] = card

    def _open_folder(self) -> None:
        if self._model.entry is None:
            return
        try:
            host.show_folder(self._model.entry.folder)
        except InputError as error:
            self._model.report(Failure("input", str(error)))


def _tooltip(entry: Entry) -> str:
    x, y, z = entry.size_m
    return (
        f"{entry.title}\n{x:.1f} x {y:.1f} x {z:.1f} m, {len(entry.spawn_poses)} spawn poses, "
        f"{entry.num_gaussians:,} Gaussians, seed {entry.seed}"
    )
