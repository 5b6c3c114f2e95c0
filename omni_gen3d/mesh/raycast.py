"""Depth of a triangle mesh as a camera sees it: a z-buffer that needs no clipping."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from omni_gen3d.types import TriMesh


def mesh_depth(
    mesh: TriMesh, world_to_camera: np.ndarray, intrinsics: np.ndarray, height: int, width: int
) -> np.ndarray:
    """z depth of the nearest face that looks at the camera, through every pixel centre.

    A pixel lies in a triangle when its ray is on the inner side of the three planes through the camera and an edge
    (Olano and Greer 1997), which also holds for triangles that reach behind the camera.

    Args:
        mesh: The surface; faces seen from behind are ignored.
        world_to_camera: OpenCV, shape ``(C, 4, 4)``.
        intrinsics: [pixels], shape ``(C, 3, 3)``.
        height: Of the pictures [pixels].
        width: Of the pictures [pixels].

    Returns:
        Depth [m], infinite where nothing is hit, shape ``(C, H, W)``, float64.
    """
    depth = np.full((len(world_to_camera), height, width), np.inf)

    def draw(camera: int) -> None:
        rotation, translation = world_to_camera[camera, :3, :3], world_to_camera[camera, :3, 3]
        corners = (rotation @ mesh.vertices[:, :, None])[..., 0] + translation
        a, b, c = (corners[mesh.faces[:, corner]] for corner in range(3))
        # One row a plane: the three edges seen from the camera, then the face itself.
        planes = np.stack([np.cross(a, b), np.cross(b, c), np.cross(c, a), np.cross(b - a, c - a)], axis=1)
        offsets = (planes[:, 3] * a).sum(-1)
        boxes = _pixel_boxes(np.stack([a, b, c], axis=1), intrinsics[camera], height, width)
        boxes[offsets >= 0] = 0
        _rasterize(planes, offsets, boxes, intrinsics[camera], depth[camera])

    with ThreadPoolExecutor() as pool:
        list(pool.map(draw, range(len(depth))))
    return depth


def _pixel_boxes(corners: np.ndarray, intrinsics: np.ndarray, height: int, width: int) -> np.ndarray:
    """Rows and columns (first, last + 1, first, last + 1) a face may cover, ``(F, 3, 3)`` -> ``(F, 4)``.

    A face that reaches behind the camera may cover the whole picture, one that lies behind it covers nothing.
    """
    z = corners[..., 2]
    in_front = (z > 1e-3).all(-1)
    behind = (z <= 0).all(-1)
    boxes = np.zeros((*behind.shape, 4), np.int32)
    for first, axis, size in ((0, 1, height), (2, 0, width)):
        focal, centre = intrinsics[axis, axis], intrinsics[axis, 2]
        pixel = np.clip(focal * corners[..., axis] / np.maximum(z, 1e-3) + centre, 0, size)
        boxes[..., first] = np.where(in_front, np.floor(pixel.min(-1)), 0)
        boxes[..., first + 1] = np.where(in_front, np.ceil(pixel.max(-1)), size)
    boxes[behind] = 0
    return boxes


@numba.njit(nogil=True, cache=True)
def _rasterize(
    planes: np.ndarray, offsets: np.ndarray, boxes: np.ndarray, intrinsics: np.ndarray, depth: np.ndarray
) -> None:
    fx, fy = intrinsics[0, 0], intrinsics[1, 1]
    cx, cy = intrinsics[0, 2], intrinsics[1, 2]
    for face in range(len(planes)):
        plane = planes[face]
        for row in range(boxes[face, 0], boxes[face, 1]):
            y = (row + 0.5 - cy) / fy
            for column in range(boxes[face, 2], boxes[face, 3]):
                x = (column + 0.5 - cx) / fx
                # A ray meets a face that looks at the camera from the negative side of all four planes.
                if (
                    plane[0, 0] * x + plane[0, 1] * y + plane[0, 2] <= 0.0
                    and plane[1, 0] * x + plane[1, 1] * y + plane[1, 2] <= 0.0
                    and plane[2, 0] * x + plane[2, 1] * y + plane[2, 2] <= 0.0
                ):
                    facing = plane[3, 0] * x + plane[3, 1] * y + plane[3, 2]
                    if facing < 0.0:
                        z = offsets[face] / facing
                        if 0.0 < z < depth[row, column]:
                            depth[row, column] = z
