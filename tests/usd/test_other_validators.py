"""The validators of others find no error in any form of an environment, and do find one where there is one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pxr import Sdf, Usd, UsdValidation

from omni_gen3d.types import GaussianSequence
from omni_gen3d.usd import package_usdz, validate, write_environment

if TYPE_CHECKING:
    from tests.conftest import ToyScene


def openusd_errors(usd: Path) -> list[str]:
    """What OpenUSD's own validators call an error, all of them."""
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    assert len(validators) > 20
    found = UsdValidation.ValidationContext(validators).Validate(Usd.Stage.Open(str(usd)))
    return [f"{each.GetName()}: {each.GetMessage()}" for each in found if not each.HasNoError()]


def omniverse_errors(usd: Path) -> list[str]:
    """What omniverse-asset-validator calls an error, a failure or a warning."""
    from omni.asset_validator import ValidationEngine

    issues: Any = ValidationEngine().validate(str(usd)).issues
    return [f"{issue.rule.__name__ if issue.rule else ''}: {issue.message}" for issue in issues]


Scene = Callable[["ToyScene", GaussianSequence, GaussianSequence], "ToyScene"]
SCENES: dict[str, Scene] = {
    "still": lambda scene, moving, growing: scene,
    "samples": lambda scene, moving, growing: dataclasses.replace(scene, gaussians=moving),
    "clips": lambda scene, moving, growing: dataclasses.replace(scene, gaussians=growing),
    "no proxy": lambda scene, moving, growing: dataclasses.replace(scene, proxy=None),
}


@pytest.mark.parametrize("form", SCENES)
@pytest.mark.parametrize("half", [False, True], ids=["float", "half"])
def test_every_form_passes(
    toy_scene_in_pieces: ToyScene,
    moving_gaussians: GaussianSequence,
    growing_gaussians: GaussianSequence,
    tmp_path: Path,
    form: str,
    half: bool,
):
    """Mesh, convex and none, floats and halves, still, sampled and clipped, folder and package: no error anywhere."""
    scene = SCENES[form](toy_scene_in_pieces, moving_gaussians, growing_gaussians)
    for collision in ("mesh", "convex", "none") if form == "still" else ("convex",):
        usd = write_environment(scene, tmp_path / collision, half=half, collision=collision)
        package = package_usdz(usd.parent)
        assert validate(usd.parent) == []
        assert not [finding for finding in validate(package) if finding.severity == "error"]
        for path in (usd, package):
            assert openusd_errors(path) == []
            assert omniverse_errors(path) == []


def test_they_would_find_an_error(toy_scene: ToyScene, tmp_path: Path):
    """A root layer without a default prim and a payload that is missing are found: the checks above can fail."""
    usd = write_environment(toy_scene, tmp_path / "env")
    layer = Sdf.Layer.FindOrOpen(str(usd))
    layer.ClearDefaultPrim()
    layer.Save()
    assert openusd_errors(usd) and omniverse_errors(usd)
