"""From packages to one compact set of real objects: catalogues are read, meshes scaled, reduced and gathered."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from omni_gen3d.errors import InputError
from omni_gen3d.training.mesh_reduction import reduced
from omni_gen3d.training.obj_file import Material, ObjMesh, read_mtl, read_obj
from omni_gen3d.training.object_set import PLACES, TEXTURE_PX, ObjectSet

MAX_FACES = 1200
_GIVEN_UP_FACES = 4000  # what cannot be reduced below this, foliage mostly, is left out
_SIZES_M = (0.06, 6.0)  # longest side of what is taken
_STANDS_FROM_M = 0.3  # lower things lie on others
_HANGS_FROM_CM = 100.0
_SEE_THROUGH = 0.35  # faces of less opacity are left out
_TILES = 500.0  # greatest texture coordinate
# People, brands, flat marks and what is no thing in a room; two sofas whose folder names another licence.
_LEFT_OUT = re.compile(
    r"female|male\b|mannequin|apple|iphone|imac|ibook|playstation|ford\b|seat leon|peugeot|renault|yamaha|chevrolet|"
    r"smart car|beetle|bill \d|winchester|pool$|escalator|elevator|crossing|arrow|parking|sidewalk|barnum|plug|socket|"
    r"switch|rails|watch|^ring$",
    re.IGNORECASE,
)
_SKY_ROWS, _SKY_COLUMNS, _SKIES = 16, 32, 12


@dataclass(frozen=True)
class Pack:
    """A catalogue of furniture.

    Attributes:
        name: Of its file.
        licence: What its catalogue must say.
    """

    name: str
    licence: str


PACKS = (
    Pack("BlendSwap-CC-0", "Public domain"),
    Pack("BlendSwap-CC-BY", "Creative Commons Attribution 3.0"),
    Pack("Scopia", "Creative Commons Attribution 3.0"),
    Pack("KatorLegaz", "Creative Commons Attribution 3.0"),
)


class ObjectGatherer:
    """Collects objects and textures; ``finish`` makes the set. The order of calls decides the bytes."""

    def __init__(self) -> None:
        self.credits: list[str] = []
        self._names: list[str] = []
        self._places: list[int] = []
        self._sizes: list[np.ndarray] = []
        self._meshes: list[tuple[ObjMesh, np.ndarray]] = []
        self._colors: list[tuple[float, float, float]] = []
        self._material_texture: list[int] = []
        self._textures: list[np.ndarray] = []
        self._surfaces: list[tuple[str, np.ndarray]] = []

    def add_pack(self, pack: Pack, files: dict[str, bytes], told: Callable[[float], None]) -> None:
        """Add the objects of a catalogue.

        Args:
            pack: Its name and licence.
            files: Content of its archive, by name.
            told: Called with the share that is done.

        Raises:
            InputError: Its licence is not the expected one, or it holds no object.
        """
        catalogue = files.get("PluginFurnitureCatalog.properties", b"").decode("latin-1")
        licence = re.search(r"^license=(.*)$", catalogue, re.MULTILINE)
        if licence is None or pack.licence not in licence[1]:
            raise InputError(f"the catalogue of {pack.name} does not say {pack.licence!r}; it is not used.")
        entries = _entries(catalogue)
        before, seen = len(self._names), dict[str, int]()
        for number, entry in enumerate(entries):
            told(number / len(entries))
            self._add(entry, files, seen, pack)
        if len(self._names) == before:
            raise InputError(f"{pack.name} holds no object that can be used.")

    def add_surface(self, name: str, content: bytes) -> None:
        """Add a texture of walls, floors and shapes."""
        picture = _texture(content)
        if picture is None:
            raise InputError(f"the texture {name} cannot be read.")
        self._surfaces.append((name, picture))

    def finish(self) -> ObjectSet:
        """The set of all that was added."""
        meshes = [mesh for mesh, _ in self._meshes]
        return ObjectSet(
            names=tuple(self._names),
            places=np.array(self._places, np.int64),
            sizes=np.array(self._sizes, np.float32).reshape(-1, 3),
            first_vertex=np.cumsum([0, *(len(mesh.positions) for mesh in meshes)]),
            first_face=np.cumsum([0, *(len(mesh.faces) for mesh in meshes)]),
            positions=np.concatenate([mesh.positions for mesh in meshes]).astype(np.float32),
            normals=np.concatenate([mesh.normals for mesh in meshes]).astype(np.float32),
            texture_coordinates=np.concatenate([mesh.texture_coordinates for mesh in meshes]).astype(np.float32),
            faces=np.concatenate([mesh.faces for mesh in meshes]),
            face_material=np.concatenate([material for _, material in self._meshes]),
            material_color=np.array(self._colors, np.float32).reshape(-1, 3),
            material_texture=np.array(self._material_texture, np.int64),
            textures=np.stack([*self._textures, *(picture for _, picture in self._surfaces)]),
            surfaces=tuple(name for name, _ in self._surfaces),
            skies=drawn_skies(np.random.default_rng(0)),
        )

    def _add(self, entry: dict[str, str], files: dict[str, bytes], seen: dict[str, int], pack: Pack) -> None:
        name, path = entry.get("name", ""), entry.get("model", "").lstrip("/")
        if (
            not path.endswith(".obj")
            or path not in files
            or _LEFT_OUT.search(name)
            or entry.get("doorOrWindow") == "true"
        ):
            return
        size = np.array([float(entry[side]) for side in ("width", "depth", "height")]) / 100
        if not _SIZES_M[0] <= size.max() <= _SIZES_M[1]:
            return
        mesh = read_obj(files[path].decode("utf-8", "replace"), path)
        folder = PurePosixPath(path).parent
        materials: dict[str, Material] = {}
        for library in mesh.libraries:
            materials |= read_mtl(files.get(str(folder / PurePosixPath(library).name), b"").decode("utf-8", "replace"))
        looks = [materials.get(material, Material()) for material in mesh.materials]
        pictures = [self._picture(str(folder / look.picture), files, seen) if look.picture else -1 for look in looks]
        mesh = _visible(mesh, looks, pictures)
        if len(mesh.faces) < 4:
            return
        mesh = reduced(_standing(mesh, size, entry.get("modelRotation", "")), MAX_FACES)
        if len(mesh.faces) > _GIVEN_UP_FACES:
            return
        # A picture shows as it is: its material's own colour is mostly left at some default.
        first = len(self._colors)
        self._colors += [(1.0, 1.0, 1.0) if p >= 0 else look.color for look, p in zip(looks, pictures, strict=True)]
        self._material_texture += pictures
        self._meshes.append((mesh, mesh.face_material + first))
        elevation = float(entry.get("elevation", 0))
        hangs = elevation > _HANGS_FROM_CM
        place = "wall" if hangs else "floor" if size[2] > _STANDS_FROM_M and elevation < 5 else "top"
        self._names.append(name)
        self._places.append(PLACES.index(place))
        self._sizes.append(size)
        self.credits.append(f"{name}, by {entry.get('creator', 'unknown')} ({pack.name}: {pack.licence})")

    def _picture(self, path: str, files: dict[str, bytes], seen: dict[str, int]) -> int:
        """Index of an object's texture, -1 where the file is missing or unreadable."""
        if path not in seen:
            picture = _texture(files.get(path, b""))
            seen[path] = -1 if picture is None else len(self._textures)
            if picture is not None:
                self._textures.append(picture)
        return seen[path]


