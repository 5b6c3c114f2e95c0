"""A collision proxy as USD meshes that PhysX and Newton collide with, and back."""

from __future__ import annotations

import numpy as np
from pxr import Gf, Tf, Usd, UsdGeom, UsdPhysics, UsdSemantics, UsdShade, Vt

from omni_gen3d.errors import InputError
from omni_gen3d.types import PART_LABELS, ProxyPart, TriMesh

# Rubber or a shoe sole on a hard dry floor; no bounce, because a generated surface is no trampoline.
STATIC_FRICTION = 0.8
DYNAMIC_FRICTION = 0.6
RESTITUTION = 0.0

# Taxonomy of the labels, the one that semantic annotators read by default.
LABEL_TAXONOMY = "class"
MATERIAL_NAME = "PhysicsMaterial"


def author_collision(stage: Usd.Stage, path: str, parts: tuple[ProxyPart, ...]) -> None:
    """Define one static triangle-mesh collider for each part, as children of the prim at ``path``.

    The physics material lies beside the meshes, so that no target leaves ``path``.

    Raises:
        InputError: There is no part, a name is taken or no USD identifier, or a mesh holds no triangle.
    """
    if not parts:
        raise InputError("the collision proxy has 0 parts; at least 1 is needed.")
    UsdGeom.Imageable(stage.GetPrimAtPath(path)).CreatePurposeAttr(UsdGeom.Tokens.guide)
    material = _author_material(stage, f"{path}/{MATERIAL_NAME}")
    # Hulls of a hollow room close its door and its inside; only the triangles themselves collide right.
    _author_parts(stage, path, parts, set(), material, UsdPhysics.Tokens.none)


def author_convex_collision(
    stage: Usd.Stage, path: str, mesh_layer: str, parts: tuple[ProxyPart, ...], convex_parts: tuple[ProxyPart, ...]
) -> None:
    """Define the colliders of ``mesh_layer`` below ``path``, convex pieces in the place of its objects.

    The shell is a payload, not stored again; the objects are switched off.

    Args:
        stage: Where to.
        path: Of a prim whose own layer lies beside ``mesh_layer``.
        mesh_layer: Relative path of the layer that ``author_collision`` made of ``parts``.
        parts: What is in that layer.
        convex_parts: Convex meshes; may take the name of the object that they stand for.

    Raises:
        InputError: A name is taken or no USD identifier, or a mesh holds no triangle.
    """
    stage.GetPrimAtPath(path).GetPayloads().AddPayload(mesh_layer)
    material = UsdShade.Material.Define(stage, f"{path}/{MATERIAL_NAME}")
    names = {part.name for part in convex_parts}
    for part in parts:
        if part.label == "object" and part.name not in names:
            stage.OverridePrim(f"{path}/{part.name}").SetActive(False)
    shell = {part.name for part in parts if part.label != "object"}
    _author_parts(stage, path, convex_parts, shell, material, UsdPhysics.Tokens.convexHull)


def author_hulls(stage: Usd.Stage, path: str, hulls: tuple[ProxyPart, ...], *, material_at: str) -> None:
    """Define convex colliders as children of the prim at ``path``, of the physics material below ``material_at``.

    Raises:
        InputError: A name is taken or no USD identifier, or a mesh holds no triangle.
    """
    material = UsdShade.Material.Get(stage, f"{material_at}/{MATERIAL_NAME}")
    if not material:
        material = _author_material(stage, f"{material_at}/{MATERIAL_NAME}")
    _author_parts(stage, path, hulls, set(), material, UsdPhysics.Tokens.convexHull)


def author_obstacles(stage: Usd.Stage, path: str, parts: tuple[ProxyPart, ...]) -> None:
    """Define visible static triangle meshes as children of the prim at ``path``, with a physics material beside them.

    Raises:
        InputError: A name is taken or no USD identifier, or a mesh holds no triangle.
    """
    material = _author_material(stage, f"{path}/{MATERIAL_NAME}")
    _author_parts(stage, path, parts, set(), material, UsdPhysics.Tokens.none)


def read_parts(prim: Usd.Prim) -> tuple[ProxyPart, ...]:
    """Parts below a collision prim, in the order in which they were authored, in the prim's own frame.

    Raises:
        InputError: A mesh is not made of triangles, indexes vertices it does not have, or carries no known label.
    """
    meshes = [child for child in prim.GetChildren() if child.IsA(UsdGeom.Mesh)]
    return tuple(ProxyPart(mesh.GetName(), _read_label(mesh), _read_mesh(UsdGeom.Mesh(mesh))) for mesh in meshes)


