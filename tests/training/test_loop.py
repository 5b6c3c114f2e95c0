"""The loop that all four networks share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from omni_gen3d.checkpoints import load_network
from omni_gen3d.errors import InputError
from omni_gen3d.training.loop import Host, TrainingConfig, fit
from omni_gen3d.video.depth import DepthNetwork

SHARED = {"batch_size": 4, "learning_rate": 1e-3, "ema_decay": 0.9, "log_every_s": 0.5}
TWO_PROCESSES = """
import sys, time, torch
from pathlib import Path
from omni_gen3d.checkpoints import save_network
from omni_gen3d.training.loop import TrainingConfig, fit, training_host
from omni_gen3d.video.depth import DepthNetwork
with training_host() as host:
    torch.manual_seed(0)
    network = DepthNetwork(channels=(8, 32), num_attention_layers=1)
    config = TrainingConfig(minutes=0.03, batch_size=1, learning_rate=1e-3, ema_decay=0.9, log_every_s=60)
    torch.manual_seed(1 + host.rank)
    def loss(progress):
        depth, tangent = network(torch.rand(1, 3, 16, 16), torch.zeros(1, 2, 16, 16))
        return depth.square().mean() + tangent.mean(), {}
    out = Path(sys.argv[1])
    started_at = time.time() - 0.2 * host.rank
    fit(network, loss, dict, config, host, out / f"log{host.rank}", started_at=started_at, adam_names=())
    save_network(network, out / f"end{host.rank}", "float16")
"""


def test_training_learns_saves_and_logs(tmp_path):
    """Within its budget the loss falls; checkpoint and log are there and the network ends as its saved average."""
    torch.manual_seed(0)
    network = DepthNetwork(channels=(8, 32), num_attention_layers=1)
    pictures, rays = torch.rand(4, 3, 16, 16), torch.zeros(4, 2, 16, 16)

    def step_loss(progress: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        assert 0 <= progress < 1
        loss = (network(pictures, rays)[0] - 0.3).square().mean()
        return loss, {"loss": loss.detach()}

    config = TrainingConfig(minutes=0.04, **SHARED)
    host = Host(0, 1, torch.device("cpu"))
    began = time.time()
    fit(network, step_loss, lambda: {"score": 1.0}, config, host, tmp_path, started_at=began, adam_names=("stem",))
    assert time.time() - began < 20
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert records[0]["config"]["minutes"] == 0.04
    assert records[-1]["loss"] < 0.2 * 0.49
    assert records[-1]["score"] == 1.0
    saved = load_network(DepthNetwork, tmp_path).state_dict()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(saved[name], value.half().float())


def test_two_processes_end_alike(tmp_path):
    """Two processes with different data and clocks agree on the budget and end with equal weights."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = tmp_path / "train.py"
    script.write_text(TWO_PROCESSES)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([*command, str(script), str(tmp_path)], check=True, timeout=120, env=environment)
    one, two = (load_network(DepthNetwork, Path(tmp_path) / f"end{rank}").state_dict() for rank in (0, 1))
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
    assert not (tmp_path / "log1").exists()


@pytest.mark.parametrize("bad", [{"minutes": 0}, {"minutes": 1, "height": 100}, {"minutes": 1, "num_frames": 16}])
def test_bad_budgets_and_sizes_are_refused(bad):
    """A budget that is not positive and sizes that do not tile are input errors."""
    with pytest.raises(InputError):
        TrainingConfig(**SHARED, **bad)