def _entries(catalogue: str) -> list[dict[str, str]]:
    """Entries ``key#number=value`` of a catalogue, by number."""
    entries: dict[int, dict[str, str]] = {}
    for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*)$", catalogue, re.MULTILINE):
        entries.setdefault(int(number), {})[key] = value.strip()
    return [entries[number] for number in sorted(entries)]


def _texture(content: bytes) -> np.ndarray | None:
    """A picture at the size of a texture, None where it is none."""
    try:
        with Image.open(BytesIO(content), formats=("PNG", "JPEG", "GIF", "BMP")) as picture:
            return np.asarray(picture.convert("RGB").resize((TEXTURE_PX, TEXTURE_PX), Image.Resampling.LANCZOS))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError, SyntaxError, ValueError):
        return None


def _visible(mesh: ObjMesh, looks: list[Material], pictures: list[int]) -> ObjMesh:
    """Without glass; texture coordinates that nothing reads are 0, so that corners can be shared."""
    opaque = np.array([look.opacity > _SEE_THROUGH for look in looks], bool)[mesh.face_material]
    faces, material = mesh.faces[opaque], mesh.face_material[opaque]
    read = np.zeros(len(mesh.positions), bool)
    read[faces[np.array(pictures)[material] >= 0].ravel()] = True
    coordinates = np.where(read[:, None], mesh.texture_coordinates, 0).clip(-_TILES, _TILES)
    used, index = np.unique(faces, return_inverse=True)
    rows = np.concatenate([mesh.positions[used], mesh.normals[used], coordinates[used]], 1)
    rows, again = np.unique(rows, axis=0, return_inverse=True)
    return replace(
        mesh,
        positions=rows[:, :3],
        normals=rows[:, 3:6].astype(np.float32),
        texture_coordinates=rows[:, 6:].astype(np.float32),
        faces=again.reshape(-1)[index.reshape(-1, 3)],
        face_material=material,
    )


