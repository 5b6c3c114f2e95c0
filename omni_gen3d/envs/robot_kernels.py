"""What Newton does not do by itself for a wheeled robot: wheels that push, an upright ride, and who touches what.

Warp compiles these; the module is loaded only where robots are simulated.
"""

# What a kernel may do with vectors, Warp's stubs do not know.
# pyright: reportAssignmentType=false, reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportIndexIssue=false, reportOperatorIssue=false

from __future__ import annotations

import warp as wp

GRAVITY = 9.81
# Of turning on the spot [rad/s^2]: wheels at half the radius slip no later than those that push forwards.
MAX_SPIN = wp.constant(12.0)


@wp.func
def heading(q: wp.quat) -> float:
    return wp.atan2(2.0 * (q[3] * q[2] + q[0] * q[1]), 1.0 - 2.0 * (q[1] * q[1] + q[2] * q[2]))


@wp.kernel
def drive(
    body_q: wp.array[wp.transform],
    body_qd: wp.array[wp.spatial_vector],
    body_mass: wp.array[float],
    body_inertia: wp.array[wp.mat33],
    shape_material_mu: wp.array[float],
    command: wp.array[wp.vec2],
    stride: int,
    dt: float,
    body_f: wp.array[wp.spatial_vector],
):
    """Force and torque of the wheels: towards the commanded velocities as far as friction with the floor carries.

    ``command`` is forward speed [m/s] and turn rate [rad/s]. Wheels do not slide sideways, within the same friction.
    The friction is the collider's, the second of the ``stride`` shapes of each world.
    """
    i = wp.tid()
    yaw = heading(wp.transform_get_rotation(body_q[i]))
    velocity = wp.spatial_top(body_qd[i])
    forward = wp.vec3(wp.cos(yaw), wp.sin(yaw), 0.0)
    change = forward * command[i][0] - wp.vec3(velocity[0], velocity[1], 0.0)
    grip = shape_material_mu[stride * i + 1] * GRAVITY * dt
    length = wp.length(change)
    if length > grip:
        change = change * (grip / length)
    spin = wp.clamp(command[i][1] - wp.spatial_bottom(body_qd[i])[2], -MAX_SPIN * dt, MAX_SPIN * dt)
    body_f[i] = wp.spatial_vector(change * (body_mass[i] / dt), wp.vec3(0.0, 0.0, body_inertia[i][2, 2] * spin / dt))


@wp.kernel
def keep_upright(ride_height: float, body_q: wp.array[wp.transform], body_qd: wp.array[wp.spatial_vector]):
    """Take out what wheels on a plane floor do not allow: height, roll and pitch."""
    i = wp.tid()
    position = wp.transform_get_translation(body_q[i])
    half = 0.5 * heading(wp.transform_get_rotation(body_q[i]))
    upright = wp.quat(0.0, 0.0, wp.sin(half), wp.cos(half))
    body_q[i] = wp.transform(wp.vec3(position[0], position[1], ride_height), upright)
    velocity, spin = wp.spatial_top(body_qd[i]), wp.spatial_bottom(body_qd[i])
    body_qd[i] = wp.spatial_vector(wp.vec3(velocity[0], velocity[1], 0.0), wp.vec3(0.0, 0.0, spin[2]))


@wp.kernel
def feel(
    count: wp.array[int],
    shape0: wp.array[int],
    shape1: wp.array[int],
    point0: wp.array[wp.vec3],
    point1: wp.array[wp.vec3],
    margin0: wp.array[float],
    margin1: wp.array[float],
    normal: wp.array[wp.vec3],
    shape_body: wp.array[int],
    body_q: wp.array[wp.transform],
    nearest: float,
    touching: wp.array[wp.uint8],
):
    """Mark the robots that one of Newton's contacts separates from the collider by less than ``nearest`` [m]."""
    i = wp.tid()
    if i >= count[0]:
        return
    body0, body1 = shape_body[shape0[i]], shape_body[shape1[i]]
    frame0, frame1 = wp.transform_identity(), wp.transform_identity()
    if body0 >= 0:
        frame0 = body_q[body0]
    if body1 >= 0:
        frame1 = body_q[body1]
    way = wp.transform_point(frame1, point1[i]) - wp.transform_point(frame0, point0[i])
    if wp.dot(way, normal[i]) - margin0[i] - margin1[i] < nearest:
        touching[wp.max(body0, body1)] = wp.uint8(1)


