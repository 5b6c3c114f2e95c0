"""What a ``Mesh`` prim looks like: triangles, and a normal and a base colour at each of their corners."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pxr import Usd, UsdGeom, UsdShade

from omni_gen3d.errors import InputError
from omni_gen3d.usd.textures import Texture, TextureSource, read_texture, texture_source

# Colour of what names none; that of OpenUSD's own fallback material.
DEFAULT_COLOR = (0.18, 0.18, 0.18)


@dataclass(frozen=True)
class Surface:
    """Triangles in the frame of their prim.

    Attributes:
        points: [unit of the stage], shape ``(V, 3)``, float32.
        faces: Indices of points, shape ``(F, 3)``, int32.
        normals: At the corners of the faces, of unit length, shape ``(F, 3, 3)``, float32.
        colors: RGB at the corners of the faces, shape ``(F, 3, 3)``, float32; where there is a texture, a factor on it.
        coordinates: Places in the texture at the corners of the faces, shape ``(F, 3, 2)``, float32.
        pictures: Which texture each face has, -1 for none, shape ``(F,)``, int32.
        textures: The textures.
    """

    points: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    colors: np.ndarray
    coordinates: np.ndarray
    pictures: np.ndarray
    textures: tuple[Texture, ...]

    @property
    def nbytes(self) -> int:
        arrays = (self.points, self.faces, self.normals, self.colors, self.coordinates, self.pictures)
        return sum(array.nbytes for array in (*arrays, *(texture.pixels for texture in self.textures)))


def read_surface(prim: Usd.Prim, time: Usd.TimeCode) -> Surface:
    """Triangles of a mesh, polygons cut into fans.

    Authored normals count; without them a mesh with a subdivision scheme is smooth and one without is flat. The colour
    is the ``diffuseColor`` of a bound UsdPreviewSurface, of the mesh or of a subset of its faces, constant or textured;
    else ``primvars:displayColor``. Holes are left out; subdivision itself is not done.

    Raises:
        InputError: Points or faces are missing, an index or a length does not fit, or a texture cannot be read.
    """
    mesh = UsdGeom.Mesh(prim)
    points, counts, indices = (
        np.array([] if value is None else value, dtype)
        for value, dtype in (
            (mesh.GetPointsAttr().Get(time), np.float32),
            (mesh.GetFaceVertexCountsAttr().Get(time), np.int32),
            (mesh.GetFaceVertexIndicesAttr().Get(time), np.int32),
        )
    )
    points = points.reshape(-1, 3)
    if (len(counts) and counts.min() < 0) or counts.sum() != len(indices):
        raise InputError(f"{prim.GetPath()} counts {counts.sum()} corners of faces and lists {len(indices)}.")
    if len(indices) and not (0 <= indices.min() and indices.max() < len(points)):
        raise InputError(f"{prim.GetPath()} indexes points {indices.min()}..{indices.max()} of {len(points)}.")
    if not np.isfinite(points).all():
        raise InputError(f"{prim.GetPath()} has points that are not finite.")
    polygons, corners = _fan(counts)
    holes = mesh.GetHoleIndicesAttr().Get(time)
    if holes:
        kept = ~np.isin(polygons, np.array(holes))
        polygons, corners = polygons[kept], corners[kept]
    if mesh.GetOrientationAttr().Get(time) == UsdGeom.Tokens.leftHanded:
        corners = np.ascontiguousarray(corners[:, ::-1])
    faces = indices[corners]
    return Surface(
        points,
        faces,
        _normals(mesh, time, points, faces, polygons, corners),
        *_paint(mesh, time, faces, polygons, corners),
    )


def _fan(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Polygon of each triangle, shape ``(F,)``, and the corners it joins, as places in the index list, ``(F, 3)``."""
    triangles = np.maximum(counts - 2, 0)
    polygons = np.repeat(np.arange(len(counts)), triangles)
    first = np.repeat(np.cumsum(counts) - counts, triangles)
    within = np.arange(len(polygons)) - np.repeat(np.cumsum(triangles) - triangles, triangles)
    return polygons, np.stack([first, first + within + 1, first + within + 2], 1).astype(np.int64)


def _at_corners(
    values: np.ndarray, interpolation: str, faces: np.ndarray, polygons: np.ndarray, corners: np.ndarray
) -> np.ndarray | None:
    """Spread values over the corners, shape ``(F, 3, 3)``; None where there are too few for the interpolation."""
    places = {
        UsdGeom.Tokens.constant: np.zeros_like(faces),
        UsdGeom.Tokens.uniform: np.repeat(polygons[:, None], 3, 1),
        UsdGeom.Tokens.vertex: faces,
        UsdGeom.Tokens.varying: faces,
        UsdGeom.Tokens.faceVarying: corners,
    }.get(interpolation)
    if places is None or (places.size and places.max() >= len(values)):
        return None
    return values[places] if places.size else np.zeros((0, 3, 3), np.float32)


