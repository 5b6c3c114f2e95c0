"""A small wheeled robot that follows a path over a collision proxy in Newton."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from omni_gen3d.mesh.scoring import joined
from omni_gen3d.types import ProxyPart

ROBOT_RADIUS_M = 0.25
# Two driven wheels on an axle and a ball without friction before and behind it.
_WHEEL_RADIUS, _HALF_TRACK, _BALL_RADIUS, _BALL_AHEAD = 0.1, 0.14, 0.05, 0.14
_CHASSIS_HALF = (0.16, 0.11, 0.04)
_CHASSIS_HEIGHT = 0.14
_SPEED, _MAX_TURN = 0.4, 2.0  # [m/s], [rad/s]
_LOOK_AHEAD_M = 0.18
_GAIN, _MAX_TORQUE = 0.8, 4.0  # [N m s], [N m]
_STEPS_PER_SECOND, _STEPS_PER_COMMAND = 120, 4
_SETTLE_S, _PATIENCE_S = 0.4, 3.0
# A fall or a sunken wheel; an upset robot; a robot that something holds.
_MAX_LIFT_M, _MAX_TILT_DEG = 0.05, 20.0
_REACHED_M = 0.15


@dataclass(frozen=True)
class Drive:
    """How a drive went.

    Attributes:
        share: Of the path that was driven.
        seconds: Of simulated time.
        lowest_m, highest_m: Of the axle against where it rides on a floor at z = 0 [m].
        tilt_deg: Largest tilt [degrees].
        failure: ``fell``, ``upset`` or ``blocked``; None for a drive to the end.
    """

    share: float
    seconds: float
    lowest_m: float
    highest_m: float
    tilt_deg: float
    failure: str | None


def drive(parts: tuple[ProxyPart, ...], path: np.ndarray) -> Drive:
    """Drive along a path on the CPU, in Newton's XPBD, until its end or a failure.

    Args:
        parts: The collider, floor at z = 0.
        path: Points on the floor, densely spaced [m], shape ``(P, 2)``.
    """
    import newton

    ahead = path[min(5, len(path) - 1)] - path[0]
    model = _world(newton, parts, path[0], math.atan2(ahead[1], ahead[0]))
    solver = newton.solvers.SolverXPBD(model, iterations=8)
    pipeline = newton.CollisionPipeline(model)
    contacts = pipeline.contacts()
    state, after, control = model.state(), model.state(), model.control()
    at, lows, tilts, failure, seconds, advanced = 0, [0.0], [0.0], None, 0.0, _SETTLE_S
    rates, torques = (0.0, 0.0), np.zeros(model.joint_dof_count, np.float32)
    while failure is None and at < len(path) - 1:
        position, yaw, tilt = _pose(state.body_q.numpy()[0])
        if seconds >= _SETTLE_S:
            lows.append(float(position[2] - _WHEEL_RADIUS))
            tilts.append(tilt)
            before, at = at, _progress(path, position[:2], at)
            advanced = seconds if at > before else advanced
            rates = _wheel_rates(path, position[:2], yaw, at)
        if abs(lows[-1]) > _MAX_LIFT_M:
            failure = "fell"
        elif tilts[-1] > _MAX_TILT_DEG:
            failure = "upset"
        elif seconds - advanced > _PATIENCE_S:
            failure = "blocked"
        for _ in range(_STEPS_PER_COMMAND):
            torques[6:8] = _torques(state.body_q.numpy(), state.body_qd.numpy(), rates)
            control.joint_f.assign(torques)
            state.clear_forces()
            pipeline.collide(state, contacts)
            solver.step(state, after, control, contacts, 1 / _STEPS_PER_SECOND)
            state, after = after, state
        seconds += _STEPS_PER_COMMAND / _STEPS_PER_SECOND
    return Drive(at / (len(path) - 1), round(seconds, 2), min(lows), max(lows), max(tilts), failure)


def _world(newton: Any, parts: tuple[ProxyPart, ...], start: np.ndarray, yaw: float) -> Any:
    """The model of collider and robot: bodies chassis, left and right wheel; the wheels are dofs 6 and 7."""
    import warp as wp

    mesh = joined(parts)
    builder = newton.ModelBuilder(up_axis=newton.Axis.Z)
    shape = newton.ModelBuilder.ShapeConfig
    builder.add_shape_mesh(
        -1,
        mesh=newton.Mesh(mesh.vertices, mesh.faces.reshape(-1), compute_inertia=False),
        cfg=shape(density=0.0, mu=0.8, gap=0.02),
    )
    turned = wp.quat(0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2))
    place = wp.transform(wp.vec3(float(start[0]), float(start[1]), _WHEEL_RADIUS + 0.005), turned)
    chassis = builder.add_link(xform=place)
    raised = _CHASSIS_HEIGHT - _WHEEL_RADIUS
    half = dict(zip(("hx", "hy", "hz"), _CHASSIS_HALF, strict=True))
    builder.add_shape_box(
        chassis,
        xform=wp.transform(wp.vec3(0.0, 0.0, raised), wp.quat_identity()),
        cfg=shape(density=800.0, mu=0.2),
        **half,
    )
    for sign in (-1.0, 1.0):
        centre = wp.vec3(sign * _BALL_AHEAD, 0.0, _BALL_RADIUS - _WHEEL_RADIUS)
        ball = wp.transform(centre, wp.quat_identity())
        builder.add_shape_sphere(chassis, xform=ball, radius=_BALL_RADIUS, cfg=shape(density=800.0, mu=0.0))
    joints = [builder.add_joint_free(child=chassis)]
    # A cylinder's axis is its Z: turned onto the chassis' Y.
    lying = wp.quat(-math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5))
    for sign in (1.0, -1.0):
        hub = wp.transform(wp.vec3(0.0, sign * _HALF_TRACK, 0.0), wp.quat_identity())
        wheel = builder.add_link(xform=place * hub)
        builder.add_shape_cylinder(
            wheel,
            xform=wp.transform(wp.vec3(0.0), lying),
            radius=_WHEEL_RADIUS,
            half_height=0.02,
            cfg=shape(density=1500.0, mu=0.9),
        )
        joints.append(
            builder.add_joint_revolute(
                chassis, wheel, parent_xform=hub, axis=newton.Axis.Y,
                collision_filter_parent=True,
            )
        )  # fmt: skip
    builder.add_articulation(joints)
    return builder.finalize(device="cpu")


def _torques(bodies: np.ndarray, velocities: np.ndarray, rates: tuple[float, float]) -> np.ndarray:
    """Torques [N m] that bring the wheels to their rates [rad/s]; poses and velocities of chassis and wheels."""
    x, y, z, w = (float(value) for value in bodies[0, 3:7])
    axle = np.array([2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)])
    turning = (velocities[1:3, 3:] - velocities[0, 3:]) @ axle
    return np.clip(_GAIN * (np.array(rates) - turning), -_MAX_TORQUE, _MAX_TORQUE)


def _pose(body: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Position [m], yaw [rad] and tilt [degrees] of ``(x, y, z, qx, qy, qz, qw)``."""
    x, y, z, w = (float(value) for value in body[3:7])
    yaw = math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    upright = 1 - 2 * (x * x + y * y)
    return body[:3], yaw, math.degrees(math.acos(max(-1.0, min(1.0, upright))))


