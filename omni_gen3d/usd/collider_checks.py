"""Checks of the meshes that bodies collide with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pxr import Usd, UsdGeom, UsdPhysics, UsdSemantics, UsdShade

from omni_gen3d.usd.collision import LABEL_TAXONOMY
from omni_gen3d.usd.findings import Finding, error, warning

# How far a convex decomposition may be off; a tenth of what a dropped box may.
_CONVEX_TOLERANCE_M = 1e-3


def is_collider(prim: Usd.Prim) -> bool:
    """Whether bodies collide with the prim: it carries a ``CollisionAPI`` that is not switched off."""
    return prim.HasAPI(UsdPhysics.CollisionAPI) and bool(UsdPhysics.CollisionAPI(prim).GetCollisionEnabledAttr().Get())


def check_collider(prim: Usd.Prim) -> Iterator[Finding]:
    """Check the mesh of one collider, its approximation, physics material and label."""
    path = prim.GetPath()
    yield from _check_mesh(UsdGeom.Mesh(prim))
    yield from _check_approximation(prim)
    material, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial("physics")
    if not material or not material.GetPrim().HasAPI(UsdPhysics.MaterialAPI):
        yield warning(path, "has no physics material; its friction is each engine's own default.")
    else:
        physics = UsdPhysics.MaterialAPI(material.GetPrim())
        friction = (physics.GetStaticFrictionAttr().Get(), physics.GetDynamicFrictionAttr().Get())
        if not all(np.isfinite(value) and value >= 0 for value in friction):
            yield error(path, f"has a friction of {friction[0]:g} (static) and {friction[1]:g} (dynamic).")
    if not UsdSemantics.LabelsAPI(prim, LABEL_TAXONOMY).GetLabelsAttr().Get():
        yield warning(path, f"has no semantic label of the taxonomy '{LABEL_TAXONOMY}'.")


def _check_approximation(prim: Usd.Prim) -> Iterator[Finding]:
    approximation = UsdPhysics.MeshCollisionAPI(prim).GetApproximationAttr().Get()
    if approximation == UsdPhysics.Tokens.none:
        return
    if approximation == UsdPhysics.Tokens.convexHull:
        outside = _depth_of_dents(UsdGeom.Mesh(prim))
        if outside > _CONVEX_TOLERANCE_M:
            yield warning(prim.GetPath(), f"approximation is convexHull, which fills dents of {outside:.3g} m.")
        return
    found = approximation or "not stated (no MeshCollisionAPI)"
    yield warning(prim.GetPath(), f"approximation is {found}; only 'none' collides alike in PhysX and in Newton.")


def _depth_of_dents(mesh: UsdGeom.Mesh) -> float:
    """How far a vertex lies outside of the plane of a face [m]; 0 for a convex mesh, and for one that is broken."""
    points = np.array(mesh.GetPointsAttr().Get() or (), dtype=np.float64).reshape(-1, 3)
    corners = np.array(mesh.GetFaceVertexIndicesAttr().Get() or (), dtype=np.int64)
    if len(corners) % 3 or len(corners) == 0 or corners.min() < 0 or corners.max() >= len(points):
        return 0.0
    a, b, c = points[corners.reshape(-1, 3)].transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    lengths = np.linalg.norm(normals, axis=1)
    normals, a = normals[lengths > 0] / lengths[lengths > 0, None], a[lengths > 0]
    return max(
        (float((points @ normal - start @ normal).max()) for normal, start in zip(normals, a, strict=True)), default=0.0
    )


def _check_mesh(mesh: UsdGeom.Mesh) -> Iterator[Finding]:
    path = mesh.GetPath()
    points = np.array(mesh.GetPointsAttr().Get() or (), dtype=np.float32).reshape(-1, 3)
    counts = np.array(mesh.GetFaceVertexCountsAttr().Get() or (), dtype=np.int64)
    indices = np.array(mesh.GetFaceVertexIndicesAttr().Get() or (), dtype=np.int64)
    if len(points) == 0 or len(counts) == 0:
        yield error(path, f"holds {len(points)} points and {len(counts)} faces; nothing can collide with it.")
        return
    if not np.isfinite(points).all():
        yield error(path, "holds points that are NaN or infinite.")
    if (counts < 3).any() or counts.sum() != len(indices):
        yield error(path, f"has faces of {counts.sum()} corners in all, at least 3 each, but {len(indices)} indices.")
    elif indices.min() < 0 or indices.max() >= len(points):
        yield error(path, f"has faces that index {indices.min()}..{indices.max()} of {len(points)} points.")
    normals = mesh.GetNormalsAttr().Get()
    wanted = {UsdGeom.Tokens.uniform: len(counts), UsdGeom.Tokens.vertex: len(points)}.get(
        mesh.GetNormalsInterpolation(), len(indices)
    )
    if not normals:
        yield warning(path, "has no normals; it is shaded as each renderer likes.")
    elif len(normals) != wanted:
        yield error(path, f"has {len(normals)} normals; their interpolation needs {wanted}.")
    extent = mesh.GetExtentAttr().Get()
    if extent is None or len(extent) != 2:
        yield warning(path, "has no extent.")
