"""Textures on meshes: single places against numpy, pictures against what is known of them, both backends alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from omni_gen3d import geometry
from omni_gen3d.errors import InputError
from omni_gen3d.render.delegate import SplatRenderDelegate
from omni_gen3d.render.textures import TextureAtlas, sample
from omni_gen3d.types import Cameras


@dataclass(frozen=True)
class Picture:
    pixels: np.ndarray
    wrap: tuple[str, str]


# What numpy calls the padding that each wrap is.
_PADS: dict[str, Any] = {"repeat": "wrap", "clamp": "edge", "mirror": "symmetric", "black": "constant"}


@pytest.mark.parametrize("wrap", list(_PADS))
def test_a_place_shows_the_four_pixels_around_it(wrap: str) -> None:
    """Inside and a whole picture beyond it, along both axes, in the second of two textures."""
    rng = np.random.default_rng(0)
    pictures = [Picture(rng.integers(0, 256, (5, 7, 3), np.uint8), (wrap, wrap)) for _ in range(2)]
    atlas = TextureAtlas.of(pictures)
    padded = np.pad(pictures[1].pixels, ((5, 5), (7, 7), (0, 0)), _PADS[wrap]) / 255
    color = np.empty(3)
    for s, t in rng.uniform(-0.9, 1.9, (50, 2)):
        sample(atlas.table, atlas.texels, 1, s, t, 0.0, color)
        x, y = s * 7 - 0.5 + 7, (1 - t) * 5 - 0.5 + 5
        left, top = math.floor(x), math.floor(y)
        block = padded[top : top + 2, left : left + 2]
        expected = np.einsum("rck,r,c->k", block, [1 - (y - top), y - top], [1 - (x - left), x - left])
        np.testing.assert_allclose(color, expected, atol=1e-6)


def test_wide_steps_look_at_smaller_copies() -> None:
    """Every copy of a chequered picture is grey; a step of as many texels as there are shows the mean of all."""
    chequer = np.where(np.indices((16, 16)).sum(0)[..., None] % 2, 255, np.zeros(3)).astype(np.uint8)
    ramp = np.repeat(np.arange(0, 256, 16, dtype=np.uint8)[None, :, None], 16, 0).repeat(3, 2)
    atlas = TextureAtlas.of([Picture(chequer, ("clamp", "clamp")), Picture(ramp, ("clamp", "clamp"))])
    color = np.empty(3)
    for number, step, expected in ((0, 2.0, 0.5), (0, 1e9, 0.5), (1, 16.0, ramp.mean() / 255)):
        sample(atlas.table, atlas.texels, number, 0.3, 0.8, step, color)
        np.testing.assert_allclose(color, expected, atol=0.01)


@pytest.fixture
def board(usd, stage, tmp_path):
    """A square of 2 m at x = 0 that faces +x, half red and half white above green and blue, lit from everywhere."""
    picture = np.array([[[255, 0, 0], [255, 255, 255]], [[0, 255, 0], [0, 0, 255]]], np.uint8)
    Image.fromarray(picture.repeat(64, 0).repeat(64, 1)).save(tmp_path / "board.png")
    mesh = usd.UsdGeom.Mesh.Define(stage, "/Board")
    mesh.CreatePointsAttr([(0, -1, -1), (0, 1, -1), (0, 1, 1), (0, -1, 1)])
    mesh.CreateFaceVertexCountsAttr([4])
    mesh.CreateFaceVertexIndicesAttr([0, 1, 2, 3])
    mesh.CreateSubdivisionSchemeAttr("none")
    kinds = usd.Sdf.ValueTypeNames
    places = usd.UsdGeom.PrimvarsAPI(mesh).CreatePrimvar("st", kinds.TexCoord2fArray, "faceVarying")
    places.Set([(0, 0), (1, 0), (1, 1), (0, 1)])
    material = usd.UsdShade.Material.Define(stage, "/Look")
    surface, texture, reader = (usd.UsdShade.Shader.Define(stage, f"/Look/{n}") for n in ("Surface", "File", "St"))
    surface.CreateIdAttr("UsdPreviewSurface")
    texture.CreateIdAttr("UsdUVTexture")
    texture.CreateInput("file", kinds.Asset).Set(str(tmp_path / "board.png"))
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", kinds.String).Set("st")
    texture.CreateInput("st", kinds.Float2).ConnectToSource(reader.ConnectableAPI(), "result")
    surface.CreateInput("diffuseColor", kinds.Color3f).ConnectToSource(texture.ConnectableAPI(), "rgb")
    material.CreateSurfaceOutput().ConnectToSource(surface.ConnectableAPI(), "surface")
    usd.UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(material)
    usd.UsdLux.DomeLight.Define(stage, "/Dome").CreateIntensityAttr(1.0)
    return stage


def views(*eyes: tuple[float, float, float]) -> Cameras:
    poses = geometry.look_at(torch.tensor(eyes), torch.zeros(3))
    return Cameras(poses, geometry.intrinsics_from_fov(1.2, 64, 48).repeat(len(eyes), 1, 1), 64, 48)


def test_a_texture_is_seen_the_right_way_up(usd, board, tmp_path) -> None:
    """Quarters of the picture where their coordinates put them; another file and other coordinates are seen at once."""
    with SplatRenderDelegate(board, "cpu") as delegate:

        def quarters() -> list[list[float]]:
            color = delegate.render(views((3.0, 0.0, 0.0))).aovs["color"][0]
            return [color[row, column].round(2).tolist() for row in (16, 31) for column in (24, 39)]

        red, white, green, blue = [1, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1]
        assert quarters() == [red, white, green, blue]
        board.GetPrimAtPath("/Board").GetAttribute("primvars:st").Set([(1, 0), (0, 0), (0, 1), (1, 1)])
        assert quarters() == [white, red, blue, green]
        Image.new("RGB", (4, 4), (0, 255, 255)).save(tmp_path / "cyan.png")
        file = board.GetPrimAtPath("/Look/File").GetAttribute("inputs:file")
        file.Set(str(tmp_path / "cyan.png"))
        assert quarters() == 4 * [[0, 1, 1]]
        file.Set(str(tmp_path / "missing.png"))
        for _ in range(2):
            with pytest.raises(InputError, match=r"/Look/File names the texture .*missing\.png"):
                quarters()
        file.Set(str(tmp_path / "cyan.png"))
        assert quarters() == 4 * [[0, 1, 1]]


def test_both_backends_show_the_same_texture(board, author_box, on_gpu) -> None:
    """Near, from aside and so far away that a pixel spans many texels; a mesh without a texture beside it."""
    author_box(board, "/Box", (0.1, -0.3, -0.3), (0.4, 0.1, 0.2), (0.8, 0.3, 0.2))
    eyes = views((1.5, 0.2, 0.3), (0.8, 2.0, 0.5), (25.0, 3.0, 2.0))
    with SplatRenderDelegate(board, "cpu") as delegate:
        theirs = delegate.render(eyes).aovs["color"]
    with on_gpu(board) as delegate:
        ours = delegate.render(eyes).aovs["color"].cpu().numpy()
    assert len(np.unique(theirs[0].round(1).reshape(-1, 3), axis=0)) > 5
    assert -10 * math.log10(np.square(ours - theirs).mean() + 1e-12) >= 45
