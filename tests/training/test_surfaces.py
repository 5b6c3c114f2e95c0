"""Proxies of known quality in a true world, and the verb's loop with untrained networks."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omni_gen3d.errors import InputError
from omni_gen3d.training import scenes
from omni_gen3d.training.clips import sample_pictures
from omni_gen3d.training.evaluation_worlds import evaluate_worlds
from omni_gen3d.training.surfaces import TrueViews, score_proxy
from omni_gen3d.training.worlds import world_generator
from omni_gen3d.types import ProxyPart, TriMesh

HEIGHT, WIDTH = 48, 80


@pytest.fixture(scope="module")
def truth() -> TrueViews:
    views, clips = sample_pictures(1, HEIGHT, WIDTH, world_generator(5, "heldout", "cpu"))
    return TrueViews.of(views.worlds, views.camera_to_world[0], clips)


def seen_surface(truth: TrueViews, stretch: float = 1.0) -> ProxyPart:
    """The first camera's depth map, times a factor, as a mesh without the faces that bridge an edge."""
    row, column = np.meshgrid(np.arange(HEIGHT) + 0.5, np.arange(WIDTH) + 0.5, indexing="ij")
    rays = np.stack([column, row, np.ones_like(row)], -1) @ np.linalg.inv(truth.intrinsics).T
    pose, depth = truth.camera_to_world[0], stretch * truth.depth[0]
    points = (rays * depth[..., None]).reshape(-1, 3) @ pose[:3, :3].T + pose[:3, 3]
    corner = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    a, b, c, d = (corner[i : HEIGHT - 1 + i, j : WIDTH - 1 + j].ravel() for i in (0, 1) for j in (0, 1))
    faces = np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
    near = np.ptp(depth.ravel()[faces], axis=1) < 0.1 * depth.ravel()[faces].min(1)
    return ProxyPart("all", "object", TriMesh(points.astype(np.float32), faces[near].astype(np.int32)))


def floor_at(height: float) -> ProxyPart:
    corners = np.array([[-9, -9, height], [9, -9, height], [9, 9, height], [-9, 9, height]], np.float32)
    return ProxyPart("floor", "floor", TriMesh(corners, np.array([[0, 1, 2], [0, 2, 3]], np.int32)))


def test_the_surface_itself_is_perfect(truth: TrueViews) -> None:
    """Everything seen is there and nothing else; without a floor there is no error of one."""
    figures = score_proxy((seen_surface(truth),), truth)
    assert figures["proxy_precision"] > 0.99 and figures["proxy_recall"] > 0.97
    assert figures["proxy_f"] > 0.98 and figures["proxy_f_5cm"] > 0.95 and "floor_error_m" not in figures


def test_distances_may_be_wrong_by_their_share(truth: TrueViews) -> None:
    """4 % too far is close enough for the one figure and mostly too far for the other; 10 % is for neither."""
    near, far = (score_proxy((seen_surface(truth, stretch),), truth) for stretch in (1.04, 1.1))
    assert near["proxy_f"] > 0.9 > near["proxy_f_5cm"] + 0.2
    assert far["proxy_f"] < 0.6


def test_what_is_missing_or_added_counts(truth: TrueViews) -> None:
    """Without its lower half it loses recall alone; a plate before the camera loses precision alone; one behind it or
    with its back to it, nothing."""
    whole = seen_surface(truth)
    upper = whole.mesh.faces[whole.mesh.faces.max(1) < HEIGHT * WIDTH // 2]
    half = replace(whole, mesh=TriMesh(whole.mesh.vertices, upper))
    figures = score_proxy((half,), truth)
    assert figures["proxy_precision"] > 0.99 and figures["proxy_recall"] < 0.8
    pose = truth.camera_to_world[0]
    near, facing, turned = 0.4 * float(truth.depth.min()), [[0, 2, 1], [0, 3, 2]], [[0, 1, 2], [0, 2, 3]]
    for z, faces, harmed in ((near, facing, True), (-2.0, facing, False), (near, turned, False)):
        square = np.array([[-0.3, -0.2, z], [0.3, -0.2, z], [0.3, 0.2, z], [-0.3, 0.2, z]])
        mesh = TriMesh((square @ pose[:3, :3].T + pose[:3, 3]).astype(np.float32), np.array(faces))
        figures = score_proxy((whole, ProxyPart("plate", "object", mesh)), truth)
        assert (figures["proxy_precision"] < 0.995) == harmed and figures["proxy_recall"] > 0.97


@pytest.mark.parametrize("height", [0.0, 0.04])
def test_the_floor_is_measured_where_it_is_seen(truth: TrueViews, height: float) -> None:
    """Its mean height, without sign."""
    assert score_proxy((floor_at(height),), truth)["floor_error_m"] == pytest.approx(height, abs=1e-6)


def test_untrained_networks_are_measured(toy_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and checks of old and new weights; the same weights give the same figures."""
    monkeypatch.setattr(scenes, "VIDEO_STEPS", 2)
    told: list[str] = []
    result = evaluate_worlds(
        toy_weights, 1, "cpu", against=toy_weights, report=told.append, height=16, width=32, num_frames=9
    )
    assert len(told) == 2 and [check["target"] for check in result["checks"]] == [0.9, 0.03, 0.05]
    rows = {row["name"]: row for row in result["rows"]}
    for name in ("proxy_f", "scale_error", "proxies_failed_share"):
        assert math.isfinite(rows[name]["value"]) and rows[name]["value"] == pytest.approx(rows[name]["against"])
    with pytest.raises(InputError, match="scenes is 0"):
        evaluate_worlds(toy_weights, 0, "cpu")