@wp.kernel
def report(
    body_q: wp.array[wp.transform],
    body_qd: wp.array[wp.spatial_vector],
    pose: wp.array[wp.vec3],
    speed: wp.array[wp.vec2],
):
    """Pose ``(x, y, yaw)`` and speed (forward, turn rate) of each robot."""
    i = wp.tid()
    position = wp.transform_get_translation(body_q[i])
    yaw = heading(wp.transform_get_rotation(body_q[i]))
    velocity = wp.spatial_top(body_qd[i])
    pose[i] = wp.vec3(position[0], position[1], yaw)
    speed[i] = wp.vec2(velocity[0] * wp.cos(yaw) + velocity[1] * wp.sin(yaw), wp.spatial_bottom(body_qd[i])[2])


@wp.kernel
def place(
    robots: wp.array[int],
    worlds: wp.array[int],
    poses: wp.array[wp.vec3],
    scales: wp.array[float],
    yaws: wp.array[float],
    frictions: wp.array[float],
    mesh_ids: wp.array[wp.uint64],
    lows: wp.array[wp.vec3],
    highs: wp.array[wp.vec3],
    ride_height: float,
    stride: int,
    body_q: wp.array[wp.transform],
    body_qd: wp.array[wp.spatial_vector],
    shape_source: wp.array[wp.uint64],
    shape_transform: wp.array[wp.transform],
    shape_scale: wp.array[wp.vec3],
    shape_low: wp.array[wp.vec3],
    shape_high: wp.array[wp.vec3],
    shape_material_mu: wp.array[float],
):
    """Put robots at rest at poses, and the colliders of other worlds around them."""
    k = wp.tid()
    i, world, pose, scale = robots[k], worlds[k], poses[k], scales[k]
    half = 0.5 * pose[2]
    body_q[i] = wp.transform(wp.vec3(pose[0], pose[1], ride_height), wp.quat(0.0, 0.0, wp.sin(half), wp.cos(half)))
    body_qd[i] = wp.spatial_vector()
    collider = stride * i + 1
    turn = 0.5 * yaws[k]
    shape_source[collider] = mesh_ids[world]
    shape_transform[collider] = wp.transform(wp.vec3(), wp.quat(0.0, 0.0, wp.sin(turn), wp.cos(turn)))
    shape_scale[collider] = wp.vec3(scale, scale, scale)
    shape_low[collider] = lows[world] * scale
    shape_high[collider] = highs[world] * scale
    # XPBD takes the mean of the two shapes in contact.
    shape_material_mu[collider] = frictions[k]
    shape_material_mu[stride * i] = frictions[k]


@wp.kernel
def furnish(
    robots: wp.array[int],
    meshes: wp.array2d[int],
    positions: wp.array2d[wp.vec3],
    turns: wp.array2d[float],
    scales: wp.array2d[float],
    frictions: wp.array[float],
    mesh_ids: wp.array[wp.uint64],
    lows: wp.array[wp.vec3],
    highs: wp.array[wp.vec3],
    stride: int,
    shape_source: wp.array[wp.uint64],
    shape_transform: wp.array[wp.transform],
    shape_scale: wp.array[wp.vec3],
    shape_low: wp.array[wp.vec3],
    shape_high: wp.array[wp.vec3],
    shape_material_mu: wp.array[float],
):
    """Put obstacles around robots, each into a shape of its own after the collider; mesh -1 puts one out of the way."""
    k, slot = wp.tid()
    shape = stride * robots[k] + 2 + slot
    mesh = meshes[k, slot]
    if mesh < 0:
        shape_transform[shape] = wp.transform(wp.vec3(0.0, 0.0, -2000.0), wp.quat_identity())
        return
    half = 0.5 * turns[k, slot]
    scale = scales[k, slot]
    shape_source[shape] = mesh_ids[mesh]
    shape_transform[shape] = wp.transform(positions[k, slot], wp.quat(0.0, 0.0, wp.sin(half), wp.cos(half)))
    shape_scale[shape] = wp.vec3(scale, scale, scale)
    shape_low[shape] = lows[mesh] * scale
    shape_high[shape] = highs[mesh] * scale
    shape_material_mu[shape] = frictions[k]
