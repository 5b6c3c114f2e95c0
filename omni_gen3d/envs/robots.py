"""Wheeled robots in Newton, each alone in a world whose collider can be swapped for that of another environment.

A robot is an upright cylinder on a differential drive: the wheels push with what friction gives, the floor itself is a
plane that it rides on without contact, everything else of the collider is met by Newton's contacts and its XPBD solver.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from omni_gen3d.envs.newton import CONTACT_GAP_M, contact_config, import_newton, newton_mesh
from omni_gen3d.errors import InputError
from omni_gen3d.types import TriMesh

# A separation from the collider below this is a touch [m].
_TOUCH_M = 0.001
# Candidate triangles of one robot; a cylinder of 0.25 m in a corner meets some two hundred of a 20,000-face proxy.
_TRIANGLES_PER_ROBOT = 2048
_CONTACTS_PER_ROBOT = 64
# What Newton can sort into an order of its own.
_MAX_TRIANGLES = 2**20 - 1


@dataclass(frozen=True, kw_only=True)
class RobotBody:
    """A robot and how finely its motion is computed.

    Attributes:
        radius: Of the cylinder [m].
        height: Of its top above the floor [m].
        clearance: Of its bottom above the floor; lower bumps are driven over [m].
        mass: [kg].
        max_speed: [m/s].
        max_turn_rate: [rad/s].
        step: Time between two commands [s].
        substeps: Physics steps in it.
    """

    radius: float = 0.25
    height: float = 0.55
    clearance: float = 0.06
    mass: float = 15.0
    max_speed: float = 0.6
    max_turn_rate: float = 1.5
    step: float = 0.2
    substeps: int = 6

    def __post_init__(self) -> None:
        for name in ("radius", "height", "clearance", "mass", "max_speed", "max_turn_rate", "step"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"the robot's {name} is {value}; it must be positive.")
        if self.height <= self.clearance + CONTACT_GAP_M or self.clearance <= CONTACT_GAP_M:
            raise InputError(
                f"the robot reaches from {self.clearance} to {self.height} m; it must start above {CONTACT_GAP_M} m, "
                "where contacts with the floor begin, and end higher."
            )
        if self.substeps < 1:
            raise InputError(f"substeps is {self.substeps}; it must be at least 1.")


class Robots:
    """N robots in N worlds over W colliders that they share, and obstacles that each robot has for itself.

    Attributes:
        pose: ``(x, y, yaw)`` [m, rad], shape ``(N, 3)``, float32, on the device; rewritten by ``place`` and ``step``.
        speed: Forward [m/s] and turn rate [rad/s], shape ``(N, 2)``.
        touching: Whether a robot touched the collider during the last step, shape ``(N,)``, bool.
    """

    def __init__(
        self,
        colliders: Sequence[TriMesh],
        count: int,
        *,
        body: RobotBody | None = None,
        obstacles: Sequence[TriMesh] = (),
        slots: int = 0,
        device: str = "cpu",
    ) -> None:
        """Build the worlds; every robot waits far from everything until it is placed.

        Args:
            colliders: One mesh for each environment, Z-up, floor at 0.
            count: N.
            body: Of every robot.
            obstacles: Meshes that may be put around a robot.
            slots: So many of them at most.
            device: ``cpu`` or ``cuda``.

        Raises:
            InputError: Newton is not installed, or there is no collider or no robot.
        """
        if not colliders or count < 1:
            raise InputError(
                f"{count} robots over {len(colliders)} colliders were asked for; at least 1 each is needed."
            )
        newton = import_newton()
        import warp as wp

        from omni_gen3d.envs import robot_kernels

        self.body = RobotBody() if body is None else body
        self._wp, self._kernels, self._count = wp, robot_kernels, count
        self._device = wp.get_device("cuda:0" if device == "cuda" else "cpu")
        self._ride_height = (self.body.height + self.body.clearance) / 2
        # Of each world: the robot, its collider, its obstacles.
        self._slots, self._stride, self._first_obstacle = slots, 2 + slots, len(colliders)
        meshes = [*colliders, *obstacles]
        with wp.ScopedDevice(self._device):
            self._meshes = [newton_mesh(mesh) for mesh in meshes]
            self._model: Any = self._build(newton)
            self._mesh_ids = wp.array([mesh.finalize(self._device) for mesh in self._meshes], dtype=wp.uint64)
            self._lows = wp.array(np.stack([mesh.vertices.min(0) for mesh in meshes]), dtype=wp.vec3)
            self._highs = wp.array(np.stack([mesh.vertices.max(0) for mesh in meshes]), dtype=wp.vec3)
            self._pipeline = newton.CollisionPipeline(
                self._model,
                broad_phase="explicit",
                rigid_contact_max=_CONTACTS_PER_ROBOT * count,
                max_triangle_pairs=min(_TRIANGLES_PER_ROBOT * count, _MAX_TRIANGLES),
                deterministic=True,
            )
            self._contacts = self._pipeline.contacts()
            self._solver = newton.solvers.SolverXPBD(self._model, iterations=2)
            self._states = [self._model.state(), self._model.state()]
            self._control = self._model.control()
            self._command = wp.zeros(count, dtype=wp.vec2)
            self._touching = wp.zeros(count, dtype=wp.uint8)
            self._pose, self._speed = wp.zeros(count, dtype=wp.vec3), wp.zeros(count, dtype=wp.vec2)
        self.pose, self.speed = wp.to_torch(self._pose), wp.to_torch(self._speed)
        self._touching_bytes = wp.to_torch(self._touching)
        self._command_values = wp.to_torch(self._command)
        self._limits = self._command_values.new_tensor([self.body.max_speed, self.body.max_turn_rate])
        self._graph: Any = None

    @property
    def touching(self) -> torch.Tensor:
        return self._touching_bytes.bool()

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.pose.device

    def place(
        self,
        robots: torch.Tensor,
        worlds: torch.Tensor,
        poses: torch.Tensor,
        *,
        scales: torch.Tensor,
        yaws: torch.Tensor,
        frictions: torch.Tensor,
    ) -> None:
        """Put robots at rest into worlds, each K long; tensors of any device.

        Args:
            robots: Which, ``(K,)``, each once.
            worlds: Which collider surrounds each, ``(K,)``.
            poses: ``(x, y, yaw)`` in the placed world [m, rad], ``(K, 3)``.
            scales: Of the collider about its origin, ``(K,)``.
            yaws: Of the collider about its origin [rad], ``(K,)``.
            frictions: Of the collider and of the wheels on its floor, ``(K,)``.
        """
        wp, model, state = self._wp, self._model, self._states[0]
        integers = (self._array(robots, torch.int32, wp.int32), self._array(worlds, torch.int32, wp.int32))
        numbers = (self._array(values, torch.float32, wp.float32) for values in (scales, yaws, frictions))
        with self._stream():
            wp.launch(
                self._kernels.place,
                dim=len(robots),
                inputs=[
                    *integers,
                    self._array(poses, torch.float32, wp.vec3),
                    *numbers,
                    self._mesh_ids,
                    self._lows,
                    self._highs,
                    self._ride_height,
                    self._stride,
                ],
                outputs=[
                    state.body_q,
                    state.body_qd,
                    model.shape_source_ptr,
                    model.shape_transform,
                    model.shape_scale,
                    model.shape_collision_aabb_lower,
                    model.shape_collision_aabb_upper,
                    model.shape_material_mu,
                ],
                device=self._device,
            )
            self._report()

    def furnish(
        self, robots: torch.Tensor, meshes: torch.Tensor, places: torch.Tensor, *, frictions: torch.Tensor
    ) -> None:
        """Put obstacles around robots, in place of those that they had; tensors of any device.

        Args:
            robots: Which, ``(K,)``, each once.
            meshes: Number of the mesh in each slot, -1 for none, ``(K, slots)``.
            places: ``(x, y, z, yaw, scale)`` of each in the placed world [m, rad], ``(K, slots, 5)``.
            frictions: Of all obstacles of a robot, ``(K,)``.
        """
        wp, model = self._wp, self._model
        x_y_z, turns, scales = places.split([3, 1, 1], -1)
        with self._stream():
            wp.launch(
                self._kernels.furnish,
                dim=(len(robots), self._slots),
                inputs=[
                    self._array(robots, torch.int32, wp.int32),
                    self._array(torch.where(meshes < 0, -1, meshes + self._first_obstacle), torch.int32, wp.int32),
                    self._array(x_y_z, torch.float32, wp.vec3),
                    self._array(turns[..., 0], torch.float32, wp.float32),
                    self._array(scales[..., 0], torch.float32, wp.float32),
                    self._array(frictions, torch.float32, wp.float32),
                    self._mesh_ids,
                    self._lows,
                    self._highs,
                    self._stride,
                ],
                outputs=[
                    model.shape_source_ptr,
                    model.shape_transform,
                    model.shape_scale,
                    model.shape_collision_aabb_lower,
                    model.shape_collision_aabb_upper,
                    model.shape_material_mu,
                ],
                device=self._device,
            )

    def step(self, actions: torch.Tensor) -> None:
        """Drive every robot for ``body.step`` seconds.

        Args:
            actions: Shares of the largest speed and turn rate, in [-1, 1], shape ``(N, 2)``.
        """
        self._command_values.copy_(actions.clamp(-1, 1) * self._limits)
        wp = self._wp
        with self._stream():
            if self._graph is None:
                self._simulate()
            else:
                wp.capture_launch(self._graph)
        if self._device.is_cuda and self._graph is None:
            # The first step compiled and allocated, which a capture cannot hold; nor can torch's default stream.
            wp.synchronize_device(self._device)
            with wp.ScopedDevice(self._device), wp.ScopedCapture() as capture:
                self._simulate()
            self._graph = capture.graph

    def _simulate(self) -> None:
        wp, kernels, model, contacts = self._wp, self._kernels, self._model, self._contacts
        dt = self.body.step / self.body.substeps
        before, after = self._states
        self._touching.zero_()
        for _ in range(self.body.substeps):
            before.clear_forces()
            wp.launch(
                kernels.drive,
                dim=self._count,
                inputs=[
                    before.body_q,
                    before.body_qd,
                    model.body_mass,
                    model.body_inertia,
                    model.shape_material_mu,
                    self._command,
                    self._stride,
                    dt,
                ],
                outputs=[before.body_f],
            )
            self._pipeline.collide(before, contacts)
            self._solver.step(before, after, self._control, contacts, dt)
            wp.launch(kernels.keep_upright, dim=self._count, inputs=[self._ride_height, after.body_q, after.body_qd])
            wp.launch(
                kernels.feel,
                dim=contacts.rigid_contact_shape0.shape[0],
                inputs=[
                    contacts.rigid_contact_count,
                    contacts.rigid_contact_shape0,
                    contacts.rigid_contact_shape1,
                    contacts.rigid_contact_point0,
                    contacts.rigid_contact_point1,
                    contacts.rigid_contact_margin0,
                    contacts.rigid_contact_margin1,
                    contacts.rigid_contact_normal,
                    model.shape_body,
                    after.body_q,
                    _TOUCH_M,
                ],
                outputs=[self._touching],
            )
            # Copied, not swapped: a captured graph holds the addresses.
            wp.copy(before.body_q, after.body_q)
            wp.copy(before.body_qd, after.body_qd)
        self._report()

    def _report(self) -> None:
        state = self._states[0]
        self._wp.launch(
            self._kernels.report,
            dim=self._count,
            inputs=[state.body_q, state.body_qd],
            outputs=[self._pose, self._speed],
            device=self._device,
        )

    def _build(self, newton: Any) -> Any:
        wp, body = self._wp, self.body
        robot = newton.ModelBuilder(up_axis=newton.Axis.Z, gravity=(0.0, 0.0, 0.0))
        chassis = robot.add_body(xform=wp.transform(wp.vec3(0.0, 0.0, -1000.0), wp.quat_identity()), label="robot")
        half_height = (body.height - body.clearance) / 2
        volume = math.pi * body.radius**2 * 2 * half_height
        config = newton.ModelBuilder.ShapeConfig(density=body.mass / volume, mu=0.0, gap=0.0)
        robot.add_shape_cylinder(chassis, radius=body.radius, half_height=half_height, cfg=config)
        robot.add_shape_mesh(-1, mesh=self._meshes[0], cfg=contact_config(), label="collider")
        away = wp.transform(wp.vec3(0.0, 0.0, -2000.0), wp.quat_identity())
        for slot in range(self._slots):
            spare = self._meshes[self._first_obstacle]
            robot.add_shape_mesh(-1, xform=away, mesh=spare, cfg=contact_config(), label=f"obstacle_{slot}")
        builder = newton.ModelBuilder(up_axis=newton.Axis.Z, gravity=(0.0, 0.0, 0.0))
        builder.replicate(robot, self._count)
        return builder.finalize(device=self._device)

    def _array(self, values: torch.Tensor, kind: torch.dtype, dtype: Any) -> Any:
        return self._wp.from_torch(values.to(self.device, kind).contiguous(), dtype=dtype)

    def _stream(self) -> Any:
        """Torch's stream, so that either sees what the other wrote."""
        wp = self._wp
        stream = wp.stream_from_torch(torch.cuda.current_stream()) if self._device.is_cuda else None
        return wp.ScopedStream(stream)
