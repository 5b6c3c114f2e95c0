"""Environments in one Newton model: where things are, what is shared, and that bodies rest on what was added."""

from __future__ import annotations

import math
from dataclasses import replace

import newton
import numpy as np
import pytest
import warp as wp

from omni_gen3d.envs.entry import Entry
from omni_gen3d.envs.newton import add_environment, read_for_newton
from omni_gen3d.envs.randomize import draw
from omni_gen3d.envs.ranges import ContactRanges, PlacementRanges, Randomization, Range
from omni_gen3d.envs.sample import Appearance
from omni_gen3d.errors import InputError

EDGE_M = 0.2


def drop_boxes(entries: list[Entry]) -> np.ndarray:
    """Heights of the undersides of boxes that fell onto table and floor, one world an environment, ``(W, 2)`` [m]."""
    builder = newton.ModelBuilder()
    for entry in entries:
        builder.begin_world()
        add_environment(builder, entry.folder)
        for x, y, z in ((1.0, 1.0, 0.8), (-1.0, 0.0, 0.4)):
            body = builder.add_body(xform=wp.transform(wp.vec3(x, y, z), wp.quat_identity()))
            builder.add_shape_box(body, hx=EDGE_M / 2, hy=EDGE_M / 2, hz=EDGE_M / 2)
        builder.end_world()
    model = builder.finalize(device="cpu")
    pipeline = newton.CollisionPipeline(model)
    contacts = pipeline.contacts()
    solver = newton.solvers.SolverXPBD(model)
    state, state_next, control = model.state(), model.state(), model.control()
    for _ in range(240):
        state.clear_forces()
        pipeline.collide(state, contacts)
        solver.step(state, state_next, control, contacts, 1 / 240)
        state, state_next = state_next, state
    assert state.body_q is not None
    return state.body_q.numpy()[:, 2].reshape(len(entries), 2) - EDGE_M / 2


def test_boxes_rest_where_the_surface_is(rooms: list[Entry]) -> None:
    """In two worlds of one model, boxes come to rest on the table at 0.5 m and on the floor."""
    np.testing.assert_allclose(drop_boxes(rooms[:2]), [[0.5, 0.0]] * 2, atol=0.01)


def test_a_hundred_copies_share_one_mesh_of_each_part(rooms: list[Entry]) -> None:
    """Adding what was read once again and again adds shapes, but no mesh to the model."""
    environment = read_for_newton(rooms[0].folder, splats=True)
    builder = newton.ModelBuilder()
    for _ in range(100):
        builder.begin_world()
        add_environment(builder, environment)
        builder.end_world()
    model = builder.finalize(device="cpu")
    assert model.shape_type is not None and model.shape_source_ptr is not None
    kinds, sources = model.shape_type.numpy(), model.shape_source_ptr.numpy()
    colliders = kinds == int(newton.GeoType.MESH)
    assert colliders.sum() == 100 * len(environment.meshes) and len(np.unique(sources[colliders])) == 4
    assert (kinds == int(newton.GeoType.GAUSSIAN)).sum() == 100


def test_a_sample_places_and_colours_what_is_added(rooms: list[Entry]) -> None:
    """Transform and placement compose, the material is the sample's, and its colours are the splats'."""
    ranges = Randomization(
        contact=ContactRanges(static_friction=Range(0.5, 0.5)),
        placement=PlacementRanges(scale=Range(2, 2), yaw=Range(math.pi / 2, math.pi / 2)),
    )
    sample = replace(draw(ranges, rooms[:1], seed=0), appearance=Appearance(exposure=1.0))
    builder = newton.ModelBuilder()
    environment = read_for_newton(rooms[0].folder, splats=True)
    *colliders, splats = add_environment(
        builder, environment, wp.transform((10.0, 0.0, 0.0), wp.quat_identity()), sample=sample
    )
    half = math.sqrt(0.5)
    for shape in (*colliders, splats):
        np.testing.assert_allclose(np.array(builder.shape_transform[shape]), [10, 0, 0, 0, 0, half, half], atol=1e-6)
        assert builder.shape_scale[shape] == (2, 2, 2)
    assert builder.shape_material_mu[colliders[0]] == pytest.approx(0.375)
    assert environment.gaussians is not None
    added, plain = builder.shape_source[splats].sh_coeffs, environment.gaussians.sh.flatten(1).numpy()
    np.testing.assert_allclose(added[:, 3:], 2 * plain[:, 3:], rtol=1e-5)


def test_what_cannot_be_added_is_named(rooms: list[Entry]) -> None:
    """A builder that is Y-up and a folder that is none are refused."""
    with pytest.raises(InputError, match="Z-up"):
        add_environment(newton.ModelBuilder(up_axis=newton.Axis.Y), rooms[0].folder)
    with pytest.raises(InputError, match="nowhere"):
        add_environment(newton.ModelBuilder(), rooms[0].folder / "nowhere")
