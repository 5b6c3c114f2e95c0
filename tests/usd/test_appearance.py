"""Looks: a gain on the displayed colour, exact for harmonics of every degree."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from pxr import Gf, Sdf, Usd

from omni_gen3d.errors import InputError
from omni_gen3d.geometry import eval_sh
from omni_gen3d.render import render
from omni_gen3d.render.view import resize_cameras
from omni_gen3d.usd import read_environment, write_environment
from omni_gen3d.usd.appearance import APPEARANCES, Appearance, Gain, apply_gain, author_gain, read_gain
from omni_gen3d.usd.splats import author_splats, read_splats

if TYPE_CHECKING:
    from tests.conftest import ToyScene


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_colours_are_multiplied(toy_scene: ToyScene, degree: int):
    """Along random directions each Gaussian's colour is the given one times 2^exposure and its channel's tint."""
    generator = torch.Generator().manual_seed(0)
    sh = torch.randn(50, (degree + 1) ** 2, 3, generator=generator)
    gaussians = dataclasses.replace(toy_scene.gaussians, sh=sh)
    brighter = apply_gain(gaussians, Gain(exposure=0.5, tint=(1.2, 0.7, 0.0)))
    directions = torch.randn(50, 3, generator=generator)
    before, after = eval_sh(sh, directions), eval_sh(brighter.sh, directions)
    factors = [1.2 * 2**0.5, 0.7 * 2**0.5, 0.0]
    for i in (0, 13, 49):
        for channel in range(3):
            assert float(after[i, channel]) == pytest.approx(factors[channel] * float(before[i, channel]), abs=2e-6)
    assert torch.equal(gaussians.sh, sh) and torch.equal(brighter.means, gaussians.means)


def test_neutral_changes_no_bit(toy_scene: ToyScene):
    """The neutral look, and a prim without any, give the harmonics as they were authored."""
    stage = Usd.Stage.CreateInMemory()
    prim = author_splats(stage, "/Splats", toy_scene.gaussians).GetPrim()
    assert read_gain(prim) == Gain()
    author_gain(prim, APPEARANCES["neutral"])
    assert torch.equal(read_splats(prim).sh, toy_scene.gaussians.sh)


def test_the_renderer_shows_it(toy_scene: ToyScene, tmp_path: Path):
    """Where no colour is clipped, the dim picture is the neutral one times its factor, and warm is redder than cool."""
    sh = 0.1 * toy_scene.gaussians.sh
    scene = dataclasses.replace(toy_scene, gaussians=dataclasses.replace(toy_scene.gaussians, sh=sh))
    folder = write_environment(scene, tmp_path / "env").parent
    views = resize_cameras(scene.cameras[:1], 80, 44)

    def picture(look: Appearance | None) -> torch.Tensor:
        gaussians = read_environment(folder, appearance=look).gaussians
        return render(gaussians, views, background=(0.0, 0.0, 0.0)).color[0]

    pictures = {look: picture(look) for look in APPEARANCES}
    assert pictures["neutral"].max() > 0.2
    torch.testing.assert_close(pictures["dim"], pictures["neutral"] * 2**-1.5, atol=1e-5, rtol=1e-4)
    redness = {look: float(seen[..., 0].sum() / seen[..., 2].sum()) for look, seen in pictures.items()}
    assert redness["warm"] > 1.2 * redness["neutral"] > 1.2 * 1.2 * redness["cool"]
    assert torch.equal(picture(None), pictures["neutral"])


def test_no_second_copy_of_the_harmonics(toy_scene: ToyScene, tmp_path: Path):
    """All looks share one layer of splats: what a variant authors is two small attributes."""
    stage = Usd.Stage.Open(str(write_environment(toy_scene, tmp_path / "env")))
    environment = stage.GetPrimAtPath("/World/Environment")
    assert list(environment.GetVariantSet("appearance").GetVariantNames()) == ["cool", "dim", "neutral", "warm"]
    used = set()
    for look in APPEARANCES:
        environment.GetVariantSets().SetSelection("appearance", look)
        stack = stage.GetAttributeAtPath(
            "/World/Environment/Splats.radiance:sphericalHarmonicsCoefficients"
        ).GetPropertyStack()
        used |= {spec.layer.GetDisplayName() for spec in stack}
    assert used == {"splats.usdc"}


@pytest.mark.parametrize(
    ("name", "type_name", "value"),
    [
        ("omni_gen3d:exposure", Sdf.ValueTypeNames.Float, float("nan")),
        ("omni_gen3d:exposure", Sdf.ValueTypeNames.Float, 1000.0),
        ("omni_gen3d:exposure", Sdf.ValueTypeNames.String, "bright"),
        ("omni_gen3d:tint", Sdf.ValueTypeNames.Color3f, Gf.Vec3f(1, -0.5, 1)),
        ("omni_gen3d:tint", Sdf.ValueTypeNames.Color3f, Gf.Vec3f(float("inf"), 1, 1)),
        ("omni_gen3d:tint", Sdf.ValueTypeNames.Float, 0.5),
    ],
)
def test_values_out_of_range_are_refused(toy_scene: ToyScene, name: str, type_name: Sdf.ValueTypeName, value: object):
    """An exposure or tint that is not finite, negative, absurd or of another type is refused with its name."""
    stage = Usd.Stage.CreateInMemory()
    prim = author_splats(stage, "/Splats", toy_scene.gaussians).GetPrim()
    prim.CreateAttribute(name, type_name).Set(value)
    with pytest.raises(InputError, match=name):
        read_splats(prim)
