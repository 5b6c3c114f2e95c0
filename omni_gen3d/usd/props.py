"""Things that stand or move before the splats: meshes of one colour, placed by a matrix."""

from __future__ import annotations

import numpy as np
from pxr import Gf, Usd, UsdGeom, UsdSemantics, Vt

from omni_gen3d.types import TriMesh
from omni_gen3d.usd.collision import LABEL_TAXONOMY


def author_prop(stage: Usd.Stage, path: str, mesh: TriMesh, color: tuple[float, float, float], label: str) -> None:
    """Define a flat-shaded ``Mesh`` of one colour, with a semantic label, at the origin; it collides with nothing."""
    prop = UsdGeom.Mesh.Define(stage, path)
    prop.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(mesh.vertices, np.float32)))
    prop.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, np.int32)))
    prop.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(np.ascontiguousarray(mesh.faces, np.int32).reshape(-1)))
    prop.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    prop.CreateDisplayColorAttr([Gf.Vec3f(*color)])
    UsdSemantics.LabelsAPI.Apply(prop.GetPrim(), LABEL_TAXONOMY).CreateLabelsAttr([label])


def place_prop(stage: Usd.Stage, path: str, to_parent: np.ndarray) -> None:
    """Place a prop by a matrix for column vectors, shape ``(4, 4)``."""
    UsdGeom.Xformable(stage.GetPrimAtPath(path)).MakeMatrixXform().Set(Gf.Matrix4d(to_parent.T.tolist()))