def face_normals(mesh: TriMesh) -> np.ndarray:
    """Unit normals of the faces, zero where a face has no area, shape ``(F, 3)``, float32."""
    a, b, c = (mesh.vertices[mesh.faces[:, corner]].astype(np.float64) for corner in range(3))
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.divide(normals, length, out=np.zeros_like(normals), where=length > 0).astype(np.float32)


def _author_material(stage: Usd.Stage, path: str) -> UsdShade.Material:
    material = UsdShade.Material.Define(stage, path)
    physics = UsdPhysics.MaterialAPI.Apply(material.GetPrim())
    physics.CreateStaticFrictionAttr(STATIC_FRICTION)
    physics.CreateDynamicFrictionAttr(DYNAMIC_FRICTION)
    physics.CreateRestitutionAttr(RESTITUTION)
    return material


def _author_parts(
    stage: Usd.Stage,
    path: str,
    parts: tuple[ProxyPart, ...],
    taken: set[str],
    material: UsdShade.Material,
    approximation: str,
) -> None:
    taken = {MATERIAL_NAME, *taken}
    for part in parts:
        if not Tf.IsValidIdentifier(part.name) or part.name in taken:
            raise InputError(
                f"part name '{part.name}' cannot be used; names are unique, hold letters, digits and '_' only, do not "
                f"start with a digit and differ from '{MATERIAL_NAME}'."
            )
        taken.add(part.name)
        _author_part(stage, f"{path}/{part.name}", part, material, approximation)


def _author_part(stage: Usd.Stage, path: str, part: ProxyPart, material: UsdShade.Material, approximation: str) -> None:
    vertices = np.ascontiguousarray(part.mesh.vertices, dtype=np.float32)
    faces = np.ascontiguousarray(part.mesh.faces, dtype=np.int32)
    if len(faces) == 0 or not np.isfinite(vertices).all():
        raise InputError(
            f"part '{part.name}' has {len(faces)} faces; a collider needs at least 1, and finite vertices."
        )
    mesh = UsdGeom.Mesh.Define(stage, path)
    mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(vertices))
    mesh.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(faces), 3, dtype=np.int32)))
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(faces.reshape(-1)))
    mesh.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(face_normals(part.mesh)))
    mesh.SetNormalsInterpolation(UsdGeom.Tokens.uniform)
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    mesh.CreateExtentAttr(Vt.Vec3fArray([Gf.Vec3f(*map(float, low)), Gf.Vec3f(*map(float, high))]))

    prim = mesh.GetPrim()
    UsdPhysics.CollisionAPI.Apply(prim)
    UsdPhysics.MeshCollisionAPI.Apply(prim).CreateApproximationAttr(approximation)
    UsdShade.MaterialBindingAPI.Apply(prim).Bind(material, UsdShade.Tokens.weakerThanDescendants, "physics")
    UsdSemantics.LabelsAPI.Apply(prim, LABEL_TAXONOMY).CreateLabelsAttr([part.label])


def _read_label(prim: Usd.Prim):
    labels = UsdSemantics.LabelsAPI.Get(prim, LABEL_TAXONOMY).GetLabelsAttr().Get() or ()
    for label in PART_LABELS:
        if list(labels) == [label]:
            return label
    raise InputError(f"{prim.GetPath()} is labelled {list(labels)}; expected one of {', '.join(PART_LABELS)}.")


def _read_mesh(mesh: UsdGeom.Mesh) -> TriMesh:
    points, counts, indices = (
        attribute.Get()
        for attribute in (mesh.GetPointsAttr(), mesh.GetFaceVertexCountsAttr(), mesh.GetFaceVertexIndicesAttr())
    )
    if points is None or counts is None or indices is None:
        raise InputError(f"{mesh.GetPath()} lacks points or faces.")
    if (np.asarray(counts) != 3).any() or len(indices) != 3 * len(counts):
        raise InputError(f"{mesh.GetPath()} is not made of triangles only.")
    return TriMesh(np.array(points, dtype=np.float32).reshape(-1, 3), np.array(indices, dtype=np.int32).reshape(-1, 3))
