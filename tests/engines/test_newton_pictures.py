"""Another renderer's geometry: Newton imports the same stage and looks through the same cameras."""

from __future__ import annotations

import math
from pathlib import Path

from omni_gen3d.bench.newton_agreement import beside_newton
from omni_gen3d.bench.rooms import rooms


def test_newton_sees_the_same_surfaces(tmp_path: Path) -> None:
    """Median depth differs by at most 2 cm and prims agree in at least 98 % of the pixels away from edges."""
    row = beside_newton(rooms()[0], 20_000, (96, 72), tmp_path)
    share, depth, box = (float(row[key] or math.nan) for key in ("same prim", "depth cm", "box"))
    assert share >= 0.98 and depth <= 2 and box > 100
