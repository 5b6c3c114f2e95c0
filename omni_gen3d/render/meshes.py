"""Triangle meshes in a picture: a z-buffer over bands of rows, then light on what is seen.

A pixel lies in a triangle when its ray is on one side of the three planes through the camera and an edge (Olano and
Greer, "Triangle Scan Conversion using 2D Homogeneous Coordinates", 1997); nothing needs clipping, and the values of the
planes are the perspective-correct weights of the corners. Both sides of a face are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numba
import numpy as np

from omni_gen3d.render.cpu import View
from omni_gen3d.render.textures import Picture, TextureAtlas, sample
from omni_gen3d.render.threads import kernels

_BAND = 16  # rows that one thread fills
_FACES_A_TASK = 256
# Numbers of a face: the planes opposite its three corners, then a times its normal.
_OFFSET, _NUMBERS = 9, 10


class Triangles(Protocol):
    """Points ``(V, 3)``, faces ``(F, 3)``; at their corners normals and colours ``(F, 3, 3)`` and places in a texture
    ``(F, 3, 2)``; which texture each face has, -1 for none, ``(F,)``, and the textures."""

    @property
    def points(self) -> np.ndarray: ...
    @property
    def faces(self) -> np.ndarray: ...
    @property
    def normals(self) -> np.ndarray: ...
    @property
    def colors(self) -> np.ndarray: ...
    @property
    def coordinates(self) -> np.ndarray: ...
    @property
    def pictures(self) -> np.ndarray: ...
    @property
    def textures(self) -> Sequence[Picture]: ...


@dataclass(frozen=True)
class MeshBatch:
    """Meshes side by side in one set of arrays; where they are is told apart, so that moving one copies nothing.

    Attributes:
        points: float32, shape ``(V, 3)``.
        point_owners: Mesh of each point, int32, shape ``(V,)``.
        faces: int32, shape ``(F, 3)``.
        face_owners: Mesh of each face, int32, shape ``(F,)``.
        normals: float32, shape ``(F, 3, 3)``.
        colors: float32, shape ``(F, 3, 3)``; where there is a texture, factors on it.
        coordinates: Places in the texture, float32, shape ``(F, 3, 2)``.
        pictures: Texture of each face in the atlas, -1 for none, int32, shape ``(F,)``.
        atlas: The textures; meshes with the same one share it.
    """

    points: np.ndarray
    point_owners: np.ndarray
    faces: np.ndarray
    face_owners: np.ndarray
    normals: np.ndarray
    colors: np.ndarray
    coordinates: np.ndarray
    pictures: np.ndarray
    atlas: TextureAtlas

    @staticmethod
    def of(meshes: Sequence[Triangles]) -> MeshBatch:
        """Join meshes."""
        starts = np.cumsum([0, *(len(mesh.points) for mesh in meshes)])
        corners = np.empty((0, 3, 3), np.float32)
        textures = {id(texture): texture for mesh in meshes for texture in mesh.textures}
        numbers = {key: number for number, key in enumerate(textures)}
        # One more, so that -1 stays -1.
        renumbered = [np.array([*(numbers[id(t)] for t in mesh.textures), -1], np.int32) for mesh in meshes]
        return MeshBatch(
            points=np.concatenate([np.empty((0, 3), np.float32), *(mesh.points for mesh in meshes)]),
            point_owners=np.repeat(np.arange(len(meshes), dtype=np.int32), np.diff(starts)),
            faces=np.concatenate(
                [
                    np.empty((0, 3), np.int32),
                    *((mesh.faces + start).astype(np.int32) for mesh, start in zip(meshes, starts, strict=False)),
                ]
            ),
            face_owners=np.repeat(
                np.arange(len(meshes), dtype=np.int32), np.array([len(mesh.faces) for mesh in meshes], np.int64)
            ),
            normals=np.concatenate([corners, *(mesh.normals for mesh in meshes)]),
            colors=np.concatenate([corners, *(mesh.colors for mesh in meshes)]),
            coordinates=np.concatenate([corners[..., :2], *(mesh.coordinates for mesh in meshes)]),
            pictures=np.concatenate(
                [np.empty(0, np.int32), *(new[mesh.pictures] for new, mesh in zip(renumbered, meshes, strict=True))]
            ),
            atlas=TextureAtlas.of(list(textures.values())),
        )


@dataclass(frozen=True)
class Lighting:
    """What shines on meshes.

    Attributes:
        ambient: From everywhere, RGB, shape ``(3,)``.
        toward: Unit directions to the distant lights in the world, shape ``(L, 3)``.
        colors: What a white surface that faces each shows, RGB, shape ``(L, 3)``.
        head: Strength of a white light at the camera.
    """

    ambient: np.ndarray
    toward: np.ndarray
    colors: np.ndarray
    head: float = 0.0


# Of a stage without a light.
HEADLIGHT = Lighting(np.full(3, 0.3), np.empty((0, 3)), np.empty((0, 3)), head=0.7)


@dataclass(frozen=True)
class MeshPicture:
    """What one camera sees of the meshes.

    Attributes:
        depth: Along z [m], infinite where no mesh is, shape ``(H, W)``, float32.
        owner: Which mesh, -1 where there is none, shape ``(H, W)``, int32.
        color: Lit RGB, 0 where no mesh is, shape ``(H, W, 3)``, float32.
        normal: In the world, towards the camera, 0 where no mesh is, shape ``(H, W, 3)``, float32.
    """

    depth: np.ndarray
    owner: np.ndarray
    color: np.ndarray
    normal: np.ndarray


def draw_meshes(batch: MeshBatch, to_world: np.ndarray, view: View, lighting: Lighting) -> MeshPicture:
    """Draw every mesh of a batch.

    Args:
        batch: The meshes.
        to_world: From the frame of each, any invertible affine map, shape ``(meshes, 4, 4)``, float64.
        view: The camera; what is nearer than its near plane or farther than its far plane is cut away.
        lighting: What shines on them.
    """
    shape = (view.height, view.width)
    depth, face = np.full(shape, np.inf, np.float32), np.full(shape, -1, np.int32)
    color, normal = np.zeros((*shape, 3), np.float32), np.zeros((*shape, 3), np.float32)
    if not len(batch.faces):
        return MeshPicture(depth, face, color, normal)
    to_camera = view.world_to_camera @ to_world
    # Normals turn with the inverse transpose.
    turn = np.ascontiguousarray(np.linalg.inv(to_world[:, :3, :3]).transpose(0, 2, 1))
    lens = np.array([view.intrinsics[0, 0], view.intrinsics[1, 1], view.intrinsics[0, 2], view.intrinsics[1, 2]])
    with kernels():
        planes, boxes = _set_up(batch.points, batch.point_owners, batch.faces, to_camera, lens, *shape, view.near)
        _fill(planes, boxes, lens, view.near, view.far, depth, face)
        _shade(
            planes,
            lens,
            depth,
            face,
            batch.face_owners,
            batch.normals,
            batch.colors,
            batch.coordinates,
            batch.pictures,
            batch.atlas.table,
            batch.atlas.texels,
            turn,
            np.ascontiguousarray(view.world_to_camera[:3, :3].T),
            lighting.ambient,
            lighting.toward,
            lighting.colors,
            lighting.head,
            color,
            normal,
        )
    return MeshPicture(depth, np.append(batch.face_owners, np.int32(-1))[face], color, normal)


@numba.njit(cache=True, inline="always")
def _cross(p, q, product):
    product[0] = p[1] * q[2] - p[2] * q[1]
    product[1] = p[2] * q[0] - p[0] * q[2]
    product[2] = p[0] * q[1] - p[1] * q[0]


@numba.njit(parallel=True, nogil=True, cache=True)
def _set_up(points, owners, faces, to_camera, lens, height, width, near):
    """Planes of every face, float64, ``(F, _NUMBERS)``, and the rows and columns it may cover, int32, ``(F, 4)``."""
    fx, fy, cx, cy = lens
    seen = np.empty((len(points), 3))
    for i in numba.prange(len(points)):
        m = to_camera[owners[i]]
        for k in range(3):
            seen[i, k] = m[k, 0] * points[i, 0] + m[k, 1] * points[i, 1] + m[k, 2] * points[i, 2] + m[k, 3]
    planes, boxes = np.zeros((len(faces), _NUMBERS)), np.zeros((len(faces), 4), np.int32)
    for task in numba.prange((len(faces) + _FACES_A_TASK - 1) // _FACES_A_TASK):
        for f in range(task * _FACES_A_TASK, min(len(faces), (task + 1) * _FACES_A_TASK)):
            a, b, c = seen[faces[f, 0]], seen[faces[f, 1]], seen[faces[f, 2]]
            if max(a[2], b[2], c[2]) < near:
                continue
            plane = planes[f]
            _cross(b, c, plane[0:3])
            _cross(c, a, plane[3:6])
            _cross(a, b, plane[6:9])
            plane[_OFFSET] = a[0] * plane[0] + a[1] * plane[1] + a[2] * plane[2]
            if plane[_OFFSET] < 0:
                for k in range(_NUMBERS):
                    plane[k] = -plane[k]
            box = boxes[f]
            if min(a[2], b[2], c[2]) < 1e-6:
                box[1], box[3] = height, width
                continue
            ua, ub, uc = fx * a[0] / a[2] + cx, fx * b[0] / b[2] + cx, fx * c[0] / c[2] + cx
            va, vb, vc = fy * a[1] / a[2] + cy, fy * b[1] / b[2] + cy, fy * c[1] / c[2] + cy
            box[0] = int(min(max(min(va, vb, vc) - 0.5, 0.0), height))
            box[1] = int(min(max(max(va, vb, vc) + 1.5, 0.0), height))
            box[2] = int(min(max(min(ua, ub, uc) - 0.5, 0.0), width))
            box[3] = int(min(max(max(ua, ub, uc) + 1.5, 0.0), width))
    return planes, boxes


@numba.njit(parallel=True, nogil=True, cache=True)
def _fill(planes, boxes, lens, near, far, depth, face):
    """The nearest face of every pixel; of two at one depth the first."""
    fx, fy, cx, cy = lens
    height = len(depth)
    for band in numba.prange((height + _BAND - 1) // _BAND):
        top, bottom = band * _BAND, min(height, (band + 1) * _BAND)
        for f in range(len(planes)):
            plane, offset = planes[f], planes[f, _OFFSET]
            if offset <= 0:
                continue
            for row in range(max(top, boxes[f, 0]), min(bottom, boxes[f, 1])):
                y = (row + 0.5 - cy) / fy
                for column in range(boxes[f, 2], boxes[f, 3]):
                    x = (column + 0.5 - cx) / fx
                    wa = plane[0] * x + plane[1] * y + plane[2]
                    wb = plane[3] * x + plane[4] * y + plane[5]
                    wc = plane[6] * x + plane[7] * y + plane[8]
                    total = wa + wb + wc
                    if wa >= 0 and wb >= 0 and wc >= 0 and total > 0:
                        z = offset / total
                        if near <= z <= far and np.float32(z) < depth[row, column]:
                            depth[row, column], face[row, column] = z, f


@numba.njit(cache=True, inline="always")
def _place(plane, places, x, y):
    """Where a ray meets the texture of a face."""
    wa = plane[0] * x + plane[1] * y + plane[2]
    wb = plane[3] * x + plane[4] * y + plane[5]
    wc = plane[6] * x + plane[7] * y + plane[8]
    total = wa + wb + wc
    s = (wa * places[0, 0] + wb * places[1, 0] + wc * places[2, 0]) / total
    return s, (wa * places[0, 1] + wb * places[1, 1] + wc * places[2, 1]) / total


@numba.njit(cache=True)
def _look_up(plane, places, table, texels, number, x, y, right, down, paint):
    """The texture along a ray, in the copy whose texels are as far apart as the pixels are there."""
    s, t = _place(plane, places, x, y)
    width, height = table[number, 1], table[number, 2]
    step = 0.0
    for beside, below in ((right, 0.0), (0.0, down)):
        s1, t1 = _place(plane, places, x + beside, y + below)
        step = max(step, math.hypot((s1 - s) * width, (t1 - t) * height))
    sample(table, texels, number, s, t, step, paint)


@numba.njit(parallel=True, nogil=True, cache=True)
def _shade(
    planes,
    lens,
    depth,
    face,
    owners,
    normals,
    colors,
    coordinates,
    pictures,
    table,
    texels,
    turn,
    axes,
    ambient,
    toward,
    lights,
    head,
    color,
    normal,
):
    """Lambert's law on the interpolated normal, turned to the camera; ``axes`` turns camera directions to the world."""
    fx, fy, cx, cy = lens
    height, width = depth.shape
    for row in numba.prange(height):
        paint = np.ones(3)
        for column in range(width):
            f = face[row, column]
            if f < 0:
                continue
            x, y = (column + 0.5 - cx) / fx, (row + 0.5 - cy) / fy
            wa = planes[f, 0] * x + planes[f, 1] * y + planes[f, 2]
            wb = planes[f, 3] * x + planes[f, 4] * y + planes[f, 5]
            wc = planes[f, 6] * x + planes[f, 7] * y + planes[f, 8]
            total = wa + wb + wc
            nx = (wa * normals[f, 0, 0] + wb * normals[f, 1, 0] + wc * normals[f, 2, 0]) / total
            ny = (wa * normals[f, 0, 1] + wb * normals[f, 1, 1] + wc * normals[f, 2, 1]) / total
            nz = (wa * normals[f, 0, 2] + wb * normals[f, 1, 2] + wc * normals[f, 2, 2]) / total
            m = turn[owners[f]]
            wx = m[0, 0] * nx + m[0, 1] * ny + m[0, 2] * nz
            wy = m[1, 0] * nx + m[1, 1] * ny + m[1, 2] * nz
            wz = m[2, 0] * nx + m[2, 1] * ny + m[2, 2] * nz
            ray_x = axes[0, 0] * x + axes[0, 1] * y + axes[0, 2]
            ray_y = axes[1, 0] * x + axes[1, 1] * y + axes[1, 2]
            ray_z = axes[2, 0] * x + axes[2, 1] * y + axes[2, 2]
            length = max(np.sqrt(wx * wx + wy * wy + wz * wz), 1e-30)
            facing = -(wx * ray_x + wy * ray_y + wz * ray_z) / length
            scale = (1 if facing >= 0 else -1) / length
            wx, wy, wz = wx * scale, wy * scale, wz * scale
            facing = abs(facing) / np.sqrt(ray_x * ray_x + ray_y * ray_y + ray_z * ray_z)
            normal[row, column, 0], normal[row, column, 1], normal[row, column, 2] = wx, wy, wz
            paint[:] = 1
            if pictures[f] >= 0:
                _look_up(planes[f], coordinates[f], table, texels, pictures[f], x, y, 1 / fx, 1 / fy, paint)
            for k in range(3):
                light = ambient[k] + head * facing
                for i in range(len(toward)):
                    cosine = wx * toward[i, 0] + wy * toward[i, 1] + wz * toward[i, 2]
                    light += lights[i, k] * max(cosine, 0.0)
                base = (wa * colors[f, 0, k] + wb * colors[f, 1, k] + wc * colors[f, 2, k]) / total
                color[row, column, k] = min(base * paint[k] * light, 1.0)
