"""The rules of the house, read from the sources: who may import whom, what stays unloaded, how long a file may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import omni_gen3d

PACKAGE = Path(omni_gen3d.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

FOUNDATION = {"errors", "types", "geometry", "config", "checkpoints", "layers", "request", "tensor_file"}
STAGES = {"video", "decoder", "render", "mesh", "motion", "usd"}
# What each part may import, itself aside. Stages meet through types.py; render is a service that others call.
ALLOWED_EDGES: dict[str, set[str]] = {
    "__init__": {"conversion", "filming", "pipeline", "usd"},
    "errors": set(),
    "types": {"errors"},
    "geometry": {"errors", "types"},
    "config": {"errors"},
    "checkpoints": {"errors"},
    "layers": {"errors"},
    "tensor_file": {"errors"},
    "request": {"errors"},
    "console": {"errors"},
    "video": FOUNDATION,
    "decoder": FOUNDATION | {"render"},
    "render": FOUNDATION | {"usd"},
    "mesh": FOUNDATION | {"render"},
    "motion": FOUNDATION | {"render", "mesh"},
    "usd": FOUNDATION | {"__init__"},
    "splat_file": {"errors", "types", "geometry"},
    "finishing": FOUNDATION | STAGES,
    "room": FOUNDATION | STAGES | {"finishing", "room_floor", "room_walls"},
    "room_floor": FOUNDATION | STAGES,
    "room_walls": FOUNDATION | STAGES,
    "placing": FOUNDATION | STAGES,
    "official_weights": {"errors"},
    "official_setup": FOUNDATION | STAGES | {"official_weights"},
    "lyra": FOUNDATION | STAGES | {"finishing", "placing", "official_setup"},
    "lyra_commands": FOUNDATION | STAGES | {"console", "official_weights", "official_setup"},
    "pipeline": FOUNDATION | STAGES | {"__init__", "finishing", "placing", "lyra", "room"},
    "view_commands": FOUNDATION | STAGES | {"console"},
    "filming": FOUNDATION | STAGES | {"finishing", "pipeline", "placing"},
    "envs": FOUNDATION | STAGES | {"console", "finishing", "pipeline"},
    "worker": FOUNDATION | STAGES | {"__init__", "envs", "finishing"},
    # What runs inside Kit, whose Python has neither torch nor numpy.
    "kit": {"errors", "request", "envs", "worker"},
    "training": FOUNDATION | STAGES | {"__init__", "console", "pipeline", "placing", "envs"},
    "bench": FOUNDATION
    | STAGES
    | {"__init__", "console", "conversion", "filming", "finishing", "pipeline", "splat_file", "envs", "training"},
    "conversion": FOUNDATION | STAGES | {"finishing", "splat_file"},
    "cli": FOUNDATION
    | STAGES
    | {
        "__init__",
        "bench",
        "console",
        "conversion",
        "finishing",
        "lyra_commands",
        "pipeline",
        "envs",
        "training",
        "view_commands",
    },
}
# Where a library may be imported: paths below the package, each a folder or a file.
LIBRARY_HOMES: dict[str, tuple[str, ...]] = {
    "pxr": ("usd/", "render/delegate.py", "envs/", "kit/"),
    "gsplat": ("render/", "training/", "bench/gsplat_batch.py"),
    "omni": ("kit/", "envs/replicator.py"),
    "carb": ("kit/",),
    "isaacsim": ("kit/",),
    "isaaclab": ("envs/",),
    "newton": (
        "envs/",
        "bench/newton_camera.py",
        "bench/drive.py",
        "bench/newton_drive.py",
        "bench/explored.py",
    ),
    "ovphysx": ("envs/player.py",),
    "ovstage": (),
    "triton": ("decoder/scan_triton.py",),
}
MAX_LINES = 600
MAX_LINES_OF_A_NETWORK = 800


@dataclass(frozen=True)
class Import:
    """One imported module and where it is named."""

    module: str
    source: str
    line: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.module}"


def imports_of(tree: ast.AST, source: str) -> Iterator[Import]:
    """Every module that a source names: import statements, and dotted names in strings, as lazy loaders hold them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, source, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{source}:{node.lineno} imports relatively"
            inside_root = node.module == PACKAGE.name
            modules = [f"{node.module}.{alias.name}" for alias in node.names] if inside_root else [node.module]
            yield from (Import(module, source, node.lineno) for module in modules)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(rf"{PACKAGE.name}(\.\w+)+", node.value) and is_module(node.value):
                yield Import(node.value, source, node.lineno)


def is_module(name: str) -> bool:
    path = PACKAGE.joinpath(*name.split(".")[1:])
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def part_of(module: str) -> str:
    """The first name below the package; the package itself for names that its __init__ defines."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and is_module(".".join(parts[:2])) else "__init__"


def package_imports() -> list[Import]:
    found = []
    for path in SOURCES:
        found += imports_of(ast.parse(path.read_text(encoding="utf-8")), path.relative_to(PACKAGE).as_posix())
    return found


def test_parts_import_only_what_lies_below_them() -> None:
    """Data flows one way: the table above holds every edge between two parts of the package."""
    wrong = []
    for found in package_imports():
        importer = found.source.split("/")[0].removesuffix(".py")
        if found.module.split(".")[0] == PACKAGE.name:
            imported = part_of(found.module)
            if imported != importer and imported not in ALLOWED_EDGES[importer]:
                wrong.append(str(found))
    assert not wrong, wrong


def test_training_is_reached_through_its_commands_alone() -> None:
    """Outside training, benchmarks know it and the command line, of it only the verbs."""
    outside = [i for i in package_imports() if part_of(i.module) == "training" and not i.source.startswith("training/")]
    others = [i for i in outside if not i.source.startswith("bench/")]
    strays = [str(i) for i in others if i.module != "omni_gen3d.training.commands"]
    assert not strays, strays


@pytest.mark.parametrize("library", LIBRARY_HOMES)
def test_a_library_stays_in_its_home(library: str) -> None:
    """One part of the package knows each engine; the others go through it."""
    homes = LIBRARY_HOMES[library]
    strays = [str(i) for i in package_imports() if i.module.split(".")[0] == library and not i.source.startswith(homes)]
    assert not strays, strays


@pytest.mark.parametrize("module", ["omni_gen3d", "omni_gen3d.cli"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    """A fresh interpreter that imports the package, or starts the command line, has loaded no slow library."""
    code = f"import sys, {module}; print(*{{m.partition('.')[0] for m in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torch", "numpy", "diffusers", "transformers", "numba", *LIBRARY_HOMES}
    assert not heavy & set(loaded)


def test_converting_loads_no_scipy() -> None:
    """A quarter of a second that ``convert --collision none`` does without; the collider's stages load it."""
    code = "import sys, omni_gen3d.conversion, omni_gen3d.usd.environment; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"scipy.ndimage", "scipy.spatial", "scipy.sparse"} & set(loaded)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_holds_one_idea(path: Path) -> None:
    """No drawer for odds and ends, and no file too long to read; a network that reads top to bottom may be longer."""
    source = path.read_text(encoding="utf-8")
    assert path.stem not in {"utils", "util", "misc", "common", "helpers"}
    limit = MAX_LINES_OF_A_NETWORK if re.search(r"^class \w+\(.*\bModule\)", source, re.MULTILINE) else MAX_LINES
    assert len(source.splitlines()) <= limit
