"""The repository is a Kit extension: found, started and stopped by a real Kit, with the real omni.ui beside it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

EXTENSION_NAME = "omni_gen3d"
WINDOW_SIZE = (900, 900)


def enable(app: Any, extension_id: str, enabled: bool) -> float:
    """Start or stop the extension; returns the seconds it took."""
    began = time.perf_counter()
    app.extension_manager.set_extension_enabled_immediate(extension_id, enabled)
    return time.perf_counter() - began


def test_kit_discovers_starts_and_stops_the_repository_twice(kit_app: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The root extension.toml is enough, a second start finds nothing left over, and nothing heavy was loaded."""
    manager = kit_app.extension_manager
    found = [e["id"] for e in manager.get_extensions() if e["name"] == EXTENSION_NAME]
    assert found == [f"{EXTENSION_NAME}-0.1.0"]

    for _ in range(2):
        seconds = enable(kit_app, found[0], True)
        assert manager.is_extension_enabled(found[0])
        with capsys.disabled():
            print(f"\nextension started in {1000 * seconds:.0f} ms")
        kit_app.update()
        enable(kit_app, found[0], False)
        assert not manager.is_extension_enabled(found[0])
    assert not {"torch", "numpy", "pxr", "omni_gen3d.kit.window"} & sys.modules.keys()


def test_a_missing_interpreter_says_what_to_run(
    kit_app: Any, switch: Callable[[bool], None], library: Path, tmp_path: Path
) -> None:
    """Without a Python that generates the window says how to get one, takes a path, and goes on from there."""
    import carb.settings

    setting = "/exts/omni_gen3d/python_executable"
    settings = carb.settings.get_settings()
    working = settings.get(setting)
    settings.set(setting, "")
    switch(True)
    from omni_gen3d.kit.extension import get_extension

    try:
        extension = get_extension()
        window = extension.show_window()
        kit_app.update()
        assert "-m venv" in window.error_label.text and "pip install" in window.error_label.text
        model = extension.model
        assert model is not None and model.pids == []
        window.interpreter_field.model.as_string = str(tmp_path / "absent" / "python")
        window.use_button.call_clicked_fn()
        kit_app.update()
        assert "absent/python" in window.error_label.text
        window.interpreter_field.model.as_string = working
        window.use_button.call_clicked_fn()
        kit_app.update()
        assert model.failure is None and len(model.pids) == 1
    finally:
        settings.set(setting, working)
        settings.destroy_item("/persistent/exts/omni_gen3d/python_executable")
        del extension, window, model
        switch(False)


def test_the_real_omni_ui_draws_a_window_beside_kit(kit_app: Any, omni_ui: ModuleType, tmp_path: Path) -> None:
    """A window with a button is laid out inside the frame, its pixels reach a screenshot, and a click its callback."""
    from omni.ui import testing

    clicks = []
    window = omni_ui.Window("Environment", width=300, height=200)
    with window.frame:
        button = omni_ui.Button("Generate", clicked_fn=lambda: clicks.append(1))

    async def press_button() -> None:
        await testing.wait_frames(4)
        x = button.screen_position_x + button.computed_width / 2
        y = button.screen_position_y + button.computed_height / 2
        await testing.mouse_click(x, y)
        kit_app.update()

    asyncio.run(press_button())
    assert clicks == [1]

    picture = tmp_path / "window.png"
    assert testing.capture_screenshot(str(picture))
    with Image.open(picture) as image:
        assert image.size == WINDOW_SIZE
        assert len(set(image.convert("RGB").tobytes())) > 20
    window.destroy()
