"""Checks of the meshes that bodies collide with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pxr import Usd, UsdGeom, UsdPhysics, UsdSemantics, UsdShade

from omni_gen3d.usd.collision import LABEL_TAXONOMY
from omni_gen3d.usd.findings import Finding, error, warning


def is_collider(prim: Usd.Prim) -> bool:
    """Whether bodies collide with the prim: it carries a ``CollisionAPI`` that is not switched off."""
    return prim.HasAPI(UsdPhysics.CollisionAPI) and bool(UsdPhysics.CollisionAPI(prim).GetCollisionEnabledAttr().Get())


def check_collider(prim: Usd.Prim) -> Iterator[Finding]:
    """Check the mesh of one collider, its approximation, physics material and label."""
    path = prim.GetPath()
    yield from _check_mesh(UsdGeom.Mesh(prim))
    approximation = UsdPhysics.MeshCollisionAPI(prim).GetApproximationAttr().Get()
    if approximation != UsdPhysics.Tokens.none:
        found = approximation or "not stated (no MeshCollisionAPI)"
        yield warning(path, f"approximation is {found}; only 'none' collides alike in PhysX and in Newton.")
    material, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial("physics")
    if not material or not material.GetPrim().HasAPI(UsdPhysics.MaterialAPI):
        yield warning(path, "has no physics material; its friction is each engine's own default.")
    if not UsdSemantics.LabelsAPI(prim, LABEL_TAXONOMY).GetLabelsAttr().Get():
        yield warning(path, f"has no semantic label of the taxonomy '{LABEL_TAXONOMY}'.")


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
    extent = mesh.GetExtentAttr().Get()
    if extent is None or len(extent) != 2:
        yield warning(path, "has no extent.")
