"""The collision meshes as other programs see them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pxr import Usd, UsdGeom, UsdPhysics, UsdShade

from omni_gen3d.errors import InputError
from omni_gen3d.types import ProxyPart, TriMesh
from omni_gen3d.usd.collision import author_collision, face_normals, read_parts

if TYPE_CHECKING:
    from tests.conftest import ToyScene


def authored(parts: tuple[ProxyPart, ...]) -> Usd.Stage:
    stage = Usd.Stage.CreateInMemory()
    UsdGeom.Xform.Define(stage, "/Collision")
    author_collision(stage, "/Collision", parts)
    return stage


def test_every_part_is_a_static_triangle_collider(toy_scene: ToyScene):
    """Each part is a guide mesh with a triangle collider, friction, no subdivision, and points out of the solid."""
    stage = authored(toy_scene.proxy.parts)
    children = stage.GetPrimAtPath("/Collision").GetChildren()
    meshes = [UsdGeom.Mesh(child) for child in children if child.IsA(UsdGeom.Mesh)]
    assert [mesh.GetPrim().GetName() for mesh in meshes] == ["floor", "wall_west", "wall_east", "table"]
    for mesh in meshes:
        assert mesh.ComputePurpose() == UsdGeom.Tokens.guide
        assert mesh.GetPrim().HasAPI(UsdPhysics.CollisionAPI)
        assert not mesh.GetPrim().HasAPI(UsdPhysics.RigidBodyAPI)
        assert UsdPhysics.MeshCollisionAPI(mesh).GetApproximationAttr().Get() == "none"
        assert mesh.GetSubdivisionSchemeAttr().Get() == "none"
        assert len(mesh.GetNormalsAttr().Get()) == 12 and mesh.GetNormalsInterpolation() == "uniform"
        extent = UsdGeom.PointBased.ComputeExtent(mesh.GetPointsAttr().Get())
        assert mesh.GetExtentAttr().Get() == extent
        material, _ = UsdShade.MaterialBindingAPI(mesh).ComputeBoundMaterial("physics")
        physics = UsdPhysics.MaterialAPI(material)
        assert physics.GetStaticFrictionAttr().Get() >= physics.GetDynamicFrictionAttr().Get() > 0
        assert physics.GetRestitutionAttr().HasAuthoredValue()


def test_normals_are_those_of_the_faces(toy_scene: ToyScene):
    """On a box every face's normal has unit length and points away from the centre; a face without area has none."""
    mesh = toy_scene.proxy.parts[3].mesh
    normals = face_normals(mesh)
    outward = mesh.vertices[mesh.faces].mean(axis=1) - mesh.vertices.mean(axis=0)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    assert ((normals * outward).sum(axis=1) > 0).all()
    needle = TriMesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]], np.int32))
    assert not face_normals(needle).any()


@pytest.mark.parametrize("name", ["", "2nd", "a b", "a/b", "PhysicsMaterial", "table"])
def test_names_that_cannot_be_prims_are_refused(toy_scene: ToyScene, name: str):
    """A name that is no identifier, or is taken, is refused and not quietly changed."""
    floor = dataclasses.replace(toy_scene.proxy.parts[0], name=name)
    with pytest.raises(InputError, match="part name"):
        authored((toy_scene.proxy.parts[3], floor))


def test_empty_proxies_are_refused(toy_scene: ToyScene):
    """No part at all, and a part without a face, are refused."""
    with pytest.raises(InputError, match="0 parts"):
        authored(())
    nothing = TriMesh(np.zeros((3, 3), np.float32), np.zeros((0, 3), np.int32))
    with pytest.raises(InputError, match="0 faces"):
        authored((dataclasses.replace(toy_scene.proxy.parts[0], mesh=nothing),))


def test_unlabelled_and_quad_meshes_are_refused_when_read(toy_scene: ToyScene):
    """Reading names the mesh that lacks a label, and the one that is not made of triangles."""
    stage = authored(toy_scene.proxy.parts)
    prim = stage.GetPrimAtPath("/Collision")
    mesh = UsdGeom.Mesh(prim.GetChild("table"))
    mesh.GetFaceVertexCountsAttr().Set([4] * 9)
    with pytest.raises(InputError, match="/Collision/table is not made of triangles"):
        read_parts(prim)
    mesh.GetPrim().GetAttribute("semantics:labels:class").Set(["dragon"])
    with pytest.raises(InputError, match="dragon"):
        read_parts(prim)
