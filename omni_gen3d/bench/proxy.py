"""The collision proxy beside open3d's surfaces, on rooms whose true surface is known."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from omni_gen3d.bench.report import Check, Report, Value, cpu_name
from omni_gen3d.bench.rooms import Room, rooms
from omni_gen3d.errors import InputError
from omni_gen3d.geometry import quat_to_matrix
from omni_gen3d.mesh.bvh import FaceTree
from omni_gen3d.mesh.depth_views import DepthViews, render_depth_views
from omni_gen3d.mesh.ground_truth import sample_surface, score_against
from omni_gen3d.mesh.proxy import build_proxy
from omni_gen3d.mesh.scoring import joined
from omni_gen3d.mesh.surface import is_closed
from omni_gen3d.types import Gaussians, ProxyPart, TriMesh

OURS, TSDF, POISSON = "omni_gen3d", "open3d VoxelBlockGrid", "open3d Poisson"
_RIVAL_VOXEL_M = 0.03
_RIVAL_FAR_M = 12.0
_POISSON_DEPTH = 8
_NUM_AIR_POINTS = 200_000
# A point of the air this far from every true surface may not have the proxy this near.
_CLEAR_M, _GHOST_M = 0.1, 0.05
_FLOOR_BAND_M = 0.1
_FLOOR_PROBE_M = 0.02
_PICTURE = (320, 240)
_TOY_SHARE = 0.2


def bench_proxy(views: int, *, toy: bool = False, seed: int = 0, report: Callable[[str], None] = print) -> Report:
    """Surface three rooms with each method and measure the results against the truth.

    All methods see the same Gaussians or the same median depth maps of them. Seconds hold neither the rendering of
    these nor compilation; ``cpu_s`` is summed over threads, for machines that are busy with other things. Columns:
    ``accuracy_mm``, ``complete_%``, ``F@5cm_%`` and ``solid_%`` as in ``mesh.ground_truth.score_against`` on the true
    free space; ``ghost_%``: share of the points of the air at least 10 cm from every true surface that lie within 5 cm
    of the mesh; ``floor_mm``: mean height of the mesh's upward faces within 10 cm of the open floor, without sign.

    Args:
        views: Cameras in each room.
        toy: One room with a fifth of the Gaussians and a quarter of the pixels.
        seed: Of the rooms and of their flaws.
        report: Told what is being done.

    Raises:
        InputError: open3d does not load, or there are fewer than 4 views.
    """
    if views < 4:
        raise InputError(f"--views is {views}; at least 4 are needed to see a room.")
    require_open3d()
    width, height = (side // 2 if toy else side for side in _PICTURE)
    report("compiling")
    sketch = rooms(seed)[0].gaussians(5_000, seed)
    _surface(OURS, sketch, render_depth_views(sketch, rooms(seed)[0].cameras(8, 80, 60)))
    rows: list[dict[str, Value]] = []
    for room in rooms(seed)[: 1 if toy else None]:
        report(f"{room.name}: rendering {views} views")
        gaussians = room.gaussians(round(100_000 * (_TOY_SHARE if toy else 1)), seed)
        depth = render_depth_views(gaussians, room.cameras(views, width, height))
        for method in (OURS, TSDF, POISSON):
            report(f"{room.name}: {method}")
            began, began_cpu = time.perf_counter(), time.process_time()
            parts, watertight = _surface(method, gaussians, depth)
            seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
            times = {"s": round(seconds, 2), "cpu_s": round(cpu_seconds, 2)}
            rows.append({"room": room.name, "method": method, **times, **measure(parts, room)})
            rows[-1]["watertight"] = watertight
    return Report(cpu_name(), rows, checks_of([row for row in rows if row["method"] == OURS]))


def require_open3d() -> None:
    """Load open3d.

    Raises:
        InputError: It is not installed, or a library that it needs is not.
    """
    try:
        import open3d  # noqa: F401
    except (ImportError, OSError) as error:
        raise InputError(
            f"open3d does not load ({error}); install it with: pip install 'omni_gen3d[bench]'."
        ) from error


def measure(parts: tuple[ProxyPart, ...], room: Room) -> dict[str, Value]:
    """The columns of one row that tell the geometry."""
    truth = room.truth()
    mesh = joined(parts)
    scores = score_against(parts, room.free_space(), truth)
    rng = np.random.default_rng(0)
    low, high = truth.vertices.min(0).astype(np.float64), truth.vertices.max(0).astype(np.float64)
    air = rng.uniform(low, high, (_NUM_AIR_POINTS, 3))
    air = air[room.is_free(air)]
    air = air[FaceTree.of(truth).distance(air) >= _CLEAR_M]
    ghosts = FaceTree.of(mesh).distance(air) < _GHOST_M
    points, normals = sample_surface(mesh, _NUM_AIR_POINTS, rng)
    floor = (
        (np.abs(points[:, 2]) < _FLOOR_BAND_M)
        & (normals[:, 2] > 0.7)
        & room.is_free(np.insert(points[:, :2], 2, _FLOOR_PROBE_M, axis=1))
    )
    return {
        "faces": len(mesh.faces),
        "accuracy_mm": scores["accuracy_mm"],
        "complete_%": _percent(scores["completeness"]),
        "F@5cm_%": _percent(scores["f_5cm"]),
        "watertight": None,
        "ghost_%": round(100 * float(ghosts.mean()), 4),
        "solid_%": _percent(scores["solid_share"]),
        "floor_mm": round(1000 * float(np.abs(points[floor, 2]).mean()), 2) if floor.any() else None,
    }


def checks_of(rows: list[dict[str, Value]]) -> list[Check]:
    """The worst room of each figure against what the proxy is held to."""

    def worst(column: str, pick: Callable[[list[float]], float]) -> float | None:
        values = [row[column] for row in rows]
        return None if any(value is None for value in values) else pick([float(value or 0.0) for value in values])

    return [
        Check("F@5cm, worst room [%]", worst("F@5cm_%", min), ">=", 98.0),
        Check("accuracy, worst room [mm]", worst("accuracy_mm", max), "<=", 8.0),
        Check("ghost, worst room [%]", worst("ghost_%", max), "<=", 0.02),
        Check("solid, worst room [%]", worst("solid_%", min), ">=", 98.0),
        Check("watertight shells [share]", worst("watertight", min), ">=", 1.0),
        Check("faces, most", worst("faces", max), "<=", 20_000),
        Check("seconds after rendering, slowest room", worst("s", max), "<=", 10.0),
        Check("floor, worst room [mm]", worst("floor_mm", max), "<=", 5.0),
    ]


def _surface(method: str, gaussians: Gaussians, views: DepthViews) -> tuple[tuple[ProxyPart, ...], bool]:
    """Parts of the surface and whether it is closed."""
    if method == OURS:
        proxy = build_proxy(gaussians, views)
        return proxy.parts, bool(proxy.scores["watertight"])
    mesh = _block_grid(views) if method == TSDF else _poisson(gaussians)
    return (ProxyPart("surface", "object", mesh),), is_closed(mesh)


def _block_grid(views: DepthViews) -> TriMesh:
    """open3d's sparse TSDF over the same depth maps."""
    import open3d
    from open3d import core

    _, height, width = views.depth.shape
    grid = open3d.t.geometry.VoxelBlockGrid(
        attr_names=("tsdf", "weight"),
        attr_dtypes=(core.float32, core.float32),
        attr_channels=(core.SizeVector((1,)), core.SizeVector((1,))),
        voxel_size=_RIVAL_VOXEL_M,
        block_resolution=16,
        block_count=20_000,
    )
    for depth, pose, lens in zip(views.depth, views.world_to_camera, views.intrinsics, strict=True):
        # Pixel centres of open3d lie at whole numbers.
        shifted = lens.copy()
        shifted[:2, 2] -= 0.5
        image = open3d.t.geometry.Image(core.Tensor.from_numpy(depth.reshape(height, width, 1)))
        camera, extrinsic = core.Tensor.from_numpy(shifted), core.Tensor.from_numpy(pose)
        blocks = grid.compute_unique_block_coordinates(image, camera, extrinsic, 1.0, _RIVAL_FAR_M)
        grid.integrate(blocks, image, camera, extrinsic, 1.0, _RIVAL_FAR_M)
    mesh = grid.extract_triangle_mesh(weight_threshold=1.0)
    return TriMesh(mesh.vertex.positions.numpy(), mesh.triangle.indices.numpy().astype(np.int32))


def _poisson(gaussians: Gaussians) -> TriMesh:
    """Screened Poisson reconstruction of the centres, with the true side of each disc, which no real splat knows."""
    import open3d

    cloud = open3d.geometry.PointCloud()
    cloud.points = open3d.utility.Vector3dVector(gaussians.means.double().numpy())
    cloud.normals = open3d.utility.Vector3dVector(quat_to_matrix(gaussians.quats)[:, :, 2].double().numpy())
    mesh, _ = open3d.geometry.TriangleMesh.create_from_point_cloud_poisson(cloud, depth=_POISSON_DEPTH, n_threads=2)
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.triangles)
    return TriMesh(vertices.astype(np.float32), faces.astype(np.int32))


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 3)
