"""Environments in Newton: the collision proxy and, where wanted, the splats of an environment in a ``ModelBuilder``.

Read an environment once and add it as often as needed: every copy refers to the same meshes, which Newton keeps once a
device. Newton's quaternions are xyzw. What holds there: the triangles themselves as collider (its hulls and simplified
meshes let bodies through), XPBD, or MuJoCo's solver with ``use_mujoco_contacts=False``, as MuJoCo's own contacts turn
a mesh into its hull.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omni_gen3d.errors import InputError
from omni_gen3d.types import Gaussians, ProxyPart, TriMesh

if TYPE_CHECKING:
    import newton

    from omni_gen3d.envs.sample import Sample

# Contacts are sought this far from a surface [m]: two substeps of a body at 1.2 m/s and 120 Hz. Twice as much costs
# contacts with every triangle around, half as much lets fast bodies in before they are stopped.
CONTACT_GAP_M = 0.02


@dataclass(frozen=True)
class NewtonEnvironment:
    """What Newton needs of one environment.

    Attributes:
        meshes: ``newton.Mesh`` of each part of the collider, by the part's name.
        labels: Label of each part, by its name.
        gaussians: The splats; None where they were not read.
    """

    meshes: dict[str, Any]
    labels: dict[str, str]
    gaussians: Gaussians | None


def read_for_newton(directory: Path | str, *, splats: bool = False) -> NewtonEnvironment:
    """Read the collider of an environment folder and, if wanted, its splats.

    Raises:
        InputError: A file is missing or damaged, the environment has no collider, or Newton is not installed.
    """
    from omni_gen3d.usd import read_environment

    environment = read_environment(directory)
    if not environment.parts:
        raise InputError(f"{environment.directory} has no collider selected; generate or convert it with one.")
    return NewtonEnvironment(
        meshes={part.name: newton_mesh(part.mesh) for part in environment.parts},
        labels={part.name: part.label for part in environment.parts},
        gaussians=environment.gaussians if splats else None,
    )


def newton_mesh(mesh: TriMesh) -> Any:
    """A ``newton.Mesh`` of the same triangles, of no mass.

    Raises:
        InputError: Newton is not installed.
    """
    return import_newton().Mesh(mesh.vertices, mesh.faces.reshape(-1), compute_inertia=False)


def join_parts(parts: Sequence[ProxyPart]) -> TriMesh:
    """All parts as one mesh: a collider that is one shape costs a contact query one search."""
    starts = np.cumsum([0, *(len(part.mesh.vertices) for part in parts)])
    faces = [part.mesh.faces + start for part, start in zip(parts, starts, strict=False)]
    return TriMesh(np.concatenate([part.mesh.vertices for part in parts]), np.concatenate(faces).astype(np.int32))


def contact_config(sample: Sample | None = None) -> Any:
    """``ModelBuilder.ShapeConfig`` of a collider, with the material of a sample or that of the files.

    Newton knows one coefficient of friction: the dynamic one. Restitution needs ``enable_restitution`` of the solver.

    Raises:
        InputError: Newton is not installed.
    """
    from omni_gen3d.usd.collision import DYNAMIC_FRICTION, RESTITUTION

    contact = None if sample is None else sample.contact
    return import_newton().ModelBuilder.ShapeConfig(
        density=0.0,
        mu=DYNAMIC_FRICTION if contact is None else contact.dynamic_friction,
        restitution=RESTITUTION if contact is None else contact.restitution,
        gap=CONTACT_GAP_M,
    )


def add_environment(
    builder: newton.ModelBuilder,
    environment: NewtonEnvironment | Path | str,
    xform: Any = None,
    *,
    sample: Sample | None = None,
) -> tuple[int, ...]:
    """Add an environment to the builder's current world and return the indices of its shapes.

    Between ``begin_world`` and ``end_world`` of the builder it belongs to that world alone; different worlds may hold
    different environments at the same place.

    Args:
        builder: Z-up.
        environment: A folder, or what ``read_for_newton`` made of one.
        xform: Transform of the environment's frame, ``wp.transform`` with a quaternion xyzw; identity where None.
        sample: Places the scene, sets the collider's material and colours the splats.

    Raises:
        InputError: The folder cannot be read, see ``read_for_newton``; or the builder is not Z-up.
    """
    import warp as wp

    newton = import_newton()
    if builder.up_axis != newton.Axis.Z:
        raise InputError(
            f"the builder's up axis is {builder.up_axis}; environments are Z-up: ModelBuilder(up_axis='Z')."
        )
    if not isinstance(environment, NewtonEnvironment):
        environment = read_for_newton(environment)
    placed: Any = wp.transform_identity() if xform is None else wp.transform(*xform)
    scale = 1.0
    if sample is not None:
        half = sample.placement.yaw / 2
        placed = placed * wp.transform(wp.vec3(0.0), wp.quat(0.0, 0.0, math.sin(half), math.cos(half)))
        scale = sample.placement.scale
    size, config = (scale, scale, scale), contact_config(sample)
    shapes = [
        builder.add_shape_mesh(-1, xform=placed, mesh=mesh, scale=size, cfg=config, label=name)
        for name, mesh in environment.meshes.items()
    ]
    if environment.gaussians is not None:
        gaussian = _gaussian(environment.gaussians, sample)
        shapes.append(builder.add_shape_gaussian(-1, xform=placed, gaussian=gaussian, scale=size, label="Splats"))
    return tuple(shapes)


def import_newton() -> Any:
    """The module ``newton``.

    Raises:
        InputError: It is not installed.
    """
    try:
        import newton
    except ImportError as error:
        raise InputError(f"Newton does not load ({error}); install it: pip install 'omni_gen3d[newton]'.") from error
    return newton


def _gaussian(gaussians: Gaussians, sample: Sample | None) -> Any:
    from omni_gen3d.envs.applying import color_change
    from omni_gen3d.envs.sample import Appearance
    from omni_gen3d.geometry import recolor_sh, wxyz_to_xyzw

    sh = gaussians.sh
    if sample is not None and sample.appearance != Appearance():
        sh = recolor_sh(sh, *color_change(sample.appearance))
    return import_newton().Gaussian(
        positions=gaussians.means.numpy(),
        rotations=wxyz_to_xyzw(gaussians.quats).numpy(),
        scales=gaussians.scales.numpy(),
        opacities=gaussians.opacities.numpy(),
        sh_coeffs=sh.flatten(1).numpy(),
    )
