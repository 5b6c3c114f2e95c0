"""The repository is a Kit extension: found, started and stopped by a real Kit, with the real omni.ui beside it."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

EXTENSION_NAME = "omni_gen3d"


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
    assert not {"torch", "numpy", "pxr"} & sys.modules.keys()


def test_a_wrong_interpreter_is_named(kit_app: Any, tmp_path: Path) -> None:
    """The setting falls back on the running Python only when it is empty; a path that leads nowhere is refused."""
    from omni_gen3d.errors import InputError
    from omni_gen3d.kit.extension import worker_interpreter

    assert worker_interpreter("") == Path(sys.executable)
    assert worker_interpreter(sys.executable) == Path(sys.executable)
    with pytest.raises(InputError, match="absent/python"):
        worker_interpreter(str(tmp_path / "absent" / "python"))


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
        assert image.size == (640, 360)
        assert len(set(image.convert("RGB").tobytes())) > 20
    window.destroy()
