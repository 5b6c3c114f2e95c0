"""What the extension needs of the application around it; each extension of Kit is looked up where it is used.

Isaac Sim has all of them, a bare Kit kernel none. What is missing costs a convenience, or raises an error that says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import carb

from omni_gen3d.errors import InputError
from omni_gen3d.worker.protocol import VIDEO_SUFFIXES

_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".ppm", ".jp2", ".tga")
INPUT_SUFFIXES = (*_PICTURE_SUFFIXES, *VIDEO_SUFFIXES)


def current_stage() -> Any:
    """The ``Usd.Stage`` that the application works on; in one without omni.usd the only one in USD's stage cache.

    Raises:
        InputError: There is none.
    """
    try:
        import omni.usd
    except ImportError:
        from pxr import UsdUtils

        stages = UsdUtils.StageCache.Get().GetAllStages()
        stage = stages[0] if len(stages) == 1 else None
    else:
        stage = omni.usd.get_context().get_stage()
    if stage is None:
        raise InputError("no stage is open; create or open one first (File > New).")
    return stage


def selected_paths() -> list[str]:
    """Paths of the prims that are selected in the application."""
    try:
        import omni.usd
    except ImportError:
        return []
    return list(omni.usd.get_context().get_selection().get_selected_prim_paths())


def active_camera(stage: Any) -> str:
    """Path of the camera of the active viewport; without viewports, that of the first camera on the stage.

    Raises:
        InputError: There is none.
    """
    try:
        from omni.kit.viewport.utility import get_active_viewport
    except ImportError:
        found = next((str(prim.GetPath()) for prim in stage.Traverse() if prim.GetTypeName() == "Camera"), "")
    else:
        viewport = get_active_viewport()
        found = "" if viewport is None else str(viewport.camera_path)
    if not found:
        raise InputError("there is no camera to look through; open a viewport or add a camera to the stage.")
    return found


def copy_text(text: str) -> bool:
    """Put text on the clipboard; False where the application offers none."""
    try:
        import omni.kit.clipboard
    except ImportError:
        return False
    omni.kit.clipboard.copy(text)
    return True


def notify(text: str) -> None:
    """Tell the user in passing, and the log in any case."""
    carb.log_info(f"[omni_gen3d] {text}")
    try:
        from omni.kit.notification_manager import post_notification
    except ImportError:
        return
    post_notification(text)


def show_folder(folder: Path) -> None:
    """Open a folder in the desktop's file manager.

    Raises:
        InputError: The desktop has none.
    """
    if sys.platform == "win32":
        os.startfile(folder)
        return
    opener = "open" if sys.platform == "darwin" else "xdg-open"
    try:
        subprocess.Popen([opener, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except OSError as error:
        raise InputError(f"the folder cannot be shown ({opener}: {error.strerror}). It is {folder}") from error


def pick_picture(take: Callable[[str], None]) -> Any:
    """Open the application's file dialog; ``take`` gets the path. Returns the dialog, to be destroyed by the caller.

    Raises:
        InputError: The application has no file dialog.
    """
    try:
        from omni.kit.window.filepicker import FilePickerDialog
    except ImportError:
        raise InputError("this application has no file dialog; type or drop the path of the picture.") from None

    def apply(name: str, folder: str) -> None:
        dialog.hide()
        take(str(Path(folder) / name))

    dialog = FilePickerDialog(
        "Picture or video to start from",
        allow_multi_selection=False,
        apply_button_label="Choose",
        click_apply_handler=apply,
        item_filter_options=["Pictures and videos"],
        item_filter_fn=lambda item: item.is_folder or item.path.lower().endswith(INPUT_SUFFIXES),
    )
    dialog.show()
    return dialog


def accept_files(window_title: str, take: Callable[[str], None]) -> Any:
    """Have files that are dropped on a window from the desktop handed to ``take``; None where that is not offered."""
    try:
        from omni.kit.window.drop_support import ExternalDragDrop
    except ImportError:
        return None

    def dropped(_drop: Any, payload: list[str]) -> None:
        if payload:
            take(payload[0])

    return ExternalDragDrop(window_name=window_title, drag_drop_fn=dropped)
