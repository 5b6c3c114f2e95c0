"""A wheeled robot, simulated by Newton, drives through an environment and is drawn by the render delegate."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.geometry import quat_to_matrix, xyzw_to_wxyz
from omni_gen3d.render.delegate import SplatRenderDelegate
from omni_gen3d.render.picture import color_to_image, depth_to_image, ids_to_image
from omni_gen3d.types import TriMesh
from omni_gen3d.usd.manifest import Manifest
from omni_gen3d.usd.props import author_prop, place_prop
from omni_gen3d.usd.stage import open_stage

_BODY_M = np.array([0.36, 0.22, 0.12])  # chassis: length, width, height
_WHEEL_RADIUS_M, _WHEEL_WIDTH_M = 0.07, 0.05
_AXLES_M = ((0.12, 0.15), (0.12, -0.15), (-0.12, 0.15), (-0.12, -0.15))  # x ahead, y to the left
_SPEED_RAD_S = 6.0
_STEPS_PER_SECOND = 240
_SIDES = 20
_BLUE, _BLACK = (0.1, 0.35, 0.8), (0.12, 0.12, 0.14)
_ROOT = "/World/Robot"


def drive(
    environment: Path, seconds: tuple[float, ...], size: tuple[int, int], report: Callable[[str], None]
) -> np.ndarray:
    """Colour, depth and labels side by side at some times, one below the other, uint8 RGB ``(T * H, 3 * W, 3)``.

    The robot starts at the first spawn pose of the manifest, drives straight on, and is seen through the generating
    camera. Its bodies collide with the environment's collider; what Newton says of them is written to the stage.

    Args:
        environment: Folder of an environment.
        seconds: When pictures are taken, ascending.
        size: Width and height of one picture [pixels].
        report: Told where the robot is.

    Raises:
        InputError: The environment cannot be read or has no spawn pose, or Newton is not installed.
    """
    manifest = Manifest.read(environment / "environment.yaml")
    if not manifest.spawn_poses:
        raise InputError(f"{environment} has no spawn pose; the robot has nowhere to stand.")
    with contextlib.redirect_stdout(sys.stderr):
        robot = _Robot(environment / "environment.usda", manifest)
    stage = open_stage(environment / "environment.usda")
    stage.SetEditTarget(stage.GetSessionLayer())
    author_prop(stage, f"{_ROOT}/Chassis", _box(_BODY_M), _BLUE, "robot")
    for i in range(len(_AXLES_M)):
        author_prop(stage, f"{_ROOT}/Wheel_{i}", _wheel(), _BLACK, "robot")
    rows = []
    with SplatRenderDelegate(stage, "cpu") as delegate:
        for moment in seconds:
            places = robot.advance(moment)
            for name, place in places.items():
                place_prop(stage, f"{_ROOT}/{name}", place)
            report(f"{moment:.1f} s: the robot is at {np.round(places['Chassis'][:3, 3], 2).tolist()} m")
            frame = delegate.render(
                "/World/Environment/Cameras/Input",
                size=size,
                aovs=("color", "depth", "alpha", "semantic_id"),
                background=(1.0, 1.0, 1.0),
            )
            color, depth, alpha = (torch.from_numpy(frame.aovs[name][0]) for name in ("color", "depth", "alpha"))
            labels = ids_to_image(frame.aovs["semantic_id"][0] - 1)
            rows.append(np.hstack([color_to_image(color), depth_to_image(depth, alpha), labels]))
    return np.concatenate(rows)


class _Robot:
    """The robot in Newton, on the collider of an environment."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        try:
            import newton
            import warp
        except ImportError as error:
            raise InputError(f"Newton does not load ({error}); install: pip install 'omni_gen3d[newton]'.") from error
        builder: Any = newton.ModelBuilder()
        builder.add_usd(str(path))
        grip = newton.ModelBuilder.ShapeConfig(mu=1.0)
        pose = manifest.spawn_poses[0]
        x, y, z = pose.position
        half = pose.yaw / 2
        turn = warp.quat(0.0, 0.0, math.sin(half), math.cos(half))
        centre = warp.vec3(x, y, z + _WHEEL_RADIUS_M + 0.03)
        self._names = ["Chassis", *(f"Wheel_{i}" for i in range(4))]
        chassis = builder.add_link(xform=warp.transform(centre, turn), label="Chassis")
        builder.add_shape_box(chassis, hx=_BODY_M[0] / 2, hy=_BODY_M[1] / 2, hz=_BODY_M[2] / 2)
        joints, self._bodies = [builder.add_joint_free(chassis)], [chassis]
        # A cylinder lies along its z axis; turned about x it lies along y.
        along_y = warp.quat(math.sin(math.pi / 4), 0.0, 0.0, math.cos(math.pi / 4))
        for i, (ahead, left) in enumerate(_AXLES_M):
            axle = warp.vec3(ahead, left, -0.03)
            cos, sin = math.cos(pose.yaw), math.sin(pose.yaw)
            place = warp.vec3(x + cos * ahead - sin * left, y + sin * ahead + cos * left, z + _WHEEL_RADIUS_M)
            wheel = builder.add_link(xform=warp.transform(place, turn), label=f"Wheel_{i}")
            builder.add_shape_cylinder(
                wheel,
                xform=warp.transform(warp.vec3(0.0, 0.0, 0.0), along_y),
                radius=_WHEEL_RADIUS_M,
                half_height=_WHEEL_WIDTH_M / 2,
                cfg=grip,
            )
            joints.append(
                builder.add_joint_revolute(
                    chassis,
                    wheel,
                    parent_xform=warp.transform(axle, warp.quat_identity()),
                    axis=(0.0, 1.0, 0.0),
                    target_qd=_SPEED_RAD_S,
                    target_ke=0.0,
                    target_kd=5.0,
                )
            )
            self._bodies.append(wheel)
        builder.add_articulation(joints)
        self._model = builder.finalize(device="cpu")
        self._solver = newton.solvers.SolverXPBD(self._model, iterations=8)
        self._pipeline = newton.CollisionPipeline(self._model)
        self._contacts = self._pipeline.contacts()
        self._states = [self._model.state(), self._model.state()]
        self._control = self._model.control()
        self._steps = 0

    def advance(self, seconds: float) -> dict[str, np.ndarray]:
        """Where the bodies are after so many seconds since the start, ``(4, 4)`` each.

        Raises:
            InputError: The simulation diverged.
        """
        while self._steps < round(seconds * _STEPS_PER_SECOND):
            now, after = self._states
            now.clear_forces()
            self._pipeline.collide(now, self._contacts)
            self._solver.step(now, after, self._control, self._contacts, 1 / _STEPS_PER_SECOND)
            self._states.reverse()
            self._steps += 1
        bodies = self._states[0].body_q.numpy()[self._bodies].astype(np.float64)
        if not np.isfinite(bodies).all():
            raise InputError("the robot's simulation diverged in this environment; try another.")
        places = np.tile(np.eye(4), (len(bodies), 1, 1))
        places[:, :3, :3] = quat_to_matrix(xyzw_to_wxyz(torch.from_numpy(bodies[:, 3:]))).numpy()
        places[:, :3, 3] = bodies[:, :3]
        return dict(zip(self._names, places, strict=True))