def _standing(mesh: ObjMesh, size: np.ndarray, rotation: str) -> ObjMesh:
    """Turned as the catalogue says, Z up, looking along +Y, of the given size, its middle over the origin, on z = 0."""
    turn = np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]])
    numbers = [float(number) for number in rotation.split()]
    if len(numbers) == 9:
        turn = turn @ np.array(numbers).reshape(3, 3)
    positions = mesh.positions @ turn.T
    low, high = positions.min(0), positions.max(0)
    scale = size / np.maximum(high - low, 1e-9)
    middle = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    # Normals turn with the inverse of what stretches positions.
    normals = (mesh.normals @ turn.T) / np.maximum(scale, 1e-9)
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return replace(mesh, positions=(positions - middle) * scale, normals=normals.astype(np.float32))


def drawn_skies(rng: np.random.Generator) -> np.ndarray:
    """Panoramas of skies and lit rooms, linear, shape ``(12, 16, 32, 3)``: gradients over a ground, and spots."""
    up = np.linspace(1, -1, _SKY_ROWS)[:, None, None]
    around = np.linspace(-np.pi, np.pi, _SKY_COLUMNS, endpoint=False)[None, :, None]
    skies = []
    for number in range(_SKIES):
        horizon, ground = rng.uniform(0.2, 1.1, 3), rng.uniform(0.05, 0.45, 3)
        blue = np.array([0.35, 0.55, 1.0]) * rng.uniform(0.2, 1.1)
        zenith = blue if number % 2 else np.full(3, rng.uniform(0.3, 1.0))
        sky = np.where(up > 0, horizon + (zenith - horizon) * up.clip(0) ** 0.6, ground)
        for _ in range(3):
            azimuth, height = rng.uniform(-np.pi, np.pi), rng.uniform(-0.2, 0.9)
            across = (around - azimuth + np.pi) % (2 * np.pi) - np.pi
            spot = (across / rng.uniform(0.2, 0.7)) ** 2 + ((up - height) / rng.uniform(0.1, 0.4)) ** 2
            sky = sky + rng.uniform(0, 2.5) * np.exp(-spot)
        skies.append(sky)
    return np.stack(skies).astype(np.float32)
