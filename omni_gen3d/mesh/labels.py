"""What the faces of a shell are: floor, wall, ceiling or object, and the parts made of them.

The rules, in order:

* floor: flat at z = 0 and looking up, where a floor was found; the slab of ``slab.py`` takes the place of these faces;
* ceiling: looking down from 1.5 m or higher;
* wall: on the boundary of what no camera saw, or on an upright plane of at least 1.5 m2 and 1.2 m height with
  little of the observed surface behind it, or that reaches the top of the scene;
* object: the rest.
"""

from __future__ import annotations

import numpy as np

from omni_gen3d.mesh.objects import separate_objects
from omni_gen3d.mesh.surface import face_normals_and_areas
from omni_gen3d.mesh.tsdf import Tsdf
from omni_gen3d.types import PART_LABELS, ProxyPart, TriMesh

_CEILING_HEIGHT_M = 1.5
_MIN_WALL_AREA_M2 = 1.5
_MIN_WALL_HEIGHT_M = 1.2
_MAX_SHARE_BEHIND_WALL = 0.25
_WALL_TOLERANCE_M = 0.15
_TOP_TOLERANCE_M = 0.25
_WALL_HEADINGS = 36
_MAX_WALL_CANDIDATES = 16
_UPRIGHT_MAX_Z = 0.35
# Faces vote for planes they are parallel to; a rounded corner or a dent in a wall still belongs to it.
_VOTING_COS = 0.9
_BELONGING_COS = 0.4


def label_faces(shell: TriMesh, tsdf: Tsdf, has_floor: bool) -> np.ndarray:
    """Label of every face as an index into ``PART_LABELS``, shape ``(F,)``."""
    normals, areas = face_normals_and_areas(shell)
    corners = shell.vertices[shell.faces].astype(np.float64)
    centres = corners.mean(1)
    observed = _observed(centres, normals, tsdf)

    labels = np.full(len(shell.faces), PART_LABELS.index("object"))
    labels[~observed | _on_walls(corners, normals, np.where(observed, areas, 0.0))] = PART_LABELS.index("wall")
    labels[(normals[:, 2] < -0.5) & (centres[:, 2] > _CEILING_HEIGHT_M)] = PART_LABELS.index("ceiling")
    if has_floor:
        labels[(corners[:, :, 2] == 0.0).all(1) & (normals[:, 2] >= 0.0)] = PART_LABELS.index("floor")
    return labels


def split_parts(shell: TriMesh, labels: np.ndarray, slab: TriMesh | None) -> tuple[ProxyPart, ...]:
    """One part for floor, walls and ceiling each and one for every object, empty ones left out.

    The slab stands for the faces labelled floor; objects are named ``object_000`` and so on, the largest first.
    """
    areas = face_normals_and_areas(shell)[1]
    labels, objects = separate_objects(shell, np.where(areas > 0, labels, -1))
    parts = [] if slab is None else [ProxyPart("floor", "floor", slab)]
    for label in ("wall", "ceiling"):
        faces = shell.faces[labels == PART_LABELS.index(label)]
        if len(faces):
            parts.append(ProxyPart(label, label, _of_faces(shell, faces)))
    for number in range(objects.max(initial=-1) + 1):
        mesh = _of_faces(shell, shell.faces[objects == number])
        parts.append(ProxyPart(f"object_{number:03}", "object", mesh))
    return tuple(parts)


def _of_faces(shell: TriMesh, faces: np.ndarray) -> TriMesh:
    used, compact = np.unique(faces, return_inverse=True)
    return TriMesh(shell.vertices[used], compact.reshape(-1, 3).astype(np.int32))


def _observed(centres: np.ndarray, normals: np.ndarray, tsdf: Tsdf) -> np.ndarray:
    """Whether a camera saw a surface half a voxel behind the face, shape ``(F,)``."""
    voxels = tsdf.voxel_of(centres - 0.5 * tsdf.voxel_size * normals)
    inside = ((voxels >= 0) & (voxels < tsdf.surface_seen.shape)).all(1)
    observed = np.zeros(len(centres), np.bool_)
    observed[inside] = tsdf.surface_seen[tuple(voxels[inside].T)]
    return observed


def _on_walls(corners: np.ndarray, normals: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Faces on upright planes found one after the other as the peaks of a Hough transform over heading and offset.

    Args:
        corners: Of the faces [m], shape ``(F, 3, 3)``.
        normals: Shape ``(F, 3)``.
        areas: What each face counts, 0 for faces that are not observed [m^2], shape ``(F,)``.
    """
    centres = corners.mean(1)
    voters = np.flatnonzero((np.abs(normals[:, 2]) < _UPRIGHT_MAX_Z) & (areas > 0))
    on_wall = np.zeros(len(corners), np.bool_)
    tried = np.zeros(len(corners), np.bool_)
    headings = 2 * np.pi * np.arange(_WALL_HEADINGS) / _WALL_HEADINGS
    directions = np.stack([np.cos(headings), np.sin(headings), np.zeros(_WALL_HEADINGS)], 1)
    cosines = normals @ directions.T
    offsets = centres @ directions.T
    bins = np.floor(offsets / _WALL_TOLERANCE_M).astype(np.int64)
    bins -= bins.min()
    top = corners[..., 2].max()
    size = bins.max() + 1
    for _ in range(_MAX_WALL_CANDIDATES):
        voters = voters[~tried[voters]]
        weights = (areas[voters, None] * (cosines[voters] > _VOTING_COS)).T
        votes = np.stack([np.bincount(at, w, size) for at, w in zip(bins[voters].T, weights, strict=True)])
        heading, peak = np.unravel_index(votes.argmax(), votes.shape)
        if votes[heading, peak] == 0:
            break
        peaking = voters[(weights[heading] > 0) & (bins[voters, heading] == peak)]
        offset = np.average(offsets[peaking, heading], weights=areas[peaking])
        near = (np.abs(offsets[:, heading] - offset) < _WALL_TOLERANCE_M) & (cosines[:, heading] > _BELONGING_COS)
        if areas[near & ~tried].sum() < _MIN_WALL_AREA_M2:
            break
        tried |= near
        seen_heights = corners[near & (areas > 0), :, 2]
        behind = areas[offsets[:, heading] < offset - 2 * _WALL_TOLERANCE_M].sum()
        bounds = behind <= _MAX_SHARE_BEHIND_WALL * areas.sum() or seen_heights.max() >= top - _TOP_TOLERANCE_M
        if np.ptp(seen_heights) >= _MIN_WALL_HEIGHT_M and bounds:
            on_wall |= near
    return on_wall
