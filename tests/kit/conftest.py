"""A real Kit and the real omni.ui, both headless, on a machine without a GPU."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib.util
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

REPOSITORY = Path(__file__).parents[2]
EXTENSION_NAME = "omni_gen3d"
# The Python that generates; Kit's own has nothing of what that takes.
GENERATING_PYTHON = "OMNI_GEN3D_TEST_PYTHON"
# Where screenshots are kept, for people to look at.
SCREENSHOTS = "OMNI_GEN3D_SCREENSHOTS"
WINDOW_SIZE = (900, 900)
FRAME_S = 1 / 60
# omni.ui binds these at import; with every call failing it goes on without CUDA.
_CUDA_DRIVER_CALLS = (
    "cuInit",
    "cuDeviceGet",
    "cuCtxCreate_v2",
    "cuCtxDestroy_v2",
    "cuMemcpyDtoH_v2",
    "cuImportExternalMemory",
    "cuExternalMemoryGetMappedBuffer",
    "cuDestroyExternalMemory",
)


@pytest.fixture(scope="session")
def omni_ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """omni.ui, drawing into memory through Mesa's software Vulkan."""
    folder = tmp_path_factory.mktemp("cuda")
    source, library = folder / "driver.c", folder / "libcuda.so.1"
    source.write_text("".join(f"int {name}(void) {{ return 999; }}\n" for name in _CUDA_DRIVER_CALLS))
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", library, source], check=True)
    ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    os.environ.update(OMNIUI_HEADLESS="1", OMNIUI_BACKEND="vulkan")

    import omni.ui
    from omni.ui import standalone

    # The library writes imgui.ini to the working folder.
    with contextlib.chdir(folder):
        standalone.init("omni_gen3d", *WINDOW_SIZE)
        yield omni.ui
        standalone.shutdown()


@pytest.fixture(scope="session")
def generating_python() -> str:
    """The interpreter of the package's own environment."""
    stated = os.environ.get(GENERATING_PYTHON, "")
    if not Path(stated).is_file():
        pytest.fail(f"{GENERATING_PYTHON} is '{stated}'; tests/run sets it to the Python of the package's environment.")
    return stated


