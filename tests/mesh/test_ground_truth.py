"""Scores against the truth on meshes whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest

from omni_gen3d.errors import InputError
from omni_gen3d.mesh.ground_truth import score_against
from omni_gen3d.mesh.scoring import joined
from omni_gen3d.types import FreeSpace, ProxyPart, TriMesh

CUBE = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
SQUARES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
OUTWARDS = np.array([face for a, b, c, d in SQUARES for face in ((a, b, c), (a, c, d))], np.int32)


def box(low: tuple[float, ...], high: tuple[float, ...], inwards: bool = False) -> ProxyPart:
    vertices = np.asarray(low) + CUBE * (np.asarray(high) - low)
    return ProxyPart("box", "object", TriMesh(vertices.astype(np.float32), OUTWARDS[:, ::-1] if inwards else OUTWARDS))


def open_air() -> FreeSpace:
    """A room of 4 x 4 x 2 m around a box of 1 x 1 x 0.5 m in its middle."""
    free = np.ones((80, 80, 40), bool)
    free[30:50, 30:50, :10] = False
    return FreeSpace(np.pad(free, 2), np.full(3, -0.1), 0.05)


TRUTH = (box((0, 0, 0), (4, 4, 2), inwards=True), box((1.5, 1.5, 0), (2.5, 2.5, 0.5)))


def test_the_truth_scores_perfectly():
    """The true surface compared with itself has no error, and its solid is solid."""
    scores = score_against(TRUTH, open_air(), joined(TRUTH))
    assert scores == {"accuracy_mm": 0.0, "completeness": 1.0, "f_5cm": 1.0, "solid_share": 1.0}


def test_a_shift_is_measured_exactly():
    """A room 20 mm too large all round is 20 mm off, by distance to the surface and not to samples of it."""
    parts = (box((-0.02, -0.02, -0.02), (4.02, 4.02, 2.02), inwards=True),)
    empty = FreeSpace(np.pad(np.ones((80, 80, 40), bool), 2), np.full(3, -0.1), 0.05)
    scores = score_against(parts, empty, joined(TRUTH[:1]))
    assert scores["accuracy_mm"] == pytest.approx(20, abs=0.2)
    assert scores["f_5cm"] == 1.0 and scores["solid_share"] is None


def test_what_is_missing_and_what_is_too_much():
    """Without the box its surface and volume are missed; a second one in the air costs precision."""
    missing = score_against(TRUTH[:1], open_air(), joined(TRUTH))
    assert missing["solid_share"] == 0.0
    exposed_area, top_and_sides = 16 + 15 + 32 + 1 + 2, 1 + 2
    # The sides are near the floor for their lowest 5 cm.
    assert missing["completeness"] == pytest.approx(1 - (top_and_sides - 0.2) / exposed_area, abs=0.01)
    ghost = score_against((*TRUTH, box((0.5, 0.5, 1), (1, 1, 1.5))), open_air(), joined(TRUTH))
    assert ghost["completeness"] == 1.0
    assert ghost["accuracy_mm"] is not None and ghost["accuracy_mm"] > 5
    assert ghost["f_5cm"] is not None and 0.97 < ghost["f_5cm"] < 0.995


def test_what_nobody_can_reach_does_not_count():
    """A face deep inside the box and a slab under the floor change nothing."""
    hidden = (*TRUTH, box((1.8, 1.8, 0.12), (2.2, 2.2, 0.38)), box((0, 0, -0.4), (4, 4, -0.2)))
    scores = score_against(hidden, open_air(), joined(TRUTH))
    assert scores["accuracy_mm"] == 0.0 and scores["f_5cm"] == 1.0


def test_a_mesh_without_area_is_refused():
    """An empty truth is an error that says so."""
    with pytest.raises(InputError, match="ground truth has no area"):
        score_against(TRUTH, open_air(), TriMesh(np.zeros((3, 3), np.float32), np.zeros((0, 3), np.int32)))
