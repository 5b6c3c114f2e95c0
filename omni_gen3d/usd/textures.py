"""Pictures on meshes: the UsdUVTexture behind the diffuse colour of a UsdPreviewSurface, read and kept small."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from pxr import Ar, Sdf, Usd, UsdShade

from omni_gen3d.errors import InputError

# What each wrap mode of the shader is; a picture has no metadata that would say.
_WRAPS = {"repeat": "repeat", "clamp": "clamp", "mirror": "mirror", "black": "black", "useMetadata": "repeat"}
# A file that claims to be larger is not opened; one that is larger than what is kept is made smaller.
MAX_FILE_BYTES, MAX_FILE_PIXELS = 1 << 28, 1 << 26
MAX_SIDE = 1024
_COORDINATES = "st"


@dataclass(frozen=True)
class TextureSource:
    """Where a texture comes from and how it lies on a surface; two that are equal look the same.

    Attributes:
        owner: Path of the shader, for messages.
        asset: The asset path as it is authored.
        file: What it resolves to, empty where it is not found.
        primvar: Name of the texture coordinates.
        placement: From the primvar to the texture, the upper two rows of an affine map of ``(s, t, 1)``, row by row.
        wrap: What lies beyond the unit square, along s and along t, as authored.
        scale: Factors on red, green and blue.
        bias: Added after that.
        stamp: When the file was last written, as its resolver counts.
    """

    owner: str
    asset: str
    file: str
    primvar: str
    placement: tuple[float, ...]
    wrap: tuple[str, str]
    scale: tuple[float, ...]
    bias: tuple[float, ...]
    stamp: float

    def place(self, coordinates: np.ndarray) -> np.ndarray:
        """Values of the primvar, shape ``(..., 2)``, as places in the texture."""
        matrix = np.array(self.placement).reshape(2, 3)
        return (coordinates @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


@dataclass(frozen=True)
class Texture:
    """A picture, its first row on top where t is 1: RGB, uint8, shape ``(H, W, 3)``; and what lies beyond it."""

    pixels: np.ndarray
    wrap: tuple[str, str]


def texture_source(color: UsdShade.Input, time: Usd.TimeCode) -> TextureSource | None:
    """The texture that an input of a shader takes its colour from, not looked at yet; None where it takes none."""
    found = _upstream(color)
    if found is None or found.GetIdAttr().Get() != "UsdUVTexture":
        return None
    owner = str(found.GetPath())

    def value(name: str, fallback: Any) -> Any:
        given = _value(found, name, time)
        return fallback if given is None else given

    asset = value("file", Sdf.AssetPath())
    wraps = [str(value(name, "useMetadata")) for name in ("wrapS", "wrapT")]
    primvar, placement = _coordinates(found, time)
    scale, bias = (tuple(map(float, value(name, 4 * [default])))[:3] for name, default in (("scale", 1), ("bias", 0)))
    file = Ar.ResolvedPath(str(asset.resolvedPath))
    stamp = Ar.GetResolver().GetModificationTimestamp(asset.path, file).GetTime() if asset.resolvedPath else 0.0
    return TextureSource(owner, asset.path, str(file), primvar, placement, (wraps[0], wraps[1]), scale, bias, stamp)


@lru_cache(maxsize=16)
def read_texture(source: TextureSource) -> Texture:
    """The picture as it is displayed; its colours are not made linear, as those of splats are not.

    Raises:
        InputError: The file is not found, cannot be read, is no picture or larger than ``MAX_FILE_PIXELS``, or a wrap
            mode is unknown.
    """
    from PIL import Image, UnidentifiedImageError

    if not source.file:
        raise InputError(f"{source.owner} names the texture '{source.asset}', which is not found; correct inputs:file.")
    for wrap in source.wrap:
        if wrap not in _WRAPS:
            raise InputError(f"{source.owner} wraps its texture '{wrap}'; allowed are {', '.join(_WRAPS)}.")
    asset = Ar.GetResolver().OpenAsset(Ar.ResolvedPath(source.file))
    if not asset or not 0 < asset.GetSize() <= MAX_FILE_BYTES:
        raise InputError(f"{source.owner}: texture {source.file} is empty, unreadable or over {MAX_FILE_BYTES} bytes.")
    try:
        with Image.open(io.BytesIO(asset.GetBuffer())) as image:
            if image.width * image.height > MAX_FILE_PIXELS:
                raise InputError(
                    f"{source.owner}: texture {source.file} has {image.width}x{image.height} pixels; at most "
                    f"{MAX_FILE_PIXELS} are read."
                )
            image.draft("RGB", (MAX_SIDE, MAX_SIDE))
            picture = image.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{source.owner}: texture {source.file} is no picture that can be read: {error}.") from error
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    pixels = np.asarray(picture)
    if source.scale != (1, 1, 1) or source.bias != (0, 0, 0):
        pixels = np.clip(pixels * np.array(source.scale) + 255 * np.array(source.bias), 0, 255).round().astype(np.uint8)
    return Texture(pixels, (_WRAPS[source.wrap[0]], _WRAPS[source.wrap[1]]))


def _upstream(given: UsdShade.Input) -> UsdShade.Shader | None:
    """The shader whose output an input shows."""
    attributes = given.GetValueProducingAttributes() if given else []
    if not attributes or not UsdShade.Utils.GetType(attributes[0].GetName()) == UsdShade.AttributeType.Output:
        return None
    return UsdShade.Shader(attributes[0].GetPrim())


def _value(shader: UsdShade.Shader, name: str, time: Usd.TimeCode) -> Any:
    """What an input of a shader holds, or the input of its material that it is connected to."""
    given = shader.GetInput(name)
    attributes = given.GetValueProducingAttributes() if given else []
    return attributes[0].Get(time) if attributes else None


def _coordinates(texture: UsdShade.Shader, time: Usd.TimeCode) -> tuple[str, tuple[float, ...]]:
    """The primvar that places a texture, and the affine map of UsdTransform2d nodes in between."""
    matrix, shader = np.eye(3), _upstream(texture.GetInput("st"))
    while shader and shader.GetIdAttr().Get() == "UsdTransform2d":
        given = {name: _value(shader, name, time) for name in ("rotation", "scale", "translation")}
        angle = np.radians(given["rotation"] or 0.0)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        step = np.eye(3)
        step[:2, :2] = turn @ np.diag(given["scale"] if given["scale"] is not None else (1.0, 1.0))
        step[:2, 2] = given["translation"] if given["translation"] is not None else (0.0, 0.0)
        matrix, shader = matrix @ step, _upstream(shader.GetInput("in"))
    name = _value(shader, "varname", time) if shader else None
    return str(name or _COORDINATES), tuple(map(float, matrix[:2].reshape(-1)))
