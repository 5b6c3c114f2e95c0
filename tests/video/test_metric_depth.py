"""Metric depth through transformers' models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.video.metric_depth import estimate_metric_depth

PICTURE = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(0))


def test_depth_comes_at_the_pictures_size(save_depth_model: Callable[..., None], tmp_path: Path) -> None:
    """Positive, finite, another for another picture; this kind of model does not tell the field of view."""
    torch.manual_seed(0)
    save_depth_model(tmp_path)
    depth, fov = estimate_metric_depth(tmp_path, PICTURE)
    assert depth.shape == (40, 60) and depth.dtype == torch.float32 and fov is None
    assert depth.isfinite().all() and float(depth.min()) > 0
    assert not torch.equal(depth, estimate_metric_depth(tmp_path, 1 - PICTURE)[0])


def test_relative_depth_and_other_folders_are_refused(save_depth_model: Callable[..., None], tmp_path: Path) -> None:
    """Lengths must be metres."""
    with pytest.raises(InputError, match="holds no depth model"):
        estimate_metric_depth(tmp_path, PICTURE)
    save_depth_model(tmp_path, "relative")
    with pytest.raises(InputError, match="relative depth"):
        estimate_metric_depth(tmp_path, PICTURE)