def _normals(
    mesh: UsdGeom.Mesh,
    time: Usd.TimeCode,
    points: np.ndarray,
    faces: np.ndarray,
    polygons: np.ndarray,
    corners: np.ndarray,
) -> np.ndarray:
    a, b, c = (points[faces[:, k]].astype(np.float64) for k in range(3))
    flat = np.cross(b - a, c - a)
    smooth = mesh.GetSubdivisionSchemeAttr().Get(time) != UsdGeom.Tokens.none
    values, interpolation = mesh.GetNormalsAttr().Get(time), mesh.GetNormalsInterpolation()
    primvar = UsdGeom.PrimvarsAPI(mesh).GetPrimvar("normals")
    if primvar and primvar.HasValue():
        values, interpolation = primvar.ComputeFlattened(time), primvar.GetInterpolation()
    normals = None
    if values is not None:
        normals = _at_corners(np.array(values, np.float64).reshape(-1, 3), interpolation, faces, polygons, corners)
    if normals is None and smooth:
        sums = np.zeros((len(points), 3))
        for k in range(3):
            np.add.at(sums, faces[:, k], flat)
        normals = sums[faces]
    if normals is None:
        normals = np.repeat(flat[:, None], 3, 1)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    flat = flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-30)
    usable = np.isfinite(length) & (length > 1e-30)
    return np.where(usable, normals / np.where(usable, length, 1), flat[:, None]).astype(np.float32)


def _paint(
    mesh: UsdGeom.Mesh, time: Usd.TimeCode, faces: np.ndarray, polygons: np.ndarray, corners: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[Texture, ...]]:
    """The fields of ``Surface`` from ``colors`` on."""
    colors = np.empty((len(faces), 3, 3), np.float32)
    colors[:] = DEFAULT_COLOR
    spread = _primvar_at_corners(UsdGeom.Gprim(mesh).GetDisplayColorPrimvar(), 3, time, faces, polygons, corners)
    colors = colors if spread is None else spread
    coordinates, pictures = np.zeros((len(faces), 3, 2), np.float32), np.full(len(faces), -1, np.int32)
    textures: list[Texture] = []
    for members, look in base_colors(mesh.GetPrim(), time):
        chosen = np.ones(len(faces), np.bool_) if members is None else np.isin(polygons, members)
        pictures[chosen] = -1
        if isinstance(look, TextureSource):
            primvar = UsdGeom.PrimvarsAPI(mesh).FindPrimvarWithInheritance(look.primvar)
            # A primvar that is not there is 0, as its reader has it.
            places = _primvar_at_corners(primvar, 2, time, faces, polygons, corners)
            places = np.zeros_like(coordinates) if places is None else places
            coordinates[chosen] = look.place(np.nan_to_num(places))[chosen]
            pictures[chosen] = len(textures)
            textures.append(read_texture(look))
        colors[chosen] = 1.0 if isinstance(look, TextureSource) else look
    return np.clip(np.nan_to_num(colors), 0, 1), coordinates, pictures, tuple(textures)


def _primvar_at_corners(
    primvar: UsdGeom.Primvar,
    width: int,
    time: Usd.TimeCode,
    faces: np.ndarray,
    polygons: np.ndarray,
    corners: np.ndarray,
) -> np.ndarray | None:
    """Values of a primvar over the corners, shape ``(F, 3, width)``, float32; None where it has none that fit."""
    values = primvar.ComputeFlattened(time) if primvar and primvar.HasValue() else None
    if values is None or not len(values):
        return None
    values = np.array(values, np.float32).reshape(-1, width)
    spread = _at_corners(values, primvar.GetInterpolation(), faces, polygons, corners)
    return None if spread is None else spread.astype(np.float32)


def base_colors(
    prim: Usd.Prim, time: Usd.TimeCode
) -> list[tuple[tuple[int, ...] | None, tuple[float, ...] | TextureSource]]:
    """Base colours of the materials bound to a mesh: the polygons of each, None for all of them."""
    whole = _diffuse_color(prim, time)
    found: list[tuple[tuple[int, ...] | None, tuple[float, ...] | TextureSource]]
    found = [] if whole is None else [(None, whole)]
    for subset in UsdShade.MaterialBindingAPI(prim).GetMaterialBindSubsets():
        color, members = _diffuse_color(subset.GetPrim(), time), subset.GetIndicesAttr().Get(time)
        if color is not None and members is not None:
            found.append((tuple(members), color))
    return found


def _diffuse_color(prim: Usd.Prim, time: Usd.TimeCode) -> tuple[float, ...] | TextureSource | None:
    """Base colour of the UsdPreviewSurface bound to ``prim``; None where there is none."""
    material, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()
    if not material:
        return None
    shader, _, _ = material.ComputeSurfaceSource()
    if not shader or shader.GetIdAttr().Get() != "UsdPreviewSurface":
        return None
    color = shader.GetInput("diffuseColor")
    if not color:
        return DEFAULT_COLOR
    texture = texture_source(color, time)
    if texture is not None:
        return texture
    # Of a node that is not known the producing attribute is an output, which holds no value.
    sources = color.GetValueProducingAttributes()
    value = sources[0].Get(time) if sources else None
    return None if value is None or len(value) != 3 else tuple(map(float, value))
