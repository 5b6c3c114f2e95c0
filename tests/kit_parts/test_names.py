"""Every name of Kit and Isaac Sim that is used is in the table of its page, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import omni_gen3d

PACKAGE = Path(omni_gen3d.__file__).parent
DOCS = Path(__file__).parents[2] / "docs"
HOSTS = ("carb", "omni", "isaacsim")
ALIASES = {"ui": "omni.ui"}


def names_used(source: str) -> Iterator[str]:
    """Imported modules and names, and what is looked up in them, as dotted names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            parts = [node.attr]
            while isinstance(node := node.value, ast.Attribute):
                parts.append(node.attr)
            if isinstance(node, ast.Name):
                yield ".".join([ALIASES.get(node.id, node.id), *reversed(parts)])


@pytest.mark.parametrize(("sources", "page"), [("kit/*.py", "isaac-sim.md"), ("envs/replicator.py", "envs.md")])
def test_the_table_lists_what_is_used(sources: str, page: str) -> None:
    """A name that is added to the code is looked up in the sources of both releases first."""
    found = {name for file in PACKAGE.glob(sources) for name in names_used(file.read_text(encoding="utf-8"))}
    used = {name for name in found if name.split(".")[0] in HOSTS}
    # A chain that goes on, such as ui.FillPolicy.PRESERVE_ASPECT_CROP, counts by its whole; its beginnings go without.
    used = {name for name in used if not any(other.startswith(f"{name}.") for other in used)}
    rows = re.findall(r"^\| `([\w.]+)` \|", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
    listed = {name for name in rows if name.split(".")[0] in HOSTS}
    assert used - listed == set(), "not in the table"
    assert listed - used == set(), "no longer used"
