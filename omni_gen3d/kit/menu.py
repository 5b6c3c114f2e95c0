"""Entries below Tools > Replicator, where the application has Kit's menus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_MENU, _SUBMENU = "Tools", "Replicator"


class MenuEntries:
    """Entries that call; ``close`` takes them back."""

    def __init__(self, entries: Mapping[str, Callable[[], Any]]) -> None:
        try:
            from omni.kit.menu.utils import MenuItemDescription, add_menu_items, remove_menu_items
        except ImportError:
            self._remove = None
            return

        def caller(call: Callable[[], Any]) -> Callable[..., None]:
            return lambda *_: call() and None

        inside = [MenuItemDescription(name=name, onclick_fn=caller(call)) for name, call in entries.items()]
        self._items = [MenuItemDescription(name=_SUBMENU, sub_menu=inside)]
        self._remove = remove_menu_items
        add_menu_items(self._items, _MENU)

    def close(self) -> None:
        if self._remove is not None:
            self._remove(self._items, _MENU)
            self._remove = None