def _progress(path: np.ndarray, position: np.ndarray, at: int) -> int:
    """The last point of the next stretch of the path that the robot is beside."""
    stretch = path[at : at + 30]
    near = np.linalg.norm(stretch - position, axis=1)
    best = int(near.argmin())
    return at + best if near[best] < _REACHED_M else at


def _wheel_rates(path: np.ndarray, position: np.ndarray, yaw: float, at: int) -> tuple[float, float]:
    """Left and right wheel [rad/s] towards a point of the path a little ahead (pure pursuit)."""
    way = np.linalg.norm(path[at:] - position, axis=1)
    beyond = np.flatnonzero(way >= _LOOK_AHEAD_M)
    target = path[at + int(beyond[0])] if len(beyond) else path[-1]
    bearing = math.atan2(*(target - position)[::-1]) - yaw
    bearing = (bearing + math.pi) % (2 * math.pi) - math.pi
    turn = max(-_MAX_TURN, min(_MAX_TURN, 2 * _SPEED * math.sin(bearing) / _LOOK_AHEAD_M))
    forward = _SPEED * max(0.0, math.cos(bearing))
    return (forward - turn * _HALF_TRACK) / _WHEEL_RADIUS, (forward + turn * _HALF_TRACK) / _WHEEL_RADIUS
