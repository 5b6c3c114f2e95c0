"""A panel with what the render delegate sees through the active camera, for renderers that cannot draw splats.

RTX of Isaac Sim 5.1 does not know the prim; newer ones draw its colours, but no depth, normals or labels of it.
"""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import omni.ui as ui
from pxr import UsdGeom

from omni_gen3d.errors import InputError
from omni_gen3d.kit import host
from omni_gen3d.kit.model import Model
from omni_gen3d.kit.placing import environments_on, place_in_metres, selected_variants
from omni_gen3d.kit.process import Call

TITLE = "Gen3D splats"
PICTURES = ("color", "depth", "normal", "semantic_id", "alpha", "distance", "prim_id", "instance_id")
# omni.ui takes bytes as a list of numbers, one Python object each: larger pictures would cost frames.
_SIZE = (256, 144)
# Finding the environments of a large stage takes its time.
_LOOK_EVERY_S = 0.2


class DelegatePanel:
    """Asks a worker for one picture after the other while it is open; ``update`` once a frame."""

    def __init__(self, model: Model, *, width: int = 320, height: int = 260) -> None:
        self._model = model
        self._call: Call | None = None
        self._asked: dict[str, Any] | None = None
        self._next_look = 0.0
        self.pictures = 0
        self.provider = ui.ByteImageProvider()
        self.provider.set_bytes_data([0, 0, 0, 255], [1, 1])
        self.window = ui.Window(TITLE, width=width, height=height)
        with self.window.frame, ui.VStack(spacing=4):
            with ui.HStack(height=24, spacing=4):
                ui.Label("Picture", width=60)
                self.picture_box = ui.ComboBox(0, *PICTURES)
            ui.ImageWithProvider(self.provider)
            self.status = ui.Label("", height=18, word_wrap=True)

    def update(self) -> None:
        """Ask for the next picture where the camera, the stage or the choice has changed since the last one."""
        now = time.monotonic()
        if not self.window.visible or now < self._next_look or (self._call is not None and not self._call.ended):
            return
        self._next_look = now + _LOOK_EVERY_S
        try:
            view = self._view()
        except InputError as error:
            self.status.text = str(error)
            return
        if view == self._asked:
            return
        self._asked = view
        self._call = self._model.render(view, self._show)

    def destroy(self) -> None:
        self.window.visible = False
        self.window.destroy()
        self.provider.destroy()

    def _view(self) -> dict[str, Any]:
        stage = host.current_stage()
        environments = environments_on(stage)
        camera = stage.GetPrimAtPath(host.active_camera(stage))
        return {
            "environments": [
                {
                    "usd": placed.usd,
                    "matrix": place_in_metres(stage, stage.GetPrimAtPath(placed.path)),
                    "overrides": [placed.variation] if placed.variation and Path(placed.variation).exists() else [],
                    "variants": selected_variants(stage, placed.path),
                }
                for placed in environments
            ],
            "camera": lens_of(stage, camera),
            "width": _SIZE[0],
            "height": _SIZE[1],
            "aov": PICTURES[self.picture_box.model.get_item_value_model().as_int],
        }

    def _show(self, call: Call) -> None:
        if call.result is None:
            self.status.text = call.failure.message if call.failure else ""
            return
        values = call.result
        self.provider.set_bytes_data(list(base64.b64decode(values["rgba"])), [values["width"], values["height"]])
        self.pictures += 1
        shows_labels = PICTURES[self.picture_box.model.get_item_value_model().as_int] == "semantic_id"
        self.status.text = ", ".join(values["labels"][2:]) if shows_labels else ""


def lens_of(stage: Any, camera: Any) -> dict[str, Any]:
    """A camera prim as ``usd.composing.Lens`` states it; the width decides, as in Kit's viewports.

    Raises:
        InputError: The prim is no camera.
    """
    focal, across, clipping = (
        camera.GetAttribute(name).Get() for name in ("focalLength", "horizontalAperture", "clippingRange")
    )
    if None in (focal, across, clipping):
        raise InputError(f"{camera.GetPath()} is no camera with a lens.")
    unit = UsdGeom.GetStageMetersPerUnit(stage)
    return {
        "matrix": place_in_metres(stage, camera),
        "focal_length": focal,
        "horizontal_aperture": across,
        "vertical_aperture": across * _SIZE[1] / _SIZE[0],
        "clipping_range": [clipping[0] * unit, clipping[1] * unit],
    }
