"""The truth that the body network learns, against the solids of the evaluation, and its training at toy size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from omni_gen3d.checkpoints import load_network, save_network
from omni_gen3d.motion.body_network import BodyNetwork
from omni_gen3d.motion.sightings import CELL, DIRECTIONS
from omni_gen3d.training import bodies
from omni_gen3d.training.evaluation_moving import true_movers
from omni_gen3d.training.loop import Host
from omni_gen3d.training.moving import render_times, sample_moving_views
from omni_gen3d.training.worlds import world_generator
from omni_gen3d.video.depth import DepthNetwork

HEIGHT, WIDTH = 48, 80


def test_bodies_are_the_solids_of_the_evaluation() -> None:
    """Each body that a cell shows reaches as far, from its middle, as one of the true movers does; none is two."""
    views = sample_moving_views(12, WIDTH, HEIGHT, 9, world_generator(3, "train", "cpu"))
    times = torch.tensor([[0, 8]]).expand(len(views), -1)
    filmed = render_times(views, torch.eye(4).repeat(len(views), 2, 1, 1), times, HEIGHT, WIDTH)
    directions = torch.from_numpy(DIRECTIONS).float().expand(len(views), -1, -1)
    told = bodies.bodies_in(views, filmed, times, directions)
    kinds = set()
    for item in range(len(views)):
        movers = true_movers(views, item)
        to_world = views.views.camera_to_world[item].double().numpy()
        for number in told.number[item].unique().tolist():
            if number < 0:
                continue
            kinds.add(int(views.mover[item]))
            for i, time in enumerate((0, 8)):
                middle = to_world[:3, :3] @ told.center[item, i, number].double().numpy() + to_world[:3, 3]
                reach = []
                for mover in movers:
                    pose = mover.to_world[time]
                    corners = mover.mesh.vertices @ pose[:3, :3].T + pose[:3, 3]
                    reach.append(((corners - middle) @ DIRECTIONS.T).max(0))
                off = np.abs(np.stack(reach) - told.supports[item, i, number].numpy()).max(1)
                assert (off < 0.006).sum() == 1, "a ball of facets reaches 5 mm less"
    assert len(kinds) >= 3


def test_what_moves_is_what_cells_show() -> None:
    """A cell has a number where the pixel that stands for it shows something that moves."""
    views = sample_moving_views(4, WIDTH, HEIGHT, 9, world_generator(5, "train", "cpu"))
    times = torch.zeros(4, 1, dtype=torch.long)
    filmed = render_times(views, torch.eye(4).repeat(4, 1, 1, 1), times, HEIGHT, WIDTH)
    told = bodies.bodies_in(views, filmed, times, torch.from_numpy(DIRECTIONS).float().expand(4, -1, -1))
    shown = filmed.moving[..., CELL // 2 :: CELL, CELL // 2 :: CELL]
    assert shown.any() and torch.equal(told.number >= 0, shown)


def test_training_ends_in_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few seconds leave a loadable, finite network, and a log whose last line has its figures."""
    torch.manual_seed(0)
    save_network(DepthNetwork(channels=(16, 32), num_attention_layers=1), tmp_path / "depth", "float16")
    for name, value in (("_VIEWS_PER_CHUNK", 2), ("_VALIDATION_VIEWS", 2)):
        monkeypatch.setattr(bodies, name, value)
    toy = {"batch_size": 2, "height": HEIGHT, "width": WIDTH, "minutes": 0.3, "log_every_s": 60.0, "pool_size": 2}
    config = replace(bodies.DEFAULTS, **toy)
    bodies.train_bodies(config, Host(0, 1, torch.device("cpu")), tmp_path / "out", None, tmp_path / "depth")
    state = load_network(BodyNetwork, tmp_path / "out").state_dict()
    assert all(bool(value.isfinite().all()) for value in state.values())
    last = json.loads((tmp_path / "out" / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] >= 1 and 0 < last["supports_share"] < 10 and 0 <= last["moves_iou"] <= 1
