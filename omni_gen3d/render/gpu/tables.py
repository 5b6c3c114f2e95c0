"""Numpy types of the tables that the kernels read; ``tables.cuh`` says what the fields mean."""

from __future__ import annotations

import numpy as np

LEVELS = 6
TILE = 8
DEPTHS = 16
SHARED_BINS = 4096

_POINTER = np.uint64


def _layout(*fields: tuple) -> np.dtype:
    return np.dtype(list(fields), align=True)


LEVEL = _layout(("first", np.int32), ("count", np.int32), ("size", np.float32))
GROUP = _layout(("centre", np.float32, 3), ("radius", np.float32), ("reach", np.float32), ("levels", LEVEL, LEVELS))
SPLAT_INSTANCE = _layout(
    ("to_world", np.float64, 12),
    ("earlier", np.float64, 12),
    ("shapes", _POINTER),
    ("sh", _POINTER),
    ("groups", _POINTER),
    ("gain", np.float32, 3),
    ("stretch", np.float32),
    ("coefficients", np.int32),
    ("prim", np.int32),
    ("instance", np.int32),
    ("semantic", np.int32),
)
MESH_INSTANCE = _layout(
    ("to_world", np.float64, 12),
    ("earlier", np.float64, 12),
    ("prim", np.int32),
    ("instance", np.int32),
    ("semantic", np.int32),
    ("spare", np.int32),
)
LIGHT = _layout(("toward", np.float32, 3), ("color", np.float32, 3))
ENTRY = _layout(("instance", np.int32), ("group", np.int32))
MESHES = _layout(
    ("points", _POINTER),
    ("faces", _POINTER),
    ("owners", _POINTER),
    ("normals", _POINTER),
    ("colors", _POINTER),
    ("coordinates", _POINTER),
    ("pictures", _POINTER),
    ("textures", _POINTER),
    ("texels", _POINTER),
    ("instances", _POINTER),
    ("num_faces", np.int32),
    ("spare", np.int32),
)
WORLD = _layout(
    ("splats", _POINTER),
    ("entries", _POINTER),
    ("lights", _POINTER),
    ("solid", MESHES),
    ("labels", MESHES),
    ("ambient", np.float32, 3),
    ("head", np.float32),
    ("num_splats", np.int32),
    ("num_entries", np.int32),
    ("num_lights", np.int32),
    ("spare", np.int32),
)
CAMERA = _layout(
    ("to_camera", np.float64, 12),
    *((name, np.float64) for name in ("fx", "fy", "cx", "cy", "near", "far")),
)
PLACED = _layout(("to_camera", np.float32, 12), ("to_local", np.float32, 9), ("eye", np.float32, 3))
ITEM = _layout(*((name, np.int32) for name in ("instance", "first", "count", "spare")))
PICTURES = _layout(
    *(
        (name, _POINTER)
        for name in (
            "color",
            "depth",
            "distance",
            "normal",
            "alpha",
            "prim_id",
            "instance_id",
            "semantic_id",
            "motion",
            "median_depth",
            "expected_depth",
            "splat_index",
        )
    )
)
CALL = _layout(
    *(
        (name, _POINTER)
        for name in (
            "cameras",
            "earlier",
            "camera_worlds",
            "worlds",
            "placed",
            "items",
            "num_items",
            "depths",
            "counts",
            "shares",
            "ends",
            "keys",
            "capacity",
            "solid",
            "labels",
            "light",
            "expected",
            "surfaces",
        )
    ),
    ("background", np.float32, 3),
    ("pixels", np.float32),
    *(
        (name, np.int32)
        for name in ("num_cameras", "max_splats", "max_entries", "width", "height", "tiles_x", "tiles_y")
    ),
    ("out", PICTURES),
)

# In the order of `table_size`.
LAYOUTS = (GROUP, SPLAT_INSTANCE, MESH_INSTANCE, LIGHT, ENTRY, WORLD, CAMERA, PLACED, ITEM, CALL)
