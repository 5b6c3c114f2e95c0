"""Geometry beside another renderer: Newton imports the same stage and looks through the same cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from omni_gen3d.bench.newton_camera import NewtonCamera
from omni_gen3d.bench.render_stage import box_part
from omni_gen3d.bench.report import Value
from omni_gen3d.bench.rooms import Room
from omni_gen3d.render.delegate import SplatRenderDelegate
from omni_gen3d.usd.collision import author_obstacles
from omni_gen3d.usd.splats import author_splats
from omni_gen3d.usd.stage import new_stage, save_stage

# Pixels whose neighbours as far away show another prim are not compared.
_EDGE = 2


def beside_newton(
    room: Room, count: int, size: tuple[int, int], folder: Path, *, cameras: int = 6, seed: int = 0
) -> dict[str, Value]:
    """How depth and prims differ between the cpu backend and Newton, in a room of splats with a box in its middle.

    Returns:
        Of the worst camera, over the pixels away from edges: ``depth cm``, the median difference where both see the
        same prim, and ``same prim``, the share of pixels; ``box``, in how many pixels of all cameras both see the box.

    Raises:
        InputError: Newton is not installed.
    """
    stage = new_stage("World")
    splats = author_splats(stage, "/World/Splats", room.gaussians(count, seed))
    # With the hint zDepth Newton reports the depth of centres, which at a slant lie before or behind the surface.
    splats.GetSortingModeHintAttr().Set("rayHitDistance")
    middle = np.append(room.outline.mean(0), 0.0)
    box = box_part("Robot", middle, (-0.6, -0.4, 0.9), (0.2, 0.4, 1.7))
    author_obstacles(stage, "/World", (box,))
    path = folder / f"beside_newton_{count}.usdc"
    save_stage(stage, path)
    views = room.cameras(cameras, *size)
    newton = NewtonCamera(path, views)
    depths, shares, on_box = [], [], 0
    with SplatRenderDelegate(stage, "cpu") as delegate:
        for i in range(cameras):
            frame = delegate.render(views[[i]], aovs=("depth", "prim_id"))
            ours, theirs = frame.aovs["depth"][0], newton.draw(i)
            names = np.array([*frame.prim_paths, ""])[frame.aovs["prim_id"][0]]
            inner = _away_from_edges(names)
            same = names == np.array([*theirs.prim_paths, ""])[theirs.shapes]
            seen = inner & same & (ours > 0)
            shares.append(float(same[inner].mean()))
            depths.append(float(np.median(np.abs(ours - theirs.depth)[seen])))
            on_box += int((names[seen] == "/World/Robot").sum())
    return {
        "method": "beside Newton",
        "cameras": cameras,
        "width": size[0],
        "height": size[1],
        "gaussians": count,
        "depth cm": round(100 * max(depths), 3),
        "same prim": round(min(shares), 4),
        "box": on_box,
    }


def _away_from_edges(ids: np.ndarray) -> np.ndarray:
    """Pixels whose neighbours show the same."""
    same = np.ones(ids.shape, np.bool_)
    steps = range(-_EDGE, _EDGE + 1)
    for row in steps:
        for column in steps:
            same &= np.roll(ids, (row, column), (0, 1)) == ids
    same[:_EDGE] = same[-_EDGE:] = same[:, :_EDGE] = same[:, -_EDGE:] = False
    return same
