"""Real objects as training takes them: many small textured meshes in one file, beside textures and skies.

The file is a safetensors archive, ``objects.safetensors``, that ``omni-gen3d train fetch-assets`` writes; nothing in it
is executable. Lengths in metres; an object stands on z = 0 with its middle over the origin and looks along +Y.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from omni_gen3d.errors import InputError

FILE_NAME = "objects.safetensors"
TEXTURE_PX = 128
PLACES = ("floor", "top", "wall")
_VERSION = "1"
_META = "set"


@dataclass(frozen=True)
class ObjectSet:
    """M objects of V vertices and F faces in all, with N materials and T textures.

    Attributes:
        names: What people call each object.
        places: Index into ``PLACES``, shape ``(M,)``, int64: stands on the floor, on other things, or at a wall.
        sizes: Width, depth and height [m], shape ``(M, 3)``, float32.
        first_vertex, first_face: Where the rows of each object begin, shape ``(M + 1,)``, int64.
        positions: [m], shape ``(V, 3)``, float32.
        normals: Unit, shape ``(V, 3)``, float32.
        texture_coordinates: Lower left origin, repeating, shape ``(V, 2)``, float32.
        faces: Counted from the object's first vertex, shape ``(F, 3)``, int64.
        face_material: Shape ``(F,)``, int64.
        material_color: Albedo in [0, 1], shape ``(N, 3)``, float32; it multiplies the texture.
        material_texture: Index, -1 for none, shape ``(N,)``, int64.
        textures: sRGB, shape ``(T, 128, 128, 3)``, uint8; objects' first, then ``surfaces`` pictures of surfaces.
        surfaces: What each of the last textures shows.
        skies: Panoramas, linear, up first, shape ``(P, 16, 32, 3)``, float32.
    """

    names: tuple[str, ...]
    places: np.ndarray
    sizes: np.ndarray
    first_vertex: np.ndarray
    first_face: np.ndarray
    positions: np.ndarray
    normals: np.ndarray
    texture_coordinates: np.ndarray
    faces: np.ndarray
    face_material: np.ndarray
    material_color: np.ndarray
    material_texture: np.ndarray
    textures: np.ndarray
    surfaces: tuple[str, ...]
    skies: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @property
    def first_surface(self) -> int:
        """Index of the first texture that shows a surface."""
        return len(self.textures) - len(self.surfaces)


def save_objects(objects: ObjectSet, folder: Path) -> Path:
    """Write ``objects.safetensors`` into a folder, small: half floats, 16-bit indices, textures as JPEG."""
    from safetensors.numpy import save

    pictures = [_jpeg(texture) for texture in objects.textures]
    tensors = {
        "places": objects.places.astype(np.uint8),
        "sizes": objects.sizes.astype(np.float32),
        "first_vertex": objects.first_vertex.astype(np.int64),
        "first_face": objects.first_face.astype(np.int64),
        "positions": objects.positions.astype(np.float16),
        "normals": np.round(objects.normals * 127).astype(np.int8),
        "texture_coordinates": objects.texture_coordinates.astype(np.float16),
        "faces": objects.faces.astype(np.uint16),
        "face_material": objects.face_material.astype(np.uint16),
        "material_color": np.round(objects.material_color * 255).astype(np.uint8),
        "material_texture": objects.material_texture.astype(np.int16),
        "textures": np.frombuffer(b"".join(pictures), np.uint8),
        "texture_ends": np.cumsum([len(picture) for picture in pictures]).astype(np.int64),
        "skies": objects.skies.astype(np.float16),
    }
    told = {"version": _VERSION, "names": objects.names, "surfaces": objects.surfaces}
    path = folder / FILE_NAME
    partial = path.with_suffix(".partial")
    # One entry: safetensors writes several in any order.
    partial.write_bytes(save(tensors, {_META: json.dumps(told)}))
    partial.replace(path)
    return path


def load_objects(folder: Path) -> ObjectSet:
    """Read what ``save_objects`` wrote.

    Raises:
        InputError: The file is missing, of another version, or its parts do not fit each other.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / FILE_NAME
    if not path.is_file():
        raise InputError(f"{folder} holds no {FILE_NAME}; make it with 'omni-gen3d train fetch-assets --out {folder}'.")
    try:
        with safe_open(path, "numpy") as file:
            meta = json.loads((file.metadata() or {}).get(_META, "{}"))
            if meta.get("version") != _VERSION:
                raise InputError(f"{path} is of version {meta.get('version')!r}, not {_VERSION!r}; fetch it again.")
            rows = {name: file.get_tensor(name) for name in file.keys()}
        names, surfaces = (tuple(str(name) for name in meta[key]) for key in ("names", "surfaces"))
        ends = rows["texture_ends"]
        content = rows["textures"].tobytes()
        pictures = [content[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        objects = ObjectSet(
            names=names,
            places=rows["places"].astype(np.int64),
            sizes=rows["sizes"],
            first_vertex=rows["first_vertex"],
            first_face=rows["first_face"],
            positions=rows["positions"].astype(np.float32),
            normals=rows["normals"].astype(np.float32) / 127,
            texture_coordinates=rows["texture_coordinates"].astype(np.float32),
            faces=rows["faces"].astype(np.int64),
            face_material=rows["face_material"].astype(np.int64),
            material_color=rows["material_color"].astype(np.float32) / 255,
            material_texture=rows["material_texture"].astype(np.int64),
            textures=np.stack([_pixels(picture) for picture in pictures]),
            surfaces=surfaces,
            skies=rows["skies"].astype(np.float32),
        )
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"{path} is broken ({error}); delete it and fetch it again.") from error
    _check(objects, path)
    return objects


def _check(objects: ObjectSet, path: Path) -> None:
    """Every index points into what it counts, or an InputError."""
    counts = np.diff(objects.first_vertex)
    owner = np.repeat(np.arange(len(objects)), np.diff(objects.first_face))
    fits = (
        len(objects.places) == len(objects.sizes) == len(objects.first_vertex) - 1 == len(objects.first_face) - 1
        and len(objects) == len(objects.places)
        and len(owner) == len(objects.faces) == len(objects.face_material)
        and objects.first_vertex[-1] == len(objects.positions) == len(objects.normals)
        and bool((objects.faces < counts[owner, None]).all())
        and bool((objects.face_material < len(objects.material_color)).all())
        and bool((objects.material_texture < len(objects.textures)).all())
        and bool(np.isfinite(objects.positions).all() and np.isfinite(objects.texture_coordinates).all())
    )
    if not fits:
        raise InputError(f"{path} is broken (its parts do not fit each other); delete it and fetch it again.")


def _jpeg(pixels: np.ndarray) -> bytes:
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _pixels(content: bytes) -> np.ndarray:
    from PIL import Image

    with Image.open(BytesIO(content), formats=("JPEG",)) as picture:
        if picture.size != (TEXTURE_PX, TEXTURE_PX):
            raise ValueError(f"a texture is {picture.width}x{picture.height}")
        return np.asarray(picture.convert("RGB"))
