"""Triangles, normals and colours that a mesh prim says it has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pxr import Sdf, Usd, UsdGeom, UsdShade

from omni_gen3d.errors import InputError
from omni_gen3d.usd.surfaces import DEFAULT_COLOR, read_surface

NOW = Usd.TimeCode.Default()


@pytest.fixture
def roof() -> Iterator[UsdGeom.Mesh]:
    """A quad on the floor and a triangle that stands on one of its sides, at y = 1."""
    stage = Usd.Stage.CreateInMemory()
    mesh = UsdGeom.Mesh.Define(stage, "/Roof")
    mesh.CreatePointsAttr([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0.5, 1, 1)])
    mesh.CreateFaceVertexCountsAttr([4, 3])
    mesh.CreateFaceVertexIndicesAttr([0, 1, 2, 3, 3, 2, 4])
    mesh.CreateSubdivisionSchemeAttr("none")
    yield mesh  # the stage lives as long


def bind(prim: Usd.Prim, color: tuple[float, float, float]) -> None:
    stage, name = prim.GetStage(), prim.GetName()
    material = UsdShade.Material.Define(stage, f"/Looks/{name}")
    shader = UsdShade.Shader.Define(stage, f"/Looks/{name}/Shader")
    shader.CreateIdAttr("UsdPreviewSurface")
    shader.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).Set(color)
    material.CreateSurfaceOutput().ConnectToSource(shader.ConnectableAPI(), "surface")
    UsdShade.MaterialBindingAPI.Apply(prim).Bind(material)


def test_polygons_become_fans_with_flat_normals(roof) -> None:
    """Without normals and subdivision each face is flat; without a colour it is grey."""
    surface = read_surface(roof.GetPrim(), NOW)
    assert surface.faces.tolist() == [[0, 1, 2], [0, 2, 3], [3, 2, 4]]
    np.testing.assert_allclose(surface.normals[:, 0], [[0, 0, 1], [0, 0, 1], [0, -1, 0]], atol=1e-6)
    np.testing.assert_allclose(surface.colors, np.broadcast_to(DEFAULT_COLOR, (3, 3, 3)))


def test_subdivided_meshes_are_smooth_and_left_handed_ones_turned(roof) -> None:
    """A subdivision scheme averages normals over a point; left-handed faces look the other way."""
    roof.GetSubdivisionSchemeAttr().Set("catmullClark")
    smooth = read_surface(roof.GetPrim(), NOW).normals
    np.testing.assert_allclose(np.linalg.norm(smooth, axis=-1), 1, atol=1e-6)
    assert smooth[2, 0, 2] > 0.3 and smooth[2, 0, 1] < -0.3  # at the shared edge between both faces
    np.testing.assert_allclose(smooth[0, 0], [0, 0, 1], atol=1e-6)
    roof.CreateOrientationAttr("leftHanded")
    roof.GetSubdivisionSchemeAttr().Set("none")
    np.testing.assert_allclose(read_surface(roof.GetPrim(), NOW).normals[0, 0], [0, 0, -1], atol=1e-6)


def test_authored_normals_colours_and_holes(roof) -> None:
    """Face-varying normals, uniform colours and holes are taken as authored."""
    roof.CreateNormalsAttr([(1, 0, 0)] * 4 + [(0, 2, 0)] * 3)
    roof.SetNormalsInterpolation("faceVarying")
    roof.CreateDisplayColorPrimvar("uniform").Set([(1, 0, 0), (0, 1, 0)])
    surface = read_surface(roof.GetPrim(), NOW)
    assert surface.normals[1].tolist() == [[1, 0, 0]] * 3 and surface.normals[2].tolist() == [[0, 1, 0]] * 3
    assert surface.colors[:, 0].tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0]]
    roof.CreateHoleIndicesAttr([0])
    assert read_surface(roof.GetPrim(), NOW).colors[:, 0].tolist() == [[0, 1, 0]]


def test_preview_surfaces_beat_display_colours(roof) -> None:
    """The bound material colours the mesh, that of a subset its faces."""
    roof.CreateDisplayColorAttr([(1, 0, 0)])
    bind(roof.GetPrim(), (0.25, 0.5, 0.75))
    subset = UsdShade.MaterialBindingAPI.Apply(roof.GetPrim()).CreateMaterialBindSubset("side", [1])
    bind(subset.GetPrim(), (0.0, 0.0, 1.0))
    colors = read_surface(roof.GetPrim(), NOW).colors
    assert colors[:, 0].tolist() == [[0.25, 0.5, 0.75], [0.25, 0.5, 0.75], [0, 0, 1]]


def test_broken_meshes_are_named(roof) -> None:
    """Indices and counts that do not fit are one error with the path."""
    roof.GetFaceVertexIndicesAttr().Set([0, 1, 2, 3, 3, 2, 5])
    with pytest.raises(InputError, match=r"/Roof indexes points 0\.\.5 of 5"):
        read_surface(roof.GetPrim(), NOW)
    roof.GetFaceVertexCountsAttr().Set([4, 4])
    with pytest.raises(InputError, match="/Roof counts 8"):
        read_surface(roof.GetPrim(), NOW)


def paint(mesh: UsdGeom.Mesh, file: Path, **inputs: Any) -> UsdShade.Shader:
    """Bind a UsdPreviewSurface whose diffuse colour is a texture at ``primvars:st``; inputs of the texture by name."""
    stage = mesh.GetPrim().GetStage()
    bind(mesh.GetPrim(), (1.0, 0.0, 0.0))
    surface = UsdShade.Shader.Get(stage, f"/Looks/{mesh.GetPrim().GetName()}/Shader")
    texture, reader, turn = (UsdShade.Shader.Define(stage, f"/Looks/{name}") for name in ("File", "Reader", "Turn"))
    texture.CreateIdAttr("UsdUVTexture")
    texture.CreateInput("file", Sdf.ValueTypeNames.Asset).Set(str(file))
    for name, (kind, value) in inputs.items():
        texture.CreateInput(name, getattr(Sdf.ValueTypeNames, kind)).Set(value)
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
    turn.CreateIdAttr("UsdTransform2d")
    turn.CreateInput("scale", Sdf.ValueTypeNames.Float2).Set((2.0, 1.0))
    turn.CreateInput("in", Sdf.ValueTypeNames.Float2).ConnectToSource(reader.ConnectableAPI(), "result")
    texture.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(turn.ConnectableAPI(), "result")
    surface.GetInput("diffuseColor").ConnectToSource(texture.ConnectableAPI(), "rgb")
    return texture


def test_a_texture_lies_where_its_primvar_says(roof, tmp_path) -> None:
    """Coordinates at the corners, through a transform; scale and bias on the pixels; a subset keeps its own colour."""
    picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10
    Image.fromarray(picture).save(tmp_path / "wood.png")
    places = [(0, 0), (1, 0), (1, 1), (0, 1), (0.5, 2)]
    UsdGeom.PrimvarsAPI(roof).CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, "vertex").Set(places)
    shader = paint(roof, tmp_path / "wood.png", wrapS=("Token", "clamp"), bias=("Float4", (0.1, 0, 0, 0)))
    subset = UsdShade.MaterialBindingAPI.Apply(roof.GetPrim()).CreateMaterialBindSubset("side", [1])
    bind(subset.GetPrim(), (0.0, 0.0, 1.0))
    surface = read_surface(roof.GetPrim(), NOW)
    assert surface.pictures.tolist() == [0, 0, -1]
    assert surface.coordinates[0].tolist() == [[0, 0], [2, 0], [2, 1]]
    assert surface.colors[:, 0].tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 1]]
    (texture,) = surface.textures
    assert texture.wrap == ("clamp", "repeat")
    np.testing.assert_array_equal(texture.pixels[..., 1:], picture[..., 1:])
    np.testing.assert_allclose(texture.pixels[..., 0], picture[..., 0] + 25.5, atol=0.51)
    Image.new("RGB", (3000, 1500)).save(tmp_path / "wood.png")
    shader.GetInput("bias").Set((0.0, 0.0, 0.0, 0.0))
    assert read_surface(roof.GetPrim(), NOW).textures[0].pixels.shape == (512, 1024, 3)


@pytest.mark.parametrize(
    ("content", "wrap", "message"),
    [
        (b"not a picture", "repeat", "no picture"),
        (b"", "repeat", "is empty"),
        (None, "repeat", "is not found"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 40, "repeat", "no picture"),
        (b"P6 9000 9000 255 ", "repeat", "9000x9000"),
        (b"P6 1 1 255 abc", "spiral", "'spiral'"),
    ],
    ids=["text", "empty", "missing", "torn", "huge", "wrap"],
)
def test_bad_textures_are_one_error(roof, tmp_path, content: bytes | None, wrap: str, message: str) -> None:
    """The shader and what is wrong with its file are named."""
    file = tmp_path / "wood.png"
    if content is not None:
        file.write_bytes(content)
    paint(roof, file, wrapS=("Token", wrap))
    with pytest.raises(InputError, match=f"/Looks/File.*{message}"):
        read_surface(roof.GetPrim(), NOW)