def _box(size: np.ndarray) -> TriMesh:
    corners = (np.indices((2, 2, 2)).reshape(3, 8).T - 0.5) * size
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = [face for a, b, c, d in quads for face in ((a, b, c), (a, c, d))]
    return TriMesh(corners.astype(np.float32), np.array(faces, np.int32))


def _wheel() -> TriMesh:
    """A drum along y, closed, of flat sides so that it is seen to roll."""
    angle = 2 * np.pi * np.arange(_SIDES) / _SIDES
    ring = np.stack([np.cos(angle), np.zeros(_SIDES), np.sin(angle)], 1) * _WHEEL_RADIUS_M
    half = np.array([0, _WHEEL_WIDTH_M / 2, 0])
    points = np.concatenate([ring - half, ring + half, [-half, half]])
    i, j = np.arange(_SIDES), (np.arange(_SIDES) + 1) % _SIDES
    left, right = np.full(_SIDES, 2 * _SIDES), np.full(_SIDES, 2 * _SIDES + 1)
    far_i, far_j = i + _SIDES, j + _SIDES
    corners = ((i, far_i, j), (j, far_i, far_j), (left, i, j), (right, far_j, far_i))
    faces = np.concatenate([np.stack(face, 1) for face in corners])
    return TriMesh(points.astype(np.float32), faces.astype(np.int32))
