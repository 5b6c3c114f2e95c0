"""A real Kit and the real omni.ui, both headless, on a machine without a GPU."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
EXTENSION_NAME = "omni_gen3d"
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
        standalone.init("omni_gen3d", 640, 360)
        yield omni.ui
        standalone.shutdown()


@pytest.fixture(scope="session")
def kit_app(omni_ui: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A running Kit that has discovered the repository, not yet enabled it."""
    import omni

    folder = tmp_path_factory.mktemp("kit")
    # An extension is named after its folder, a checkout is not.
    (folder / "exts").mkdir()
    (folder / "exts" / EXTENSION_NAME).symlink_to(REPOSITORY, target_is_directory=True)

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
            "--ext-folder",
            str(folder / "exts"),
            "--/app/extensions/registryEnabled=0",
            "--/telemetry/mode=off",
            # A fast shutdown ends the process, and the report of the tests with it.
            "--/app/fastShutdown=0",
        ]
    )
    app.update()
    yield app
    app.shutdown()
