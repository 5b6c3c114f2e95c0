"""Checks of single layers, made before anything is composed: units, targets, and files that a layer asks for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pxr import Sdf, UsdGeom, UsdPhysics, UsdUtils

from omni_gen3d.errors import InputError
from omni_gen3d.usd.findings import Finding, error
from omni_gen3d.usd.probe import find_deadly_layers
from omni_gen3d.usd.stage import open_layer, reading

_LAYER_SUFFIXES = {".usd", ".usda", ".usdc"}


def check_layers(root: Path, *, trusted: bool) -> Iterator[Finding]:
    """Check ``root`` and every layer that it reaches, each once; files outside its folder are reported, not opened.

    A layer that is not trusted is read by another process first: OpenUSD aborts over some damaged ones.
    """
    folder = root.parent.resolve()
    waiting, seen = [root.resolve()], set()
    while waiting:
        wave = [path for path in dict.fromkeys(waiting) if path not in seen]
        seen.update(wave)
        waiting = []
        deadly = set() if trusted else find_deadly_layers(wave)
        for path in wave:
            if path in deadly:
                yield error(path.name, "is not a readable USD layer: OpenUSD crashes over it.")
                continue
            findings, reached = _check_layer(path, folder)
            yield from findings
            waiting += reached


def _check_layer(path: Path, folder: Path) -> tuple[list[Finding], list[Path]]:
    """What is wrong with one layer, and the layers that it asks for."""
    try:
        layer = open_layer(path)
        with reading(path):
            findings = [*_check_units(path.name, layer), *_check_targets(path.name, layer)]
            assets = _asset_paths(path)
    except InputError as broken:
        return [error(path.name, str(broken))], []
    reached = []
    for asset in assets:
        problem = _problem_of_asset(asset, path.parent, folder)
        if problem:
            findings.append(error(path.name, problem))
        elif Path(asset).suffix.lower() in _LAYER_SUFFIXES:
            reached.append((path.parent / asset).resolve())
    return findings, reached


def _check_units(where: str, layer: Sdf.Layer) -> Iterator[Finding]:
    metadata = layer.pseudoRoot
    up_axis, meters = metadata.GetInfo(UsdGeom.Tokens.upAxis), metadata.GetInfo(UsdGeom.Tokens.metersPerUnit)
    if not metadata.HasInfo(UsdGeom.Tokens.upAxis) or up_axis != UsdGeom.Tokens.z:
        yield error(where, f"upAxis is '{up_axis}'; author 'Z'.")
    if not metadata.HasInfo(UsdGeom.Tokens.metersPerUnit) or meters != 1.0:
        yield error(where, f"metersPerUnit is {meters}; author 1.")
    kilograms = metadata.GetInfo(UsdPhysics.Tokens.kilogramsPerUnit)
    if kilograms != 1.0:
        yield error(where, f"kilogramsPerUnit is {kilograms}; author 1.")
    if not layer.defaultPrim:
        yield error(where, "has no defaultPrim; without one nothing can reference it.")
    elif not layer.GetPrimAtPath(f"/{layer.defaultPrim}"):
        yield error(where, f"defaultPrim '{layer.defaultPrim}' does not exist.")


def _check_targets(where: str, layer: Sdf.Layer) -> Iterator[Finding]:
    """A target outside the default prim is lost as soon as the layer is referenced."""
    root = Sdf.Path(f"/{layer.defaultPrim}") if layer.defaultPrim else Sdf.Path.absoluteRootPath
    paths: list[Sdf.Path] = []
    layer.Traverse(Sdf.Path.absoluteRootPath, paths.append)
    for path in paths:
        if path.IsTargetPath() and not path.targetPath.HasPrefix(root):
            yield error(where, f"{path.GetParentPath()} targets {path.targetPath}, which is not below {root}.")


def _asset_paths(path: Path) -> list[str]:
    sublayers, references, payloads = UsdUtils.ExtractExternalReferences(str(path))
    return sorted({asset for asset in (*sublayers, *references, *payloads) if asset})


def _problem_of_asset(asset: str, parent: Path, folder: Path) -> str | None:
    if "://" in asset or Path(asset).is_absolute() or not (parent / asset).resolve().is_relative_to(folder):
        return f"asks for '{asset}', which lies outside the folder; an environment holds all that it needs."
    if not (parent / asset).is_file():
        return f"asks for '{asset}', which does not exist."
    return None
