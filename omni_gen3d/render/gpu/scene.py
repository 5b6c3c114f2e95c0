"""What cameras look at, on the device: Gaussians and meshes that stay, and small tables that say what is where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from omni_gen3d.render.aovs import Tags
from omni_gen3d.render.detail import SMALLEST_HALF, GroupedSplats
from omni_gen3d.render.gpu import tables
from omni_gen3d.render.meshes import Lighting, MeshBatch
from omni_gen3d.types import Gaussians

_ALIGNMENT = 16


@dataclass(frozen=True)
class ResidentSplats:
    """A set of Gaussians on a device; 32 bytes for each, and its harmonics as halves.

    Attributes:
        shapes: Centre as floats, opacity, rotation and scales as halves, shape ``(N, 8)``, float32 by name.
        sh: Shape ``(N, K, 3)``, float16.
        groups: Rows of ``tables.GROUP``, uint8.
        num_groups: How many.
        num_originals: How many Gaussians are not merged ones; they come first.
    """

    shapes: torch.Tensor
    sh: torch.Tensor
    groups: torch.Tensor
    num_groups: int
    num_originals: int

    @staticmethod
    def of(grouped: GroupedSplats) -> ResidentSplats:
        """Pack a grouped set where it is."""
        gaussians = grouped.gaussians
        shapes = torch.zeros(len(gaussians), 8, device=gaussians.means.device)
        shapes[:, :3] = gaussians.means
        halves = shapes.view(torch.float16)
        halves[:, 6] = gaussians.opacities.half()
        halves[:, 8:12] = torch.nn.functional.normalize(gaussians.quats, dim=1).half()
        halves[:, 12:15] = gaussians.scales.clamp(SMALLEST_HALF, 60_000).half()
        rows = np.zeros(len(grouped.centres), tables.GROUP)
        rows["centre"] = grouped.centres.cpu().numpy()
        # Halves may stray from where the bounds were taken by their last digit.
        rows["radius"], rows["reach"] = grouped.radii.cpu().numpy(), 1.001 * grouped.reaches.cpu().numpy()
        rows["levels"]["first"], rows["levels"]["count"] = grouped.first.cpu().numpy(), grouped.count.cpu().numpy()
        rows["levels"]["size"] = grouped.size.numpy()
        packed = torch.from_numpy(rows.view(np.uint8)).to(shapes.device)
        return ResidentSplats(shapes, gaussians.sh.half().contiguous(), packed, len(rows), len(grouped.order))

    def gaussians(self) -> Gaussians:
        """The set without its merged levels, float32."""
        count = self.num_originals
        halves = self.shapes.view(torch.float16)[:count].float()
        quats = torch.nn.functional.normalize(halves[:, 8:12], dim=1)
        return Gaussians(
            self.shapes[:count, :3], quats, halves[:, 12:15], halves[:, 6].clamp(0, 1), self.sh[:count].float()
        )

    @property
    def nbytes(self) -> int:
        return self.shapes.nbytes + self.sh.nbytes + self.groups.nbytes


@dataclass(frozen=True)
class ResidentMeshes:
    """The meshes of a world on a device; see ``MeshBatch``."""

    points: torch.Tensor
    faces: torch.Tensor
    owners: torch.Tensor
    normals: torch.Tensor
    colors: torch.Tensor
    coordinates: torch.Tensor
    pictures: torch.Tensor
    textures: torch.Tensor
    texels: torch.Tensor

    @staticmethod
    def of(batch: MeshBatch, device: torch.device) -> ResidentMeshes:
        paint = (batch.colors, batch.coordinates, batch.pictures, batch.atlas.table, batch.atlas.texels)
        arrays = (batch.points, batch.faces, batch.face_owners, batch.normals, *paint)
        return ResidentMeshes(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays))


@dataclass(frozen=True)
class SplatsAt:
    """A resident set in a world: from its frame to the world now and earlier, ``(4, 4)`` float64; factors on RGB."""

    splats: ResidentSplats
    to_world: np.ndarray
    earlier: np.ndarray
    gain: tuple[float, float, float]
    tags: Tags


@dataclass(frozen=True)
class MeshesAt:
    """Resident meshes in a world: where each is now and earlier, ``(meshes, 4, 4)`` float64, and what it is called."""

    meshes: ResidentMeshes
    to_world: np.ndarray
    earlier: np.ndarray
    tags: Sequence[Tags]


@dataclass(frozen=True)
class SceneWorld:
    """What cameras that look into one environment see; ``labels`` are colliders that tell what splats are."""

    splats: Sequence[SplatsAt]
    solid: MeshesAt | None
    labels: MeshesAt | None
    lighting: Lighting


class Scene:
    """Tables of some worlds on a device.

    Attributes:
        worlds: Address of the first row of ``tables.WORLD``.
        max_splats: The most sets that a world holds.
        max_entries: The most groups.
        solid_faces: The most faces that are seen.
        label_faces: The most faces of colliders.
    """

    def __init__(self, worlds: Sequence[SceneWorld], device: torch.device) -> None:
        """Lay out tables; the shapes themselves stay where they are."""
        self._kept = worlds
        pieces = [_Pieces(world) for world in worlds]
        size = _padded(len(worlds) * tables.WORLD.itemsize)
        starts = []
        for piece in pieces:
            starts.append(size)
            size += sum(_padded(array.nbytes) for array in piece.arrays)
        self._memory = torch.empty(size, dtype=torch.uint8, device=device)
        base = self._memory.data_ptr()
        content, rows = np.zeros(size, np.uint8), np.zeros(len(worlds), tables.WORLD)
        for row, piece, start in zip(rows, pieces, starts, strict=True):
            addresses = []
            for array in piece.arrays:
                addresses.append(base + start)
                content[start : start + array.nbytes] = array.view(np.uint8).reshape(-1)
                start += _padded(array.nbytes)
            piece.fill(row, addresses)
        content[: rows.nbytes] = rows.view(np.uint8)
        self._memory.copy_(torch.from_numpy(content))
        self.worlds = base
        self.max_splats = max((len(world.splats) for world in worlds), default=0)
        self.max_entries = max((len(piece.entries) for piece in pieces), default=0)
        self.solid_faces = max((_faces(world.solid) for world in worlds), default=0)
        self.label_faces = max((_faces(world.labels) for world in worlds), default=0)


class _Pieces:
    """The tables of one world, in the order in which they are laid out."""

    def __init__(self, world: SceneWorld) -> None:
        self._world = world
        self.splats = np.zeros(len(world.splats), tables.SPLAT_INSTANCE)
        for row, item in zip(self.splats, world.splats, strict=True):
            row["to_world"], row["earlier"] = item.to_world[:3].reshape(-1), item.earlier[:3].reshape(-1)
            row["shapes"], row["sh"] = item.splats.shapes.data_ptr(), item.splats.sh.data_ptr()
            row["groups"] = item.splats.groups.data_ptr()
            row["gain"], row["stretch"] = item.gain, np.linalg.norm(item.to_world[:3, :3], 2)
            row["coefficients"] = item.splats.sh.shape[1]
            row["prim"], row["instance"] = item.tags.prim_id, item.tags.instance_id
            row["semantic"] = item.tags.semantic_id
        numbers = [item.splats.num_groups for item in world.splats]
        self.entries = np.zeros(sum(numbers), tables.ENTRY)
        self.entries["instance"] = np.repeat(np.arange(len(numbers)), numbers)
        self.entries["group"] = np.concatenate([np.empty(0, np.int32), *map(np.arange, numbers)])
        lighting = world.lighting
        self.lights = np.zeros(len(lighting.toward), tables.LIGHT)
        self.lights["toward"], self.lights["color"] = lighting.toward, lighting.colors
        self.arrays = (self.splats, self.entries, self.lights, _mesh_rows(world.solid), _mesh_rows(world.labels))

    def fill(self, row: np.void, addresses: Sequence[int]) -> None:
        row["splats"], row["entries"], row["lights"], solid, labels = addresses
        row["ambient"], row["head"] = self._world.lighting.ambient, self._world.lighting.head
        row["num_splats"], row["num_entries"] = len(self.splats), len(self.entries)
        row["num_lights"] = len(self.lights)
        for name, meshes, instances in (("solid", self._world.solid, solid), ("labels", self._world.labels, labels)):
            if meshes is not None:
                shapes = meshes.meshes
                for field, tensor in vars(shapes).items():
                    row[name][field] = tensor.data_ptr()
                row[name]["instances"] = instances
                row[name]["num_faces"] = len(shapes.faces)


def _mesh_rows(meshes: MeshesAt | None) -> np.ndarray:
    rows = np.zeros(0 if meshes is None else len(meshes.tags), tables.MESH_INSTANCE)
    if meshes is not None:
        rows["to_world"] = meshes.to_world[:, :3].reshape(-1, 12)
        rows["earlier"] = meshes.earlier[:, :3].reshape(-1, 12)
        for name in ("prim", "instance", "semantic"):
            rows[name] = [getattr(tag, f"{name}_id") for tag in meshes.tags]
    return rows


def _faces(meshes: MeshesAt | None) -> int:
    return 0 if meshes is None else len(meshes.meshes.faces)


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
