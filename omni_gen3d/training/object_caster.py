"""Rays against many placed copies of textured meshes, by kernels of our own: nvcc on a GPU, a C++ compiler without."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch

from omni_gen3d.errors import InputError, MissingDependencyError
from omni_gen3d.render.gpu.library import stream_of
from omni_gen3d.training.object_set import ObjectSet, load_objects
from omni_gen3d.training.object_shapes import with_shapes

_SOURCE = Path(__file__).with_name("objects.cu")
_LEAF = 4  # as LEAF in objects.cu
_NOWHERE = 3e38  # a point that no ray meets
_EMPTY = np.array([_NOWHERE] * 3 + [-_NOWHERE] * 3, np.float32)


class Placed(NamedTuple):
    """K places for objects in each of B worlds.

    Attributes:
        model: Index of the object, -1 for none, shape ``(B, K)``, int32.
        to_world: Affine, of upper rows, object to world [m], shape ``(B, K, 3, 4)``.
        tint: Factor on the albedo, shape ``(B, K, 3)``.
        texture: Texture instead of the object's own, -1 for none, shape ``(B, K)``, int64.
    """

    model: torch.Tensor
    to_world: torch.Tensor
    tint: torch.Tensor
    texture: torch.Tensor


class Hits(NamedTuple):
    """Where N rays of each world end.

    Attributes:
        distance: Ray parameter; the ray's limit where nothing was hit, shape ``(B, N)``.
        place: Index of the place that was hit, -1 for none, shape ``(B, N)``, int64.
        face: Face in ``ObjectCaster``'s order, shape ``(B, N)``, int64.
        weights: Of the face's second and third corner, shape ``(B, N, 2)``.
    """

    distance: torch.Tensor
    place: torch.Tensor
    face: torch.Tensor
    weights: torch.Tensor


class ObjectCaster:
    """A set of objects on a device, with a tree over the faces of each."""

    def __init__(self, objects: ObjectSet, device: torch.device) -> None:
        self.objects, self.device = objects, device

        def on_device(rows: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(rows)).to(device, dtype)

        vertices = np.repeat(objects.first_vertex[:-1], np.diff(objects.first_face))[:, None] + objects.faces
        corners = objects.positions[vertices]
        trees = [_tree(corners[a:b]) for a, b in pairwise(objects.first_face)]
        order = np.concatenate([order + first for (order, _), first in zip(trees, objects.first_face, strict=False)])
        vertices = vertices[order]
        self._corners = on_device(corners[order], torch.float32)
        self._boxes = on_device(np.concatenate([boxes for _, boxes in trees]), torch.float32)
        self._first_box = on_device(np.cumsum([0, *(len(boxes) for _, boxes in trees)]), torch.int32)
        self._first_face = on_device(objects.first_face, torch.int32)
        self.normals = on_device(objects.normals[vertices], torch.float32)
        self.texture_coordinates = on_device(objects.texture_coordinates[vertices], torch.float32)
        self.face_material = on_device(objects.face_material[order], torch.int64)
        self.material_color = on_device(objects.material_color, torch.float32)
        self.material_texture = on_device(objects.material_texture, torch.int64)
        self.textures = on_device(objects.textures, torch.uint8)
        self.places = on_device(objects.places, torch.int64)
        self.sizes = on_device(objects.sizes, torch.float32)
        self.skies = on_device(objects.skies, torch.float32)
        self._library = _library(device.type, device.index or 0)

    def cast(
        self,
        placed: Placed,
        origins: torch.Tensor,
        directions: torch.Tensor,
        limit: torch.Tensor,
        *,
        any_hit: bool = False,
    ) -> Hits:
        """The first face on every ray, or with ``any_hit`` any.

        Args:
            placed: What stands in B worlds.
            origins: [m], shape ``(B, N, 3)``.
            directions: Shape ``(B, N, 3)``.
            limit: Ray parameter up to which it is looked, shape ``(B, N)``; rays with none above 0 are not cast.
        """
        batch, rays = limit.shape
        linear, offset = placed.to_world[..., :3].double(), placed.to_world[..., 3:].double()
        inverse = torch.linalg.inv(linear)
        to_object = torch.cat([inverse, -inverse @ offset], -1).float().contiguous()
        model = placed.model.int().contiguous()
        origins, directions = origins.float().contiguous(), directions.float().contiguous()
        distance = limit.float().clone().contiguous()
        weights = torch.zeros(batch, rays, 2, device=self.device)
        found = torch.full((batch, rays, 2), -1, dtype=torch.int32, device=self.device)
        tensors = (self._corners, self._boxes, self._first_box, self._first_face, model, to_object)
        code = self._library.cast_rays(
            *(ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors),
            ctypes.c_int(model.shape[1]),
            ctypes.c_void_p(origins.data_ptr()),
            ctypes.c_void_p(directions.data_ptr()),
            ctypes.c_int(batch),
            ctypes.c_int(rays),
            ctypes.c_int(any_hit),
            *(ctypes.c_void_p(tensor.data_ptr()) for tensor in (distance, weights, found)),
            ctypes.c_void_p(stream_of(self.device)),
        )
        if code != 0:
            raise RuntimeError(f"the rays did not start: CUDA error {code}.")
        return Hits(distance, found[..., 0].long(), found[..., 1].long(), weights)


def open_objects(folder: Path, device: torch.device) -> ObjectCaster:
    """The set of a folder of ``train fetch-assets``, with plain shapes, on a device."""
    return ObjectCaster(with_shapes(load_objects(folder)), device)


def _tree(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A complete binary tree of boxes over faces ``(F, 3, 3)`` that are sorted along a Z-order curve (Morton 1966).

    Returns:
        The order of the faces, ``(F,)``, and the boxes level by level, low and high corner, ``(2 L - 1, 6)``, where the
        L leaves, a power of two, hold ``_LEAF`` faces each; empty boxes are met by no ray.
    """
    middle = corners.mean(1)
    low, high = middle.min(0), middle.max(0)
    cell = ((middle - low) / np.maximum(high - low, 1e-9) * 1023).astype(np.int64)
    code = sum(((cell[:, axis] >> bit) & 1) << (3 * bit + axis) for bit in range(10) for axis in range(3))
    order = np.argsort(code, kind="stable")
    leaves = 1 << max(0, -(-len(order) // _LEAF) - 1).bit_length()
    level = np.full((leaves, _LEAF, 6), _EMPTY, np.float32)
    bounds = np.concatenate([corners[order].min(1), corners[order].max(1)], 1)
    level.reshape(-1, 6)[: len(order)] = bounds
    level = np.concatenate([level[..., :3].min(1), level[..., 3:].max(1)], 1)
    levels = [level]
    while len(level) > 1:
        pairs = level.reshape(-1, 2, 6)
        level = np.concatenate([pairs[..., :3].min(1), pairs[..., 3:].max(1)], 1)
        levels.append(level)
    boxes = np.concatenate(levels[::-1])
    boxes[boxes[:, 0] > boxes[:, 3]] = _NOWHERE
    return order, boxes


@cache
def _library(kind: str, index: int) -> ctypes.CDLL:
    """The compiled kernels, from the user's cache or built now."""
    if kind == "cuda":
        from omni_gen3d.render.gpu.library import find_compiler

        major, minor = torch.cuda.get_device_capability(index)
        name = f"sm_{major}{minor}"
        command = [find_compiler(), "-O3", "--use_fast_math", "-shared", "-Xcompiler", "-fPIC", f"-arch={name}"]
    else:
        compiler = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++")
        if compiler is None:
            raise MissingDependencyError("real objects need a C++ compiler; install g++, or set CXX to one.")
        name, command = "host", [compiler, "-x", "c++", "-std=c++17", "-O3", "-shared", "-fPIC", "-DON_HOST"]
    digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    home = Path(os.environ.get("XDG_CACHE_HOME", "") or Path.home() / ".cache")
    built = home / "omni_gen3d" / "kernels" / f"objects-{name}-{digest}.so"
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=built.parent) as folder:
            made = Path(folder) / built.name
            command = [*command, str(_SOURCE), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise InputError(f"{' '.join(command)} failed:\n{done.stderr.strip()[-2000:]}")
            made.replace(built)
    return ctypes.CDLL(str(built))