@pytest.fixture(scope="session")
def kit_app(omni_ui: ModuleType, generating_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A running Kit that has discovered the repository, not yet enabled it."""
    import omni

    folder = tmp_path_factory.mktemp("kit")
    # An extension is named after its folder, which a checkout may call otherwise.
    (folder / EXTENSION_NAME).mkdir()
    for name in ("extension.toml", "omni_gen3d", "configs", "docs"):
        (folder / EXTENSION_NAME / name).symlink_to(REPOSITORY / name)

    spec = importlib.util.find_spec("omni.kit_app")
    assert spec is not None and spec.origin is not None
    kernel = Path(spec.origin).parent
    omni.__path__.append(str(kernel / "kernel" / "py" / "omni"))
    import omni.kit_app

    app = omni.kit_app.KitApp()
    app.startup(
        [
            str(kernel / "apps" / "omni.app.empty.kit"),
            "--no-window",
            "--allow-root",
            "--portable-root",
            str(folder / "portable"),
            "--ext-path",
            str(folder / EXTENSION_NAME),
            f"--/exts/{EXTENSION_NAME}/python_executable={generating_python}",
            "--/app/extensions/registryEnabled=0",
            "--/telemetry/mode=off",
            # A fast shutdown ends the process, and the report of the tests with it.
            "--/app/fastShutdown=0",
        ]
    )
    app.update()
    yield app
    app.shutdown()


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty library of environments, which workers inherit."""
    monkeypatch.setenv("OMNI_GEN3D_HOME", str(tmp_path / "library"))
    return tmp_path / "library"


class Desk:
    """A person before the application: looks at frames, moves the mouse, types.

    Attributes:
        frame_times_s: Seconds that each frame of Kit and omni.ui took.
    """

    def __init__(self, app: Any, screenshots: Path) -> None:
        self.app = app
        self.frame_times_s: list[float] = []
        self._screenshots = screenshots
        self._run = asyncio.new_event_loop().run_until_complete

    @property
    def extension(self) -> Any:
        from omni_gen3d.kit.extension import get_extension

        return get_extension()

    @property
    def window(self) -> Any:
        return self.extension.window

    @property
    def model(self) -> Any:
        return self.extension.model

    def frame(self) -> None:
        """One frame of everything, sixty a second."""
        from omni.ui import testing

        began = time.perf_counter()
        self.app.update()
        self._run(testing.next_frame())
        self.frame_times_s.append(time.perf_counter() - began)
        time.sleep(max(0.0, FRAME_S - self.frame_times_s[-1]))

    def until(self, condition: Callable[[], Any], timeout_s: float, what: str) -> None:
        """Draw frames until something holds."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f"after {timeout_s} s still not: {what}"
            self.frame()

    def frames(self, count: int = 4) -> None:
        for _ in range(count):
            self.frame()

    def click(self, widget: Any) -> None:
        """Move the mouse to the middle of a widget and click."""
        from omni.ui import testing

        self.frames()
        x, y = middle(widget)
        assert widget.visible and 0 < x < WINDOW_SIZE[0] and 0 < y < WINDOW_SIZE[1], (x, y)
        self._run(testing.mouse_click(x, y))
        self.frames()

    def choose(self, box: Any, number: int) -> None:
        """Open a combo box and click one of its rows, which hang below it."""
        from omni.ui import testing

        self.click(box)
        x, y = middle(box)
        self._run(testing.mouse_click(x, y + (number + 1) * box.computed_height))
        self.frames()

    def drag(self, source: Any, target: Any) -> None:
        """Drag one widget onto another."""
        from omni.ui import testing

        self.frames()
        self._run(testing.mouse_drag(*middle(source), *middle(target)))
        self.frames()

    def type(self, widget: Any, text: str) -> None:
        """Click into a field and type."""
        from omni.ui import testing

        self.click(widget)
        self._run(testing.type_text(text))
        self.frames()

    def pixels_without_mouse(self, name: str) -> bytes:
        """What is on the screen with the mouse out of the way."""
        from omni.ui import testing

        self._run(testing.mouse_move(1, 1))
        with Image.open(self.screenshot(name)) as image:
            return image.convert("RGB").tobytes()

    def screenshot(self, name: str) -> Path:
        """Keep what is on the screen."""
        from omni.ui import testing

        self.frames()
        path = self._screenshots / f"{name}.png"
        assert testing.capture_screenshot(str(path))
        return path


def middle(widget: Any) -> tuple[float, float]:
    """Of a widget on the screen."""
    return widget.screen_position_x + widget.computed_width / 2, widget.screen_position_y + widget.computed_height / 2


@pytest.fixture
def switch(kit_app: Any) -> Callable[[bool], None]:
    """Enables and disables the extension."""
    manager = kit_app.extension_manager
    extension_id = next(e["id"] for e in manager.get_extensions() if e["name"] == EXTENSION_NAME)
    return lambda enabled: manager.set_extension_enabled_immediate(extension_id, enabled)


@pytest.fixture
def desk(kit_app: Any, switch: Callable[[bool], None], library: Path, tmp_path: Path) -> Iterator[Desk]:
    """The extension enabled with its window open, over an empty library; disabled again afterwards."""
    switch(True)
    from omni_gen3d.kit.extension import get_extension

    screenshots = Path(os.environ.get(SCREENSHOTS, tmp_path))
    screenshots.mkdir(parents=True, exist_ok=True)
    get_extension().show_window()
    yield Desk(kit_app, screenshots)
    switch(False)


@pytest.fixture
def host_stage(kit_app: Any) -> Iterator[Any]:
    """The stage that the application works on: Y-up, in centimetres, which is what USD takes where nothing is said."""
    from pxr import Usd, UsdGeom, UsdUtils

    stage = Usd.Stage.CreateInMemory()
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 0.01)
    cache = UsdUtils.StageCache.Get()
    cache.Insert(stage)
    yield stage
    cache.Erase(stage)
