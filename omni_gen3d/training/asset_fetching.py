"""``omni-gen3d train fetch-assets``: packages to one folder of real objects, textures and photographs, with credits."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path, PurePosixPath

from omni_gen3d.errors import InputError
from omni_gen3d.training.asset_packages import (
    FURNITURE,
    PHOTOGRAPHS,
    TEXTURES,
    Package,
    expect_licence,
    fetch,
    members,
    zip_members,
)
from omni_gen3d.training.object_conversion import PACKS, ObjectGatherer
from omni_gen3d.training.object_set import FILE_NAME, save_objects

ATTRIBUTION = "ATTRIBUTION.txt"
PAIRS = "pairs"
MAX_SET_BYTES = 25 << 20
# Grows when the conversion changes, so that an older set is made again.
_EDITION = "2"
_FILE_WORDS = {"floor": "stone tile", "fabric pattern": "patterned fabric", "fabric plain": "plain fabric"}
# Pictures of goods with labels, of maps and of gauges are left out.
_SURFACE_FILES = {
    "robosuite": re.compile(
        r"robosuite/models/assets/textures/((?:blue|dark|green|light|red)-wood|brass-ambra|ceramic|clay|"
        r"(?:cream|gray|light-gray|pink|white|yellow)-plaster|dirt|gray-felt|gray-woodgrain|light-gray-floor-tile|metal|"
        r"steel-brushed|steel-scratched|white-bricks|wood-tiles|wood-varnished-panels)\.png"
    ),
    "metaworld": re.compile(
        r"metaworld/assets/(?:scene/)?textures/(fabricPattern|fabricPlain|plaster1?|white_marble_tile2?|wood[1-4]?|"
        r"brick1|darkwood|floor[12]|granite|light_wood(?:_v[23])?|marble|metal[12]|wood_light)\.png"
    ),
}
# People's faces and hands are not measured on.
_PAIR = re.compile(r"stereodemo/datasets/oak-d/((?!selfie|pov_)\w+\.png|stereodemo_calibration\.json)")
Told = Callable[[str, float], None]


def fetch_assets(out: Path, told: Told) -> Path:
    """Fetch, check and convert everything; what is there already and right is kept.

    Args:
        out: Folder; ``packages`` in it holds the archives and may be deleted afterwards.
        told: Called with what is being done and the share of it.

    Returns:
        Path of the set of objects, written with ``ATTRIBUTION.txt`` and the folder ``pairs`` of photographs.

    Raises:
        MissingDependencyError: apt-get or pip is missing.
        InputError: A package cannot be fetched, or its digest, licence or content is not what it should be.
    """
    packages = (FURNITURE, *TEXTURES, PHOTOGRAPHS)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a folder.")
    state = hashlib.sha256("".join([_EDITION, *(package.sha256 for package in packages)]).encode()).hexdigest()
    attribution, made = out / ATTRIBUTION, out / FILE_NAME
    if made.is_file() and attribution.is_file() and f"State: {state}" in attribution.read_text():
        told("nothing to do", 1.0)
        return made
    archives = {}
    for number, package in enumerate(packages):
        told(f"fetch {package.name}", number / len(packages))
        archives[package.name] = fetch(package, out / "packages")
    licences = [(package, expect_licence(package, archives[package.name])) for package in packages]
    gatherer = ObjectGatherer()
    _gather_furniture(gatherer, archives[FURNITURE.name], told)
    for package in TEXTURES:
        _gather_surfaces(gatherer, package, archives[package.name])
    _copy_pairs(archives[PHOTOGRAPHS.name], out / PAIRS)
    path = save_objects(gatherer.finish(), out)
    if path.stat().st_size > MAX_SET_BYTES:
        raise InputError(f"{path} is larger than {MAX_SET_BYTES >> 20} MiB.")
    partial = attribution.with_suffix(".partial")
    partial.write_text(_credits(licences, gatherer.credits, state))
    partial.replace(attribution)
    told("done", 1.0)
    return path


def _gather_furniture(gatherer: ObjectGatherer, archive: Path, told: Told) -> None:
    names = {f"usr/share/sweethome3d/furniture/{pack.name}.sh3f": pack for pack in PACKS}
    contents = dict(members(archive, names.__contains__))
    for name, pack in names.items():
        if name not in contents:
            raise InputError(f"{archive.name} holds no {name}.")
        files = dict(zip_members(BytesIO(contents[name]), name, lambda file: not file.endswith(".pdf")))
        gatherer.add_pack(pack, files, lambda share, pack=pack: told(f"convert {pack.name}", share))


def _gather_surfaces(gatherer: ObjectGatherer, package: Package, archive: Path) -> None:
    pattern = _SURFACE_FILES[package.name]
    found = sorted(members(archive, lambda name: pattern.fullmatch(name) is not None))
    if not found:
        raise InputError(f"{archive.name} holds no textures.")
    for name, content in found:
        gatherer.add_surface(_surface_name(PurePosixPath(name).stem), content)


def _surface_name(stem: str) -> str:
    """What a caption calls a texture: its file's name in words, without numbers."""
    words = re.sub(r"(_v)?\d+$", "", stem).replace("_", " ").replace("-", " ")
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", words).lower().replace("darkwood", "dark wood")
    return (
        words.removesuffix(" floor tile") + " tile" if words.endswith(" floor tile") else _FILE_WORDS.get(words, words)
    )


def _copy_pairs(archive: Path, folder: Path) -> None:
    """Photographs keep their own short names, which the pattern has checked."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in members(archive, lambda name: _PAIR.fullmatch(name) is not None):
        (folder / PurePosixPath(name).name).write_bytes(content)


def _credits(licences: list[tuple[Package, str]], objects: list[str], state: str) -> str:
    """What has to stand beside anything that shows these objects."""
    lines = [
        "Made by 'omni-gen3d train fetch-assets' from the packages below. The objects were scaled, turned and reduced,",
        "their textures made smaller; the photographs are unchanged.",
        "",
        *(f"{package.name} {package.version} (sha256 {package.sha256})" for package, _ in licences),
        "",
        "Objects",
        "Creative Commons Attribution 3.0: https://creativecommons.org/licenses/by/3.0/",
        *objects,
    ]
    for package, text in licences:
        if not package.is_debian:
            lines += ["", f"Licence of {package.name}", text.strip()]
    return "\n".join([*lines, "", f"State: {state}", ""])
