"""Drop a box into each of several environments, a Newton world each.

python docs/examples/newton_boxes.py env1 env2
"""

import sys
from pathlib import Path

import newton
import warp as wp

from omni_gen3d.envs.newton import add_environment, read_for_newton
from omni_gen3d.usd import Manifest

EDGE_M = 0.2


def main(folders: list[str]) -> None:
    builder = newton.ModelBuilder()
    for folder in folders:
        x, y, z = Manifest.read(Path(folder) / "environment.yaml").spawn_poses[0].position
        builder.begin_world()
        add_environment(builder, read_for_newton(folder))
        box = builder.add_body(xform=wp.transform(wp.vec3(x, y, z + 0.5), wp.quat_identity()))
        builder.add_shape_box(box, hx=EDGE_M / 2, hy=EDGE_M / 2, hz=EDGE_M / 2)
        builder.end_world()
    model = builder.finalize(device="cpu")
    solver, pipeline = newton.solvers.SolverXPBD(model), newton.CollisionPipeline(model)
    contacts, control = pipeline.contacts(), model.control()
    state, state_next = model.state(), model.state()
    for _ in range(240):
        state.clear_forces()
        pipeline.collide(state, contacts)
        solver.step(state, state_next, control, contacts, 1 / 240)
        state, state_next = state_next, state
    assert state.body_q is not None
    for folder, place in zip(folders, state.body_q.numpy(), strict=True):
        print(f"{folder}: the box rests {1000 * (place[2] - EDGE_M / 2):.1f} mm above z = 0")


if __name__ == "__main__":
    main(sys.argv[1:])
